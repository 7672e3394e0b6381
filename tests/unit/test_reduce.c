/* Every kernel of every instruction set against the reference, at every length, alignment and placement. */
#include "tests/unit/reduce_reference.h"
#include <limits.h>
#include "tensor/reduce.h"

#define LENGTH_MAX   300
#define GUARD_BYTES  64
#define BUFFER_BYTES (GUARD_BYTES + LENGTH_MAX * 8 + GUARD_BYTES)
#define GUARD        0xA5

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
    size_t bytes = count * element_bytes(type);
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

/* All lengths up to beyond those that a loop over several vectors of the smallest elements tells apart, then
 * some. */
static size_t next_length(size_t length)
{
    return length < 136 ? length + 1 : length + 13;
}

static void check_table(const struct reduce_table *table)
{
    static const size_t aligned[3] = {0, 0, 0}, unaligned[3] = {1, 3, 5};
    for (int type = 1; type < TYPE_COUNT; type++) {
        for (int reduction = 1; reduction < REDUCTION_COUNT; reduction++) {
            if (!type_takes(type, reduction))
                continue;
            for (size_t count = 0; count <= LENGTH_MAX; count = next_length(count)) {
                enum placement placement = (enum placement)(random_next() % PLACEMENTS);
                check_reduction(table, type, reduction, count, placement, aligned);
                for (int p = 0; p < PLACEMENTS; p++)
                    check_reduction(table, type, reduction, count, (enum placement)p, unaligned);
            }
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

static void avx512_kernels_agree_with_the_reference_at_every_length_and_alignment(void **state)
{
    (void)state;
    if (reduce_table_avx512() == NULL)
        skip();
    check_table(reduce_table_avx512());
}

/* ---- Division and scaling -------------------------------------------------------------------------- */

static uint64_t divide_reference(int type, uint64_t x, int divisor)
{
    return is_float(type) || type == TUTTI_COMPLEX64 ? apply_reference(type, '/', x, divisor)
                                                     : integer_reference(type, '/', x, divisor);
}

/* `operation` is '/' or TUTTI_PRODUCT; `number` is the divisor or the factor. */
static void check_application(const struct reduce_table *table, int type, int operation, size_t count,
                              size_t offset, double number)
{
    size_t begin = GUARD_BYTES / 2 + offset;
    memset(target, GUARD, sizeof target);
    fill(type, target + begin, count);
    memcpy(left_before, target, sizeof target);
    if (operation == '/')
        table->divide[type](target + begin, count, (int)number);
    else
        table->scale[type](target + begin, count, number);

    check_guards(target, begin, begin + count * element_bytes(type));
    for (size_t i = 0; i < count; i++) {
        uint64_t x = get_element(type, left_before + begin, i), got = get_element(type, target + begin, i);
        uint64_t expected = operation == '/' ? divide_reference(type, x, (int)number)
                                             : apply_reference(type, operation, x, number);
        if (!is_result(type, operation, got, expected))
            fail_msg("%s %s: %#jx %s %g gave %#jx instead of %#jx", table->name, type_name(type),
                     (uintmax_t)x, operation == '/' ? "/" : "*", number, (uintmax_t)got, (uintmax_t)expected);
    }
}

static void check_divisions(const struct reduce_table *table)
{
    static const int divisors[] = {1, 2, 3, 4, 7, 10, 127, 128, 255, 256, 4096, 65521, INT_MAX};
    for (int type = 1; type < TYPE_COUNT; type++) {
        for (size_t d = 0; type_takes(type, TUTTI_AVG) && d < sizeof divisors / sizeof divisors[0]; d++) {
            for (size_t count = 0; count <= LENGTH_MAX; count += 1 + count / 40)
                check_application(table, type, '/', count, count % 8, divisors[d]);
        }
    }
}

/* 1e300 and 1e-300 are infinite and zero in float32; a third and 1 + 2^-29 are rounded to it.  The last is
 * the NaN that adding anything to its bits would make something else of. */
static void check_scalings(const struct reduce_table *table)
{
    static const double factors[] = {
        0.0, -0.0, 1.0,   -1.0,   0.5,      1.0 / 3,  1e-3, 0x1.0000001p0,
        3.0, 1e5,  1e300, 1e-300, INFINITY, -1.0e-40, NAN,  __builtin_nan("0x7FFFFFFFFFFFF")};
    for (int type = 1; type < TYPE_COUNT; type++) {
        for (size_t f = 0;
             type_takes(type, TUTTI_PREMULTIPLIED_SUM) && f < sizeof factors / sizeof factors[0]; f++) {
            for (size_t count = 0; count <= LENGTH_MAX; count += 1 + count / 40)
                check_application(table, type, TUTTI_PRODUCT, count, count % 8, factors[f]);
        }
    }
}

static void scalar_division_and_scaling_agree_with_the_reference(void **state)
{
    (void)state;
    check_divisions(reduce_table_scalar());
    check_scalings(reduce_table_scalar());
}

static void avx2_division_and_scaling_agree_with_the_reference(void **state)
{
    (void)state;
    if (reduce_table_avx2() == NULL)
        skip();
    check_divisions(reduce_table_avx2());
    check_scalings(reduce_table_avx2());
}

/* ---- Bools and complex numbers --------------------------------------------------------------------- */

static void every_two_bytes_as_bools_give_zero_or_one(void **state)
{
    (void)state;
    static const struct {
        int reduction;
        bool result[2][2];
    } truth[] = {
        {TUTTI_SUM, {{0, 1}, {1, 1}}},        {TUTTI_PRODUCT, {{0, 0}, {0, 1}}},
        {TUTTI_MIN, {{0, 0}, {0, 1}}},        {TUTTI_MAX, {{0, 1}, {1, 1}}},
        {TUTTI_BIT_AND, {{0, 0}, {0, 1}}},    {TUTTI_BIT_OR, {{0, 1}, {1, 1}}},
        {TUTTI_BIT_XOR, {{0, 1}, {1, 0}}},    {TUTTI_LOGICAL_AND, {{0, 0}, {0, 1}}},
        {TUTTI_LOGICAL_OR, {{0, 1}, {1, 1}}},
    };
    static unsigned char a[65536], b[65536], result[65536];
    const struct reduce_table *tables[] = {reduce_table_scalar(), reduce_table_avx2()};
    for (unsigned i = 0; i < 65536; i++)
        a[i] = (unsigned char)i, b[i] = (unsigned char)(i >> 8);
    for (int t = 0; t < 2 && tables[t] != NULL; t++) {
        for (size_t r = 0; r < sizeof truth / sizeof truth[0]; r++) {
            tables[t]->reduce[TUTTI_BOOL][truth[r].reduction](result, a, b, 65536);
            for (unsigned i = 0; i < 65536; i++)
                assert_int_equal(result[i], truth[r].result[a[i] != 0][b[i] != 0]);
        }
    }
}

/* (a + ai)(a + ai), where the square of a needs one bit more than there are: were it not rounded on both
 * sides of the subtraction, the real part would not be zero. */
static void products_of_complex_numbers_are_rounded_before_they_are_added(void **state)
{
    (void)state;
    const float a = 1 + 0x1p-12f, x[] = {a, a};
    const struct reduce_table *tables[] = {reduce_table_scalar(), reduce_table_avx2()};
    for (int t = 0; t < 2 && tables[t] != NULL; t++) {
        float product[2];
        tables[t]->reduce[TUTTI_COMPLEX64][TUTTI_PRODUCT](product, x, x, 1);
        assert_true(product[0] == 0);
        assert_true(product[1] == 2 + 0x1p-10f);
    }
}

/* ---- Tables ---------------------------------------------------------------------------------------- */

static void every_table_has_what_types_take_and_nothing_else(void **state)
{
    (void)state;
    const struct reduce_table *tables[] = {reduce_table(), reduce_table_scalar(), reduce_table_avx2(),
                                           reduce_table_avx512()};
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++) {
        for (int type = 1; tables[t] != NULL && type < TYPE_COUNT; type++) {
            for (int reduction = 1; reduction < REDUCTION_COUNT; reduction++) {
                assert_int_equal(tables[t]->reduce[type][reduction] != NULL, type_takes(type, reduction));
                assert_true(tables[t]->many[type][reduction] == NULL || type_takes(type, reduction));
            }
            assert_int_equal(tables[t]->divide[type] != NULL, type_takes(type, TUTTI_AVG));
            assert_int_equal(tables[t]->scale[type] != NULL, type_takes(type, TUTTI_PREMULTIPLIED_SUM));
            assert_int_equal(tables[t]->widen[type] != NULL, type_is_half(type));
            assert_int_equal(tables[t]->narrow[type] != NULL, type_is_half(type));
        }
    }
}

static void the_best_table_is_that_of_the_processor(void **state)
{
    (void)state;
    const struct reduce_table *best = reduce_table_avx512();
    if (best == NULL)
        best = reduce_table_avx2();
    if (best == NULL)
        best = reduce_table_scalar();
    assert_ptr_equal(reduce_table(), best);
    print_message("kernels: %s\n", best->name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalar_kernels_agree_with_the_reference_at_every_length_and_alignment),
        cmocka_unit_test(avx2_kernels_agree_with_the_reference_at_every_length_and_alignment),
        cmocka_unit_test(avx512_kernels_agree_with_the_reference_at_every_length_and_alignment),
        cmocka_unit_test(scalar_division_and_scaling_agree_with_the_reference),
        cmocka_unit_test(avx2_division_and_scaling_agree_with_the_reference),
        cmocka_unit_test(every_two_bytes_as_bools_give_zero_or_one),
        cmocka_unit_test(products_of_complex_numbers_are_rounded_before_they_are_added),
        cmocka_unit_test(every_table_has_what_types_take_and_nothing_else),
        cmocka_unit_test(the_best_table_is_that_of_the_processor),
    };
    return cmocka_run_group_tests(tests, seed_random, NULL);
}
