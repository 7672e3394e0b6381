#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "select_samples.h"

static struct cost count(const struct select_group *group, const struct select_call *call,
                         const struct algorithm *algorithm)
{
    struct cost_case c = {.operation = call->operation,
                          .size = group->size,
                          .host_count = group->host_count,
                          .local_min = group->local_min,
                          .local_max = group->local_max,
                          .hosts_consecutive = group->hosts_consecutive,
                          .bytes = (double)call->bytes,
                          .slice_bytes = (double)group->slice_bytes};
    struct cost cost = {.copied = 0};
    algorithm->cost(&c, &cost);
    return cost;
}

static const int sizes[] = {2, 3, 4, 5, 7, 8, 16, 33, 64};
static const size_t byte_counts[] = {0, 4, 1 * KIB, 48 * KIB, 256 * KIB, 1 * MIB, 64 * MIB};
#define SIZE_COUNT (sizeof sizes / sizeof *sizes)
#define BYTE_COUNT (sizeof byte_counts / sizeof *byte_counts)

/* Runs `visit` for every collective, without the _v unless `with_counts`, of every length in several groups.
 */
static void for_each_case(bool with_counts,
                          void (*visit)(const struct select_group *group, const struct select_call *call))
{
    for (int operation = 1; operation < OPERATION_COUNT; operation++) {
        if (operation_is_message(operation) || (operation_has_counts(operation) && !with_counts))
            continue;
        for (size_t i = 0; i < SIZE_COUNT * BYTE_COUNT; i++) {
            int size = sizes[i / BYTE_COUNT];
            struct select_call call = call_of(operation, byte_counts[i % BYTE_COUNT]);
            struct select_group groups[] = {one_host(size), one_host(size), several_hosts(size, 1),
                                            several_hosts(2, size), several_hosts(size, 2)};
            groups[1].crowding = 4;
            groups[1].local = LOCAL_TCP;
            for (size_t g = 0; g < sizeof groups / sizeof *groups; g++)
                visit(&groups[g], &call);
        }
    }
}

/* ---- The formula ------------------------------------------------------------------------------------ */

/* Counts that tell each constant from the others. */
static void sample_cost(const struct cost_case *c, struct cost *cost)
{
    cost->rounds[COST_LOCAL] = 3;
    cost->messages[COST_LOCAL] = 2;
    cost->bytes[COST_LOCAL] = c->bytes;
    cost->rounds[COST_REMOTE] = 1;
    cost->messages[COST_REMOTE] = 1;
    cost->bytes[COST_REMOTE] = c->bytes / 4;
    cost->reduced = c->bytes / 2;
    cost->copied = c->bytes / 8;
}

static void sample_cost_of_a_tree(const struct cost_case *c, struct cost *cost)
{
    sample_cost(c, cost);
    cost->load = 0.25;
}

/* Powers of two, so that sums are exact. */
static const struct tuning sample_tuning = {.version = TUNING_VERSION,
                                            .shm = {1, 4, 2, 0.25},
                                            .uds = {2, 8, 4, 0.5},
                                            .tcp_local = {16, 32, 8, 1},
                                            .tcp = {64, 128, 16, 2},
                                            .reduce_us_per_byte = 0.25,
                                            .copy_us_per_byte = 0.125,
                                            .stripe_overhead_us = 1024};

static struct select_group sample_group(void)
{
    struct select_group group = several_hosts(2, 2);
    group.tuning = sample_tuning;
    group.slice_bytes = 1 * KIB;
    return group;
}

static double predict(const struct select_group *group, size_t bytes, algorithm_cost cost)
{
    struct algorithm algorithm = {.operation = TUTTI_ALL_REDUCE, .name = "sample", .cost = cost};
    struct select_call call = call_of(TUTTI_ALL_REDUCE, bytes);
    return select_predict_us(group, &call, &algorithm);
}

