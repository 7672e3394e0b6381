/* Test input that every type holds exactly, and what each reduction makes of it: so that results are compared
 * element by element, for equality.
 *
 * Every pattern has a period of PATTERN_PERIOD(size) elements.  Magnitudes stay below 128 for sums and are
 * powers of two up to 256 for products, for at most PATTERN_SIZE_MAX ranks; integers that wrap are expected
 * to, and no result is a zero whose sign depends on the order. */
#ifndef TESTS_PROCESS_ELEMENTS_H
#define TESTS_PROCESS_ELEMENTS_H

#include <stdbool.h>
#include <string.h>
#include "tutti/tutti.h"

#define PATTERN_SIZE_MAX     8
#define PATTERN_PERIOD(size) ((size_t)12 * (size_t)(size))

static const enum tutti_type all_types[] = {
    TUTTI_FLOAT32, TUTTI_FLOAT64, TUTTI_FLOAT16, TUTTI_BFLOAT16, TUTTI_INT8, TUTTI_UINT8,    TUTTI_INT32,
    TUTTI_INT64,   TUTTI_UINT32,  TUTTI_UINT64,  TUTTI_INT16,    TUTTI_BOOL, TUTTI_COMPLEX64};
#define TYPES ((int)(sizeof all_types / sizeof all_types[0]))

static const enum tutti_reduction all_reductions[] = {TUTTI_SUM,
                                                      TUTTI_PRODUCT,
                                                      TUTTI_MIN,
                                                      TUTTI_MAX,
                                                      TUTTI_AVG,
                                                      TUTTI_BIT_AND,
                                                      TUTTI_BIT_OR,
                                                      TUTTI_BIT_XOR,
                                                      TUTTI_LOGICAL_AND,
                                                      TUTTI_LOGICAL_OR,
                                                      TUTTI_PREMULTIPLIED_SUM};
#define REDUCTIONS ((int)(sizeof all_reductions / sizeof all_reductions[0]))

static inline bool is_float(enum tutti_type type)
{
    return type == TUTTI_FLOAT32 || type == TUTTI_FLOAT64 || type == TUTTI_FLOAT16 || type == TUTTI_BFLOAT16;
}

/* As tutti.h says, said once more. */
static inline bool takes(enum tutti_type type, enum tutti_reduction reduction)
{
    switch (reduction) {
    case TUTTI_SUM:
    case TUTTI_PRODUCT:
        return true;
    case TUTTI_MIN:
    case TUTTI_MAX:
        return type != TUTTI_COMPLEX64;
    case TUTTI_AVG:
        return type != TUTTI_BOOL;
    case TUTTI_PREMULTIPLIED_SUM:
        return is_float(type) || type == TUTTI_COMPLEX64;
    default:
        return !is_float(type) && type != TUTTI_COMPLEX64;
    }
}

/* A small number; `imaginary` is 0 but for complex ones. */
struct number {
    int real, imaginary;
};

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

/* Writes `number` as element `index` of `buffer`; integers take its lowest bits. */
static inline void number_set(void *buffer, size_t index, enum tutti_type type, struct number number)
{
    int value = number.real;
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
    case TUTTI_BOOL:
        ((uint8_t *)buffer)[index] = (uint8_t)value;
        break;
    case TUTTI_INT16:
        ((int16_t *)buffer)[index] = (int16_t)value;
        break;
    case TUTTI_INT32:
    case TUTTI_UINT32:
        ((int32_t *)buffer)[index] = value;
        break;
    case TUTTI_INT64:
    case TUTTI_UINT64:
        ((int64_t *)buffer)[index] = value;
        break;
    case TUTTI_COMPLEX64:
        ((float *)buffer)[2 * index] = (float)value;
        ((float *)buffer)[2 * index + 1] = (float)number.imaginary;
        break;
    }
}

static inline void element_set(void *buffer, size_t index, enum tutti_type type, int value)
{
    number_set(buffer, index, type, (struct number){value, 0});
}

static inline bool has_sign(enum tutti_type type)
{
    return type != TUTTI_UINT8 && type != TUTTI_UINT32 && type != TUTTI_UINT64 && type != TUTTI_BOOL;
}

/* What is true on every rank, on none, on one, and on all but one takes turns. */
static inline bool pattern_truth(int rank, int size, size_t index)
{
    bool chosen = (int)(index % (size_t)size) == rank;
    switch (index % 4) {
    case 0:
        return true;
    case 1:
        return false;
    case 2:
        return chosen;
    default:
        return !chosen;
    }
}

