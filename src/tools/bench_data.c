#include "tools/bench.h"

#include <string.h>
#include "tensor/float16.h"
#include "tensor/type.h"

/* Every buffer repeats itself after so many elements. */
#define PERIOD 8

#define TILE_BYTES 4096 /* compared at once; holds whole periods of every type */

/* More ranks than these add nothing, so that float16 and bfloat16 hold every sum. */
#define ADDING_RANKS 64

struct period {
    uint8_t bytes[PERIOD * sizeof(int64_t)];
    size_t size;
};

/* ---- Numbers ------------------------------------------------------------------------------------ */

static void put_element(struct period *period, enum tutti_type type, unsigned value)
{
    union {
        float f32;
        double f64;
        uint16_t u16;
        uint8_t u8;
        int32_t i32;
        int64_t i64;
    } element;
    switch (type) {
    case TUTTI_FLOAT32:
        element.f32 = (float)value;
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
    case TUTTI_INT8:
    case TUTTI_UINT8:
        element.u8 = (uint8_t)value; /* wraps around, as the sum does */
        break;
    case TUTTI_INT32:
        element.i32 = (int32_t)value;
        break;
    case TUTTI_INT64:
        element.i64 = value;
        break;
    }
    memcpy(period->bytes + period->size, &element, tutti_type_size(type));
    period->size += tutti_type_size(type);
}

/* ---- What ranks contribute, and what comes of it ------------------------------------------------ */

/* An average is exact where every rank has the same, and the sum is within an int8. */
static unsigned average_input(int size, unsigned i)
{
    return size <= 32 ? i % 4 : size <= 127 ? i % 2 : 0;
}

/* Element `i`, below PERIOD, of the input of `rank`. */
static unsigned input(const struct bench_case *which, int rank, unsigned i)
{
    unsigned number = (unsigned)rank;
    if (!operation_reduces((int)which->operation))
        return number % 15 * PERIOD + i;
    switch (which->reduction) {
    case TUTTI_PRODUCT:
        return number == i ? 2 : 1;
    case TUTTI_AVG:
        return average_input(which->size, i);
    case TUTTI_SUM:
    case TUTTI_MIN:
    case TUTTI_MAX:
        break;
    }
    return rank < ADDING_RANKS ? (number + i) % 4 : 0;
}

static unsigned reduced(const struct bench_case *which, unsigned i)
{
    unsigned result = input(which, 0, i);
    for (int rank = 1; rank < which->size; rank++) {
        unsigned value = input(which, rank, i);
        switch (which->reduction) {
        case TUTTI_SUM:
            result += value;
            break;
        case TUTTI_PRODUCT:
            result *= value;
            break;
        case TUTTI_MIN:
            result = value < result ? value : result;
            break;
        case TUTTI_MAX:
            result = value > result ? value : result;
            break;
        case TUTTI_AVG:
            break; /* all the same */
        }
    }
    return result;
}

/* ---- Buffers ------------------------------------------------------------------------------------ */

size_t bench_send_count(const struct bench_case *which)
{
    return which->operation == TUTTI_REDUCE_SCATTER ? which->count * (size_t)which->size : which->count;
}

size_t bench_recv_count(const struct bench_case *which)
{
    return operation_gathers((int)which->operation) ? which->count * (size_t)which->size : which->count;
}

void bench_fill(const struct bench_case *which, void *send)
{
    struct period period = {.size = 0};
    for (unsigned i = 0; i < PERIOD; i++)
        put_element(&period, which->type, input(which, which->rank, i));
    size_t size = bench_send_count(which) * tutti_type_size(which->type);
    uint8_t *bytes = send;
    for (size_t done = 0; done < size; done += period.size)
        memcpy(bytes + done, period.bytes, size - done < period.size ? size - done : period.size);
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

/* The period with which `count` elements from element `first` of the result begin; of the input of rank
 * `from` where nothing is reduced. */
static struct period expected(const struct bench_case *which, size_t first, int from)
{
    bool reduces = operation_reduces((int)which->operation);
    struct period period = {.size = 0};
    for (unsigned i = 0; i < PERIOD; i++) {
        unsigned at = (unsigned)((first + i) % PERIOD);
        put_element(&period, which->type, reduces ? reduced(which, at) : input(which, from, at));
    }
    return period;
}

size_t bench_count_wrong(const struct bench_case *which, const void *recv)
{
    size_t element_bytes = tutti_type_size(which->type), wrong = 0;
    const uint8_t *bytes = recv;
    bool is_root = which->rank == which->root;
    if (which->operation == TUTTI_BARRIER || (which->operation == TUTTI_GATHER && !is_root))
        return 0;
    bool scattered = which->operation == TUTTI_REDUCE_SCATTER;
    int parts = (int)(bench_recv_count(which) / (which->count ? which->count : 1));
    for (int part = 0; part < parts; part++) {
        int from = parts > 1 ? part : which->root;
        size_t first = scattered ? which->count * (size_t)which->rank : 0;
        struct period period = expected(which, first, from);
        wrong += count_different(bytes + (size_t)part * which->count * element_bytes, which->count,
                                 element_bytes, &period);
    }
    return wrong;
}
