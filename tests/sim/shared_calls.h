/* Collectives in shared memory, made up at random, with what must come out of them: for whoever plays the
 * ranks, one thread for all (test_direct.c) or a thread for each (tests/process/shared_threads.c).
 *
 * The input of a rank follows from the seed of the call, so no buffer is compared with another.  Between
 * calls a rank scribbles over its buffers: who still reads them, or its slots, gets something else. */
#ifndef TUTTI_TESTS_SHARED_CALLS_H
#define TUTTI_TESTS_SHARED_CALLS_H

#include <stdlib.h>
#include <string.h>
#include "local/direct.h"
#include "local/symmetric.h"
#include "tensor/type.h"
#include "tests/sim/virtual_link.h"

#define SHARED_RANKS_MAX 40
#define SHARED_ALGORITHM 64 /* its number */
#define GUARD_BYTES      32
#define GUARD            0xA5

/* A call of all ranks, the same on each but for where its buffers lie. */
struct shared_call {
    struct fingerprint call;
    uint64_t seed; /* of the inputs */
    int ranks;
    int root; /* index */
    bool over_links;
    bool again;                              /* by the plan of the call before: the same buffers */
    uint64_t in_place;                       /* set of ranks, by index */
    uint64_t symmetric_send, symmetric_recv; /* likewise: of those whose buffers lie there */
    size_t element_bytes;
    size_t send_bytes, recv_bytes; /* of a rank that has both */
    uint8_t *expected; /* the result of all_reduce and reduce_scatter, the parts of a gather, what the
                        * root of a broadcast sends */
};

/* One buffer of a rank, between guards. */
struct shared_buffer {
    uint8_t *memory, *begin; /* NULL: there is none */
    size_t bytes;
    bool symmetric;
};

struct shared_side {
    struct shared_buffer send, recv;
    const void *sends; /* as in the call; in place one of the two lies in the other's buffer */
    void *receives;
};

static inline size_t draw(uint64_t *random, size_t below)
{
    return (size_t)(sim_random(random) % below);
}

/* ---- Inputs ------------------------------------------------------------------------------------ */

/* Bits that are no NaN and stay finite; floats between 1 and 2, or their negatives, so that the order of a
 * sum shows. */
static inline uint64_t input_bits(int type, uint64_t random)
{
    switch (type) {
    case TUTTI_FLOAT64:
        return (random >> 63) << 63 | UINT64_C(0x3ff) << 52 | random >> 12;
    case TUTTI_FLOAT16:
        return (random >> 63) << 15 | 0x3c00 | (random & 0x3ff);
    case TUTTI_BFLOAT16:
        return (random >> 63) << 15 | 0x3f80 | (random & 0x7f);
    case TUTTI_FLOAT32:
    case TUTTI_COMPLEX64: /* both parts */
        return (random & UINT64_C(0x807fffff807fffff)) | UINT64_C(0x3f8000003f800000);
    case TUTTI_BOOL:
        return random >> 63 ? random & 0xff : 0;
    default:
        return random;
    }
}

static inline bool rank_sends(const struct shared_call *c, int index)
{
    return c->call.operation != TUTTI_BROADCAST || index == c->root;
}

static inline bool rank_receives(const struct shared_call *c, int index)
{
    return c->call.operation != TUTTI_GATHER || index == c->root;
}

#define INPUT_PERIOD 4099 /* elements; has nothing in common with pieces and rounds */

static uint8_t input_tables[TYPE_COUNT][INPUT_PERIOD * sizeof(uint64_t)];

/* Once, before any call is drawn. */
static inline void inputs_make(void)
{
    uint64_t random = 1;
    for (int type = 1; type < TYPE_COUNT; type++)
        for (size_t i = 0; i < INPUT_PERIOD; i++) {
            uint64_t bits = input_bits(type, sim_random(&random));
            memcpy(input_tables[type] + i * type_size(type), &bits,
                   type_size(type)); /* little-endian machines */
        }
}

/* The table of random elements, again and again, from elsewhere for each rank of each call. */
static inline void fill_input(const struct shared_call *c, int index, uint8_t *target)
{
    uint64_t state = c->seed + (uint64_t)index;
    size_t period = INPUT_PERIOD * c->element_bytes, from = draw(&state, INPUT_PERIOD) * c->element_bytes;
    for (size_t at = 0, length; at < c->send_bytes; at += length, from = 0) {
        length = c->send_bytes - at < period - from ? c->send_bytes - at : period - from;
        memcpy(target + at, input_tables[c->call.type] + from, length);
    }
}

/* ---- The textbook ------------------------------------------------------------------------------ */

