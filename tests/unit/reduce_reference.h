/* What reductions ought to give, in code that shares nothing with the kernels: integers in 128 bits, floats
 * in a wider type, 16-bit floats by searching a table of all their values.  And operands to try it on.  An
 * element is its bits, in a uint64_t. */
#ifndef TUTTI_TESTS_UNIT_REDUCE_REFERENCE_H
#define TUTTI_TESTS_UNIT_REDUCE_REFERENCE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
#include <math.h>
#include "tensor/type.h"

/* ---- Random operands ----------------------------------------------------------------------------- */

static uint64_t random_state;

static inline uint64_t random_next(void)
{
    random_state += 0x9E3779B97F4A7C15;
    uint64_t z = random_state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
}

static inline int seed_random(void **state)
{
    (void)state;
    const char *given = getenv("TUTTI_TEST_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);
    print_message("TUTTI_TEST_SEED=%u\n", seed);
    random_state = seed;
    return 0;
}

static inline size_t element_bytes(int type)
{
    return tutti_type_size((enum tutti_type)type);
}

/* Zero, one, least and largest, denormals, infinities, NaN quiet and signalling; the sign is added.  Integers
 * that are not zero in one half only. */
static const uint64_t specials[TYPE_COUNT][10] = {
    [TUTTI_FLOAT32] = {0, 1, 0x007FFFFF, 0x00800000, 0x3F800000, 0x3F800001, 0x7F7FFFFF, 0x7F800000,
                       0x7FC12345, 0x7F812345},
    [TUTTI_FLOAT64] = {0, 1, 0x000FFFFFFFFFFFFF, 0x0010000000000000, 0x3FF0000000000000, 0x3FF0000000000001,
                       0x7FEFFFFFFFFFFFFF, 0x7FF0000000000000, 0x7FF8000000012345, 0x7FF0000000012345},
    [TUTTI_FLOAT16] = {0, 1, 0x03FF, 0x0400, 0x3C00, 0x3C01, 0x7BFF, 0x7C00, 0x7E12, 0x7C12},
    [TUTTI_BFLOAT16] = {0, 1, 0x007F, 0x0080, 0x3F80, 0x3F81, 0x7F7F, 0x7F80, 0x7FC1, 0x7F81},
    [TUTTI_INT8] = {0, 1, 2, 3, 0x7E, 0x7F, 0x7F, 0x55, 0x10, 0x11},
    [TUTTI_UINT8] = {0, 1, 2, 3, 0x7E, 0x7F, 0x7F, 0x55, 0x10, 0x11},
    [TUTTI_INT16] = {0, 1, 2, 3, 0x7FFE, 0x7FFF, 0xFF, 0x100, 0x101, 0x4000},
    [TUTTI_INT32] = {0, 1, 2, 3, 0x7FFFFFFE, 0x7FFFFFFF, 0xFFFF, 0x10000, 0x10001, 0x40000000},
    [TUTTI_UINT32] = {0, 1, 2, 3, 0x7FFFFFFE, 0x7FFFFFFF, 0xFFFF, 0x10000, 0x10001, 0x40000000},
    [TUTTI_INT64] = {0, 1, 2, 3, 0x7FFFFFFFFFFFFFFE, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFF, 0x100000000, 0x100000001,
                     0x4000000000000000},
    [TUTTI_UINT64] = {0, 1, 2, 3, 0x7FFFFFFFFFFFFFFE, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFF, 0x100000000,
                      0x100000001, 0x4000000000000000},
    [TUTTI_BOOL] = {0, 0, 0, 0, 0, 1, 1, 1, 2, 0x7F},
};

static inline uint64_t random_element(int type)
{
    if (type == TUTTI_COMPLEX64) {
        uint64_t real = random_element(TUTTI_FLOAT32);
        return (real & UINT32_MAX) | random_element(TUTTI_FLOAT32) << 32;
    }
    uint64_t random = random_next(), sign = (uint64_t)1 << (8 * element_bytes(type) - 1);
    if (random % 3 != 0)
        return random_next();
    return specials[type][random / 3 % 10] | (random >> 63 ? sign : 0);
}

static inline uint64_t get_element(int type, const unsigned char *bytes, size_t index)
{
    uint64_t element = 0;
    memcpy(&element, bytes + index * element_bytes(type), element_bytes(type));
    return element;
}

static inline void fill(int type, unsigned char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t element = random_element(type);
        memcpy(bytes + i * element_bytes(type), &element, element_bytes(type));
    }
}

/* ---- 16-bit floats -------------------------------------------------------------------------------- */

struct half_format {
    int fraction_bits, bias;
    unsigned infinity;
};

static const struct half_format float16_format = {10, 15, 0x7C00}, bfloat16_format = {7, 127, 0x7F80};

