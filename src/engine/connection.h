/* A control connection: frames with small payloads over a non-blocking stream socket, on one libuv loop. Used
 * between a member and the rendezvous and between ring neighbours.  All functions on the loop's thread. Reads
 * and writes with uv_poll and our own recv/sendmsg(MSG_NOSIGNAL): libuv's streams raise SIGPIPE. */
#ifndef TUTTI_ENGINE_CONNECTION_H
#define TUTTI_ENGINE_CONNECTION_H

#include <uv.h>
#include "wire/frame.h"
#include "wire/control.h"

#define CONNECTION_QUEUE_BYTES_MAX (1u << 20) /* unsent bytes; a peer that lets more pile up is dropped */

struct connection;

struct connection_events {
    /* One whole frame.  The handler may close the connection. */
    void (*frame)(struct connection *connection, const struct frame *frame, const uint8_t *payload);
    /* The peer closed (`why->code` TUTTI_OK) or the connection failed.  The connection is closing already;
     * its `context` is not used again after this, but by freed().  Not called after connection_close(). */
    void (*closed)(struct connection *connection, const struct tutti_error *why);
    /* May be NULL.  The last event of every connection, when nothing of it is left, however it ended. */
    void (*freed)(void *context);
};

/* Takes over `fd` (connected, non-blocking).  NULL and *error on failure, when `fd` is closed. */
struct connection *connection_new(uv_loop_t *loop, int fd, const struct connection_events *events,
                                  void *context, struct tutti_error *error);
void *connection_context(const struct connection *connection);

/* From now on `events` and `context` are told. */
void connection_hand_over(struct connection *connection, const struct connection_events *events,
                          void *context);

/* Has the kernel give up a TCP connection whose peer does not acknowledge for so long.  Not for data links,
 * whose peer may be busy: a control connection is always read. */
void connection_set_dead_after(struct connection *connection, int dead_after_ms);

/* Queues and sends what goes at once.  Failures come through closed(), later, never from inside this call. */
void connection_send(struct connection *connection, const struct frame *frame, const void *payload);
/* `group`: whose instance and generation the frame carries; NULL before there is one. */
void connection_send_control(struct connection *connection, const struct frame *group,
                             const Wire__Control *message);

/* Reads and delivers whatever has arrived, at once, as the loop would. */
void connection_drain(struct connection *connection);

/* Unsent bytes in the queue. */
size_t connection_queued_bytes(const struct connection *connection);

/* Closes at once, or (`flush`) after the queue has gone or 2 s have passed.  A TCP connection is then kept
 * for up to 200 ms more, until the peer closes too: bytes that meet a closed socket would make the kernel
 * take back what the peer has not yet received.  Frees itself on the loop. */
void connection_close(struct connection *connection, bool flush);

#endif
