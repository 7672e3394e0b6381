/* Reductions of many sources against the fold of the reference: every type, placement of the target among the
 * sources, and lengths around those of vectors and blocks. */
#include "tests/unit/reduce_reference.h"
#include "tensor/reduce.h"

#define SOURCES_MAX  17
#define BYTES_MAX    10240
#define GUARD_BYTES  64
#define BUFFER_BYTES (GUARD_BYTES + BYTES_MAX + GUARD_BYTES)
#define GUARD        0xA5

static unsigned char memory[SOURCES_MAX + 1][BUFFER_BYTES], before[SOURCES_MAX + 1][BUFFER_BYTES];

struct many {
    const struct reduce_table *table;
    int type, reduction, source_count;
    size_t count;
    const void *sources[SOURCES_MAX];
    int index[SOURCES_MAX];        /* of `memory` that each source is in */
    int target;                    /* likewise */
    size_t begin[SOURCES_MAX + 1]; /* where the elements begin in each */
};

/* Half types: in float32, rounded once. */
static uint64_t fold_reference(const struct many *many, size_t i)
{
    int type = many->type, reduction = many->reduction;
    int calculated =
        type_is_half(type) && reduction != TUTTI_MIN && reduction != TUTTI_MAX ? TUTTI_FLOAT32 : type;
    uint64_t result = 0;
    for (int s = 0; s < many->source_count; s++) {
        int index = many->index[s];
        uint64_t x = get_element(type, before[index] + many->begin[index], i);
        if (calculated != type)
            x = float_bits(calculated, float_value(type, x));
        result = s == 0 ? x : reference(calculated, reduction, result, x);
    }
    return calculated == type ? result : float_bits(type, float_value(calculated, result));
}

static void check_elements(const struct many *many)
{
    for (size_t i = 0; i < many->count; i++) {
        uint64_t got = get_element(many->type, memory[many->target] + many->begin[many->target], i),
                 expected = fold_reference(many, i);
        if (!is_result(many->type, many->reduction, got, expected))
            fail_msg("%s %s %s of %d sources, element %zu of %zu: %#jx instead of %#jx", many->table->name,
                     type_name(many->type), reduction_name(many->reduction), many->source_count, i,
                     many->count, (uintmax_t)got, (uintmax_t)expected);
    }
}

/* The sources are in memory[1] and on, some twice; the target is in memory[0] or among them. */
static void check_many(struct many *many)
{
    size_t bytes = many->count * element_bytes(many->type), used = GUARD_BYTES + bytes + GUARD_BYTES;
    assert_in_range(bytes, 0, BYTES_MAX);
    for (int m = 0; m <= many->source_count; m++) {
        many->begin[m] = GUARD_BYTES / 2 + random_next() % 2 * (random_next() % 16);
        memset(memory[m], GUARD, used);
        fill(many->type, memory[m] + many->begin[m], many->count);
        memcpy(before[m], memory[m], used);
    }
    for (int s = 0; s < many->source_count; s++)
        many->sources[s] = memory[many->index[s]] + many->begin[many->index[s]];

    unsigned char *target = memory[many->target] + many->begin[many->target];
    reduce_many(many->table, many->type, many->reduction, target, many->sources, many->source_count,
                many->count);

    check_elements(many);
    memcpy(target, before[many->target] + many->begin[many->target], bytes);
    for (int m = 0; m <= many->source_count; m++)
        assert_memory_equal(memory[m], before[m], used);
}

static void place_sources(struct many *many, int source_count)
{
    many->source_count = source_count;
    many->target = 0;
    for (int s = 0; s < source_count; s++)
        many->index[s] = s + 1;
    switch (random_next() % 4) {
    case 0:
        break;
    case 1: /* any of them */
        many->target = 1 + (int)(random_next() % (uint64_t)source_count);
        break;
    case 2: /* the last, which a fold reads when it has written all others */
        many->target = source_count;
        break;
    default: /* several of them */
        many->target = 1;
        for (int s = 1; s < source_count; s++)
            many->index[s] = random_next() % 2 ? 1 : s + 1;
    }
}

