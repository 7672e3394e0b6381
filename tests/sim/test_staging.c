/* Staging: a call that must not read its input where it lies gets what it would have got, and keeps its
 * input: every such operation with every algorithm over virtual links. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>
#include "algorithm/algorithm.h"
#include "executor/fusion.h"
#include "tests/sim/virtual_mesh.h"

#define COUNT_MAX    97
#define FACTOR(rank) (0.5 * (rank)-2) /* exact with the small values below */

static float floats[2][RANKS_MAX][RANKS_MAX * COUNT_MAX]; /* inputs, outputs */

static const int sizes[] = {1, 2, 3, 4, 5, 8};
#define SIZES (sizeof sizes / sizeof sizes[0])

/* What rank `rank` has as element `index` of its input. */
static float staged_input(int rank, size_t index)
{
    return (float)(rank * 7 + (int)(index % 31));
}

static float staged_output(const struct tutti_call *call, int size, int rank, size_t index)
{
    double sum = 0;
    if (call->op == TUTTI_ALL_TO_ALL)
        return staged_input((int)(index / call->count), (size_t)rank * call->count + index % call->count);
    if (call->op == TUTTI_REDUCE_SCATTER)
        index += (size_t)rank * call->count;
    for (int r = 0; r < size; r++)
        sum += FACTOR(r) * staged_input(r, index);
    return (float)sum;
}

static void run_staged(uint64_t seed, int size, const struct algorithm *algorithm, size_t count, int root,
                       bool in_place)
{
    struct sim sim;
    struct fusion_part parts[RANKS_MAX];
    struct tutti_call calls[RANKS_MAX];
    const int op = algorithm->operation;
    const size_t all = count * (size_t)size;
    sim_init(&sim, seed, size);
    for (int rank = 0; rank < size; rank++) {
        float *in = floats[0][rank], *out = in_place ? in : floats[1][rank];
        for (size_t i = 0; i < all; i++)
            in[i] = staged_input(rank, i);
        if (in_place && op == TUTTI_REDUCE_SCATTER)
            out += (size_t)rank * count;
        struct tutti_call *call = &calls[rank];
        *call = (struct tutti_call){.op = op,
                                    .send = in,
                                    .recv = out,
                                    .count = count,
                                    .type = TUTTI_FLOAT32,
                                    .root = root,
                                    .factor = FACTOR(rank),
                                    .reduction = TUTTI_PREMULTIPLIED_SUM};
        struct fingerprint print = {.operation = (uint8_t)op,
                                    .type = TUTTI_FLOAT32,
                                    .count = count,
                                    .reduction = op == TUTTI_ALL_TO_ALL ? 0 : TUTTI_PREMULTIPLIED_SUM,
                                    .root = op == TUTTI_REDUCE ? (uint32_t)root : 0};
        struct executor_buffers buffers = {.send = in, .recv = out, .count = count};
        sim.schedules[rank] = schedule_new(op, algorithm->name, algorithm->emit, rank, size, root, NULL);
        assert_non_null(sim.schedules[rank]);
        bool is_needed = staging_is_needed(call, size);
        assert_int_equal(is_needed, op != TUTTI_ALL_TO_ALL || in_place);
        size_t bytes = is_needed ? staging_bytes(call, rank, size) : 0;
        void *copy = staging_copy(call, rank, sim_scratch(&sim, rank, &print, &buffers, bytes));
        buffers.send = is_needed ? copy : in;
        executor_init(&sim.executors[rank], &sim.groups[rank], sim.schedules[rank], &print, &buffers,
                      sim.scratch[rank]);
        if (is_needed)
            staging_wrap(&sim.executors[rank].operation, reduce_table(), size, &parts[rank], call, rank,
                         copy);
        executor_start(&sim.executors[rank], 1, 0, INT64_MAX);
    }
    sim_run(&sim);
    for (int rank = 0; rank < size; rank++) {
        const float *out = calls[rank].recv;
        size_t length = op == TUTTI_ALL_TO_ALL ? all : count;
        for (size_t i = 0; (op != TUTTI_REDUCE || rank == root) && i < length; i++)
            if (out[i] != staged_output(&calls[rank], size, rank, i))
                fail_msg("%s by %s, rank %d of %d, element %zu is %g", operation_name(op), algorithm->name,
                         rank, size, i, (double)out[i]);
        for (size_t i = 0; !in_place && i < all; i++) /* inputs are only read */
            assert_true(floats[0][rank][i] == staged_input(rank, i));
    }
    sim_free(&sim);
}

static void calls_with_a_staged_input_give_the_right_result_and_keep_their_input(void **state)
{
    (void)state;
    static const size_t counts[] = {0, 1, 5, COUNT_MAX};
    const char *text = getenv("TUTTI_TEST_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 0) : 1;
    print_message("seed %llu\n", (unsigned long long)seed);
    for (size_t a = 0; a < algorithm_count; a++) {
        int op = algorithms[a].operation;
        for (size_t s = 0; (operation_reduces(op) || op == TUTTI_ALL_TO_ALL) && s < SIZES; s++)
            for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++)
                for (int in_place = 0; in_place < 2; in_place++, seed++) {
                    int root = op == TUTTI_REDUCE ? (int)(seed % (uint64_t)sizes[s]) : 0;
                    run_staged(seed, sizes[s], &algorithms[a], counts[c], root, in_place);
                }
    }
}

static void a_long_input_is_multiplied_to_its_end(void **state)
{
    (void)state;
    enum { COUNT = 50000 }; /* many times what is copied at once, and no multiple of it */
    static float in[COUNT], out[COUNT];
    struct executor executor;
    struct fusion_part part;
    const struct executor_group group = {.slice_bytes = 4096, .kernels = reduce_table()};
    const struct algorithm *ring = algorithm_find(TUTTI_ALL_REDUCE, "ring");
    struct schedule *schedule = schedule_new(TUTTI_ALL_REDUCE, "ring", ring->emit, 0, 1, 0, NULL);
    const struct tutti_call call = {.op = TUTTI_ALL_REDUCE,
                                    .send = in,
                                    .recv = out,
                                    .count = COUNT,
                                    .type = TUTTI_FLOAT32,
                                    .factor = -3,
                                    .reduction = TUTTI_PREMULTIPLIED_SUM};
    const struct fingerprint print = {.operation = TUTTI_ALL_REDUCE,
                                      .type = TUTTI_FLOAT32,
                                      .count = COUNT,
                                      .reduction = TUTTI_PREMULTIPLIED_SUM};
    const struct executor_buffers buffers = {.send = staging_copy(&call, 0, NULL), .recv = out};
    for (int i = 0; i < COUNT; i++)
        in[i] = (float)i;
    assert_int_equal(staging_bytes(&call, 0, 1), 0);
    executor_init(&executor, &group, schedule, &print, &buffers, NULL);
    staging_wrap(&executor.operation, reduce_table(), 1, &part, &call, 0, out);
    executor_start(&executor, 1, 0, INT64_MAX);
    int status = TUTTI_PENDING;
    for (int turns = 0; status == TUTTI_PENDING && turns < 1000; turns++)
        status = executor.operation.progress(&executor.operation, NULL);
    assert_int_equal(status, TUTTI_OK);
    for (int i = 0; i < COUNT; i++)
        assert_true(out[i] == (float)(-3 * i));
    schedule_free(schedule);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_with_a_staged_input_give_the_right_result_and_keep_their_input),
        cmocka_unit_test(a_long_input_is_multiplied_to_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
