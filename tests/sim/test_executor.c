/* The real executor and schedules over virtual links: every operation, many sizes and seeds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>
#include "algorithm/algorithm.h"
#include "tests/sim/virtual_ring.h"

static int64_t input(int rank, size_t index)
{
    return (int64_t)(index * 31 + (size_t)rank * 1000003);
}

static int64_t expected_sum(const struct sim *sim, size_t index)
{
    int64_t sum = 0;
    for (int rank = 0; rank < sim->size; rank++)
        sum += input(rank, index);
    return sum;
}

static void check_result(const struct sim *sim, const struct fingerprint *call, int rank)
{
    const int64_t *recv = sim->recv[rank];
    size_t n = (size_t)sim->size, count = call->count;
    switch (call->operation) {
    case TUTTI_ALL_REDUCE:
        for (size_t i = 0; i < count; i++)
            assert_int_equal(recv[i], expected_sum(sim, i));
        break;
    case TUTTI_BROADCAST:
        for (size_t i = 0; i < count; i++)
            assert_int_equal(recv[i], input((int)call->root, i));
        break;
    case TUTTI_REDUCE_SCATTER:
        for (size_t i = 0; i < count; i++)
            assert_int_equal(recv[i], expected_sum(sim, (size_t)rank * count + i));
        break;
    case TUTTI_GATHER:
        if (rank != (int)call->root)
            break;
        /* fall through */
    case TUTTI_ALL_GATHER:
        for (size_t i = 0; i < n * count; i++)
            assert_int_equal(recv[i], input((int)(i / count), i % count));
        break;
    default:
        break;
    }
}

static void run_one(uint64_t seed, int size, const struct algorithm *algorithm, size_t count, int root,
                    bool in_place)
{
    struct sim sim;
    sim_init(&sim, seed, size);
    bool reduces = algorithm->operation == TUTTI_ALL_REDUCE || algorithm->operation == TUTTI_REDUCE_SCATTER;
    struct fingerprint call = {
        .operation = (uint8_t)algorithm->operation,
        .type = TUTTI_INT64,
        .reduction = reduces ? TUTTI_SUM : 0,
        .root = (uint32_t)root,
        .count = algorithm->operation == TUTTI_BARRIER ? 0 : count,
    };
    size_t all = count * (size_t)size;
    for (int rank = 0; rank < size; rank++) {
        int64_t *recv = calloc(all + 1, sizeof *recv), *send = calloc(all + 1, sizeof *send);
        size_t own = (size_t)rank * count;
        sim.send[rank] = send;
        sim.recv[rank] = recv;
        if (in_place) {
            bool gathers = algorithm->operation == TUTTI_ALL_GATHER || algorithm->operation == TUTTI_GATHER;
            bool scatters = algorithm->operation == TUTTI_REDUCE_SCATTER;
            sim.send[rank] = gathers ? recv + own : recv;
            sim.recv[rank] = scatters ? recv + own : recv;
            free(send);
        }
        for (size_t i = 0; i < (reduces && algorithm->operation == TUTTI_REDUCE_SCATTER ? all : count); i++)
            sim.send[rank][i] = input(rank, i);
        sim.schedules[rank] =
            schedule_new(algorithm->operation, algorithm->name, algorithm->emit, rank, size, root);
        assert_non_null(sim.schedules[rank]);
        sim.scratch[rank] = aligned_alloc(64, executor_scratch_bytes(sim.schedules[rank], &call) + 64);
        executor_init(&sim.executors[rank], &sim.groups[rank], sim.schedules[rank], &call, sim.send[rank],
                      sim.recv[rank], sim.scratch[rank]);
        executor_start(&sim.executors[rank], 1, 0, INT64_MAX);
    }
    sim_run(&sim);
    for (int rank = 0; rank < size; rank++) {
        check_result(&sim, &call, rank);
        schedule_free(sim.schedules[rank]);
        free(sim.scratch[rank]);
        size_t own = (size_t)rank * count;
        bool shifted = in_place && algorithm->operation == TUTTI_REDUCE_SCATTER;
        free(shifted ? sim.recv[rank] - own : sim.recv[rank]);
        if (!in_place)
            free(sim.send[rank]);
    }
    sim_free(&sim);
}