static inline const struct half_format *half_format(int type)
{
    return type == TUTTI_FLOAT16 ? &float16_format : &bfloat16_format;
}

/* By definition: sign * fraction * 2^exponent.  Infinity counts as the power of two that it stands for in
 * rounding. */
static inline double half_value(const struct half_format *format, unsigned half)
{
    unsigned magnitude = half & 0x7FFF;
    int exponent = (int)(magnitude >> format->fraction_bits);
    unsigned fraction = magnitude & ((1u << format->fraction_bits) - 1);
    double value;
    if (exponent == 0)
        value = ldexp(fraction, 1 - format->bias - format->fraction_bits);
    else
        value =
            ldexp(fraction + (1u << format->fraction_bits), exponent - format->bias - format->fraction_bits);
    return half & 0x8000 ? -value : value;
}

static inline bool half_is_nan(const struct half_format *format, unsigned half)
{
    return (half & 0x7FFF) > format->infinity;
}

static inline double half_to_double(const struct half_format *format, unsigned half)
{
    if (half_is_nan(format, half))
        return NAN;
    if ((half & 0x7FFF) == format->infinity)
        return half & 0x8000 ? -INFINITY : INFINITY;
    return half_value(format, half);
}

/* The nearest of all values, of two as near the one with an even last bit. */
static inline unsigned half_from_double(const struct half_format *format, double value)
{
    unsigned sign = signbit(value) ? 0x8000 : 0, low = 0, high = format->infinity;
    double magnitude = fabs(value);
    if (isnan(value))
        return format->infinity | 1u << (format->fraction_bits - 1);
    if (magnitude >= half_value(format, high))
        return sign | high;
    while (high - low > 1) {
        unsigned middle = (low + high) / 2;
        if (half_value(format, middle) <= magnitude)
            low = middle;
        else
            high = middle;
    }
    double below = magnitude - half_value(format, low), above = half_value(format, high) - magnitude;
    return sign | (below < above || (below == above && low % 2 == 0) ? low : high);
}

/* ---- Floats --------------------------------------------------------------------------------------- */

static inline bool is_float(int type)
{
    return type <= TUTTI_BFLOAT16;
}

static inline double float_value(int type, uint64_t bits)
{
    float single;
    double value;
    if (type == TUTTI_FLOAT32) {
        memcpy(&single, &bits, sizeof single);
        value = single;
    } else if (type == TUTTI_FLOAT64) {
        memcpy(&value, &bits, sizeof value);
    } else {
        value = half_to_double(half_format(type), (unsigned)bits);
    }
    return value;
}

/* double has more than twice the bits of float32, so that rounding twice is rounding once; but float32 has
 * not that many more than the 16-bit floats for it to be left out between. */
static inline uint64_t float_bits(int type, double value)
{
    uint64_t bits = 0;
    float single = (float)value;
    if (type == TUTTI_FLOAT32)
        memcpy(&bits, &single, sizeof single);
    else if (type == TUTTI_FLOAT64)
        memcpy(&bits, &value, sizeof value);
    else
        bits = half_from_double(half_format(type), single);
    return bits;
}

/* `operation` is a reduction or '/'. */
static inline double calculate(int operation, double a, double b)
{
    switch (operation) {
    case TUTTI_SUM:
    case TUTTI_AVG:
    case TUTTI_PREMULTIPLIED_SUM:
        return a + b;
    case TUTTI_PRODUCT:
        return a * b;
    case '/':
        return a / b;
    default:
        break;
    }
    if (isnan(a) || isnan(b))
        return NAN;
    if (a == b)
        return (operation == TUTTI_MIN) == (signbit(a) != 0) ? a : b;
    return (operation == TUTTI_MIN) == (a < b) ? a : b;
}

/* An element with one number, as the kernels divide and scale: what float32 or less is calculated in float32,
 * which the number is rounded to. */
static inline uint64_t apply_reference(int type, int operation, uint64_t x, double number)
{
    if (type == TUTTI_COMPLEX64)
        return apply_reference(TUTTI_FLOAT32, operation, x & UINT32_MAX, number) |
               apply_reference(TUTTI_FLOAT32, operation, x >> 32, number) << 32;
    double by = type == TUTTI_FLOAT64 ? number : (double)(float)number;
    return float_bits(type, calculate(operation, float_value(type, x), by));
}

/* Each product is rounded before they are added; volatile keeps the compiler from doing both at once. */
static inline uint64_t complex_product(uint64_t x, uint64_t y)
{
    double a = float_value(TUTTI_FLOAT32, x), b = float_value(TUTTI_FLOAT32, x >> 32);
    double c = float_value(TUTTI_FLOAT32, y), d = float_value(TUTTI_FLOAT32, y >> 32);
    volatile float ac = (float)(a * c), bd = (float)(b * d), ad = (float)(a * d), bc = (float)(b * c);
    return float_bits(TUTTI_FLOAT32, (double)ac - bd) | float_bits(TUTTI_FLOAT32, (double)ad + bc) << 32;
}

