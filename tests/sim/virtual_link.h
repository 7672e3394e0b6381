/* A link over memory: a bounded queue of bytes between two ranks of one thread, which moves as few or as many
 * bytes at a time as a seeded generator says. */
#ifndef TUTTI_TESTS_VIRTUAL_LINK_H
#define TUTTI_TESTS_VIRTUAL_LINK_H

#include <assert.h>
#include <stdlib.h>
#include <string.h>
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
    uint64_t *random;
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
    bool decoded;
    uint8_t *loan;
};

static inline size_t virtual_piece(struct virtual_queue *q, size_t most)
{
    if (most == 0)
        return 0;
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
    if (v->sent == 0)
        frame_encode(frame, v->header_out);
    size_t whole = FRAME_HEADER_BYTES + frame->length, room = q->capacity - q->used;
    size_t piece = virtual_piece(q, whole - v->sent < room ? whole - v->sent : room);
    for (size_t i = 0; i < piece; i++, v->sent++) {
        uint8_t byte = v->sent < FRAME_HEADER_BYTES
                           ? v->header_out[v->sent]
                           : ((const uint8_t *)payload)[v->sent - FRAME_HEADER_BYTES];
        q->bytes[(q->begin + q->used++) % q->capacity] = byte;
    }
    if (v->sent < whole)
        return LINK_AGAIN;
    v->sent = 0;
    return LINK_DONE;
}

static inline int virtual_recv(struct link *link, struct frame *frame, void *payload, uint32_t length,
                               struct tutti_error *error)
{
    struct virtual_link *v = (struct virtual_link *)link;
    struct virtual_queue *q = v->queue;
    size_t whole = FRAME_HEADER_BYTES + (size_t)length;
    size_t left = v->received < FRAME_HEADER_BYTES ? FRAME_HEADER_BYTES - v->received : whole - v->received;
    while (left > 0) {
        size_t piece = virtual_piece(q, left < q->used ? left : q->used);
        if (piece == 0)
            return LINK_AGAIN;
        for (size_t i = 0; i < piece; i++, v->received++, q->used--) {
            uint8_t byte = q->bytes[q->begin];
            q->begin = (q->begin + 1) % q->capacity;
            if (v->received < FRAME_HEADER_BYTES)
                v->header_in[v->received] = byte;
            else
                ((uint8_t *)payload)[v->received - FRAME_HEADER_BYTES] = byte;
        }
        if (v->received >= FRAME_HEADER_BYTES && !v->decoded) {
            int status = frame_decode(v->header_in, &v->frame_in, error);
            if (status < 0)
                return status;
            v->decoded = true;
            *frame = v->frame_in;
            if (frame->length != length)
                return LINK_UNEXPECTED;
        }
        left = whole - v->received;
    }
    *frame = v->frame_in;
    v->received = 0;
    v->decoded = false;
    return LINK_DONE;
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
    static const struct link_ops ops = {"virtual",         virtual_send,       virtual_recv,
                                        virtual_recv_loan, virtual_descriptor, virtual_free};
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
