/* The link contract: a persistent, ordered, framed connection to one peer on one channel.  It lies here and
 * not in transport/ because the executor is handed links and must not know what carries them; shm, uds, tcp
 * and the simulator implement it.  One thread at a time: the holder of the progress token. */
#ifndef TUTTI_EXECUTOR_LINK_H
#define TUTTI_EXECUTOR_LINK_H

#include <stdatomic.h>
#include <stdbool.h>
#include "base/failpoint.h"
#include "wire/frame.h"

enum link_result {
    LINK_DONE = 0,      /* the whole frame has gone or come */
    LINK_AGAIN = 1,     /* no room or no bytes now: call again with the same arguments */
    LINK_UNEXPECTED = 2 /* recv only: a valid header, in *frame, with another length than was asked for;
                         * the link is of no more use */
    /* negative: enum tutti_status, with `error` filled; the link is of no more use */
};

struct link {
    const struct link_ops *ops;
    int peer; /* rank at the other end, as errors name it: of the root */
    uint16_t channel;
    atomic_uint_fast64_t sent_bytes, received_bytes; /* headers included; any thread reads */
    struct failpoints *failpoints;                   /* borrowed; NULL outside of tests */
};

/* The holder of the token alone adds: no need for a locked addition. */
static inline void link_count(atomic_uint_fast64_t *bytes, uint64_t more)
{
    uint64_t before = atomic_load_explicit(bytes, memory_order_relaxed);
    atomic_store_explicit(bytes, before + more, memory_order_relaxed);
}

struct link_ops {
    const char *transport; /* "shm", "uds", "tcp" */

    /* Sends the frame and its payload of frame->length bytes, as much as goes without blocking.  After
     * LINK_AGAIN the caller repeats the same call; borrows `payload` until LINK_DONE.  Sets
     * frame->payload_crc itself when the flag asks. */
    int (*send)(struct link *link, struct frame *frame, const void *payload, struct tutti_error *error);

    /* Receives the next frame, which must have a payload of `length` bytes, straight into `payload`. On
     * LINK_DONE *frame is its header; a flagged payload CRC has been checked.  May have written to
     * `payload` whatever the result. */
    int (*recv)(struct link *link, struct frame *frame, void *payload, uint32_t length,
                struct tutti_error *error);

    /* As recv, but the link keeps the payload in memory of its own and loans it: *payload is valid until the
     * next recv or recv_loan.  So that a reduction reads straight from where the bytes arrived. */
    int (*recv_loan)(struct link *link, struct frame *frame, const void **payload, uint32_t length,
                     struct tutti_error *error);

    /* The header of the next frame, which the next recv or recv_loan, asked for its length, will deliver: for
     * receivers that do not know what comes.  LINK_DONE, LINK_AGAIN or an error. */
    int (*peek)(struct link *link, struct frame *frame, struct tutti_error *error);

    /* The descriptor to poll; -1 when there is none.  A stream is polled for input by its receiver and for
     * room by its sender; where `arm` is set, both poll for input. */
    int (*descriptor)(const struct link *link);

    /* Before its descriptor is polled: from now on the other end makes that readable when it has sent or made
     * room.  true: there is something already, so do not sleep.  NULL: the descriptor says it by itself. */
    bool (*arm)(struct link *link);

    void (*free)(struct link *link); /* closes and releases */
};

#endif
