#include "tools/bench.h"

#include <string.h>
#include "tensor/float16.h"
#include "tensor/type.h"

/* Every part of a buffer repeats itself after so many elements. */
#define PERIOD 8

#define TILE_BYTES 4096 /* compared at once; holds whole periods of every type */

#define POISON 0xA5 /* in an output that is about to be checked */

/* More ranks than these add nothing, so that float16 and bfloat16 hold every sum. */
#define ADDING_RANKS 64

struct period {
    uint8_t bytes[PERIOD * sizeof(int64_t)];
    size_t size;
};

/* ---- Numbers ------------------------------------------------------------------------------------ */

static void put_element(struct period *period, const struct bench_case *which, unsigned value)
{
    union {
        float f32[2];
        double f64;
        uint64_t u64;
        uint32_t u32;
        uint16_t u16;
        uint8_t u8;
    } element = {.u64 = 0};
    switch (which->type) {
    case TUTTI_FLOAT32:
        element.f32[0] = (float)value;
        break;
    case TUTTI_COMPLEX64:
        element.f32[0] = (float)value;
        if (which->reduction != TUTTI_PRODUCT)
            element.f32[1] = (float)value;
        break;
    case TUTTI_FLOAT64:
        element.f64 = value;
        break;
    case TUTTI_FLOAT16:
        element.u16 = float16_round((float)value);
        break;
    case TUTTI_BFLOAT16:
        element.u16 = bfloat16_round((float)value);
        break;
    case TUTTI_BOOL:
        element.u8 = value != 0;
        break;
    case TUTTI_INT8:
    case TUTTI_UINT8:
        element.u8 = (uint8_t)value; /* wraps around, as the sum does */
        break;
    case TUTTI_INT16:
        element.u16 = (uint16_t)value;
        break;
    case TUTTI_INT32:
    case TUTTI_UINT32:
        element.u32 = value;
        break;
    case TUTTI_INT64:
    case TUTTI_UINT64:
        element.u64 = value;
        break;
    }
    memcpy(period->bytes + period->size, &element, type_size((int)which->type));
    period->size += type_size((int)which->type);
}

/* ---- What ranks contribute, and what comes of it ------------------------------------------------ */

/* An average is exact where every rank has the same, and the sum is within an int8. */
static unsigned average_input(int size, unsigned i)
{
    return size <= 32 ? i % 4 : size <= 127 ? i % 2 : 0;
}

/* Element `i` of part `part` of the input of `rank`, before its factor. */
static unsigned input(const struct bench_case *which, int rank, int part, unsigned i)
{
    unsigned number = (unsigned)rank;
    if (!operation_reduces((int)which->operation)) {
        unsigned value = (number + 4 * (unsigned)part) % 15 * PERIOD + i % PERIOD;
        return which->type == TUTTI_BOOL ? (value / PERIOD + i) % 2 : value;
    }
    i = (i + (unsigned)part) % PERIOD;
    switch (which->reduction) {
    case TUTTI_PRODUCT:
        return which->type == TUTTI_BOOL ? number != i : number == i ? 2 : 1;
    case TUTTI_AVG:
        return average_input(which->size, i);
    case TUTTI_PREMULTIPLIED_SUM:
        return rank < ADDING_RANKS ? (number + i) % 2 * 2 : 0;
    case TUTTI_BIT_AND:
        return which->type == TUTTI_BOOL ? number != i : number == i ? 1 : 3;
    case TUTTI_LOGICAL_AND:
        return number != i;
    default:
        break;
    }
    unsigned value = rank < ADDING_RANKS ? (number + i) % 4 : 0;
    return which->type == TUTTI_BOOL ? value == 3 : value;
}

double bench_factor(const struct bench_case *which, int rank)
{
    return which->reduction == TUTTI_PREMULTIPLIED_SUM ? 1 + rank % 2 : 1;
}

static unsigned combine(const struct bench_case *which, unsigned result, unsigned value)
{
    switch (which->reduction) {
    case TUTTI_SUM:
    case TUTTI_PREMULTIPLIED_SUM:
        return result + value;
    case TUTTI_PRODUCT:
        return result * value;
    case TUTTI_MIN:
        return value < result ? value : result;
    case TUTTI_MAX:
        return value > result ? value : result;
    case TUTTI_AVG:
        break; /* all the same */
    case TUTTI_BIT_AND:
        return result & value;
    case TUTTI_BIT_OR:
        return result | value;
    case TUTTI_BIT_XOR:
        return result ^ value;
    case TUTTI_LOGICAL_AND:
        return result && value;
    case TUTTI_LOGICAL_OR:
        return result || value;
    }
    return result;
}

