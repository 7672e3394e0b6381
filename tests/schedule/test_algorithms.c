/* Every algorithm, proved by the checker for every size from 1 to 64. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "algorithm/algorithm.h"
#include "tensor/type.h"

#define SIZE_MAX_CHECKED 64
#define EVERY_ROOT_UP_TO 16
#define ROOTS_BEYOND     3

static void check(const struct algorithm *algorithm, int size, int root)
{
    struct schedule *ranks[SIZE_MAX_CHECKED];
    char why[512] = "";
    for (int rank = 0; rank < size; rank++) {
        ranks[rank] = schedule_new(algorithm->operation, algorithm->name, algorithm->emit, rank, size, root);
        assert_non_null(ranks[rank]);
    }
    for (int queue = 0; queue <= 2; queue++) {
        for (int slices = 1; slices <= 3; slices += 2) {
            if (!schedule_check(ranks, size, slices, queue, why, sizeof why))
                fail_msg("%s, root %d: %s", operation_name(algorithm->operation), root, why);
        }
    }
    for (int rank = 0; rank < size; rank++)
        schedule_free(ranks[rank]);
}

static void every_algorithm_keeps_its_promise_for_1_to_64_ranks(void **state)
{
    (void)state;
    for (size_t a = 0; a < algorithm_count; a++) {
        const struct algorithm *algorithm = &algorithms[a];
        bool rooted = algorithm->operation == TUTTI_BROADCAST || algorithm->operation == TUTTI_GATHER;
        for (int size = 1; size <= SIZE_MAX_CHECKED; size++) {
            const int few[ROOTS_BEYOND] = {0, size / 2, size - 1};
            int roots = !rooted ? 1 : size <= EVERY_ROOT_UP_TO ? size : ROOTS_BEYOND;
            for (int i = 0; i < roots; i++)
                check(algorithm, size, size <= EVERY_ROOT_UP_TO ? i : few[i]);
        }
    }
}

static int messages_of(int operation, const char *name, int rank, int size, int root)
{
    for (size_t a = 0; a < algorithm_count; a++) {
        if (algorithms[a].operation != operation || strcmp(algorithms[a].name, name) != 0)
            continue;
        struct schedule *s = schedule_new(operation, name, algorithms[a].emit, rank, size, root);
        assert_non_null(s);
        int messages = 0;
        for (int i = 0; i < s->count; i++)
            messages += step_sends(&s->steps[i]);
        schedule_free(s);
        return messages;
    }
    fail_msg("there is no %s %s", name, operation_name(operation));
    return -1;
}

static void each_rank_sends_as_many_messages_as_documented(void **state)
{
    (void)state;
    for (int n = 2; n <= 9; n++) {
        assert_int_equal(messages_of(TUTTI_ALL_REDUCE, "ring", 1, n, 0), 2 * (n - 1));
        assert_int_equal(messages_of(TUTTI_ALL_REDUCE, "ring_exchange", 1, n, 0), n - 1);
        assert_int_equal(messages_of(TUTTI_BROADCAST, "ring", 0, n, 0), 1);
        assert_int_equal(messages_of(TUTTI_BROADCAST, "ring", n - 1, n, 0), 0);
        assert_int_equal(messages_of(TUTTI_ALL_GATHER, "ring", 1, n, 0), n - 1);
        assert_int_equal(messages_of(TUTTI_GATHER, "ring", 0, n, 0), 0);
        for (int distance = 1; distance < n; distance++)
            assert_int_equal(messages_of(TUTTI_GATHER, "ring", n - distance, n, 0), n - distance);
        assert_int_equal(messages_of(TUTTI_REDUCE_SCATTER, "ring", 1, n, 0), n - 1);
        assert_int_equal(messages_of(TUTTI_BARRIER, "ring", 1, n, 0), n - 1);
    }
}

static void small_all_reduces_take_few_rounds_and_large_ones_few_bytes(void **state)
{
    (void)state;
    const int sizes[] = {2, 3, 8, 64};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_string_equal(algorithm_select(TUTTI_ALL_REDUCE, sizes[i], 4)->name, "ring_exchange");
        assert_string_equal(algorithm_select(TUTTI_ALL_REDUCE, sizes[i], 64u << 20)->name, "ring");
        assert_string_equal(algorithm_select(TUTTI_ALL_REDUCE, sizes[i], SIZE_MAX)->name, "ring");
    }
}

static void every_operation_has_an_algorithm_for_every_size(void **state)
{
    (void)state;
    for (int operation = TUTTI_ALL_REDUCE; operation <= TUTTI_BARRIER; operation++) {
        for (int size = 1; size <= SIZE_MAX_CHECKED; size++) {
            const struct algorithm *algorithm = algorithm_select(operation, size, 0);
            assert_non_null(algorithm);
            assert_int_equal(algorithm->operation, operation);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_algorithm_keeps_its_promise_for_1_to_64_ranks),
        cmocka_unit_test(each_rank_sends_as_many_messages_as_documented),
        cmocka_unit_test(small_all_reduces_take_few_rounds_and_large_ones_few_bytes),
        cmocka_unit_test(every_operation_has_an_algorithm_for_every_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
