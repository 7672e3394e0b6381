#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
/* The tools are no library. */
#include "tools/bench_data.c"
#include "tools/bench_reply.c"

static struct bench_reply reply; /* large */

static int add(const char *line)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    int status = bench_reply_add(&reply, line, &error);
    assert_int_equal(error.code, status);
    assert_true(status == TUTTI_OK || error.message[0] != '\0');
    return status;
}

static int clear(void **state)
{
    (void)state;
    memset(&reply, 0, sizeof reply);
    return 0;
}

static void an_order_is_read_as_it_was_written(void **state)
{
    (void)state;
    char line[BENCH_ORDER_BYTES];
    for (int operation = 1; operation < OPERATION_COUNT; operation++) {
        if (!bench_takes(operation))
            continue;
        struct bench_case which = {.operation = (enum tutti_operation)operation,
                                   .type = TUTTI_BFLOAT16,
                                   .reduction = TUTTI_PREMULTIPLIED_SUM,
                                   .root = 1023,
                                   .in_place = true};
        struct bench_order order = {.which = &which,
                                    .bytes = SIZE_MAX,
                                    .iterations = BENCH_SINGLES_MAX,
                                    .warmup = 7,
                                    .single = true,
                                    .check = true,
                                    .skew_us = BENCH_SKEW_US_MAX,
                                    .seed = UINT64_MAX};
        struct bench_case read_which = {.rank = 5, .size = 8};
        struct bench_order read_order;
        bench_order_print(&order, line);
        assert_true(strlen(line) < BENCH_ORDER_BYTES - 1);
        assert_int_equal(line[strlen(line) - 1], '\n');
        line[strlen(line) - 1] = '\0';
        assert_true(bench_order_parse(line, &read_order, &read_which));
        assert_ptr_equal(read_order.which, &read_which);
        assert_int_equal(read_which.operation, operation);
        assert_int_equal(read_which.type, which.type);
        assert_int_equal(read_which.reduction, operation_reduces(operation) ? TUTTI_PREMULTIPLIED_SUM : 0);
        assert_int_equal(read_which.root, 1023);
        assert_int_equal(read_which.rank, 5);
        assert_int_equal(read_which.size, 8);
        assert_true(read_which.in_place && read_order.single && read_order.check);
        assert_true(read_order.bytes == SIZE_MAX && read_order.seed == UINT64_MAX);
        assert_int_equal(read_order.iterations, BENCH_SINGLES_MAX);
        assert_int_equal(read_order.warmup, 7);
        assert_int_equal(read_order.skew_us, BENCH_SKEW_US_MAX);
    }
}

static void what_is_no_order_is_refused(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "",
        "run",
        "quit",
        "run all_reduce 4 float32 sum 0 0 1 0 0 0 0",      /* a word less */
        "run all_reduce 4 float32 sum 0 0 1 0 0 0 0 1 2",  /* more */
        "run no_operation 4 float32 sum 0 0 1 0 0 0 0 1",  /* no such name */
        "run send 4 float32 none 0 0 1 0 0 0 0 1",         /* not measured */
        "run all_reduce 4 float8 sum 0 0 1 0 0 0 0 1",     /* no such type */
        "run all_reduce 4 float32 none 0 0 1 0 0 0 0 1",   /* it needs a reduction */
        "run all_reduce 4 float32 sum 0 0 0 0 0 0 0 1",    /* no iterations */
        "run all_reduce 4 float32 sum 0 0 1 -1 0 0 0 1",   /* less than none */
        "run all_reduce 4 float32 sum 0 0 4097 0 1 0 0 1", /* too many to be timed one by one */
        "run all_reduce 4 float32 sum 0 0 1 0 0 0 -3 1",   /* early arrival */
        "run a_name_that_is_much_too_long 4 float32 sum 0 0 1 0 0 0 0 1",
    };
    struct bench_case which = {.size = 2};
    struct bench_order order;
    assert_true(bench_order_parse("run all_reduce 4 float32 sum 0 0 1 0 0 0 0 1", &order, &which));
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        assert_false(bench_order_parse(lines[i], &order, &which));
}

