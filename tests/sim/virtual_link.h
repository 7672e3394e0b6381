/* A link over memory: a bounded queue of bytes between two ranks of one thread, which moves as few or as many
 * bytes at a time as a seeded generator says. */
#ifndef TUTTI_TESTS_VIRTUAL_LINK_H
#define TUTTI_TESTS_VIRTUAL_LINK_H

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "base/crc32c.h"
#include "base/error.h"
#include "executor/link.h"

static inline uint64_t sim_random(uint64_t *state) /* splitmix64 */
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* One direction between two ranks: what the sender has written and the receiver has not read. */
struct virtual_queue {
    uint64_t *random; /* NULL: it never stutters */
    uint8_t *bytes;
    size_t capacity, begin, used;
};

/* One end of it. */
struct virtual_link {
    struct link link; /* first */
    struct virtual_queue *queue;
    uint8_t header_out[FRAME_HEADER_BYTES], header_in[FRAME_HEADER_BYTES];
    size_t sent, received;
    struct frame frame_in;
    bool sending, decoded;
    uint8_t *loan;
};

static inline size_t virtual_piece(struct virtual_queue *q, size_t most)
{
    if (most == 0 || !q->random)
        return most;
    switch (sim_random(q->random) % 4) {
    case 0:
        return 0; /* nothing now */
    case 1:
        return 1 + sim_random(q->random) % most;
    default:
        return most;
    }
}

static inline int virtual_send(struct link *link, struct frame *frame, const void *payload,
                               struct tutti_error *error)
{
    (void)error;
    struct virtual_link *v = (struct virtual_link *)link;
    struct virtual_queue *q = v->queue;
    if (!v->sending) {
        if (frame->flags & FRAME_HAS_PAYLOAD_CRC)
            frame->payload_crc = crc32c(0, payload, frame->length);
        frame_encode(frame, v->header_out);
        v->sending = true;
    }
    size_t whole = FRAME_HEADER_BYTES + frame->length, room = q->capacity - q->used;
    size_t piece = virtual_piece(q, whole - v->sent < room ? whole - v->sent : room);
    for (size_t i = 0; i < piece; i++, v->sent++) {
        uint8_t byte = v->sent < FRAME_HEADER_BYTES
                           ? v->header_out[v->sent]
                           : ((const uint8_t *)payload)[v->sent - FRAME_HEADER_BYTES];
        q->bytes[(q->begin + q->used++) % q->capacity] = byte;
    }
    v->link.sent_bytes += piece;
    if (v->sent < whole)
        return LINK_AGAIN;
    v->sent = 0;
    v->sending = false;
    return LINK_DONE;
}

/* What has come of the next `most` bytes: into the header, or, once that is whole, into `payload`. */
static inline size_t virtual_take(struct virtual_link *v, uint8_t *payload, size_t most)
{
    struct virtual_queue *q = v->queue;
    size_t piece = virtual_piece(q, most < q->used ? most : q->used);
    for (size_t i = 0; i < piece; i++, v->received++, q->used--) {
        uint8_t byte = q->bytes[q->begin];
        q->begin = (q->begin + 1) % q->capacity;
        if (v->received < FRAME_HEADER_BYTES)
            v->header_in[v->received] = byte;
        else
            payload[v->received - FRAME_HEADER_BYTES] = byte;
    }
    v->link.received_bytes += piece;
    return piece;
}

static inline int virtual_peek(struct link *link, struct frame *frame, struct tutti_error *error)
{
    struct virtual_link *v = (struct virtual_link *)link;
    while (v->received < FRAME_HEADER_BYTES) {
        if (virtual_take(v, NULL, FRAME_HEADER_BYTES - v->received) == 0)
            return LINK_AGAIN;
    }
    if (!v->decoded) {
        int status = frame_decode(v->header_in, &v->frame_in, error);
        if (status < 0)
            return status;
        v->decoded = true;
    }
    *frame = v->frame_in;
    return LINK_DONE;
}

static inline int virtual_recv(struct link *link, struct frame *frame, void *payload, uint32_t length,
                               struct tutti_error *error)
{
    struct virtual_link *v = (struct virtual_link *)link;
    size_t whole = FRAME_HEADER_BYTES + (size_t)length;
    int result = virtual_peek(link, frame, error);
    if (result != LINK_DONE)
        return result;
    if (frame->length != length)
        return LINK_UNEXPECTED;
    while (v->received < whole) {
        if (virtual_take(v, payload, whole - v->received) == 0)
            return LINK_AGAIN;
    }
    v->received = 0;
    v->decoded = false;
    if (!(frame->flags & FRAME_HAS_PAYLOAD_CRC) || crc32c(0, payload, length) == frame->payload_crc)
        return LINK_DONE;
    return error_set(error, TUTTI_ERR_PROTOCOL, "a payload of %u bytes arrived damaged", (unsigned)length);
}

static inline int virtual_recv_loan(struct link *link, struct frame *frame, const void **payload,
                                    uint32_t length, struct tutti_error *error)
{
    struct virtual_link *v = (struct virtual_link *)link;
    *payload = v->loan;
    return virtual_recv(link, frame, v->loan, length, error);
}

static inline int virtual_descriptor(const struct link *link)
{
    (void)link;
    return -1;
}

static inline void virtual_free(struct link *link)
{
    struct virtual_link *v = (struct virtual_link *)link;
    free(v->loan);
    free(v);
}

static inline struct virtual_queue *virtual_queue_new(size_t capacity, uint64_t *random)
{
    struct virtual_queue *queue = calloc(1, sizeof *queue);
    assert(queue);
    queue->random = random;
    queue->capacity = capacity;
    queue->bytes = malloc(capacity);
    assert(queue->bytes);
    return queue;
}

static inline void virtual_queue_free(struct virtual_queue *queue)
{
    free(queue->bytes);
    free(queue);
}

static inline struct link *virtual_link_new(struct virtual_queue *queue, int peer, size_t loan_bytes)
{
    static const struct link_ops ops = {"virtual",    virtual_send,       virtual_recv, virtual_recv_loan,
                                        virtual_peek, virtual_descriptor, NULL,         virtual_free};
    struct virtual_link *v = calloc(1, sizeof *v);
    assert(v);
    v->link.ops = &ops;
    v->link.peer = peer;
    v->queue = queue;
    v->loan = malloc(loan_bytes);
    assert(v->loan);
    return &v->link;
}

#endif
