/* Fusion: which calls run as one operation, and that each of them then gets what it would have got alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>
#include "algorithm/algorithm.h"
#include "executor/fusion.h"
#include "tests/sim/virtual_mesh.h"

#define PARTS_MAX 12
#define COUNT_MAX 400
#define GUARD     4 /* elements after each buffer that nobody may write */
#define UNTOUCHED (-77)

static int inputs[RANKS_MAX][PARTS_MAX][COUNT_MAX + GUARD];
static int outputs[RANKS_MAX][PARTS_MAX][COUNT_MAX + GUARD];

/* ---- Run lengths ------------------------------------------------------------------------------- */

static struct tutti_call reduce_call(size_t count)
{
    return (struct tutti_call){
        .op = TUTTI_ALL_REDUCE, .count = count, .type = TUTTI_FLOAT32, .reduction = TUTTI_SUM};
}

static struct tutti_call broadcast_call(size_t count, int root)
{
    return (struct tutti_call){.op = TUTTI_BROADCAST, .count = count, .type = TUTTI_FLOAT32, .root = root};
}

static void calls_of_one_kind_run_as_one(void **state)
{
    (void)state;
    struct tutti_call kinds[3][5];
    char name[] = "ring"; /* the name counts, not where it is */
    for (size_t i = 0; i < 5; i++) {
        kinds[0][i] = reduce_call(i * 7);
        kinds[1][i] = broadcast_call(40 - i, 2);
        kinds[2][i] = reduce_call(i);
        kinds[2][i].op = TUTTI_REDUCE;
        kinds[2][i].root = 2;
        kinds[2][i].reduction = TUTTI_PREMULTIPLIED_SUM;
        kinds[2][i].algorithm = i % 2 == 0 ? name : "ring";
        /* What the ranks need not agree on, and what the operation does not have. */
        kinds[0][i].root = kinds[0][i].peer = kinds[0][i].tag = (int)i;
        kinds[1][i].reduction = (enum tutti_reduction)i;
        for (int kind = 0; kind < 3; kind++) {
            kinds[kind][i].timeout_ms = (int)i * 1000;
            kinds[kind][i].factor = (double)i;
        }
    }
    for (size_t count = 1; count <= 5; count++)
        for (int kind = 0; kind < 3; kind++)
            assert_int_equal(fusion_run_length(kinds[kind], count), count);
}

static void a_run_ends_where_the_kind_changes(void **state)
{
    (void)state;
    for (int what = 0; what < 8; what++) {
        struct tutti_call calls[4];
        for (size_t i = 0; i < 4; i++) {
            calls[i] = what == 3 ? broadcast_call(8, 1) : reduce_call(8);
            calls[i].op = what == 4 || what == 5 ? TUTTI_REDUCE : calls[i].op;
            calls[i].algorithm = what >= 6 ? "ring" : NULL;
        }
        switch (what) {
        case 0:
            calls[2] = broadcast_call(8, 0);
            break;
        case 1:
            calls[2].type = TUTTI_INT32;
            break;
        case 2:
        case 5:
            calls[2].reduction = TUTTI_MAX;
            break;
        case 6:
            calls[2].algorithm = "exchange";
            break;
        case 7:
            calls[2].algorithm = NULL;
            break;
        default:
            calls[2].root = 2;
            break;
        }
        assert_int_equal(fusion_run_length(calls, 4), 2);
        assert_int_equal(fusion_run_length(calls + 2, 2), 1);
        assert_int_equal(fusion_run_length(calls + 3, 1), 1);
    }
}

static void operations_whose_buffers_are_laid_out_by_rank_run_alone(void **state)
{
    (void)state;
    for (int op = 1; op < OPERATION_COUNT; op++) {
        struct tutti_call calls[3] = {reduce_call(4), reduce_call(4), reduce_call(4)};
        for (size_t i = 0; i < 3; i++)
            calls[i].op = (enum tutti_operation)op;
        bool fuses = op == TUTTI_ALL_REDUCE || op == TUTTI_REDUCE || op == TUTTI_BROADCAST;
        assert_int_equal(fusion_run_length(calls, 3), fuses ? 3 : 1);
    }
}

