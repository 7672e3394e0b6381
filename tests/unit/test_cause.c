#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/error.h"
#include "group/cause.h"

static const struct group_place place = {.rank = 2,
                                         .size = 4,
                                         .next = {.rank = 3, .host_name = "beta"},
                                         .previous = {.rank = 1, .host_name = "gamma"}};

static const struct operation all_reduce = {
    .call = {TUTTI_ALL_REDUCE, TUTTI_FLOAT32, TUTTI_SUM, .count = 65536},
    .sequence = 17,
    .moved_bytes = 65536};

static struct tutti_error failure_of(int rank)
{
    struct tutti_error cause;
    error_set(&cause, TUTTI_ERR_PEER_LOST, "rank 2 lost rank %d: it is gone", rank);
    cause.rank = rank;
    return cause;
}

static struct tutti_error told_from_elsewhere(void)
{
    struct tutti_error cause = failure_of(0);
    snprintf(cause.host, sizeof cause.host, "delta");
    snprintf(cause.operation, sizeof cause.operation, "gather");
    cause.sequence = 16;
    cause.moved_bytes = 99;
    return cause;
}

static void a_failure_noticed_here_says_in_which_operation(void **state)
{
    (void)state;
    struct tutti_error cause = failure_of(3);
    cause_complete(&cause, &place, "alpha", &all_reduce, true);
    assert_string_equal(
        cause.message,
        "all_reduce (operation 17 on rank 2, 65536 bytes moved): rank 2 lost rank 3: it is gone");
    assert_int_equal(cause.code, TUTTI_ERR_PEER_LOST);
    assert_int_equal(cause.rank, 3);
    assert_string_equal(cause.host, "beta");
    assert_string_equal(cause.operation, "all_reduce");
    assert_int_equal(cause.sequence, 17);
    assert_int_equal(cause.moved_bytes, 65536);
}

static void a_failure_noticed_elsewhere_keeps_its_sentence_and_gets_our_operation(void **state)
{
    (void)state;
    struct tutti_error cause = told_from_elsewhere();
    cause_complete(&cause, &place, "alpha", &all_reduce, false);
    assert_string_equal(cause.message, "rank 2 lost rank 0: it is gone");
    assert_string_equal(cause.host, "delta");
    assert_string_equal(cause.operation, "all_reduce");
    assert_int_equal(cause.sequence, 17);
    assert_int_equal(cause.moved_bytes, 65536);
}

static void a_rank_between_two_calls_was_in_none(void **state)
{
    (void)state;
    struct tutti_error cause = told_from_elsewhere();
    cause_complete(&cause, &place, "alpha", NULL, false);
    assert_string_equal(cause.operation, "");
    assert_int_equal(cause.sequence, 0);
    assert_int_equal(cause.moved_bytes, 0);
    cause = failure_of(1);
    cause_complete(&cause, &place, "alpha", NULL, true);
    assert_string_equal(cause.message, "rank 2 lost rank 1: it is gone");
    assert_string_equal(cause.host, "gamma");
}

static void the_barrier_of_finalize_is_called_finalize(void **state)
{
    (void)state;
    const struct operation finalize = {.call = {.operation = TUTTI_BARRIER, .count = 1}, .sequence = 18};
    const struct operation barrier = {.call = {.operation = TUTTI_BARRIER}, .sequence = 18};
    struct tutti_error cause = failure_of(3);
    cause_complete(&cause, &place, "alpha", &finalize, true);
    assert_string_equal(cause.operation, "finalize");
    assert_string_equal(cause.message,
                        "finalize (operation 18 on rank 2, 0 bytes moved): rank 2 lost rank 3: it is gone");
    cause = failure_of(3);
    cause_complete(&cause, &place, "alpha", &barrier, true);
    assert_string_equal(cause.operation, "barrier");
}

static void assert_host(int rank, const char *expected)
{
    struct tutti_error cause = failure_of(rank);
    cause_complete(&cause, &place, "alpha", NULL, true);
    assert_string_equal(cause.host, expected);
}

static void the_host_is_that_of_the_rank_to_blame_where_it_is_known(void **state)
{
    (void)state;
    assert_host(2, "alpha");
    assert_host(3, "beta");
    assert_host(1, "gamma");
    assert_host(0, "");
    assert_host(-1, "");
}

static void a_group_of_one_has_no_neighbour_to_blame(void **state)
{
    (void)state;
    const struct group_place alone = {.rank = 0,
                                      .size = 1,
                                      .next = {.rank = -1, .host_name = "?"},
                                      .previous = {.rank = -1, .host_name = "?"}};
    struct tutti_error cause = failure_of(-1);
    cause_complete(&cause, &alone, "alpha", NULL, true);
    assert_string_equal(cause.host, "");
}

static void a_long_sentence_is_cut_behind_the_operation(void **state)
{
    (void)state;
    struct tutti_error cause = failure_of(3);
    memset(cause.message, 'x', sizeof cause.message - 1);
    cause.message[sizeof cause.message - 1] = '\0';
    cause_complete(&cause, &place, "alpha", &all_reduce, true);
    assert_memory_equal(cause.message, "all_reduce (operation 17 on rank 2, 65536 bytes moved): xxx", 59);
    assert_string_equal(cause.message + strlen(cause.message) - 4, "x...");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failure_noticed_here_says_in_which_operation),
        cmocka_unit_test(a_failure_noticed_elsewhere_keeps_its_sentence_and_gets_our_operation),
        cmocka_unit_test(a_rank_between_two_calls_was_in_none),
        cmocka_unit_test(the_barrier_of_finalize_is_called_finalize),
        cmocka_unit_test(the_host_is_that_of_the_rank_to_blame_where_it_is_known),
        cmocka_unit_test(a_group_of_one_has_no_neighbour_to_blame),
        cmocka_unit_test(a_long_sentence_is_cut_behind_the_operation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
