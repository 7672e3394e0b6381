#include "tests/sim/fault/data.h"

#include <string.h>
#include "tests/sim/fault/allocation.h"

#define POISON 0xA5
#define FACTOR 2.0 /* of a pre-multiplied sum */

enum { SEND_COUNTS, SEND_OFFSETS, RECV_COUNTS, RECV_OFFSETS };

/* ---- Values ------------------------------------------------------------------------------------ */

/* Element `index` of what `rank` has for chunk `chunk` of the work vector: small, so that a float32 holds
 * every sum of it. */
static int64_t input(const struct data *data, int rank, size_t chunk, size_t index)
{
    return (int64_t)((index & 63) * 3 + chunk * 5 + data->planned.salt % 11) + rank * 7;
}

static int64_t reduced(const struct data *data, size_t chunk, size_t index)
{
    int64_t size = data->size, least = input(data, 0, chunk, index);
    switch (data->planned.reduction) {
    case TUTTI_MIN:
        return least;
    case TUTTI_MAX:
        return least + 7 * (size - 1);
    default:
        return (least * size + 7 * size * (size - 1) / 2) *
               (data->planned.reduction == TUTTI_SUM ? 1 : (int64_t)FACTOR);
    }
}

static float inexact(int64_t value)
{
    return (float)value * 0.1f;
}

static float reduced_in_order(const struct data *data, size_t chunk, size_t index)
{
    float sum = inexact(input(data, 0, chunk, index));
    for (int rank = 1; rank < data->size; rank++)
        sum += inexact(input(data, rank, chunk, index));
    return sum;
}

int64_t data_message(int source, int tag, size_t index)
{
    return (int64_t)index * 3 + source * 1000003 + tag * 7919;
}

/* ---- Layout ------------------------------------------------------------------------------------ */

static bool is_whole(int operation)
{
    int plain = operation_plain(operation);
    return plain == TUTTI_ALL_REDUCE || plain == TUTTI_REDUCE || plain == TUTTI_BROADCAST;
}

/* Elements of chunk `index`, of a _v: from none to twice as many as planned. */
static size_t part_count(const struct planned_call *planned, int index)
{
    uint64_t random = planned->salt * 1000003 + (uint64_t)index;
    return operation_has_counts(planned->operation) ? random_below(&random, 2 * (uint64_t)planned->count + 1)
                                                    : planned->count;
}

/* In the order of the ranks or, of a _v whose offsets are given, backwards with an element between them. */
static size_t lay_out(const struct data *data, const size_t *counts, size_t *offsets)
{
    bool gaps = operation_has_counts(data->planned.operation) && data->planned.salt % 2 == 0 &&
                data->planned.operation != TUTTI_REDUCE_SCATTER_V;
    size_t at = 0;
    for (int i = 0; i < data->size; i++) {
        int rank = gaps ? data->size - 1 - i : i;
        offsets[rank] = at;
        at += counts[rank] + gaps;
    }
    return at;
}

/* Elements of both buffers. */
static void lay_out_buffers(struct data *data, size_t *send, size_t *recv)
{
    const struct planned_call *planned = &data->planned;
    int operation = planned->operation, size = data->size, rank = data->rank;
    bool pairs = operation_plain(operation) == TUTTI_ALL_TO_ALL;
    for (int r = 0; r < size; r++) {
        data->counts[SEND_COUNTS][r] = part_count(planned, pairs ? rank * size + r : r);
        data->counts[RECV_COUNTS][r] = part_count(planned, pairs ? r * size + rank : r);
    }
    *send = lay_out(data, data->counts[SEND_COUNTS], data->counts[SEND_OFFSETS]);
    *recv = lay_out(data, data->counts[RECV_COUNTS], data->counts[RECV_OFFSETS]);
    if (is_whole(operation))
        *send = *recv = planned->count;
    else if (operation_gathers(operation))
        *send = data->counts[RECV_COUNTS][rank];
    else if (operation_scatters(operation))
        *recv = data->counts[SEND_COUNTS][rank];
}

/* What the call says beyond the buffers, of which an unused one is NULL. */
static void describe(struct data *data)
{
    const struct planned_call *planned = &data->planned;
    struct tutti_call *call = &data->call;
    int operation = planned->operation, plain = operation_plain(operation);
    bool is_root = data->rank == (int)planned->root, has_counts = operation_has_counts(operation);
    call->op = operation;
    call->type = planned->type;
    call->reduction = planned->reduction;
    call->root = (int)planned->root;
    call->factor = FACTOR;
    call->count = operation == TUTTI_GATHER_V || operation == TUTTI_SCATTER_V
                      ? data->counts[SEND_COUNTS][data->rank]
                      : planned->count;
    if ((plain == TUTTI_BROADCAST || plain == TUTTI_SCATTER) && !is_root)
        call->send = NULL;
    if ((plain == TUTTI_REDUCE || plain == TUTTI_GATHER) && !is_root)
        call->recv = NULL;
    if (has_counts && !operation_gathers(operation) && (is_root || operation != TUTTI_SCATTER_V)) {
        call->send_counts = data->counts[SEND_COUNTS];
        call->send_offsets = data->counts[SEND_OFFSETS];
    }
    if (has_counts && !operation_scatters(operation) && (is_root || operation != TUTTI_GATHER_V)) {
        call->recv_counts = data->counts[RECV_COUNTS];
        call->recv_offsets = data->counts[RECV_OFFSETS];
    }
}

