/* The rendezvous behind sockets: listeners, connections and timers on one libuv loop around
 * group/rendezvous.h. Embedded in `tutti run` and in rank 0, or alone as `tutti rendezvous`.  All functions
 * on the loop's thread. */
#ifndef TUTTI_ENGINE_RENDEZVOUS_SERVICE_H
#define TUTTI_ENGINE_RENDEZVOUS_SERVICE_H

#include <stdbool.h>
#include <uv.h>
#include "base/log.h"
#include "tutti/tutti.h"

#define RENDEZVOUS_CONNECTIONS_MAX 8192
#define RENDEZVOUS_DEAD_MS         10000 /* until TCP gives up a member whose host is gone */
#define RENDEZVOUS_IDLE_MS         10000 /* a connection that has not sent a valid Join by then is dropped */

struct rendezvous_service;

/* Serves on `listen_fds` (bound, listening, non-blocking; taken over, also on failure).  Garbage on a
 * connection costs that connection and one warning line (at most one line a second).  Unix connections of
 * another user are refused.  `embedded`: in the process of rank 0.  NULL and *error on failure. */
struct rendezvous_service *rendezvous_service_new(uv_loop_t *loop, const int *listen_fds, int listen_count,
                                                  bool embedded, const struct log *log,
                                                  struct tutti_error *error);

/* Closes everything, flushing what was sent to members; frees itself on the loop, then calls `closed` (may be
 * NULL). */
void rendezvous_service_close(struct rendezvous_service *service, void (*closed)(void *context),
                              void *context);

#endif
