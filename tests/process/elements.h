/* Test input that every type holds exactly, and what each reduction makes of it: so that results are compared
 * element by element, for equality.
 *
 * Every pattern has a period of PATTERN_PERIOD(size) elements.  Magnitudes stay below 128 for sums and are
 * powers of two up to 256 for products, for at most PATTERN_SIZE_MAX ranks; integers that wrap are expected
 * to. */
#ifndef TESTS_PROCESS_ELEMENTS_H
#define TESTS_PROCESS_ELEMENTS_H

#include <stdbool.h>
#include <string.h>
#include "tutti/tutti.h"

#define PATTERN_SIZE_MAX     8
#define PATTERN_PERIOD(size) ((size_t)12 * (size_t)(size))

static const enum tutti_type all_types[] = {TUTTI_FLOAT32, TUTTI_FLOAT64, TUTTI_FLOAT16, TUTTI_BFLOAT16,
                                            TUTTI_INT8,    TUTTI_UINT8,   TUTTI_INT32,   TUTTI_INT64};
#define TYPES ((int)(sizeof all_types / sizeof all_types[0]))

static const enum tutti_reduction all_reductions[] = {TUTTI_SUM, TUTTI_PRODUCT, TUTTI_MIN, TUTTI_MAX,
                                                      TUTTI_AVG};
#define REDUCTIONS ((int)(sizeof all_reductions / sizeof all_reductions[0]))

/* The upper half of the float32 of a small integer is exact. */
static inline uint16_t bfloat16_of(int value)
{
    float f = (float)value;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return (uint16_t)(bits >> 16);
}

/* binary16 of an integer of magnitude up to 2048, which it holds exactly. */
static inline uint16_t float16_of(int value)
{
    unsigned magnitude = (unsigned)(value < 0 ? -value : value);
    if (magnitude == 0)
        return 0;
    unsigned exponent = 0;
    while (magnitude >> (exponent + 1) != 0)
        exponent++;
    unsigned fraction = (magnitude << 10 >> exponent) & 0x3ff;
    return (uint16_t)((value < 0 ? 0x8000u : 0) | (exponent + 15) << 10 | fraction);
}

/* Writes `value` as element `index` of `buffer`; integers take its lowest bits. */
static inline void element_set(void *buffer, size_t index, enum tutti_type type, int value)
{
    switch (type) {
    case TUTTI_FLOAT32:
        ((float *)buffer)[index] = (float)value;
        break;
    case TUTTI_FLOAT64:
        ((double *)buffer)[index] = value;
        break;
    case TUTTI_FLOAT16:
        ((uint16_t *)buffer)[index] = float16_of(value);
        break;
    case TUTTI_BFLOAT16:
        ((uint16_t *)buffer)[index] = bfloat16_of(value);
        break;
    case TUTTI_INT8:
    case TUTTI_UINT8:
        ((uint8_t *)buffer)[index] = (uint8_t)value;
        break;
    case TUTTI_INT32:
        ((int32_t *)buffer)[index] = value;
        break;
    case TUTTI_INT64:
        ((int64_t *)buffer)[index] = value;
        break;
    }
}

/* What rank `rank` of `size` contributes as element `index`. */
static inline int pattern(int rank, int size, size_t index, enum tutti_type type,
                          enum tutti_reduction reduction)
{
    bool has_sign = type != TUTTI_UINT8;
    if (reduction == TUTTI_PRODUCT) {
        int value = ((size_t)rank * 5 + index) % 3 == 0 ? 1 : 2;
        return has_sign && ((size_t)rank + index) % 4 == 0 ? -value : value;
    }
    /* The second term takes each even value below 2 * size once, so that the sum is a multiple of `size`. */
    int value = (int)(index % 6) + 2 * (int)(((size_t)rank + index) % (size_t)size);
    return has_sign && index % 3 == 0 ? -value : value;
}

static inline int pattern_reduced(int size, size_t index, enum tutti_type type,
                                  enum tutti_reduction reduction)
{
    int result = pattern(0, size, index, type, reduction);
    for (int rank = 1; rank < size; rank++) {
        int value = pattern(rank, size, index, type, reduction);
        switch (reduction) {
        case TUTTI_SUM:
        case TUTTI_AVG:
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
        }
    }
    return reduction == TUTTI_AVG ? result / size : result;
}

/* Repeats the first `period` elements, which are there already, until `count`: by doubling, so that every
 * copy but the last is a whole number of periods. */
static inline void elements_repeat(void *buffer, size_t period, size_t count, size_t element_bytes)
{
    size_t done = period < count ? period : count;
    while (done < count) {
        size_t more = done < count - done ? done : count - done;
        memcpy((char *)buffer + done * element_bytes, buffer, more * element_bytes);
        done += more;
    }
}

/* The index of the first element in which `got` differs from a vector of that period whose first elements are
 * in `expected`; `count` when there is none. */
static inline size_t elements_difference(const void *got, const void *expected, size_t period, size_t count,
                                         size_t element_bytes)
{
    for (size_t i = 0; i < count; i += period) {
        size_t part = count - i < period ? count - i : period;
        const char *here = (const char *)got + i * element_bytes;
        if (memcmp(here, expected, part * element_bytes) == 0)
            continue;
        size_t j = 0;
        while (memcmp(here + j * element_bytes, (const char *)expected + j * element_bytes, element_bytes) ==
               0)
            j++;
        return i + j;
    }
    return count;
}

#endif
