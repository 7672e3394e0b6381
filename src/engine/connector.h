/* Connecting: tries a list of addresses in turn until one takes the connection. On the loop's thread. */
#ifndef TUTTI_ENGINE_CONNECTOR_H
#define TUTTI_ENGINE_CONNECTOR_H

#include <stdbool.h>
#include <sys/socket.h>
#include <uv.h>
#include "tutti/tutti.h"

#define CONNECTOR_TARGETS_MAX 32

struct connector_target {
    bool is_unix;
    char name[112];                  /* Unix: path or "@abstract" */
    struct sockaddr_storage address; /* TCP */
    socklen_t length;
};

struct connector_targets {
    struct connector_target list[CONNECTOR_TARGETS_MAX];
    int count;
};

bool connector_add_unix(struct connector_targets *targets, const char *name);
bool connector_add_address(struct connector_targets *targets, const struct sockaddr *address);
/* A numeric address with port, "10.0.0.1:4711"; false when it is none. */
bool connector_add_text(struct connector_targets *targets, const char *text);
/* Those of a rank's `addresses` ("unix:@name", "10.0.0.1:4711") that `transports` ("shm,uds,tcp") allows, in
 * the order of the transports; Unix sockets, which serve shm and uds, once, and only where the rank is on
 * this host. */
void connector_add_list(struct connector_targets *targets, const char *transports, char *const *addresses,
                        size_t count, bool same_host);
const char *connector_print(const struct connector_target *target, char *text, size_t size);

struct connector;

/* Calls `done` once, from the loop: with a connected non-blocking descriptor, which the receiver owns, and
 * the index of its target; or with -1 when every target from `first` on has failed, `why` naming the last
 * one: ERR_UNREACHABLE, or ERR_SYSTEM where this process has no descriptor left.  `targets` is copied.  NULL
 * when out of memory. */
typedef void (*connector_done)(void *context, int fd, int index, const struct tutti_error *why);
struct connector *connector_start(uv_loop_t *loop, const struct connector_targets *targets, int first,
                                  int attempt_timeout_ms, connector_done done, void *context);

/* Gives up: `done` is not called.  Not after it was. */
void connector_cancel(struct connector *connector);

#endif