static void the_predicted_time_is_the_sum_of_the_counts_weighed_by_the_constants(void **state)
{
    (void)state;
    struct select_group group = sample_group();
    double bytes = 64;
    double remote = 64 + 16 + bytes / 4 * 2, memory = bytes / 2 * 0.25 + bytes / 8 * 0.125;
    assert_true(predict(&group, 64, sample_cost) == 3 * 2 + 2 * 4 + bytes * 0.5 + remote + memory);
    group.local = LOCAL_TCP;
    assert_true(predict(&group, 64, sample_cost) == 3 * 16 + 2 * 8 + bytes * 1 + remote + memory);
    group.local = LOCAL_SHM;
    assert_true(predict(&group, 64, sample_cost) == 3 * 1 + 2 * 2 + bytes * 0.25 + remote + memory);
}

static void a_message_of_several_slices_is_as_many_frames(void **state)
{
    (void)state;
    struct select_group group = sample_group();
    double one = predict(&group, 2 * KIB, sample_cost), more = predict(&group, 2 * KIB + 8, sample_cost);
    /* 2 local messages of a bit more than a slice: 4 frames. */
    double per_byte = 0.5 + 0.25 * 2 + 0.5 * 0.25 + 0.125 * 0.125;
    assert_true(more - one == 2 * 4 + 8 * per_byte);
}

static void ranks_that_share_a_core_wait_for_each_other(void **state)
{
    (void)state;
    struct select_group group = sample_group();
    group.crowding = 4;
    double bytes = 64;
    double rounds = 3 * (2 + 3 * 8) + 1 * (64 + 3 * 128);
    double work = 2 * 4 + 16 + bytes * 0.5 + bytes / 2 * 0.25 + bytes / 8 * 0.125;
    assert_true(predict(&group, 64, sample_cost) == rounds + 4 * work + bytes / 4 * 2);
    /* What 4 average ranks of the tree do is not more than what its busiest does. */
    assert_true(predict(&group, 64, sample_cost_of_a_tree) == rounds + work + bytes / 4 * 2);
    group.crowding = 8;
    rounds = 3 * (2 + 7 * 8) + 1 * (64 + 7 * 128);
    assert_true(predict(&group, 64, sample_cost_of_a_tree) == rounds + 2 * work + bytes / 4 * 2);
}

static void operands_that_wait_for_each_other_pass_through_memory_once_more(void **state)
{
    (void)state;
    struct select_group group = sample_group();
    struct select_call call = call_of(TUTTI_ALL_REDUCE, 64);
    struct algorithm algorithm = {.operation = TUTTI_ALL_REDUCE, .name = "sample", .cost = sample_cost};
    double in_any_order = select_predict_us(&group, &call, &algorithm);
    algorithm.traits = ALGORITHM_RANK_ORDER;
    assert_true(select_predict_us(&group, &call, &algorithm) - in_any_order == 64 / 2 * 0.125);
}

/* ---- The least time --------------------------------------------------------------------------------- */

static void visit_least(const struct select_group *group, const struct select_call *call)
{
    struct selection selection = choose(group, call);
    assert_true(select_is_eligible(group, call, selection.algorithm));
    assert_int_equal(selection.channels, 1);
    assert_true(selection.predicted_us > 0);
    assert_true(selection.predicted_us == select_predict_us(group, call, selection.algorithm));
    for (size_t i = 0; i < algorithm_count; i++)
        if (select_is_eligible(group, call, &algorithms[i]) &&
            select_predict_us(group, call, &algorithms[i]) < selection.predicted_us)
            fail_msg("%s of %zu bytes on %d ranks: %s is chosen, %s is faster",
                     operation_name(call->operation), call->bytes, group->size, selection.algorithm->name,
                     algorithms[i].name);
}

static void the_choice_is_the_fastest_of_those_that_may_be_used(void **state)
{
    (void)state;
    for_each_case(true, visit_least);
}

static void visit_rounds(const struct select_group *original, const struct select_call *call)
{
    struct select_group group = *original;
    if (group.host_count > 1)
        return;
    group.tuning = (struct tuning){.version = TUNING_VERSION};
    group.tuning.uds.latency_us = group.tuning.tcp_local.latency_us = 1;
    double least = count(&group, call, choose(&group, call).algorithm).rounds[COST_LOCAL];
    for (size_t i = 0; i < algorithm_count; i++)
        if (select_is_eligible(&group, call, &algorithms[i]))
            assert_true(count(&group, call, &algorithms[i]).rounds[COST_LOCAL] >= least);
}