static void a_call_that_is_too_long_runs_alone(void **state)
{
    (void)state;
    const size_t longest = FUSION_CALL_BYTES_MAX / sizeof(float);
    struct tutti_call calls[3] = {reduce_call(1), reduce_call(longest), reduce_call(1)};
    assert_int_equal(fusion_run_length(calls, 3), 3);
    calls[1].count++;
    assert_int_equal(fusion_run_length(calls, 3), 1);
    assert_int_equal(fusion_run_length(calls + 1, 2), 1);
    calls[0].count = SIZE_MAX / 2 / sizeof(float); /* as long as a call may be */
    assert_int_equal(fusion_run_length(calls, 3), 1);
}

static void a_run_ends_before_it_is_too_long_as_a_whole(void **state)
{
    (void)state;
    enum { FIT = FUSION_TOTAL_BYTES_MAX / FUSION_CALL_BYTES_MAX };
    struct tutti_call calls[FIT + 3];
    for (size_t i = 0; i < FIT + 3; i++)
        calls[i] = reduce_call(FUSION_CALL_BYTES_MAX / sizeof(float));
    assert_int_equal(fusion_run_length(calls, FIT), FIT);
    assert_int_equal(fusion_run_length(calls, FIT + 1), FIT);
    assert_int_equal(fusion_run_length(calls + FIT, 3), 3);
    calls[FIT].count = 0; /* takes no room */
    assert_int_equal(fusion_run_length(calls, FIT + 2), FIT + 1);
}

/* ---- Running them ------------------------------------------------------------------------------ */

static int value_of(int rank, size_t part, size_t index)
{
    return rank * 100003 + (int)part * 1009 + (int)index;
}

static int expected_value(int size, const struct fingerprint *call, size_t part, size_t index)
{
    int sum = 0;
    if (call->operation == TUTTI_BROADCAST)
        return value_of((int)call->root, part, index);
    for (int rank = 0; rank < size; rank++)
        sum += value_of(rank, part, index);
    return sum;
}

/* Which ranks must be given an input, and which an output. */
static bool sends(const struct fingerprint *call, int rank)
{
    return call->operation != TUTTI_BROADCAST || rank == (int)call->root;
}

static bool receives(const struct fingerprint *call, int rank)
{
    return call->operation != TUTTI_REDUCE || rank == (int)call->root;
}

static void check_outputs(int size, const struct fingerprint *call, const size_t *counts, size_t parts,
                          bool in_place)
{
    for (int rank = 0; rank < size; rank++)
        for (size_t part = 0; part < parts; part++) {
            const int *out = in_place ? inputs[rank][part] : outputs[rank][part];
            for (size_t i = 0; receives(call, rank) && i < counts[part]; i++)
                if (out[i] != expected_value(size, call, part, i))
                    fail_msg("rank %d of %d, part %zu, element %zu is %d", rank, size, part, i, out[i]);
            for (size_t i = counts[part]; i < counts[part] + GUARD; i++)
                assert_int_equal(out[i], UNTOUCHED);
            for (size_t i = 0; !in_place && i < counts[part]; i++) /* inputs are only read */
                assert_int_equal(inputs[rank][part][i], value_of(rank, part, i));
        }
}

static void fill_buffers(int size, const size_t *counts, size_t parts)
{
    for (int rank = 0; rank < size; rank++)
        for (size_t part = 0; part < parts; part++)
            for (size_t i = 0; i < COUNT_MAX + GUARD; i++) {
                inputs[rank][part][i] = i < counts[part] ? value_of(rank, part, i) : UNTOUCHED;
                outputs[rank][part][i] = UNTOUCHED;
            }
}