/* ---- Before the call --------------------------------------------------------------------------- */

static void put(const struct data *data, uint8_t *buffer, size_t at, int64_t value)
{
    if (data->planned.type == TUTTI_INT64)
        ((int64_t *)buffer)[at] = value;
    else
        ((float *)buffer)[at] = data->planned.inexact ? inexact(value) : (float)value;
}

static void fill(const struct data *data, uint8_t *send)
{
    const struct planned_call *planned = &data->planned;
    int rank = data->rank, operation = planned->operation;
    if (is_whole(operation) || operation_gathers(operation)) {
        bool whole = is_whole(operation);
        size_t count = whole ? planned->count : data->counts[RECV_COUNTS][rank];
        for (size_t i = 0; i < count; i++)
            put(data, send, i, input(data, rank, whole ? 0 : (size_t)rank, i));
        return;
    }
    for (int r = 0; r < data->size; r++)
        for (size_t i = 0; i < data->counts[SEND_COUNTS][r]; i++)
            put(data, send, data->counts[SEND_OFFSETS][r] + i, input(data, rank, (size_t)r, i));
}

void data_init(struct data *data, const struct planned_call *planned, int rank, int size)
{
    size_t send, recv, element = tutti_type_size(planned->type);
    int operation = planned->operation;
    memset(data, 0, sizeof *data);
    data->planned = *planned;
    data->rank = rank;
    data->size = size;
    if (operation == TUTTI_BARRIER) {
        data->call.op = TUTTI_BARRIER;
        return;
    }
    lay_out_buffers(data, &send, &recv);
    size_t most = send > recv ? send : recv;
    data->memory_bytes = (planned->in_place ? most : send + recv) * element;
    data->memory = world_alloc_raw(data->memory_bytes);
    memset(data->memory, 0, data->memory_bytes);
    uint8_t *send_at = data->memory, *recv_at = data->memory + (planned->in_place ? 0 : send * element);
    if (planned->in_place && operation_gathers(operation))
        send_at += data->counts[RECV_OFFSETS][rank] * element;
    if (planned->in_place && operation_scatters(operation))
        recv_at += data->counts[SEND_OFFSETS][rank] * element;
    data->call.send = send_at;
    data->call.recv = recv_at;
    if (!operation_has_root(operation) || operation_reduces(operation) || operation_gathers(operation) ||
        rank == (int)planned->root)
        fill(data, send_at);
    describe(data);
}

/* ---- After the call ---------------------------------------------------------------------------- */

/* `count` elements of recv from `at` on are chunk `chunk` of rank `from`; -1: of all, reduced. */
static bool chunk_is_right(const struct data *data, size_t at, int from, size_t chunk, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const uint8_t *recv = data->call.recv;
        if (from < 0 && data->planned.inexact) {
            float expected = reduced_in_order(data, chunk, i);
            if (memcmp(recv + (at + i) * sizeof expected, &expected, sizeof expected) != 0)
                return false;
            continue;
        }
        int64_t value = from < 0 ? reduced(data, chunk, i) : input(data, from, chunk, i);
        if (data->planned.type == TUTTI_INT64 ? ((const int64_t *)recv)[at + i] != value
                                              : ((const float *)recv)[at + i] != (float)value)
            return false;
    }
    return true;
}

bool data_is_right(const struct data *data)
{
    const struct planned_call *planned = &data->planned;
    int rank = data->rank, root = (int)planned->root, plain = operation_plain(planned->operation);
    const size_t *counts = data->counts[RECV_COUNTS], *offsets = data->counts[RECV_OFFSETS];
    if (operation_has_root(plain) && (operation_reduces(plain) || operation_gathers(plain)) && rank != root)
        return true;
    switch (plain) {
    case TUTTI_ALL_REDUCE:
    case TUTTI_REDUCE:
        return chunk_is_right(data, 0, -1, 0, planned->count);
    case TUTTI_BROADCAST:
        return chunk_is_right(data, 0, root, 0, planned->count);
    case TUTTI_SCATTER:
        return chunk_is_right(data, 0, root, (size_t)rank, data->counts[SEND_COUNTS][rank]);
    case TUTTI_REDUCE_SCATTER:
        return chunk_is_right(data, 0, -1, (size_t)rank, data->counts[SEND_COUNTS][rank]);
    case TUTTI_BARRIER:
        return true;
    default:
        for (int r = 0; r < data->size; r++)
            if (!chunk_is_right(data, offsets[r], r, (size_t)(plain == TUTTI_ALL_TO_ALL ? rank : r),
                                counts[r]))
                return false;
        return true;
    }
}

void data_poison(struct data *data)
{
    if (data->memory)
        memset(data->memory, POISON, data->memory_bytes);
}

bool data_is_poisoned(const struct data *data)
{
    for (size_t i = 0; i < data->memory_bytes; i++)
        if (data->memory[i] != POISON)
            return false;
    return true;
}

void data_free(struct data *data)
{
    world_free(data->memory);
    data->memory = NULL;
}