/* All inputs reduced in the order of the ranks by the plain kernels, and divided where the call asks. */
static inline void expect_reduction(struct shared_call *c, const uint8_t *inputs)
{
    const struct reduce_table *kernels = reduce_table_scalar();
    size_t count = c->send_bytes / c->element_bytes;
    const void *sources[SHARED_RANKS_MAX];
    for (int i = 0; i < c->ranks; i++)
        sources[i] = inputs + (size_t)i * c->send_bytes;
    if (count > 0)
        reduce_many(kernels, c->call.type, c->call.reduction, c->expected, sources, c->ranks, count);
    if (count > 0 && c->call.reduction == TUTTI_AVG)
        kernels->divide[c->call.type](c->expected, count, c->ranks);
}

static inline void expect_result(struct shared_call *c)
{
    uint8_t *inputs = malloc(c->send_bytes * (size_t)c->ranks + 1);
    c->expected = malloc(c->send_bytes * (size_t)c->ranks + 1);
    if (!inputs || !c->expected)
        abort();
    for (int i = 0; i < c->ranks; i++)
        fill_input(c, i, inputs + (size_t)i * c->send_bytes);
    if (operation_reduces(c->call.operation))
        expect_reduction(c, inputs);
    else if (c->call.operation == TUTTI_BROADCAST)
        memcpy(c->expected, inputs + (size_t)c->root * c->send_bytes, c->send_bytes);
    else
        memcpy(c->expected, inputs, c->send_bytes * (size_t)c->ranks);
    free(inputs);
}

static inline const uint8_t *expected_of(const struct shared_call *c, int index)
{
    return c->expected + (c->call.operation == TUTTI_REDUCE_SCATTER ? (size_t)index * c->recv_bytes : 0);
}

/* ---- Calls ------------------------------------------------------------------------------------- */

/* Bytes of one rank's vector: around what a cache line holds, what is exchanged at once, and what takes one,
 * two or more rounds through the slots; small ones most often. */
static inline size_t draw_bytes(uint64_t *random, int ranks)
{
    const size_t others = (size_t)ranks - 1;
    const size_t edges[] = {48,
                            8u << 10,
                            12u << 10,
                            (96u << 10) / others,
                            32u << 10,
                            64u << 10,
                            128u << 10,
                            256u << 10,
                            (256u << 10) / others,
                            128u << 10,
                            4 * (64u << 10)};
    switch (draw(random, 8)) {
    case 0:
        return 0;
    case 1:
    case 2:
        return draw(random, 100);
    case 3:
        return draw(random, 20000);
    case 4:
        if (ranks <= 4 && draw(random, 10) == 0) /* of all_reduce: symmetric; past the caches */
            return draw(random, 8) ? (2u << 20) - 64 + draw(random, 200000) : (8u << 20) + draw(random, 1000);
        return draw(random, ranks > 8 ? 100000 : 500000);
    default:
        return edges[draw(random, sizeof edges / sizeof edges[0])] - 16 + draw(random, 33);
    }
}

static inline void draw_kind(struct fingerprint *call, uint64_t *random)
{
    static const uint8_t operations[] = {TUTTI_ALL_REDUCE,     TUTTI_ALL_REDUCE, TUTTI_ALL_REDUCE,
                                         TUTTI_REDUCE_SCATTER, TUTTI_ALL_GATHER, TUTTI_BROADCAST,
                                         TUTTI_GATHER,         TUTTI_BARRIER};
    call->operation = operations[draw(random, sizeof operations)];
    call->algorithm = SHARED_ALGORITHM;
    if (call->operation == TUTTI_BARRIER)
        return;
    call->type = (uint8_t)(1 + draw(random, TYPE_COUNT - 1));
    while (operation_reduces(call->operation) && !call->reduction) {
        int reduction = 1 + (int)draw(random, REDUCTION_COUNT - 1);
        if (type_takes(call->type, reduction))
            call->reduction = (uint8_t)reduction;
    }
}

/* Sets the sizes that follow from the fingerprint, and what is to be expected. */
static inline void shared_call_complete(struct shared_call *c)
{
    c->element_bytes = c->call.operation == TUTTI_BARRIER ? 1 : type_size(c->call.type);
    size_t bytes = c->call.count * c->element_bytes, all = bytes * (size_t)c->ranks;
    c->send_bytes = c->call.operation == TUTTI_REDUCE_SCATTER ? all : bytes;
    c->recv_bytes = operation_gathers(c->call.operation) ? all : bytes;
    expect_result(c);
}

static inline uint64_t draw_set(uint64_t *random)
{
    switch (draw(random, 3)) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    default:
        return sim_random(random);
    }
}

