#include "tests/sim/fault/data.h"

#include <string.h>
#include "tensor/type.h"
#include "tests/sim/fault/allocation.h"

#define POISON 0xA5

/* What rank `rank` contributes at `index`: small, so that a float32 holds every sum of it. */
static int64_t input(const struct data *data, int rank, size_t index)
{
    return (int64_t)((index & 63) * 3 + data->salt % 11) + rank * 7;
}

static int64_t sum(const struct data *data, size_t index)
{
    int64_t size = data->size;
    return (int64_t)((index & 63) * 3 + data->salt % 11) * size + 7 * size * (size - 1) / 2;
}

static void put(const struct data *data, uint8_t *at, size_t index, int64_t value)
{
    if (data->print.type == TUTTI_INT64)
        ((int64_t *)at)[index] = value;
    else
        ((float *)at)[index] = (float)value;
}

static bool is(const struct data *data, size_t index, int64_t value)
{
    if (data->print.type == TUTTI_INT64)
        return ((const int64_t *)data->recv)[index] == value;
    return ((const float *)data->recv)[index] == (float)value;
}

static void fill(struct data *data)
{
    size_t n = (size_t)data->size, count = data->print.count;
    size_t given = data->print.operation == TUTTI_REDUCE_SCATTER ? n * count : count;
    if (data->print.operation == TUTTI_BARRIER)
        return;
    if (data->print.operation == TUTTI_BROADCAST && data->rank != (int)data->print.root)
        return;
    for (size_t i = 0; i < given; i++)
        put(data, data->send, i, input(data, data->rank, i));
}

void data_init(struct data *data, const struct planned_call *planned, int rank, int size, uint64_t salt)
{
    bool gathers = operation_gathers(planned->operation);
    bool scatters = planned->operation == TUTTI_REDUCE_SCATTER;
    *data = (struct data){.rank = rank, .size = size, .salt = salt};
    data->print = (struct fingerprint){
        .operation = planned->operation,
        .type = planned->operation == TUTTI_BARRIER ? 0 : planned->type,
        .reduction = operation_reduces(planned->operation) ? TUTTI_SUM : 0,
        .root = planned->root,
        .count = planned->count,
    };
    if (planned->operation == TUTTI_BARRIER)
        return;
    size_t one = planned->count * tutti_type_size(planned->type), all = one * (size_t)size;
    size_t own = (size_t)rank * one;
    size_t send_bytes = scatters ? all : one;
    data->recv_bytes = gathers ? all : one;
    data->memory_bytes =
        planned->in_place ? (scatters ? all : data->recv_bytes) : send_bytes + data->recv_bytes;
    data->memory = world_alloc_raw(data->memory_bytes);
    if (!planned->in_place) {
        data->send = data->memory;
        data->recv = data->memory + send_bytes;
        memset(data->recv, 0, data->recv_bytes);
    } else {
        data->send = data->memory + (gathers ? own : 0);
        data->recv = data->memory + (scatters ? own : 0);
    }
    fill(data);
}

static bool gathered_is_right(const struct data *data)
{
    size_t count = data->print.count;
    for (int rank = 0; rank < data->size; rank++)
        for (size_t i = 0; i < count; i++)
            if (!is(data, (size_t)rank * count + i, input(data, rank, i)))
                return false;
    return true;
}

bool data_is_right(const struct data *data)
{
    size_t count = data->print.count, own = (size_t)data->rank * count;
    int operation = data->print.operation, root = (int)data->print.root;
    if (operation == TUTTI_BARRIER || (operation == TUTTI_GATHER && data->rank != root))
        return true;
    if (operation_gathers(operation))
        return gathered_is_right(data);
    for (size_t i = 0; i < count; i++) {
        int64_t value = operation == TUTTI_ALL_REDUCE       ? sum(data, i)
                        : operation == TUTTI_REDUCE_SCATTER ? sum(data, own + i)
                                                            : input(data, root, i);
        if (!is(data, i, value))
            return false;
    }
    return true;
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
