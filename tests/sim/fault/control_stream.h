/* A stream that carries control frames, as engine/connection.c is one over a socket: what does not go at once
 * waits in a queue; a close may flush it first. */
#ifndef TUTTI_TESTS_FAULT_CONTROL_STREAM_H
#define TUTTI_TESTS_FAULT_CONTROL_STREAM_H

#include "tests/sim/fault/network.h"
#include "wire/control.h"
#include "wire/frame.h"

struct control_events {
    void (*frame)(void *context, struct control_stream *stream, const struct frame *frame,
                  const uint8_t *payload);
    /* `why->code` is TUTTI_OK when the peer closed it.  The stream is gone after this. */
    void (*closed)(void *context, struct control_stream *stream, const struct tutti_error *why);
};

/* Takes over `end`. */
struct control_stream *control_stream_new(struct network *network, struct end *end,
                                          const struct control_events *events, void *context);
void control_stream_hand_over(struct control_stream *stream, const struct control_events *events,
                              void *context);

/* `frame` NULL: that of no group.  `message` NULL: the frame alone. */
void control_stream_send(struct control_stream *stream, const struct frame *frame,
                         const Wire__Control *message);
void control_stream_drain(struct control_stream *stream); /* reads what has arrived */

/* No event follows.  `flush`: what waits is sent first, within two seconds. */
void control_stream_close(struct control_stream *stream, bool flush);

/* Frees those that are still flushing, and those of processes that have been killed. */
void control_streams_free(struct network *network);

#endif
