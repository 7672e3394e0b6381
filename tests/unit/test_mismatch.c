#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "algorithm/algorithm.h"
#include "executor/mismatch.h"

static const struct fingerprint broadcast = {TUTTI_BROADCAST, TUTTI_FLOAT32, .count = 1024};
static const struct fingerprint all_reduce = {TUTTI_ALL_REDUCE, TUTTI_FLOAT32, TUTTI_SUM, .count = 2048};

static void both_calls_are_printed_and_the_other_rank_is_the_cause(void **state)
{
    (void)state;
    struct tutti_error error = TUTTI_ERROR_INIT;
    const struct mismatch_side theirs = {3, 17, &broadcast}, ours = {2, 17, &all_reduce};
    assert_int_equal(mismatch_error(&theirs, &ours, &error), TUTTI_ERR_MISMATCH);
    assert_int_equal(error.code, TUTTI_ERR_MISMATCH);
    assert_int_equal(error.rank, 3);
    assert_string_equal(
        error.message,
        "rank 3 called broadcast(root 0, 1024 x float32) as operation 17, rank 2 called "
        "all_reduce(sum, 2048 x float32) as operation 17: every rank must make the same calls in "
        "the same order");
}

static void each_side_has_its_own_number(void **state)
{
    (void)state;
    struct tutti_error error = TUTTI_ERROR_INIT;
    const struct mismatch_side theirs = {0, UINT64_MAX, &all_reduce}, ours = {4095, 1, &all_reduce};
    mismatch_error(&theirs, &ours, &error);
    assert_non_null(strstr(error.message, "rank 0 called all_reduce(sum, 2048 x float32) as operation "
                                          "18446744073709551615, rank 4095 called "));
    assert_non_null(strstr(error.message, "as operation 1: every rank"));
}

static void a_barrier_is_told_from_finalize(void **state)
{
    (void)state;
    struct tutti_error error = TUTTI_ERROR_INIT;
    const struct fingerprint barrier = {.operation = TUTTI_BARRIER};
    const struct fingerprint finalize = {.operation = TUTTI_BARRIER, .count = 1};
    const struct mismatch_side theirs = {1, 5, &finalize}, ours = {0, 5, &barrier};
    mismatch_error(&theirs, &ours, &error);
    assert_non_null(
        strstr(error.message, "rank 1 called finalize() as operation 5, rank 0 called barrier() as"));
}

static void the_longest_calls_there_can_be_fit(void **state)
{
    (void)state;
    struct tutti_error error = TUTTI_ERROR_INIT;
    const struct fingerprint longest = {250, 251, 252, 253, UINT32_MAX, UINT64_MAX, UINT16_MAX, UINT32_MAX};
    const struct mismatch_side side = {4095, UINT64_MAX, &longest};
    mismatch_error(&side, &side, &error);
    assert_non_null(strstr(error.message, "every rank must make the same calls in the same order"));
    const char *first = strstr(error.message, "in 65535 fused calls, counts ffffffff) as operation");
    assert_non_null(first);
    assert_non_null(strstr(first + 1, "in 65535 fused calls, counts ffffffff) as operation"));
}

static void the_algorithms_are_named_where_nothing_else_differs(void **state)
{
    (void)state;
    struct tutti_error error = TUTTI_ERROR_INIT;
    const struct algorithm *ring = algorithm_find(TUTTI_ALL_REDUCE, "ring");
    assert_non_null(ring);
    struct fingerprint by_ring = all_reduce, by_another = all_reduce;
    by_ring.algorithm = ring->number;
    by_another.algorithm = 250;
    const struct mismatch_side theirs = {3, 17, &by_ring}, ours = {2, 17, &by_another};
    mismatch_error(&theirs, &ours, &error);
    assert_string_equal(
        error.message,
        "rank 3 called all_reduce(sum, 2048 x float32) by ring as operation 17, rank 2 called "
        "all_reduce(sum, 2048 x float32) by algorithm 250 as operation 17: where a call names its "
        "algorithm, every rank must name the same");
}

static void the_algorithms_are_not_told_where_the_calls_or_numbers_differ(void **state)
{
    (void)state;
    struct tutti_error error = TUTTI_ERROR_INIT;
    struct fingerprint one = all_reduce, another = all_reduce, longer = all_reduce;
    one.algorithm = 1;
    another.algorithm = longer.algorithm = 2;
    longer.count++;
    mismatch_error(&(struct mismatch_side){0, 5, &one}, &(struct mismatch_side){1, 5, &longer}, &error);
    assert_null(strstr(error.message, " by "));
    assert_non_null(strstr(error.message, "every rank must make the same calls in the same order"));
    mismatch_error(&(struct mismatch_side){0, 5, &one}, &(struct mismatch_side){1, 6, &another}, &error);
    assert_null(strstr(error.message, " by "));
}

static void the_algorithm_of_a_v_is_that_of_its_plain_operation(void **state)
{
    (void)state;
    struct tutti_error error = TUTTI_ERROR_INIT;
    struct fingerprint one = {TUTTI_ALL_GATHER_V, TUTTI_INT8, .root = 7, .count = 9}, another = one;
    const struct algorithm *ring = algorithm_find(TUTTI_ALL_GATHER, "ring");
    assert_non_null(ring);
    one.algorithm = ring->number;
    another.algorithm = 250;
    mismatch_error(&(struct mismatch_side){0, 5, &one}, &(struct mismatch_side){1, 5, &another}, &error);
    assert_non_null(strstr(error.message, "counts 00000007) by ring as operation 5"));
}

static void any_bytes_can_be_told_apart(void **state)
{
    (void)state;
    struct tutti_error error = TUTTI_ERROR_INIT;
    for (int operation = 0; operation < 256; operation++) {
        const struct fingerprint one = {.operation = (uint8_t)operation, .algorithm = 254};
        const struct fingerprint another = {.operation = (uint8_t)operation, .algorithm = 255};
        mismatch_error(&(struct mismatch_side){0, 5, &one}, &(struct mismatch_side){1, 5, &another}, &error);
        assert_non_null(strstr(error.message, " by algorithm 254 as operation 5"));
        assert_non_null(strstr(error.message, " by algorithm 255 as operation 5"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_calls_are_printed_and_the_other_rank_is_the_cause),
        cmocka_unit_test(each_side_has_its_own_number),
        cmocka_unit_test(a_barrier_is_told_from_finalize),
        cmocka_unit_test(the_longest_calls_there_can_be_fit),
        cmocka_unit_test(the_algorithms_are_named_where_nothing_else_differs),
        cmocka_unit_test(the_algorithms_are_not_told_where_the_calls_or_numbers_differ),
        cmocka_unit_test(the_algorithm_of_a_v_is_that_of_its_plain_operation),
        cmocka_unit_test(any_bytes_can_be_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