static void means_are_those_of_the_slowest_rank_and_the_rest_adds_up(void **state)
{
    (void)state;
    assert_int_equal(add("ok 1.5 0.25 0 0"), TUTTI_OK);
    assert_int_equal(add("ok 2.5 0.5 3 0"), TUTTI_OK);
    assert_int_equal(add("ok 2 0.25 1 0"), TUTTI_OK);
    assert_true(reply.mean_us == 2.5);
    assert_true(reply.cpu_s == 1);
    assert_int_equal(reply.wrong, 4);
    assert_int_equal(reply.ranks, 3);
    assert_int_equal(reply.count, 0);
}

static void a_call_takes_as_long_as_its_slowest_rank_is_in_it(void **state)
{
    (void)state;
    assert_int_equal(add("ok 1 0 0 2 1000000 0 4000 5000 1000"), TUTTI_OK);
    assert_int_equal(add("ok 1 0 0 2 1000500 0 3000 5000 2000"), TUTTI_OK);
    assert_int_equal(reply.count, 2);
    assert_true(bench_reply_call_us(&reply, 0, false) == 4);
    assert_true(bench_reply_call_us(&reply, 1, false) == 2);
}

static void a_skewed_call_takes_from_the_last_arrival_to_the_last_return(void **state)
{
    (void)state;
    assert_int_equal(add("ok 1 0 0 1 1000000 0 200500"), TUTTI_OK);
    assert_int_equal(add("ok 1 0 0 1 1200000 0 700"), TUTTI_OK);
    assert_true(bench_reply_call_us(&reply, 0, true) == 0.7);
    assert_true(bench_reply_call_us(&reply, 0, false) == 200.5);
}

static void a_refusal_is_passed_on_in_the_words_of_the_rank(void **state)
{
    (void)state;
    struct tutti_error error = TUTTI_ERROR_INIT;
    assert_int_equal(bench_reply_add(&reply, "error no such thing here", &error), TUTTI_ERR_UNSUPPORTED);
    assert_string_equal(error.message, "no such thing here");
}

static void what_is_no_reply_is_an_error(void **state)
{
    static const char *const lines[] = {
        "",
        "ok",
        "fine 1 0 0 0",
        "ok 1 0 0",
        "ok x 0 0 0",
        "ok -1 0 0 0",
        "ok nan 0 0 0",
        "ok 1 0 -1 0",
        "ok 1 0 0 -1",
        "ok 1 0 0 4097 0",
        "ok 1 0 0 1",
        "ok 1 0 0 1 0 5",
        "ok 1 0 0 1 0 5 5 5",
        "ok 1 0 0 1 0 5 -5",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        clear(state);
        assert_int_equal(add(lines[i]), TUTTI_ERR_PROTOCOL);
    }
    clear(state);
    assert_int_equal(add("ok 1 0 0 1 0 5 5"), TUTTI_OK);
    assert_int_equal(add("ok 1 0 0 2 0 5 5 6 6"), TUTTI_ERR_PROTOCOL); /* ranks that do not agree */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_order_is_read_as_it_was_written),
        cmocka_unit_test(what_is_no_order_is_refused),
        cmocka_unit_test_setup(means_are_those_of_the_slowest_rank_and_the_rest_adds_up, clear),
        cmocka_unit_test_setup(a_call_takes_as_long_as_its_slowest_rank_is_in_it, clear),
        cmocka_unit_test_setup(a_skewed_call_takes_from_the_last_arrival_to_the_last_return, clear),
        cmocka_unit_test_setup(a_refusal_is_passed_on_in_the_words_of_the_rank, clear),
        cmocka_unit_test(what_is_no_reply_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