static void where_only_latency_costs_the_fewest_rounds_win(void **state)
{
    (void)state;
    for_each_case(false, visit_rounds);
}

static void visit_bytes(const struct select_group *original, const struct select_call *call)
{
    struct select_group group = *original;
    if (group.host_count > 1)
        return;
    group.tuning = (struct tuning){.version = TUNING_VERSION};
    group.tuning.uds.us_per_byte = group.tuning.tcp_local.us_per_byte = 1;
    group.crowding = 1;
    double least = count(&group, call, choose(&group, call).algorithm).bytes[COST_LOCAL];
    for (size_t i = 0; i < algorithm_count; i++)
        if (select_is_eligible(&group, call, &algorithms[i]))
            assert_true(count(&group, call, &algorithms[i]).bytes[COST_LOCAL] >= least);
}

static void where_only_bytes_cost_the_fewest_bytes_win(void **state)
{
    (void)state;
    for_each_case(false, visit_bytes);
}

static void a_small_all_reduce_takes_logarithmic_rounds(void **state)
{
    (void)state;
    for (int size = 2, rounds = 2; size <= 64; size *= 2, rounds += 2) {
        for (int crowded = 0; crowded < 2; crowded++) {
            struct select_group group = one_host(size);
            struct select_call call = call_of(TUTTI_ALL_REDUCE, 4);
            group.crowding = crowded ? size / 2.0 : 1;
            struct cost cost = count(&group, &call, choose(&group, &call).algorithm);
            assert_true(cost.rounds[COST_LOCAL] <= rounds);
        }
    }
}

static void a_large_all_reduce_moves_as_few_bytes_as_can_be(void **state)
{
    (void)state;
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        struct select_group group = one_host(sizes[i]);
        struct select_call call = call_of(TUTTI_ALL_REDUCE, 64 * MIB);
        struct cost cost = count(&group, &call, choose(&group, &call).algorithm);
        double least = 2.0 * (double)call.bytes * (sizes[i] - 1) / sizes[i];
        assert_true(cost.bytes[COST_LOCAL] <= least * (1 + 1e-9));
    }
}

static void a_large_all_reduce_over_a_slow_network_sends_as_little_as_can_be(void **state)
{
    (void)state;
    static const int layouts[][2] = {{2, 2}, {2, 3}, {2, 4}, {3, 4}, {4, 6}};
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        int hosts = layouts[i][0];
        struct select_group group = several_hosts(hosts, layouts[i][1]);
        struct select_call call = call_of(TUTTI_ALL_REDUCE, 16 * MIB);
        group.tuning.tcp.us_per_byte = 0.008; /* 1 Gbit/s */
        struct cost cost = count(&group, &call, choose(&group, &call).algorithm);
        double least = 2.0 * (double)call.bytes * (hosts - 1) / hosts;
        if (cost.bytes[COST_REMOTE] > least * (1 + 1e-9))
            fail_msg("%d hosts with %d ranks: %s", hosts, layouts[i][1],
                     choose(&group, &call).algorithm->name);
    }
}

static void visit_alone(const struct select_group *original, const struct select_call *call)
{
    struct select_group group = one_host(1);
    group.tuning = original->tuning;
    struct selection selection = choose(&group, call);
    assert_int_equal(selection.channels, 1);
    assert_true(selection.predicted_us == 0);
}

static void a_group_of_one_has_an_algorithm_for_everything(void **state)
{
    (void)state;
    for_each_case(true, visit_alone);
}

/* ---- What may be used ------------------------------------------------------------------------------- */

static void visit_deterministic(const struct select_group *original, const struct select_call *call)
{
    struct select_group group = *original;
    group.deterministic = true;
    assert_true(choose(&group, call).algorithm->traits & ALGORITHM_RANK_ORDER);
}

static void the_deterministic_mode_sums_in_the_order_of_the_ranks(void **state)
{
    (void)state;
    for_each_case(true, visit_deterministic);
}

