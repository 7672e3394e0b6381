/* The tables of all instruction sets against plain C, bit for bit, on many operands: every 16-bit float, and
 * sums that lie between two of them. */
#include "tests/unit/reduce_reference.h"
#include "tensor/float16.h"
#include "tensor/reduce.h"

#define COUNT       65536 /* the number of 16-bit floats */
#define COUNT_OTHER 4099
#define SOURCES_MAX 8

/* Two have kernels of their own. */
static const int source_counts[] = {2, 3, SOURCES_MAX};
#define SOURCE_COUNTS (sizeof source_counts / sizeof source_counts[0])

static unsigned char sources[SOURCES_MAX][COUNT * sizeof(uint64_t)];
static unsigned char scalar_result[COUNT * sizeof(uint64_t)], result[COUNT * sizeof(uint64_t)];

static void check_sources(const struct reduce_table *table, int type, int reduction, int source_count)
{
    size_t elements = type_is_half(type) ? COUNT : COUNT_OTHER;
    const void *pointers[SOURCES_MAX];
    for (int s = 0; s < source_count; s++)
        pointers[s] = sources[s];
    reduce_many(reduce_table_scalar(), type, reduction, scalar_result, pointers, source_count, elements);
    reduce_many(table, type, reduction, result, pointers, source_count, elements);
    for (size_t i = 0; i < elements; i++) {
        uint64_t got = get_element(type, result, i), expected = get_element(type, scalar_result, i);
        if (!is_result(type, reduction, got, expected))
            fail_msg("%s %s %s of %d sources, element %zu: %#jx instead of %#jx", table->name,
                     type_name(type), reduction_name(reduction), source_count, i, (uintmax_t)got,
                     (uintmax_t)expected);
    }
}

static void check_table(const struct reduce_table *table)
{
    if (table == NULL)
        skip();
    for (int type = 1; type < TYPE_COUNT; type++) {
        for (int s = 0; s < SOURCES_MAX; s++)
            fill(type, sources[s], COUNT);
        for (uint32_t i = 0; type_is_half(type) && i < COUNT; i++) {
            uint16_t half = (uint16_t)i;
            memcpy(sources[0] + i * sizeof half, &half, sizeof half);
        }
        for (int reduction = 1; reduction < REDUCTION_COUNT; reduction++) {
            for (size_t n = 0; type_takes(type, reduction) && n < SOURCE_COUNTS; n++)
                check_sources(table, type, reduction, source_counts[n]);
        }
    }
}

static void avx2_kernels_agree_with_scalar_on_every_16_bit_float_and_random_others(void **state)
{
    (void)state;
    check_table(reduce_table_avx2());
}

static void avx512_kernels_agree_with_scalar_on_every_16_bit_float_and_random_others(void **state)
{
    (void)state;
    check_table(reduce_table_avx512());
}

/* ---- Ties ------------------------------------------------------------------------------------------ */

/* `half` with an exponent up to 11 smaller and few bits in its fraction, so that a sum with `half` often lies
 * halfway between two neighbours. */
static uint16_t neighbour(const struct half_format *format, unsigned half)
{
    unsigned exponent = (half & 0x7FFF) >> format->fraction_bits;
    unsigned less = (unsigned)(random_next() % 12);
    unsigned fraction = 1u << random_next() % (unsigned)format->fraction_bits;
    exponent = exponent > less ? exponent - less : 0;
    return (uint16_t)((random_next() & 0x8000) | exponent << format->fraction_bits |
                      (random_next() % 3 != 0 ? 0 : fraction));
}

static float widen(int type, uint64_t half)
{
    return type == TUTTI_FLOAT16 ? float16_widen((uint16_t)half) : bfloat16_widen((uint16_t)half);
}

/* Whether the sum of the first two sources, in float32, is as far from the value below as from that above. */
static bool is_tie(int type, size_t i)
{
    const struct half_format *format = half_format(type);
    float sum = widen(type, get_element(type, sources[0], i)) + widen(type, get_element(type, sources[1], i));
    unsigned nearest = half_from_double(format, fabs((double)sum)), other;
    if (nearest == 0 || nearest >= format->infinity)
        return false;
    double error = half_value(format, nearest) - fabs((double)sum);
    other = error > 0 ? nearest - 1 : nearest + 1;
    return error != 0 && half_value(format, nearest) + half_value(format, other) == 2 * fabs((double)sum);
}

/* Also shows that there are ties among the sums, so that they are tested. */
static void check_ties(const struct reduce_table *table, int type)
{
    int ties = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        uint16_t half = (uint16_t)i;
        memcpy(sources[0] + i * sizeof half, &half, sizeof half);
        for (int s = 1; s < SOURCES_MAX; s++) {
            uint16_t other = neighbour(half_format(type), half);
            memcpy(sources[s] + i * sizeof other, &other, sizeof other);
        }
        ties += i % 16 == 0 && is_tie(type, i);
    }
    assert_in_range(ties, 100, COUNT);
    for (size_t n = 0; n < SOURCE_COUNTS; n++) {
        check_sources(table, type, TUTTI_SUM, source_counts[n]);
        check_sources(table, type, TUTTI_PRODUCT, source_counts[n]);
    }
}

static void sums_halfway_between_two_16_bit_floats_are_even_in_every_table(void **state)
{
    (void)state;
    const struct reduce_table *tables[] = {reduce_table_avx2(), reduce_table_avx512()};
    for (int t = 0; t < 2 && tables[t] != NULL; t++) {
        check_ties(tables[t], TUTTI_FLOAT16);
        check_ties(tables[t], TUTTI_BFLOAT16);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(avx2_kernels_agree_with_scalar_on_every_16_bit_float_and_random_others),
        cmocka_unit_test(avx512_kernels_agree_with_scalar_on_every_16_bit_float_and_random_others),
        cmocka_unit_test(sums_halfway_between_two_16_bit_floats_are_even_in_every_table),
    };
    return cmocka_run_group_tests(tests, seed_random, NULL);
}
