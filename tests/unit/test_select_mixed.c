#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "select_samples.h"

/* Hosts with an arena each. */
static struct select_group arenas(int hosts, int ranks_on_each)
{
    struct select_group group = several_hosts(hosts, ranks_on_each);
    group.local = LOCAL_SHM;
    group.mixed = true;
    return group;
}

static void hosts_with_an_arena_each_use_it_for_all_reduce_and_barrier(void **state)
{
    (void)state;
    static const size_t byte_counts[] = {0, 4, 4 * KIB, 64 * KIB, 1 * MIB, 64 * MIB};
    for (int hosts = 2; hosts <= 4; hosts++)
        for (size_t i = 0; i < sizeof byte_counts / sizeof *byte_counts; i++) {
            struct select_group group = arenas(hosts, 2 + (int)i);
            struct select_call call = call_of(i == 0 ? TUTTI_BARRIER : TUTTI_ALL_REDUCE, byte_counts[i]);
            struct selection selection = choose(&group, &call);
            assert_true(algorithm_is_mixed(selection.algorithm));
            assert_true(selection.predicted_us == select_predict_us(&group, &call, selection.algorithm));
            group.mixed = false;
            assert_false(algorithm_is_mixed(choose(&group, &call).algorithm));
        }
}

static void short_vectors_are_exchanged_between_hosts_and_long_ones_go_round(void **state)
{
    (void)state;
    struct select_group group = arenas(4, 4);
    struct select_call call = call_of(TUTTI_ALL_REDUCE, 1 * KIB);
    assert_string_equal(choose(&group, &call).algorithm->name, "hierarchical_exchange");
    call.bytes = 16 * MIB;
    assert_string_equal(choose(&group, &call).algorithm->name, "hierarchical_shared");
}

static void other_operations_and_deterministic_sums_do_without(void **state)
{
    (void)state;
    struct select_group group = arenas(2, 4);
    for (int operation = 1; operation < OPERATION_COUNT; operation++) {
        struct select_call call = call_of(operation, 64 * KIB);
        if (operation_is_message(operation) || operation == TUTTI_ALL_REDUCE || operation == TUTTI_BARRIER)
            continue;
        assert_false(algorithm_is_mixed(choose(&group, &call).algorithm));
    }
    struct select_call all_reduce = call_of(TUTTI_ALL_REDUCE, 64 * KIB), barrier = call_of(TUTTI_BARRIER, 0);
    group.deterministic = true;
    assert_false(algorithm_is_mixed(choose(&group, &all_reduce).algorithm));
    assert_true(algorithm_is_mixed(choose(&group, &barrier).algorithm));
}

static void they_can_be_asked_for_by_name_only_where_they_may_run(void **state)
{
    (void)state;
    for (size_t place = algorithm_count; place < algorithm_places; place++) {
        const struct algorithm *algorithm = algorithm_at(place);
        struct select_group group = arenas(3, 2);
        struct select_call call = call_of(algorithm->operation, 64 * MIB);
        struct selection selection;
        struct tutti_error error = TUTTI_ERROR_INIT;
        call.name = algorithm->name;
        group.channels_max = 4;
        assert_ptr_equal(choose(&group, &call).algorithm, algorithm);
        assert_int_equal(choose(&group, &call).channels, 1); /* the lanes have no arena */
        group.mixed = false;
        assert_int_equal(algorithm_select(&group, &call, &selection, &error), TUTTI_ERR_ARGUMENT);
        assert_non_null(strstr(error.message, "not every host of the group has shared memory"));
        call.name = NULL;
        group.override.by_operation[algorithm->operation] = algorithm; /* it may serve in others */
        assert_false(algorithm_is_mixed(choose(&group, &call).algorithm));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_with_an_arena_each_use_it_for_all_reduce_and_barrier),
        cmocka_unit_test(short_vectors_are_exchanged_between_hosts_and_long_ones_go_round),
        cmocka_unit_test(other_operations_and_deterministic_sums_do_without),
        cmocka_unit_test(they_can_be_asked_for_by_name_only_where_they_may_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
