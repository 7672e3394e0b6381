/* Framing over a connected stream socket: what tcp and uds links share.  See executor/link.h. */
#ifndef TUTTI_TRANSPORT_STREAM_H
#define TUTTI_TRANSPORT_STREAM_H

#include "executor/link.h"

enum stream_transport { STREAM_UDS, STREAM_TCP };

/* Takes over `fd` (connected, non-blocking; hellos exchanged).  `peer_text` ("rank 3 (host b, pid 4711)")
 * appears in errors, copied.  `loan_bytes`: the longest payload that recv_loan() is asked for.  NULL when out
 * of memory, when `fd` is closed. */
struct link *stream_link_new(int fd, enum stream_transport transport, int peer, const char *peer_text,
                             size_t loan_bytes);

/* Options of a data connection: buffer sizes (-1: the kernel's default) and, for TCP, no delay, keepalive
 * and, where the two ends share a host (`local`), the congestion control.  What the kernel refuses is left as
 * it is. */
struct stream_options {
    int buffer_bytes;
    const char *congestion; /* "default": leave it */
    bool local;
    int dead_after_ms; /* how soon keepalive finds a dead host */
};
void stream_set_options(int fd, enum stream_transport transport, const struct stream_options *options);

#endif