static void every_operation_gives_the_right_result_over_links_that_stutter(void **state)
{
    (void)state;
    const char *text = getenv("TUTTI_TEST_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 0) : 1;
    static const int sizes[] = {1, 2, 3, 4, 5, 7, 8, 16};
    print_message("seed %llu\n", (unsigned long long)seed);
    for (size_t a = 0; a < algorithm_count; a++)
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            size_t n = (size_t)sizes[s], counts[] = {0, 1, n - 1, n, n + 1, 97};
            for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++)
                for (int in_place = 0; in_place < 2; in_place++) {
                    int root = (int)(seed % n);
                    run_one(seed++, (int)n, &algorithms[a], counts[c], root, in_place);
                }
        }
}

static void a_rank_that_calls_something_else_is_named_with_both_calls(void **state)
{
    (void)state;
    struct sim sim;
    sim_init(&sim, 3, 2);
    int64_t data[2][4] = {{1, 2, 3, 4}, {1, 2, 3, 4}};
    struct fingerprint calls[2] = {
        {.operation = TUTTI_BROADCAST, .type = TUTTI_INT64, .root = 1, .count = 4},
        {.operation = TUTTI_BROADCAST, .type = TUTTI_INT64, .root = 1, .count = 3}};
    for (int rank = 0; rank < 2; rank++) {
        sim.schedules[rank] = schedule_new(TUTTI_BROADCAST, "ring", ring_broadcast, rank, 2, 1);
        executor_init(&sim.executors[rank], &sim.groups[rank], sim.schedules[rank], &calls[rank], data[rank],
                      data[rank], NULL);
        executor_start(&sim.executors[rank], 17, 0, INT64_MAX);
    }
    struct tutti_error error = TUTTI_ERROR_INIT;
    int status = TUTTI_PENDING;
    while (status == TUTTI_PENDING) {
        sim.executors[1].operation.progress(&sim.executors[1].operation, &error);
        status = sim.executors[0].operation.progress(&sim.executors[0].operation, &error);
    }
    assert_int_equal(status, TUTTI_ERR_MISMATCH);
    assert_int_equal(error.rank, 1);
    assert_non_null(strstr(error.message, "rank 1 called broadcast(root 1, 3 x int64) as operation 17"));
    assert_non_null(strstr(error.message, "rank 0 called broadcast(root 1, 4 x int64) as operation 17"));
    for (int rank = 0; rank < 2; rank++)
        schedule_free(sim.schedules[rank]);
    sim_free(&sim);
}

static void
a_frame_of_an_earlier_operation_is_shown_beside_the_call_that_was_made_under_its_number(void **state)
{
    (void)state;
    struct sim sim;
    sim_init(&sim, 3, 2);
    int64_t data[2][4] = {{1, 2, 3, 4}, {1, 2, 3, 4}};
    struct fingerprint recent[EXECUTOR_RECENT_CALLS] = {
        [1] = {.operation = TUTTI_BROADCAST, .type = TUTTI_INT64, .root = 0, .count = 4}};
    struct fingerprint calls[2] = {
        {.operation = TUTTI_BARRIER},
        {.operation = TUTTI_BROADCAST, .type = TUTTI_INT64, .root = 1, .count = 4}};
    sim.groups[0].recent_calls = recent;
    sim.schedules[0] = schedule_new(TUTTI_BARRIER, "ring", ring_barrier, 0, 2, 0);
    sim.schedules[1] = schedule_new(TUTTI_BROADCAST, "ring", ring_broadcast, 1, 2, 1);
    for (int rank = 0; rank < 2; rank++) {
        executor_init(&sim.executors[rank], &sim.groups[rank], sim.schedules[rank], &calls[rank], data[rank],
                      data[rank], NULL);
        executor_start(&sim.executors[rank], rank == 0 ? 2 : 1, 0, INT64_MAX);
    }
    struct tutti_error error = TUTTI_ERROR_INIT;
    int status = TUTTI_PENDING;
    while (status == TUTTI_PENDING) {
        sim.executors[1].operation.progress(&sim.executors[1].operation, &error);
        status = sim.executors[0].operation.progress(&sim.executors[0].operation, &error);
    }
    assert_int_equal(status, TUTTI_ERR_MISMATCH);
    assert_non_null(strstr(error.message,
                           "rank 1 called broadcast(root 1, 4 x int64) as operation 1, rank 0 called "
                           "broadcast(root 0, 4 x int64) as operation 1"));
    for (int rank = 0; rank < 2; rank++)
        schedule_free(sim.schedules[rank]);
    sim_free(&sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operation_gives_the_right_result_over_links_that_stutter),
        cmocka_unit_test(a_rank_that_calls_something_else_is_named_with_both_calls),
        cmocka_unit_test(
            a_frame_of_an_earlier_operation_is_shown_beside_the_call_that_was_made_under_its_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
