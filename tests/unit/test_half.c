/* 16-bit floats, exhaustively: widened, rounded, and by every kernel of every instruction set. */
#include "tests/unit/reduce_reference.h"
#include <float.h>
#include "tensor/float16.h"
#include "tensor/reduce.h"

#define HALVES 65536

static uint16_t halves[HALVES];
static float floats[HALVES];

static int fill_halves(void **state)
{
    for (unsigned i = 0; i < HALVES; i++)
        halves[i] = (uint16_t)i;
    return seed_random(state);
}

static void avx2_kernels_agree_with_scalar_on_every_16_bit_float(void **state)
{
    (void)state;
    static uint16_t other[HALVES], scalar_result[HALVES], avx2_result[HALVES];
    const struct reduce_table *scalar = reduce_table_scalar(), *avx2 = reduce_table_avx2();
    if (avx2 == NULL)
        skip();
    for (int type = TUTTI_FLOAT16; type <= TUTTI_BFLOAT16; type++) {
        for (int reduction = 1; reduction < REDUCTION_COUNT; reduction++) {
            for (int round = 0; type_takes(type, reduction) && round < 8; round++) {
                fill(type, (unsigned char *)other, HALVES);
                scalar->reduce[type][reduction](scalar_result, halves, other, HALVES);
                avx2->reduce[type][reduction](avx2_result, halves, other, HALVES);
                for (unsigned i = 0; i < HALVES; i++)
                    assert_true(is_result(type, reduction, avx2_result[i], scalar_result[i]));
            }
        }
    }
}

/* ---- One by one ------------------------------------------------------------------------------------ */

static void check_widening(const struct half_format *format, float (*widen)(uint16_t),
                           uint16_t (*round_to_half)(float))
{
    uint16_t quiet = (uint16_t)(1u << (format->fraction_bits - 1));
    for (unsigned half = 0; half < HALVES; half++) {
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

/* ---- Whole vectors ---------------------------------------------------------------------------------- */

static float widen_one(int type, uint16_t half)
{
    return type == TUTTI_FLOAT16 ? float16_widen(half) : bfloat16_widen(half);
}

static uint16_t round_one(int type, float value)
{
    return type == TUTTI_FLOAT16 ? float16_round(value) : bfloat16_round(value);
}

/* Bit for bit, NaN too. */
static void check_conversions(const struct reduce_table *table, int type)
{
    static uint16_t rounded[HALVES];
    table->widen[type](floats, halves, HALVES);
    for (unsigned i = 0; i < HALVES; i++)
        assert_int_equal(float32_bits(floats[i]), float32_bits(widen_one(type, halves[i])));
    /* Every upper half of a float32 there is, with the lower halves that rounding turns on, and others. */
    static const uint16_t lower[] = {0,      1,      0x0FFF, 0x1000, 0x1001, 0x2FFF,
                                     0x3000, 0x7FFF, 0x8000, 0x8001, 0xFFFF};
    for (unsigned round = 0; round < 16; round++) {
        for (unsigned i = 0; i < HALVES; i++)
            floats[i] = float32_from_bits(i << 16 | (round < 11 ? lower[round] : random_next() & 0xFFFF));
        table->narrow[type](rounded, floats, HALVES);
        for (unsigned i = 0; i < HALVES; i++)
            assert_int_equal(rounded[i], round_one(type, floats[i]));
    }
}

/* At an odd address, and nothing beyond the end is touched. */
static void check_lengths(const struct reduce_table *table, int type)
{
    unsigned char bytes[2 * 80 + 1];
    for (size_t count = 0; count < 70; count++) {
        memset(bytes, 0xA5, sizeof bytes);
        memset(floats, 0xA5, 80 * sizeof floats[0]);
        fill(type, bytes + 1, count);
        table->widen[type](floats, bytes + 1, count);
        for (size_t i = 0; i < 80; i++) {
            uint16_t half = (uint16_t)get_element(type, bytes + 1, i);
            assert_int_equal(float32_bits(floats[i]),
                             i < count ? float32_bits(widen_one(type, half)) : 0xA5A5A5A5);
        }
        memset(bytes, 0xA5, sizeof bytes);
        table->narrow[type](bytes + 1, floats, count);
        assert_int_equal(bytes[0], 0xA5);
        for (size_t i = 0; i < 80; i++)
            assert_int_equal(get_element(type, bytes + 1, i),
                             i < count ? round_one(type, floats[i]) : 0xA5A5);
    }
}

static void every_table_widens_and_narrows_to_the_same_bits(void **state)
{
    (void)state;
    const struct reduce_table *tables[] = {reduce_table_scalar(), reduce_table_avx2()};
    for (int t = 0; t < 2 && tables[t] != NULL; t++) {
        for (int type = TUTTI_FLOAT16; type <= TUTTI_BFLOAT16; type++) {
            check_conversions(tables[t], type);
            check_lengths(tables[t], type);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(avx2_kernels_agree_with_scalar_on_every_16_bit_float),
        cmocka_unit_test(every_float16_survives_being_widened_and_rounded),
        cmocka_unit_test(every_bfloat16_survives_being_widened_and_rounded),
        cmocka_unit_test(float16_rounds_to_nearest_and_ties_to_even),
        cmocka_unit_test(bfloat16_rounds_to_nearest_and_ties_to_even),
        cmocka_unit_test(every_table_widens_and_narrows_to_the_same_bits),
    };
    return cmocka_run_group_tests(tests, fill_halves, NULL);
}
