/* Every kernel of every instruction set against a reference that shares no code with them: integers modulo
 * 2^64, floats in a wider type, 16-bit floats by searching a table of all their values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include "tensor/float16.h"
#include "tensor/reduce.h"

#define LENGTH_MAX   300
#define GUARD_BYTES  64
#define BUFFER_BYTES (GUARD_BYTES + LENGTH_MAX * 8 + GUARD_BYTES)
#define GUARD        0xA5

/* ---- Random operands ----------------------------------------------------------------------------- */

static uint64_t random_state;

static uint64_t random_next(void)
{
    random_state += 0x9E3779B97F4A7C15;
    uint64_t z = random_state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
}

static int seed_random(void **state)
{
    (void)state;
    const char *given = getenv("TUTTI_TEST_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);
    print_message("TUTTI_TEST_SEED=%u\n", seed);
    random_state = seed;
    return 0;
}

/* Zero, one, least and largest, denormals, infinities, NaN quiet and signalling; the sign is added. */
static const uint64_t specials[TYPE_COUNT][10] = {
    [TUTTI_FLOAT32] = {0, 1, 0x007FFFFF, 0x00800000, 0x3F800000, 0x3F800001, 0x7F7FFFFF, 0x7F800000,
                       0x7FC12345, 0x7F812345},
    [TUTTI_FLOAT64] = {0, 1, 0x000FFFFFFFFFFFFF, 0x0010000000000000, 0x3FF0000000000000, 0x3FF0000000000001,
                       0x7FEFFFFFFFFFFFFF, 0x7FF0000000000000, 0x7FF8000000012345, 0x7FF0000000012345},
    [TUTTI_FLOAT16] = {0, 1, 0x03FF, 0x0400, 0x3C00, 0x3C01, 0x7BFF, 0x7C00, 0x7E12, 0x7C12},
    [TUTTI_BFLOAT16] = {0, 1, 0x007F, 0x0080, 0x3F80, 0x3F81, 0x7F7F, 0x7F80, 0x7FC1, 0x7F81},
    [TUTTI_INT8] = {0, 1, 2, 3, 0x7E, 0x7F, 0x7F, 0x55, 0x10, 0x11},
    [TUTTI_UINT8] = {0, 1, 2, 3, 0x7E, 0x7F, 0x7F, 0x55, 0x10, 0x11},
    [TUTTI_INT32] = {0, 1, 2, 3, 0x7FFFFFFE, 0x7FFFFFFF, 0xFFFF, 0x10000, 0x10001, 0x40000000},
    [TUTTI_INT64] = {0, 1, 2, 3, 0x7FFFFFFFFFFFFFFE, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFF, 0x100000000, 0x100000001,
                     0x4000000000000000},
};

static uint64_t random_element(int type)
{
    uint64_t random = random_next(), sign = (uint64_t)1 << (8 * tutti_type_size((enum tutti_type)type) - 1);
    if (random % 3 != 0)
        return random_next();
    return specials[type][random / 3 % 10] | (random >> 63 ? sign : 0);
}

static uint64_t get_element(int type, const unsigned char *bytes, size_t index)
{
    uint64_t element = 0;
    size_t size = tutti_type_size((enum tutti_type)type);
    memcpy(&element, bytes + index * size, size);
    return element;
}

static void fill(int type, unsigned char *bytes, size_t count)
{
    size_t size = tutti_type_size((enum tutti_type)type);
    for (size_t i = 0; i < count; i++) {
        uint64_t element = random_element(type);
        memcpy(bytes + i * size, &element, size);
    }
}

/* ---- Reference: 16-bit floats -------------------------------------------------------------------- */

struct half_format {
    int fraction_bits, bias;
    unsigned infinity;
};

static const struct half_format float16_format = {10, 15, 0x7C00}, bfloat16_format = {7, 127, 0x7F80};

static const struct half_format *half_format(int type)
{
    return type == TUTTI_FLOAT16 ? &float16_format : &bfloat16_format;
}

/* By definition: sign * fraction * 2^exponent.  Infinity counts as the power of two that it stands for in
 * rounding. */
static double half_value(const struct half_format *format, unsigned half)
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

static bool half_is_nan(const struct half_format *format, unsigned half)
{
    return (half & 0x7FFF) > format->infinity;
}

static double half_to_double(const struct half_format *format, unsigned half)
{
    if (half_is_nan(format, half))
        return NAN;
    if ((half & 0x7FFF) == format->infinity)
        return half & 0x8000 ? -INFINITY : INFINITY;
    return half_value(format, half);
}

/* The nearest of all values, of two as near the one with an even last bit. */
static unsigned half_from_double(const struct half_format *format, double value)
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

/* ---- Reference: all types ------------------------------------------------------------------------ */

static bool is_float(int type)
{
    return type <= TUTTI_BFLOAT16;
}

/* `operation` is a reduction or '/'. */
static double calculate(int operation, double a, double b)
{
    switch (operation) {
    case TUTTI_SUM:
    case TUTTI_AVG:
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

/* double has more than twice the bits of float32, so that rounding twice is rounding once; but float32 has
 * not that many more than the 16-bit floats for it to be left out between. */
static uint64_t float_reference(int type, int operation, uint64_t x, double b_given, uint64_t y)
{
    uint64_t result = 0;
    double a, b = b_given;
    float single;
    if (type == TUTTI_FLOAT64) {
        memcpy(&a, &x, sizeof a);
        if (operation != '/')
            memcpy(&b, &y, sizeof b);
        a = calculate(operation, a, b);
        memcpy(&result, &a, sizeof a);
    } else if (type == TUTTI_FLOAT32) {
        memcpy(&single, &x, sizeof single);
        a = single;
        memcpy(&single, &y, sizeof single);
        single = (float)calculate(operation, a, operation == '/' ? b : single);
        memcpy(&result, &single, sizeof single);
    } else {
        const struct half_format *format = half_format(type);
        if (operation != '/')
            b = half_to_double(format, (unsigned)y);
        single = (float)calculate(operation, half_to_double(format, (unsigned)x), b);
        result = half_from_double(format, single);
    }
    return result;
}

static int64_t integer_value(int type, uint64_t x)
{
    switch (type) {
    case TUTTI_INT8:
        return (int8_t)x;
    case TUTTI_UINT8:
        return (uint8_t)x;
    case TUTTI_INT32:
        return (int32_t)x;
    default:
        return (int64_t)x;
    }
}

static uint64_t integer_reference(int type, int operation, uint64_t x, int64_t divisor, uint64_t y)
{
    int64_t a = integer_value(type, x), b = integer_value(type, y);
    uint64_t mask = UINT64_MAX >> (64 - 8 * tutti_type_size((enum tutti_type)type));
    switch (operation) {
    case TUTTI_PRODUCT:
        return ((uint64_t)a * (uint64_t)b) & mask;
    case TUTTI_MIN:
        return (uint64_t)(a < b ? a : b) & mask;
    case TUTTI_MAX:
        return (uint64_t)(a > b ? a : b) & mask;
    case '/':
        return (uint64_t)(a / divisor) & mask;
    default:
        return ((uint64_t)a + (uint64_t)b) & mask;
    }
}

static uint64_t reference(int type, int operation, uint64_t x, uint64_t y)
{
    return is_float(type) ? float_reference(type, operation, x, 0, y)
                          : integer_reference(type, operation, x, 1, y);
}

static uint64_t divide_reference(int type, uint64_t x, int divisor)
{
    if (!is_float(type))
        return integer_reference(type, '/', x, divisor, 0);
    /* A 16-bit float is divided in float32, which the divisor is rounded to. */
    double by = type == TUTTI_FLOAT64 ? (double)divisor : (double)(float)divisor;
    return float_reference(type, '/', x, by, 0);
}

/* Infinity and the bit that makes a NaN quiet. */
static const uint64_t infinities[TYPE_COUNT] = {[TUTTI_FLOAT32] = 0x7F800000,
                                                [TUTTI_FLOAT64] = 0x7FF0000000000000,
                                                [TUTTI_FLOAT16] = 0x7C00,
                                                [TUTTI_BFLOAT16] = 0x7F80};
static const uint64_t quiet_bits[TYPE_COUNT] = {[TUTTI_FLOAT32] = 0x00400000,
                                                [TUTTI_FLOAT64] = 0x0008000000000000,
                                                [TUTTI_FLOAT16] = 0x0200,
                                                [TUTTI_BFLOAT16] = 0x0040};

static bool is_quiet_nan(int type, uint64_t x)
{
    uint64_t quiet = infinities[type] | quiet_bits[type];
    return is_float(type) && (x & quiet) == quiet;
}

/* Bit for bit, but a sum, product or quotient may be any quiet NaN. */
static bool is_result(int type, int operation, uint64_t got, uint64_t expected)
{
    if (is_quiet_nan(type, expected) && (operation == TUTTI_MIN || operation == TUTTI_MAX))
        return got == (infinities[type] | quiet_bits[type]);
    return got == expected || (is_quiet_nan(type, expected) && is_quiet_nan(type, got));
}

/* ---- Every length, alignment and placement ------------------------------------------------------- */

enum placement { SEPARATE, IN_LEFT, IN_RIGHT, PLACEMENTS };

static unsigned char left[BUFFER_BYTES], right[BUFFER_BYTES], target[BUFFER_BYTES];
static unsigned char left_before[BUFFER_BYTES], right_before[BUFFER_BYTES];

static void check_guards(const unsigned char *buffer, size_t begin, size_t end)
{
    for (size_t i = 0; i < BUFFER_BYTES; i++) {
        if ((i < begin || i >= end) && buffer[i] != GUARD)
            fail_msg("byte %zu outside of [%zu, %zu) was changed", i, begin, end);
    }
}

static void check_reduction(const struct reduce_table *table, int type, int reduction, size_t count,
                            enum placement placement, const size_t offsets[3])
{
    size_t bytes = count * tutti_type_size((enum tutti_type)type);
    unsigned char *buffers[3] = {target, left, right};
    size_t begin[3];
    for (int i = 0; i < 3; i++) {
        memset(buffers[i], GUARD, BUFFER_BYTES);
        begin[i] = GUARD_BYTES / 2 + offsets[i];
    }
    fill(type, left + begin[1], count);
    fill(type, right + begin[2], count);
    memcpy(left_before, left, sizeof left);
    memcpy(right_before, right, sizeof right);

    int out = placement == IN_LEFT ? 1 : placement == IN_RIGHT ? 2 : 0;
    table->reduce[type][reduction](buffers[out] + begin[out], left + begin[1], right + begin[2], count);

    check_guards(buffers[out], begin[out], begin[out] + bytes);
    if (out != 1)
        assert_memory_equal(left, left_before, sizeof left);
    if (out != 2)
        assert_memory_equal(right, right_before, sizeof right);
    for (size_t i = 0; i < count; i++) {
        uint64_t x = get_element(type, left_before + begin[1], i),
                 y = get_element(type, right_before + begin[2], i);
        uint64_t got = get_element(type, buffers[out] + begin[out], i),
                 expected = reference(type, reduction, x, y);
        if (!is_result(type, reduction, got, expected))
            fail_msg("%s %s %s of %zu, element %zu: %#jx and %#jx gave %#jx instead of %#jx", table->name,
                     type_name(type), reduction_name(reduction), count, i, (uintmax_t)x, (uintmax_t)y,
                     (uintmax_t)got, (uintmax_t)expected);
    }
}

static void check_table(const struct reduce_table *table)
{
    static const size_t aligned[3] = {0, 0, 0}, unaligned[3] = {1, 3, 5};
    for (int type = 1; type < TYPE_COUNT; type++) {
        for (int reduction = 1; reduction < REDUCTION_COUNT; reduction++) {
            for (size_t count = 0; count <= LENGTH_MAX; count++) {
                enum placement placement = (enum placement)(random_next() % PLACEMENTS);
                check_reduction(table, type, reduction, count, placement, aligned);
                for (int p = 0; p < PLACEMENTS; p++)
                    check_reduction(table, type, reduction, count, (enum placement)p, unaligned);
            }
        }
    }
}

static void check_division(const struct reduce_table *table, int type, size_t count, size_t offset,
                           int divisor)
{
    size_t begin = GUARD_BYTES / 2 + offset, size = tutti_type_size((enum tutti_type)type);
    memset(target, GUARD, sizeof target);
    fill(type, target + begin, count);
    memcpy(left_before, target, sizeof target);
    table->divide[type](target + begin, count, divisor);

    check_guards(target, begin, begin + count * size);
    for (size_t i = 0; i < count; i++) {
        uint64_t x = get_element(type, left_before + begin, i), got = get_element(type, target + begin, i);
        uint64_t expected = divide_reference(type, x, divisor);
        if (!is_result(type, '/', got, expected))
            fail_msg("%s %s: %#jx / %d gave %#jx instead of %#jx", table->name, type_name(type), (uintmax_t)x,
                     divisor, (uintmax_t)got, (uintmax_t)expected);
    }
}

static void check_divisions(const struct reduce_table *table)
{
    static const int divisors[] = {1, 2, 3, 4, 7, 10, 127, 128, 255, 256, 4096, 65521, INT_MAX};
    for (int type = 1; type < TYPE_COUNT; type++) {
        for (size_t d = 0; d < sizeof divisors / sizeof divisors[0]; d++) {
            for (size_t count = 0; count <= LENGTH_MAX; count += 1 + count / 40)
                check_division(table, type, count, count % 8, divisors[d]);
        }
    }
}

static void scalar_kernels_agree_with_the_reference_at_every_length_and_alignment(void **state)
{
    (void)state;
    check_table(reduce_table_scalar());
}

static void avx2_kernels_agree_with_the_reference_at_every_length_and_alignment(void **state)
{
    (void)state;
    if (reduce_table_avx2() == NULL)
        skip();
    check_table(reduce_table_avx2());
}

static void scalar_division_agrees_with_the_reference(void **state)
{
    (void)state;
    check_divisions(reduce_table_scalar());
}

static void avx2_division_agrees_with_the_reference(void **state)
{
    (void)state;
    if (reduce_table_avx2() == NULL)
        skip();
    check_divisions(reduce_table_avx2());
}

/* ---- 16-bit floats, exhaustively ------------------------------------------------------------------ */

static void avx2_kernels_agree_with_scalar_on_every_16_bit_float(void **state)
{
    (void)state;
    static uint16_t every[65536], other[65536], scalar_result[65536], avx2_result[65536];
    const struct reduce_table *scalar = reduce_table_scalar(), *avx2 = reduce_table_avx2();
    if (avx2 == NULL)
        skip();
    for (unsigned i = 0; i < 65536; i++)
        every[i] = (uint16_t)i;
    for (int type = TUTTI_FLOAT16; type <= TUTTI_BFLOAT16; type++) {
        for (int reduction = 1; reduction < REDUCTION_COUNT; reduction++) {
            for (int round = 0; round < 8; round++) {
                fill(type, (unsigned char *)other, 65536);
                scalar->reduce[type][reduction](scalar_result, every, other, 65536);
                avx2->reduce[type][reduction](avx2_result, every, other, 65536);
                for (unsigned i = 0; i < 65536; i++)
                    assert_true(is_result(type, reduction, avx2_result[i], scalar_result[i]));
            }
        }
    }
}

static void check_widening(const struct half_format *format, float (*widen)(uint16_t),
                           uint16_t (*round_to_half)(float))
{
    uint16_t quiet = (uint16_t)(1u << (format->fraction_bits - 1));
    for (unsigned half = 0; half < 65536; half++) {
        float value = widen((uint16_t)half);
        if (half_is_nan(format, half)) {
            assert_true(isnan(value));
            assert_int_equal(round_to_half(value), half | quiet);
        } else {
            assert_true((double)value == half_to_double(format, half));
            assert_int_equal(signbit(value) != 0, half >> 15);
            assert_int_equal(round_to_half(value), half);
        }
    }
}

/* Halfway between each two neighbours, and the float32 on either side of it. */
static void check_rounding(const struct half_format *format, uint16_t (*round_to_half)(float))
{
    for (unsigned half = 0; half < format->infinity; half++) {
        double middle = (half_value(format, half) + half_value(format, half + 1)) / 2;
        float tie = (float)middle;
        assert_true(tie == middle);
        assert_int_equal(round_to_half(tie), half + half % 2);
        assert_int_equal(round_to_half(-tie), (half + half % 2) | 0x8000);
        assert_int_equal(round_to_half(nextafterf(tie, 0)), half);
        assert_int_equal(round_to_half(nextafterf(tie, INFINITY)), half + 1);
    }
}

static void every_float16_survives_being_widened_and_rounded(void **state)
{
    (void)state;
    check_widening(&float16_format, float16_widen, float16_round);
}

static void every_bfloat16_survives_being_widened_and_rounded(void **state)
{
    (void)state;
    check_widening(&bfloat16_format, bfloat16_widen, bfloat16_round);
}

static void float16_rounds_to_nearest_and_ties_to_even(void **state)
{
    (void)state;
    check_rounding(&float16_format, float16_round);
    assert_int_equal(float16_round(FLT_MAX), 0x7C00);
}

static void bfloat16_rounds_to_nearest_and_ties_to_even(void **state)
{
    (void)state;
    check_rounding(&bfloat16_format, bfloat16_round);
}

/* ---- Tables ---------------------------------------------------------------------------------------- */

static void every_table_is_complete(void **state)
{
    (void)state;
    const struct reduce_table *tables[] = {reduce_table(), reduce_table_scalar(), reduce_table_avx2()};
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++) {
        for (int type = 1; tables[t] != NULL && type < TYPE_COUNT; type++) {
            for (int reduction = 1; reduction < REDUCTION_COUNT; reduction++)
                assert_non_null(tables[t]->reduce[type][reduction]);
            assert_non_null(tables[t]->divide[type]);
        }
    }
}

static void the_best_table_is_that_of_the_processor(void **state)
{
    (void)state;
    const struct reduce_table *best =
        reduce_table_avx2() != NULL ? reduce_table_avx2() : reduce_table_scalar();
    assert_ptr_equal(reduce_table(), best);
    print_message("kernels: %s\n", best->name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalar_kernels_agree_with_the_reference_at_every_length_and_alignment),
        cmocka_unit_test(avx2_kernels_agree_with_the_reference_at_every_length_and_alignment),
        cmocka_unit_test(scalar_division_agrees_with_the_reference),
        cmocka_unit_test(avx2_division_agrees_with_the_reference),
        cmocka_unit_test(avx2_kernels_agree_with_scalar_on_every_16_bit_float),
        cmocka_unit_test(every_float16_survives_being_widened_and_rounded),
        cmocka_unit_test(every_bfloat16_survives_being_widened_and_rounded),
        cmocka_unit_test(float16_rounds_to_nearest_and_ties_to_even),
        cmocka_unit_test(bfloat16_rounds_to_nearest_and_ties_to_even),
        cmocka_unit_test(every_table_is_complete),
        cmocka_unit_test(the_best_table_is_that_of_the_processor),
    };
    return cmocka_run_group_tests(tests, seed_random, NULL);
}