/* How many hierarchical algorithms are eligible in a group. */
static int count_hierarchical(const struct select_group *group)
{
    int eligible = 0;
    for (size_t i = 0; i < algorithm_count; i++) {
        struct select_call call = call_of(algorithms[i].operation, 4);
        if (algorithms[i].traits & ALGORITHM_HIERARCHICAL)
            eligible += select_is_eligible(group, &call, &algorithms[i]);
    }
    return eligible;
}

static void hierarchies_are_for_several_hosts_with_several_consecutive_ranks(void **state)
{
    (void)state;
    struct select_group group = several_hosts(2, 2);
    assert_true(count_hierarchical(&group) > 0);
    group.hosts_consecutive = false;
    assert_int_equal(count_hierarchical(&group), 0);
    group = one_host(4);
    assert_int_equal(count_hierarchical(&group), 0);
    group = several_hosts(4, 1);
    assert_int_equal(count_hierarchical(&group), 0);
    group = several_hosts(2, 2);
    group.size = 3;
    group.local_min = 1;
    assert_true(count_hierarchical(&group) > 0);
}

static void visit_direct(const struct select_group *group, const struct select_call *call)
{
    if (call->operation == TUTTI_GATHER_V || call->operation == TUTTI_SCATTER_V)
        assert_true(choose(group, call).algorithm->traits & ALGORITHM_DIRECT);
}

static void parts_whose_length_only_the_root_knows_go_directly(void **state)
{
    (void)state;
    for_each_case(true, visit_direct);
}

/* Ranks know different counts, but must choose the same. */
static void what_a_rank_alone_knows_does_not_count(void **state)
{
    (void)state;
    static const int operations[] = {TUTTI_GATHER_V, TUTTI_SCATTER_V, TUTTI_ALL_TO_ALL_V};
    for (size_t i = 0; i < 3 * SIZE_COUNT; i++) {
        struct select_group group = one_host(sizes[i / 3]);
        struct select_call none = call_of(operations[i % 3], 0), many = call_of(operations[i % 3], 64 * MIB);
        assert_ptr_equal(choose(&group, &none).algorithm, choose(&group, &many).algorithm);
    }
}

/* ---- Halves ------------------------------------------------------------------------------------------ */

static bool moves_no_more(const struct cost *cost, const struct cost *than)
{
    return cost->bytes[COST_LOCAL] <= than->bytes[COST_LOCAL] &&
           cost->bytes[COST_REMOTE] <= than->bytes[COST_REMOTE];
}

static void visit_halves(const struct select_group *group, const struct select_call *call)
{
    struct select_call half = *call;
    half.type = group->local == LOCAL_UDS ? TUTTI_BFLOAT16 : TUTTI_FLOAT16;
    struct selection fastest = choose(group, call), chosen = choose(group, &half);
    struct cost least = count(group, call, fastest.algorithm);
    if (!operation_reduces(call->operation) || (fastest.algorithm->traits & ALGORITHM_RANK_ORDER)) {
        assert_ptr_equal(chosen.algorithm, fastest.algorithm);
        return;
    }
    for (size_t i = 0; i < algorithm_count; i++) {
        struct cost cost;
        if (!select_is_eligible(group, call, &algorithms[i]) ||
            !(algorithms[i].traits & ALGORITHM_RANK_ORDER))
            continue;
        cost = count(group, call, &algorithms[i]);
        if (!moves_no_more(&cost, &least))
            continue;
        assert_true(chosen.algorithm->traits & ALGORITHM_RANK_ORDER);
        assert_true(chosen.predicted_us <= select_predict_us(group, call, &algorithms[i]));
    }
}

static void halves_are_rounded_once_where_that_moves_no_more_bytes(void **state)
{
    (void)state;
    for_each_case(false, visit_halves);
}

static void a_large_sum_of_halves_is_rounded_once(void **state)
{
    (void)state;
    static const int reductions[] = {TUTTI_SUM, TUTTI_PRODUCT, TUTTI_AVG, TUTTI_PREMULTIPLIED_SUM};
    for (size_t i = 0; i < 4 * SIZE_COUNT; i++) {
        struct select_group group = one_host(sizes[i / 4]);
        struct select_call call = call_of(TUTTI_ALL_REDUCE, 16 * MIB);
        call.type = TUTTI_FLOAT16;
        call.reduction = reductions[i % 4];
        assert_true(choose(&group, &call).algorithm->traits & ALGORITHM_RANK_ORDER);
    }
}