/* Results are multiples of `size`, so that averages are exact: the second term takes each even value below
 * 2 * size once. */
static inline int pattern_sum(int rank, int size, size_t index, bool is_signed)
{
    int value = (int)(index % 6) + 2 * (int)(((size_t)rank + index) % (size_t)size);
    return is_signed && index % 3 == 0 ? -value : value;
}

/* What rank `rank` of `size` contributes as element `index`. */
static inline struct number pattern(int rank, int size, size_t index, enum tutti_type type,
                                    enum tutti_reduction reduction)
{
    static const struct number turns[4] = {{2, 1}, {-1, 2}, {-2, -1}, {1, -2}};
    if (type == TUTTI_BOOL || reduction == TUTTI_LOGICAL_AND || reduction == TUTTI_LOGICAL_OR) {
        /* 1, 2, 4: true values which have no bit in common. */
        return (struct number){pattern_truth(rank, size, index) ? 1 << (((size_t)rank + index) % 3) : 0, 0};
    }
    if (reduction == TUTTI_PRODUCT && type == TUTTI_COMPLEX64)
        return turns[((size_t)rank + index) %
                     4]; /* products of these have no zero, whose sign could differ */
    if (reduction == TUTTI_PRODUCT) {
        int value = ((size_t)rank * 5 + index) % 3 == 0 ? 1 : 2;
        return (struct number){has_sign(type) && ((size_t)rank + index) % 4 == 0 ? -value : value, 0};
    }
    return (struct number){pattern_sum(rank, size, index, has_sign(type)),
                           type == TUTTI_COMPLEX64 ? pattern_sum(rank, size, index + 5, true) : 0};
}

/* The factor of a pre-multiplied sum. */
static inline int pattern_factor(int rank)
{
    return rank % 2 == 0 ? 2 : -1;
}

static inline struct number combine(struct number a, struct number b, enum tutti_reduction reduction)
{
    switch (reduction) {
    case TUTTI_SUM:
    case TUTTI_AVG:
    case TUTTI_PREMULTIPLIED_SUM:
        return (struct number){a.real + b.real, a.imaginary + b.imaginary};
    case TUTTI_PRODUCT:
        return (struct number){a.real * b.real - a.imaginary * b.imaginary,
                               a.real * b.imaginary + a.imaginary * b.real};
    case TUTTI_MIN:
        return b.real < a.real ? b : a;
    case TUTTI_MAX:
        return b.real > a.real ? b : a;
    case TUTTI_BIT_AND:
        return (struct number){a.real & b.real, 0};
    case TUTTI_BIT_OR:
        return (struct number){a.real | b.real, 0};
    case TUTTI_BIT_XOR:
        return (struct number){a.real ^ b.real, 0};
    case TUTTI_LOGICAL_AND:
        return (struct number){a.real && b.real, 0};
    case TUTTI_LOGICAL_OR:
        return (struct number){a.real || b.real, 0};
    }
    return a;
}

/* What a reduction of truth values is. */
static inline enum tutti_reduction reduction_of_truth(enum tutti_reduction reduction)
{
    switch (reduction) {
    case TUTTI_PRODUCT:
    case TUTTI_MIN:
    case TUTTI_BIT_AND:
    case TUTTI_LOGICAL_AND:
        return TUTTI_LOGICAL_AND;
    case TUTTI_BIT_XOR:
        return TUTTI_BIT_XOR;
    default:
        return TUTTI_LOGICAL_OR;
    }
}

static inline struct number pattern_reduced(int size, size_t index, enum tutti_type type,
                                            enum tutti_reduction reduction)
{
    bool truth = type == TUTTI_BOOL || reduction == TUTTI_LOGICAL_AND || reduction == TUTTI_LOGICAL_OR;
    enum tutti_reduction how = truth ? reduction_of_truth(reduction) : reduction;
    struct number result = {0, 0};
    for (int rank = 0; rank < size; rank++) {
        struct number term = pattern(rank, size, index, type, reduction);
        int factor = reduction == TUTTI_PREMULTIPLIED_SUM ? pattern_factor(rank) : 1;
        term = truth ? (struct number){term.real != 0, 0}
                     : (struct number){term.real * factor, term.imaginary * factor};
        result = rank == 0 ? term : combine(result, term, how);
    }
    if (reduction == TUTTI_AVG)
        result = (struct number){result.real / size, result.imaginary / size};
    return result;
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
