/* What the cost model chooses by default takes few steps where that matters, counted from the schedules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>
#include "algorithm/select.h"

#define SIZE_MAX_TESTED 64

static struct select_group group_of(int size)
{
    return (struct select_group){
        .size = size,
        .host_count = 1,
        .local_min = size,
        .local_max = size,
        .hosts_consecutive = true,
        .local = LOCAL_UDS,
        .crowding = 1,
        .slice_bytes = 256 << 10,
        .channels_max = 1,
        .tuning = tuning_default,
    };
}

static struct schedule_count count_chosen(int size, int operation, size_t bytes, double crowding)
{
    struct select_group group = group_of(size);
    group.crowding = crowding;
    const struct select_call call = {
        .operation = operation, .type = TUTTI_FLOAT32, .reduction = TUTTI_SUM, .bytes = bytes};
    struct selection selection;
    struct tutti_error error;
    struct schedule *schedules[SIZE_MAX_TESTED];
    struct schedule_count count;
    assert_int_equal(algorithm_select(&group, &call, &selection, &error), TUTTI_OK);
    for (int rank = 0; rank < size; rank++)
        schedules[rank] = schedule_new(operation, selection.algorithm->name, selection.algorithm->emit, rank,
                                       size, 0, NULL);
    assert_true(schedule_measure(schedules, size, NULL, &count));
    for (int rank = 0; rank < size; rank++)
        schedule_free(schedules[rank]);
    return count;
}

static int log2_rounded_up(int size)
{
    int log = 0;
    while (1 << log < size)
        log++;
    return log;
}

static void a_small_all_reduce_takes_logarithmic_steps(void **state)
{
    (void)state;
    for (int size = 2; size <= SIZE_MAX_TESTED; size *= 2)
        for (double crowding = 1; crowding <= 4; crowding *= 2)
            assert_true(count_chosen(size, TUTTI_ALL_REDUCE, 4, crowding).rounds <=
                        2 * log2_rounded_up(size));
}

static void a_barrier_takes_logarithmic_steps(void **state)
{
    (void)state;
    for (int size = 2; size <= SIZE_MAX_TESTED; size *= 2)
        assert_true(count_chosen(size, TUTTI_BARRIER, 0, 1).rounds <= log2_rounded_up(size));
}

static void a_large_all_reduce_sends_twice_the_bytes_of_a_reduce_scatter(void **state)
{
    (void)state;
    for (int size = 2; size <= SIZE_MAX_TESTED; size *= 2) {
        double whole = count_chosen(size, TUTTI_ALL_REDUCE, (size_t)64 << 20, 1).sent_max;
        double half = count_chosen(size, TUTTI_REDUCE_SCATTER, (size_t)64 << 20, 1).sent_max;
        assert_true(whole > 1.999 * half && whole < 2.001 * half);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_all_reduce_takes_logarithmic_steps),
        cmocka_unit_test(a_barrier_takes_logarithmic_steps),
        cmocka_unit_test(a_large_all_reduce_sends_twice_the_bytes_of_a_reduce_scatter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