static inline void shared_call_draw(struct shared_call *c, uint64_t *random, int ranks, bool symmetric)
{
    *c = (struct shared_call){.ranks = ranks, .seed = sim_random(random)};
    draw_kind(&c->call, random);
    if (operation_has_root(c->call.operation))
        c->call.root = (uint32_t)(c->root = (int)draw(random, (size_t)ranks));
    if (c->call.operation != TUTTI_BARRIER) {
        size_t bytes = draw_bytes(random, ranks);
        if (c->call.operation != TUTTI_ALL_REDUCE && c->call.operation != TUTTI_BROADCAST && draw(random, 2))
            bytes /= (size_t)ranks;
        c->call.count = bytes / type_size(c->call.type);
    }
    c->in_place = draw_set(random);
    if (symmetric && draw(random, 2)) {
        c->symmetric_send = draw_set(random) | draw_set(random);
        c->symmetric_recv = draw_set(random) | draw_set(random);
    }
    shared_call_complete(c);
}

static inline void shared_call_free(struct shared_call *c)
{
    free(c->expected);
    c->expected = NULL;
}

/* ---- The buffers of a rank --------------------------------------------------------------------- */

static inline void buffer_take(struct shared_buffer *buffer, size_t bytes, bool symmetric, uint64_t *random)
{
    struct tutti_error error;
    size_t before = GUARD_BYTES + 8 * draw(random, 20), all = before + bytes + GUARD_BYTES;
    *buffer = (struct shared_buffer){.bytes = bytes, .symmetric = symmetric};
    buffer->memory = symmetric ? symmetric_heap_alloc(all, &error) : malloc(all);
    if (!buffer->memory)
        abort();
    memset(buffer->memory, GUARD, all);
    buffer->begin = buffer->memory + before;
}

static inline void buffer_release(struct shared_buffer *buffer)
{
    if (buffer->memory && buffer->symmetric)
        symmetric_heap_free(buffer->memory);
    else
        free(buffer->memory);
    *buffer = (struct shared_buffer){.memory = NULL};
}

static inline bool guards_are_whole(const struct shared_buffer *buffer)
{
    for (size_t i = 0; buffer->memory && i < GUARD_BYTES; i++)
        if (buffer->begin[i - GUARD_BYTES] != GUARD || buffer->begin[buffer->bytes + i] != GUARD)
            return false;
    return true;
}

static inline bool is_in_place(const struct shared_call *c, int index)
{
    return (c->in_place >> index & 1) != 0 && rank_sends(c, index) && rank_receives(c, index);
}

/* Takes memory and sets where the rank sends from and receives to, as tutti.h says of calls in place. */
static inline void side_take(struct shared_side *side, const struct shared_call *c, int index,
                             uint64_t *random)
{
    bool in_place = is_in_place(c, index), scatters = c->call.operation == TUTTI_REDUCE_SCATTER;
    *side = (struct shared_side){.sends = NULL};
    if (c->call.operation == TUTTI_BARRIER)
        return;
    if (in_place ? scatters : rank_sends(c, index))
        buffer_take(&side->send, c->send_bytes, c->symmetric_send >> index & 1, random);
    if (in_place ? !scatters : rank_receives(c, index))
        buffer_take(&side->recv, c->recv_bytes, c->symmetric_recv >> index & 1, random);
    side->sends = side->send.begin;
    side->receives = side->recv.begin;
    if (in_place && scatters)
        side->receives = side->send.begin + (size_t)index * c->recv_bytes;
    else if (in_place)
        side->sends =
            side->recv.begin + (operation_gathers(c->call.operation) ? (size_t)index * c->send_bytes : 0);
}

/* Input where it belongs, and elsewhere what no result is. */
static inline void side_fill(struct shared_side *side, const struct shared_call *c, int index)
{
    if (side->recv.begin)
        memset(side->recv.begin, 0x5a, side->recv.bytes);
    if (side->sends && c->call.operation != TUTTI_BARRIER)
        fill_input(c, index, (uint8_t *)(uintptr_t)side->sends);
}

/* NULL, or what is wrong now that the call has returned on this rank. */
static inline const char *side_fault(const struct shared_side *side, const struct shared_call *c, int index)
{
    const char *fault = NULL;
    if (side->receives && c->recv_bytes > 0 &&
        memcmp(side->receives, expected_of(c, index), c->recv_bytes) != 0)
        fault = "the result";
    if (!guards_are_whole(&side->send) || !guards_are_whole(&side->recv))
        fault = "bytes beside a buffer";
    if (side->send.begin && !is_in_place(c, index)) {
        uint8_t *input = malloc(c->send_bytes + 1);
        if (!input)
            abort();
        fill_input(c, index, input);
        if (memcmp(side->send.begin, input, c->send_bytes) != 0)
            fault = "the input afterwards";
        free(input);
    }
    return fault;
}

/* As a user does who has what he wanted. */
static inline void side_scribble(struct shared_side *side)
{
    if (side->send.begin)
        memset(side->send.begin, 0xee, side->send.bytes);
    if (side->recv.begin)
        memset(side->recv.begin, 0xdd, side->recv.bytes);
}

static inline void side_release(struct shared_side *side)
{
    buffer_release(&side->send);
    buffer_release(&side->recv);
}

#endif