static unsigned reduced(const struct bench_case *which, int part, unsigned i)
{
    unsigned result = input(which, 0, part, i) * (unsigned)bench_factor(which, 0);
    for (int rank = 1; rank < which->size; rank++) {
        unsigned value = input(which, rank, part, i) * (unsigned)bench_factor(which, rank);
        result = combine(which, result, value);
    }
    /* Of one rank, too, a logical reduction is 0 or 1. */
    bool is_logical = which->reduction == TUTTI_LOGICAL_AND || which->reduction == TUTTI_LOGICAL_OR;
    return is_logical ? result != 0 : result;
}

/* ---- Buffers ------------------------------------------------------------------------------------ */

bool bench_takes(int operation)
{
    return !operation_is_message(operation) && !operation_has_counts(operation);
}

static int send_parts(const struct bench_case *which)
{
    bool parted = operation_scatters((int)which->operation) || which->operation == TUTTI_ALL_TO_ALL;
    return parted ? which->size : 1;
}

static int recv_parts(const struct bench_case *which)
{
    bool parted = operation_gathers((int)which->operation) || which->operation == TUTTI_ALL_TO_ALL;
    return parted ? which->size : 1;
}

size_t bench_send_count(const struct bench_case *which)
{
    return which->count * (size_t)send_parts(which);
}

size_t bench_recv_count(const struct bench_case *which)
{
    return which->count * (size_t)recv_parts(which);
}

size_t bench_bytes(const struct bench_case *which)
{
    size_t send = bench_send_count(which), recv = bench_recv_count(which);
    return (send > recv ? send : recv) * type_size((int)which->type);
}

size_t bench_count_for(const struct bench_case *which, size_t bytes)
{
    struct bench_case one = *which;
    if (which->operation == TUTTI_BARRIER)
        return 0;
    one.count = 1;
    size_t unit = bench_bytes(&one);
    return bytes > unit ? bytes / unit : 1;
}

void bench_fill(const struct bench_case *which, void *send)
{
    size_t part_bytes = which->count * type_size((int)which->type);
    uint8_t *bytes = send;
    for (int part = 0; part < send_parts(which); part++, bytes += part_bytes) {
        struct period period = {.size = 0};
        for (unsigned i = 0; i < PERIOD; i++)
            put_element(&period, which, input(which, which->rank, part, i));
        for (size_t done = 0; done < part_bytes; done += period.size)
            memcpy(bytes + done, period.bytes,
                   part_bytes - done < period.size ? part_bytes - done : period.size);
    }
}

/* Nothing but what the root has is the input: no other rank may have it beforehand. */
static bool has_input(const struct bench_case *which)
{
    bool from_root_only = which->operation == TUTTI_BROADCAST || which->operation == TUTTI_SCATTER;
    return !from_root_only || which->rank == which->root;
}

void bench_fill_for_check(const struct bench_case *which, void *send, void *recv)
{
    size_t element_bytes = type_size((int)which->type);
    memset(recv, POISON, bench_recv_count(which) * element_bytes);
    bench_fill(which, send);
    if (!has_input(which))
        memset(send, POISON, bench_send_count(which) * element_bytes);
}

/* Elements of `bytes` that differ from the period, repeated. */
static size_t count_different(const uint8_t *bytes, size_t count, size_t element_bytes,
                              const struct period *period)
{
    uint8_t tile[TILE_BYTES];
    size_t size = count * element_bytes, wrong = 0;
    for (size_t i = 0; i < sizeof tile; i += period->size)
        memcpy(tile + i, period->bytes, period->size);
    for (size_t done = 0; done < size; done += sizeof tile) {
        size_t part = size - done < sizeof tile ? size - done : sizeof tile;
        if (memcmp(bytes + done, tile, part) == 0)
            continue;
        for (size_t i = 0; i < part; i += element_bytes)
            wrong += memcmp(bytes + done + i, tile + i, element_bytes) != 0;
    }
    return wrong;
}

/* What part `part` of this rank's output repeats. */
static struct period expected(const struct bench_case *which, int part)
{
    int from = recv_parts(which) > 1 ? part : which->root;
    int sent_part = send_parts(which) > 1 ? which->rank : 0;
    struct period period = {.size = 0};
    for (unsigned i = 0; i < PERIOD; i++)
        put_element(&period, which,
                    operation_reduces((int)which->operation) ? reduced(which, sent_part, i)
                                                             : input(which, from, sent_part, i));
    return period;
}

static bool has_output(const struct bench_case *which)
{
    bool at_root_only = which->operation == TUTTI_GATHER || which->operation == TUTTI_REDUCE;
    return which->operation != TUTTI_BARRIER && (!at_root_only || which->rank == which->root);
}

size_t bench_count_wrong(const struct bench_case *which, const void *recv)
{
    size_t element_bytes = type_size((int)which->type), wrong = 0;
    const uint8_t *bytes = recv;
    for (int part = 0; part < recv_parts(which) && has_output(which); part++) {
        struct period period = expected(which, part);
        wrong += count_different(bytes, which->count, element_bytes, &period);
        bytes += which->count * element_bytes;
    }
    return wrong;
}