static void a_minimum_of_halves_is_not_rounded_and_goes_the_fastest_way(void **state)
{
    (void)state;
    for (size_t i = 0; i < SIZE_COUNT * BYTE_COUNT; i++) {
        struct select_group group = one_host(sizes[i / BYTE_COUNT]);
        struct select_call call = call_of(TUTTI_ALL_REDUCE, byte_counts[i % BYTE_COUNT]), half = call;
        half.type = TUTTI_FLOAT16;
        half.reduction = i % 2 ? TUTTI_MIN : TUTTI_MAX;
        assert_ptr_equal(choose(&group, &half).algorithm, choose(&group, &call).algorithm);
    }
}

/* ---- Channels ---------------------------------------------------------------------------------------- */

static void visit_striped(const struct select_group *original, const struct select_call *call)
{
    struct select_group group = *original;
    group.channels_max = 4;
    bool is_vector = call->operation == TUTTI_ALL_REDUCE || call->operation == TUTTI_REDUCE ||
                     call->operation == TUTTI_BROADCAST;
    int channels = choose(&group, call).channels;
    assert_true(channels >= 1 && channels <= (is_vector ? 4 : 1));
}

static void only_vectors_are_striped(void **state)
{
    (void)state;
    for_each_case(true, visit_striped);
}

static void large_operations_are_striped_over_the_channels_that_have_a_core(void **state)
{
    (void)state;
    struct select_group group = one_host(4);
    struct select_call large = call_of(TUTTI_ALL_REDUCE, 64 * MIB),
                       small = call_of(TUTTI_ALL_REDUCE, 256 * KIB);
    double alone = choose(&group, &large).predicted_us;
    group.channels_max = 4;
    struct selection striped = choose(&group, &large);
    assert_int_equal(striped.channels, 4);
    assert_true(striped.predicted_us < alone);
    assert_int_equal(choose(&group, &small).channels, 1); /* there is one slice */
    group.crowding = 2;
    assert_int_equal(choose(&group, &large).channels, 1); /* there is no core */
    group.crowding = 1;
    group.tuning.stripe_overhead_us = 1e6;
    assert_int_equal(choose(&group, &large).channels, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_predicted_time_is_the_sum_of_the_counts_weighed_by_the_constants),
        cmocka_unit_test(a_message_of_several_slices_is_as_many_frames),
        cmocka_unit_test(ranks_that_share_a_core_wait_for_each_other),
        cmocka_unit_test(operands_that_wait_for_each_other_pass_through_memory_once_more),
        cmocka_unit_test(the_choice_is_the_fastest_of_those_that_may_be_used),
        cmocka_unit_test(where_only_latency_costs_the_fewest_rounds_win),
        cmocka_unit_test(where_only_bytes_cost_the_fewest_bytes_win),
        cmocka_unit_test(a_small_all_reduce_takes_logarithmic_rounds),
        cmocka_unit_test(a_large_all_reduce_moves_as_few_bytes_as_can_be),
        cmocka_unit_test(a_large_all_reduce_over_a_slow_network_sends_as_little_as_can_be),
        cmocka_unit_test(a_group_of_one_has_an_algorithm_for_everything),
        cmocka_unit_test(the_deterministic_mode_sums_in_the_order_of_the_ranks),
        cmocka_unit_test(hierarchies_are_for_several_hosts_with_several_consecutive_ranks),
        cmocka_unit_test(parts_whose_length_only_the_root_knows_go_directly),
        cmocka_unit_test(what_a_rank_alone_knows_does_not_count),
        cmocka_unit_test(halves_are_rounded_once_where_that_moves_no_more_bytes),
        cmocka_unit_test(a_large_sum_of_halves_is_rounded_once),
        cmocka_unit_test(a_minimum_of_halves_is_not_rounded_and_goes_the_fastest_way),
        cmocka_unit_test(only_vectors_are_striped),
        cmocka_unit_test(large_operations_are_striped_over_the_channels_that_have_a_core),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