static int random_source_count(void)
{
    return 2 + (int)(random_next() % (SOURCES_MAX - 1));
}

static void check_type(const struct reduce_table *table, int type, int reduction)
{
    /* Blocks are of 4096 bytes, for half types of 1024 elements. */
    static const size_t long_bytes[] = {2046, 2048, 2050, 4088, 4096, 4104, 8192, 9000};
    struct many many = {.table = table, .type = type, .reduction = reduction};
    for (int round = 0; round < 2; round++) {
        for (many.count = 0; many.count <= 160; many.count += many.count < 70 ? 1 : 5) {
            place_sources(&many, random_source_count());
            check_many(&many);
        }
    }
    for (size_t i = 0; i < sizeof long_bytes / sizeof long_bytes[0]; i++) {
        many.count = long_bytes[i] / element_bytes(type);
        place_sources(&many, 3 + (int)(random_next() % 3));
        check_many(&many);
    }
}

static void check_table(const struct reduce_table *table)
{
    for (int type = 1; type < TYPE_COUNT; type++) {
        for (int reduction = 1; reduction < REDUCTION_COUNT; reduction++) {
            if (type_takes(type, reduction))
                check_type(table, type, reduction);
        }
    }
}

static void scalar_reductions_of_many_sources_are_the_fold_from_left_to_right(void **state)
{
    (void)state;
    check_table(reduce_table_scalar());
}

static void avx2_reductions_of_many_sources_are_the_fold_from_left_to_right(void **state)
{
    (void)state;
    if (reduce_table_avx2() == NULL)
        skip();
    check_table(reduce_table_avx2());
}

static void avx512_reductions_of_many_sources_are_the_fold_from_left_to_right(void **state)
{
    (void)state;
    if (reduce_table_avx512() == NULL)
        skip();
    check_table(reduce_table_avx512());
}

/* A table without kernels for many sources, as that of another processor may be. */
static void reductions_in_blocks_are_the_same_as_in_one_pass(void **state)
{
    (void)state;
    struct reduce_table table = *reduce_table();
    memset(table.many, 0, sizeof table.many);
    table.name = "in blocks";
    check_table(&table);
}

/* 256 + 1 is not a bfloat16 and 2048 + 1 not a float16: rounded each time, the ones would be lost. */
static void half_types_are_rounded_once(void **state)
{
    (void)state;
    static const struct {
        int type;
        uint16_t large, one, sum;
    } cases[] = {{TUTTI_FLOAT16, 0x6800, 0x3C00, 0x6802}, {TUTTI_BFLOAT16, 0x4380, 0x3F80, 0x4382}};
    const struct reduce_table *tables[] = {reduce_table_scalar(), reduce_table_avx2(), reduce_table_avx512()};
    for (int t = 0; t < 3 && tables[t] != NULL; t++) {
        for (int c = 0; c < 2; c++) {
            const void *sources[5] = {&cases[c].large, &cases[c].one, &cases[c].one, &cases[c].one,
                                      &cases[c].one};
            uint16_t sum;
            reduce_many(tables[t], cases[c].type, TUTTI_SUM, &sum, sources, 5, 1);
            assert_int_equal(sum, cases[c].sum);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalar_reductions_of_many_sources_are_the_fold_from_left_to_right),
        cmocka_unit_test(avx2_reductions_of_many_sources_are_the_fold_from_left_to_right),
        cmocka_unit_test(avx512_reductions_of_many_sources_are_the_fold_from_left_to_right),
        cmocka_unit_test(reductions_in_blocks_are_the_same_as_in_one_pass),
        cmocka_unit_test(half_types_are_rounded_once),
    };
    return cmocka_run_group_tests(tests, seed_random, NULL);
}