/* ---- Integers and bools ---------------------------------------------------------------------------- */

__extension__ typedef __int128 wide_integer;

static inline wide_integer integer_value(int type, uint64_t x)
{
    switch (type) {
    case TUTTI_INT8:
        return (int8_t)x;
    case TUTTI_INT16:
        return (int16_t)x;
    case TUTTI_INT32:
        return (int32_t)x;
    case TUTTI_INT64:
        return (int64_t)x;
    default:
        return x & UINT64_MAX >> (64 - 8 * element_bytes(type));
    }
}

/* Modulo 2^64. */
static inline uint64_t combine_integers(int operation, wide_integer a, wide_integer b)
{
    switch (operation) {
    case TUTTI_PRODUCT:
        return (uint64_t)a * (uint64_t)b;
    case TUTTI_MIN:
        return (uint64_t)(a < b ? a : b);
    case TUTTI_MAX:
        return (uint64_t)(a > b ? a : b);
    case TUTTI_BIT_AND:
        return (uint64_t)(a & b);
    case TUTTI_BIT_OR:
        return (uint64_t)(a | b);
    case TUTTI_BIT_XOR:
        return (uint64_t)(a ^ b);
    case TUTTI_LOGICAL_AND:
        return a != 0 && b != 0;
    case TUTTI_LOGICAL_OR:
        return a != 0 || b != 0;
    case '/':
        return (uint64_t)(a / b);
    default:
        return (uint64_t)(a + b);
    }
}

static inline uint64_t combine_bools(int operation, bool a, bool b)
{
    switch (operation) {
    case TUTTI_PRODUCT:
    case TUTTI_MIN:
    case TUTTI_BIT_AND:
    case TUTTI_LOGICAL_AND:
        return a && b;
    case TUTTI_BIT_XOR:
        return a != b;
    default:
        return a || b;
    }
}

static inline uint64_t integer_reference(int type, int operation, uint64_t x, wide_integer b)
{
    uint64_t mask = UINT64_MAX >> (64 - 8 * element_bytes(type));
    return combine_integers(operation, integer_value(type, x), b) & mask;
}

/* ---- All types ------------------------------------------------------------------------------------- */

static inline uint64_t reference(int type, int operation, uint64_t x, uint64_t y)
{
    if (is_float(type))
        return float_bits(type, calculate(operation, float_value(type, x), float_value(type, y)));
    if (type == TUTTI_BOOL)
        return combine_bools(operation, x != 0, y != 0);
    if (type != TUTTI_COMPLEX64)
        return integer_reference(type, operation, x, integer_value(type, y));
    if (operation == TUTTI_PRODUCT)
        return complex_product(x, y);
    return reference(TUTTI_FLOAT32, operation, x & UINT32_MAX, y & UINT32_MAX) |
           reference(TUTTI_FLOAT32, operation, x >> 32, y >> 32) << 32;
}

static const uint64_t infinities[TYPE_COUNT] = {[TUTTI_FLOAT32] = 0x7F800000,
                                                [TUTTI_FLOAT64] = 0x7FF0000000000000,
                                                [TUTTI_FLOAT16] = 0x7C00,
                                                [TUTTI_BFLOAT16] = 0x7F80};
static const uint64_t quiet_bits[TYPE_COUNT] = {[TUTTI_FLOAT32] = 0x00400000,
                                                [TUTTI_FLOAT64] = 0x0008000000000000,
                                                [TUTTI_FLOAT16] = 0x0200,
                                                [TUTTI_BFLOAT16] = 0x0040};

static inline bool is_quiet_nan(int type, uint64_t x)
{
    uint64_t quiet = infinities[type] | quiet_bits[type];
    return is_float(type) && (x & quiet) == quiet;
}

/* Bit for bit, but a sum, product or quotient may be any quiet NaN. */
static inline bool is_result(int type, int operation, uint64_t got, uint64_t expected)
{
    if (type == TUTTI_COMPLEX64)
        return is_result(TUTTI_FLOAT32, operation, got & UINT32_MAX, expected & UINT32_MAX) &&
               is_result(TUTTI_FLOAT32, operation, got >> 32, expected >> 32);
    if (is_quiet_nan(type, expected) && (operation == TUTTI_MIN || operation == TUTTI_MAX))
        return got == (infinities[type] | quiet_bits[type]);
    return got == expected || (is_quiet_nan(type, expected) && is_quiet_nan(type, got));
}

#endif
