#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
/* The tools are no library. */
#include "tools/bench_statistics.c"

static void the_median_is_the_middle_or_the_mean_of_the_two_in_the_middle(void **state)
{
    (void)state;
    double odd[] = {5, 1, 3}, even[] = {4, 1, 3, 100};
    assert_true(bench_median(odd, 3) == 3);
    assert_true(bench_median(even, 4) == 3.5);
    assert_true(bench_median(odd, 1) == 1);
    assert_true(bench_median(NULL, 0) == 0);
}

static void a_percentile_is_the_least_value_that_so_many_do_not_exceed(void **state)
{
    (void)state;
    double values[1000];
    for (size_t i = 0; i < 1000; i++)
        values[i] = (double)((i * 7919) % 1000 + 1); /* 1 to 1000, in no order */
    assert_true(bench_percentile(values, 1000, 0.99) == 990);
    assert_true(bench_percentile(values, 1000, 0.999) == 999);
    assert_true(bench_percentile(values, 1000, 0.5) == 500);
    assert_true(bench_percentile(values, 1000, 1) == 1000);
    assert_true(bench_percentile(values, 1000, 0) == 1);
    assert_true(bench_percentile(values, 10, 0.99) == 10);
    assert_true(bench_percentile(values, 1, 0.99) == 1);
    assert_true(bench_percentile(NULL, 0, 0.99) == 0);
}

static void a_percentile_counts_whole_hundreds_exactly(void **state)
{
    (void)state;
    double values[300];
    for (size_t hundreds = 1; hundreds <= 3; hundreds++) {
        for (size_t i = 0; i < 100 * hundreds; i++)
            values[i] = (double)(i + 1);
        for (size_t share = 1; share <= 100; share++)
            assert_true(bench_percentile(values, 100 * hundreds, (double)share / 100) ==
                        (double)(share * hundreds));
    }
}

static void the_geometric_mean_of_a_ratio_and_its_inverse_is_one(void **state)
{
    (void)state;
    double inverse[] = {4, 0.25}, one[] = {3}, several[] = {1, 2, 4};
    assert_float_equal(bench_geometric_mean(inverse, 2), 1, 1e-12);
    assert_float_equal(bench_geometric_mean(one, 1), 3, 1e-12);
    assert_float_equal(bench_geometric_mean(several, 3), 2, 1e-12);
    assert_true(bench_geometric_mean(NULL, 0) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_median_is_the_middle_or_the_mean_of_the_two_in_the_middle),
        cmocka_unit_test(a_percentile_is_the_least_value_that_so_many_do_not_exceed),
        cmocka_unit_test(a_percentile_counts_whole_hundreds_exactly),
        cmocka_unit_test(the_geometric_mean_of_a_ratio_and_its_inverse_is_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