/* The executor of `rank` for `calls` run as one. */
static void prepare_fused(struct sim *sim, int rank, const struct algorithm *algorithm,
                          const struct tutti_call *calls, size_t count, struct fusion_part *parts,
                          void *packed)
{
    struct fingerprint print = {.operation = (uint8_t)calls[0].op,
                                .type = (uint8_t)calls[0].type,
                                .reduction = (uint8_t)calls[0].reduction,
                                .root = operation_has_root(calls[0].op) ? (uint32_t)calls[0].root : 0};
    const struct executor_buffers buffers = {.send = packed, .recv = packed};
    fusion_fingerprint(&print, calls, count);
    sim->schedules[rank] = schedule_new(algorithm->operation, algorithm->name, algorithm->emit, rank,
                                        sim->size, calls[0].root, NULL);
    assert_non_null(sim->schedules[rank]);
    sim_scratch(sim, rank, &print, &buffers, 0);
    executor_init(&sim->executors[rank], &sim->groups[rank], sim->schedules[rank], &print, &buffers,
                  sim->scratch[rank]);
    fusion_parts(parts, calls, count, rank);
    fusion_wrap(&sim->executors[rank].operation, reduce_table(), sim->size, parts, count, packed);
}

static void run_fused(uint64_t seed, int size, const struct algorithm *algorithm, const size_t *counts,
                      size_t parts, int root, bool in_place)
{
    struct sim sim;
    static struct fusion_part fused[RANKS_MAX][PARTS_MAX];
    struct tutti_call calls[PARTS_MAX];
    void *packed[RANKS_MAX];
    size_t total = 0;
    sim_init(&sim, seed, size);
    for (size_t part = 0; part < parts; part++)
        total += counts[part];
    for (int rank = 0; rank < size; rank++)
        packed[rank] = malloc(total * sizeof(int) + 1); /* exactly, so that a sanitizer sees one more */
    for (int turn = 0; turn < 2; turn++) {              /* the second as a plan does that is started again */
        struct fingerprint print = {.operation = (uint8_t)algorithm->operation, .root = (uint32_t)root};
        fill_buffers(size, counts, parts);
        for (int rank = 0; rank < size; rank++) {
            for (size_t part = 0; part < parts; part++) {
                int *in = inputs[rank][part], *out = in_place ? in : outputs[rank][part];
                bool empty = counts[part] == 0; /* then a buffer may be NULL */
                calls[part] = (struct tutti_call){
                    .op = algorithm->operation,
                    .send = sends(&print, rank) && !empty ? in : NULL,
                    .recv = receives(&print, rank) && !empty ? out : NULL,
                    .count = counts[part],
                    .type = TUTTI_INT32,
                    .reduction = algorithm->operation == TUTTI_BROADCAST ? 0 : TUTTI_SUM,
                    .root = root,
                };
            }
            if (turn == 0)
                prepare_fused(&sim, rank, algorithm, calls, parts, fused[rank], packed[rank]);
            executor_start(&sim.executors[rank], 1 + (uint64_t)turn, 0, INT64_MAX);
        }
        sim_run(&sim);
        check_outputs(size, &print, counts, parts, in_place);
    }
    for (int rank = 0; rank < size; rank++)
        free(packed[rank]);
    sim_free(&sim);
}

static uint64_t first_seed(void)
{
    const char *text = getenv("TUTTI_TEST_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 0) : 1;
    print_message("seed %llu\n", (unsigned long long)seed);
    return seed;
}

static const struct {
    size_t parts, counts[PARTS_MAX];
} layouts[] = {
    {2, {6, 2}},
    {2, {0, 0}},
    {2, {0, 5}},
    {3, {7, 0, 0}},
    {5, {1, 3, 0, 397, 13}},
    {12, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
};
#define LAYOUTS (sizeof layouts / sizeof layouts[0])

static const int sizes[] = {1, 2, 3, 4, 5, 8};
#define SIZES (sizeof sizes / sizeof sizes[0])

/* A hierarchical algorithm is for several hosts; on one it is another's schedule. */
static void fuse_with_every_algorithm(int operation)
{
    uint64_t seed = first_seed();
    for (size_t a = 0; a < algorithm_count; a++)
        for (size_t l = 0; algorithms[a].operation == operation && l < LAYOUTS; l++)
            for (size_t s = 0; s < SIZES; s++) {
                int roots = operation_has_root(operation) ? sizes[s] : 2;
                for (int root = 0; root < roots; root++)
                    run_fused(seed++, sizes[s], &algorithms[a], layouts[l].counts, layouts[l].parts,
                              operation_has_root(operation) ? root : 0, root % 2);
            }
}

static void fused_all_reduces_give_each_call_its_own_result(void **state)
{
    (void)state;
    fuse_with_every_algorithm(TUTTI_ALL_REDUCE);
}

static void fused_reduces_give_each_call_its_own_result_at_every_root(void **state)
{
    (void)state;
    fuse_with_every_algorithm(TUTTI_REDUCE);
}

static void fused_broadcasts_give_each_call_its_own_result_from_every_root(void **state)
{
    (void)state;
    fuse_with_every_algorithm(TUTTI_BROADCAST);
}

static void fused_calls_of_random_sizes_give_the_right_results(void **state)
{
    (void)state;
    uint64_t seed = first_seed(), random = seed;
    for (int turn = 0; turn < 40; turn++) {
        size_t counts[PARTS_MAX], parts = 2 + sim_random(&random) % (PARTS_MAX - 1);
        int size = sizes[sim_random(&random) % SIZES];
        for (size_t part = 0; part < parts; part++)
            counts[part] = sim_random(&random) % 3 == 0 ? 0 : sim_random(&random) % (COUNT_MAX + 1);
        const struct algorithm *algorithm = &algorithms[sim_random(&random) % algorithm_count];
        if (algorithm->operation == TUTTI_ALL_REDUCE || algorithm->operation == TUTTI_BROADCAST)
            run_fused(seed + (uint64_t)turn, size, algorithm, counts, parts,
                      algorithm->operation == TUTTI_BROADCAST ? turn % size : 0, turn % 2);
    }
}

/* The sum of the counts is the same; only the fingerprint tells them apart. */
static void ranks_that_fuse_other_counts_are_told_so(void **state)
{
    (void)state;
    static const size_t counts[2][2] = {{6, 2}, {2, 6}};
    const struct algorithm *ring = algorithm_find(TUTTI_BROADCAST, "ring");
    struct fusion_part fused[2][2];
    int packed[2][8] = {{0}};
    struct sim sim;
    sim_init(&sim, 11, 2);
    fill_buffers(2, counts[0], 2);
    assert_non_null(ring);
    for (int rank = 0; rank < 2; rank++) {
        struct tutti_call calls[2] = {broadcast_call(counts[rank][0], 1), broadcast_call(counts[rank][1], 1)};
        for (size_t part = 0; part < 2; part++) {
            calls[part].type = TUTTI_INT32;
            calls[part].reduction = 0;
            calls[part].send = inputs[rank][part];
            calls[part].recv = outputs[rank][part];
        }
        prepare_fused(&sim, rank, ring, calls, 2, fused[rank], packed[rank]);
        executor_start(&sim.executors[rank], 5, 0, INT64_MAX);
    }
    assert_int_equal(sim.executors[0].operation.call.count, sim.executors[1].operation.call.count);
    struct tutti_error error = TUTTI_ERROR_INIT;
    int status = TUTTI_PENDING;
    for (long turns = 0; status == TUTTI_PENDING; turns++) {
        assert_true(turns < 1000 * 1000);
        sim.executors[1].operation.progress(&sim.executors[1].operation, &error);
        status = sim.executors[0].operation.progress(&sim.executors[0].operation, &error);
    }
    assert_int_equal(status, TUTTI_ERR_MISMATCH);
    assert_int_equal(error.rank, 1);
    for (size_t i = 0; i < COUNT_MAX; i++) /* a failed call is not unpacked */
        assert_int_equal(outputs[0][0][i], UNTOUCHED);
    sim_free(&sim);
}

static void the_fingerprint_of_a_run_depends_on_every_count_and_their_order(void **state)
{
    (void)state;
    static const size_t counts[][3] = {{6, 2, 0}, {2, 6, 0}, {6, 0, 2}, {4, 4, 0}, {8, 0, 0}, {6, 3, 0}};
    enum { KINDS = sizeof counts / sizeof counts[0] };
    struct fingerprint prints[KINDS + 1];
    for (size_t kind = 0; kind <= KINDS; kind++) {
        size_t parts = kind == KINDS ? 2 : 3; /* the last: {6, 2} without the empty call */
        struct tutti_call calls[3];
        for (size_t i = 0; i < parts; i++)
            calls[i] = reduce_call(counts[kind % KINDS][i]);
        prints[kind] = (struct fingerprint){
            .operation = TUTTI_ALL_REDUCE, .type = TUTTI_FLOAT32, .reduction = TUTTI_SUM, .count = 99};
        fusion_fingerprint(&prints[kind], calls, parts);
        assert_int_equal(prints[kind].count, kind == 5 ? 9 : 8);
        assert_int_equal(prints[kind].fused, parts);
        for (size_t other = 0; other < kind; other++)
            assert_false(fingerprint_equal(&prints[kind], &prints[other]));
    }
}

#define FACTOR(rank, call) (0.5 * (rank)-2 * (call)) /* exact with the small values below */

static void each_fused_call_is_multiplied_by_its_own_factor_of_its_own_rank(void **state)
{
    (void)state;
    enum { SIZE = 3, CALLS = 3, COUNT = 50 };
    const struct algorithm *ring = algorithm_find(TUTTI_ALL_REDUCE, "ring");
    struct fusion_part parts[SIZE][CALLS];
    static float packed[SIZE][CALLS * COUNT], floats[2][SIZE][CALLS * COUNT]; /* inputs, outputs */
    struct sim sim;
    sim_init(&sim, first_seed(), SIZE);
    for (int rank = 0; rank < SIZE; rank++) {
        struct tutti_call calls[CALLS];
        for (int call = 0; call < CALLS; call++) {
            float *in = floats[0][rank] + call * COUNT;
            for (int i = 0; i < COUNT; i++)
                in[i] = (float)(rank + i);
            calls[call] = reduce_call(COUNT);
            calls[call].reduction = TUTTI_PREMULTIPLIED_SUM;
            calls[call].send = in;
            calls[call].recv = floats[1][rank] + call * COUNT;
            calls[call].factor = FACTOR(rank, call);
        }
        prepare_fused(&sim, rank, ring, calls, CALLS, parts[rank], packed[rank]);
        executor_start(&sim.executors[rank], 1, 0, INT64_MAX);
    }
    sim_run(&sim);
    for (int rank = 0; rank < SIZE; rank++)
        for (int call = 0; call < CALLS; call++)
            for (int i = 0; i < COUNT; i++) {
                double sum = 0;
                for (int r = 0; r < SIZE; r++)
                    sum += FACTOR(r, call) * (r + i);
                assert_true(floats[1][rank][call * COUNT + i] == (float)sum);
                assert_true(floats[0][rank][call * COUNT + i] == (float)(rank + i));
            }
    sim_free(&sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_of_one_kind_run_as_one),
        cmocka_unit_test(a_run_ends_where_the_kind_changes),
        cmocka_unit_test(operations_whose_buffers_are_laid_out_by_rank_run_alone),
        cmocka_unit_test(a_call_that_is_too_long_runs_alone),
        cmocka_unit_test(a_run_ends_before_it_is_too_long_as_a_whole),
        cmocka_unit_test(fused_all_reduces_give_each_call_its_own_result),
        cmocka_unit_test(fused_reduces_give_each_call_its_own_result_at_every_root),
        cmocka_unit_test(fused_broadcasts_give_each_call_its_own_result_from_every_root),
        cmocka_unit_test(fused_calls_of_random_sizes_give_the_right_results),
        cmocka_unit_test(ranks_that_fuse_other_counts_are_told_so),
        cmocka_unit_test(the_fingerprint_of_a_run_depends_on_every_count_and_their_order),
        cmocka_unit_test(each_fused_call_is_multiplied_by_its_own_factor_of_its_own_rank),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
