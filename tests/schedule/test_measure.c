/* What schedules cost, against what textbooks say. */
#include "textbook.h"

#define TINY 1e-12 /* of sums of the same integers, divided once */

static struct schedule_count measure(int operation, schedule_emitter emit, int size,
                                     const struct host_map *hosts)
{
    struct schedule_count count;
    struct group group = group_new(operation, emit, size, 0);
    assert_passes(&group, 2, 0);
    assert_true(schedule_measure(group.ranks, size, hosts, &count));
    group_free(&group);
    return count;
}

static void assert_near(double found, double expected)
{
    if (found < expected - TINY || found > expected + TINY)
        fail_msg("%.15g instead of %.15g", found, expected);
}

static int log2_up(int n)
{
    int rounds = 0;
    while (1 << rounds < n)
        rounds++;
    return rounds;
}

static void a_ring_all_reduce_takes_2_n_minus_1_messages_of_one_chunk_in_as_many_rounds(void **state)
{
    (void)state;
    for (int n = 2; n <= 9; n++) {
        struct schedule_count count = measure(TUTTI_ALL_REDUCE, textbook_ring_all_reduce, n, NULL);
        assert_int_equal(count.rounds, 2 * (n - 1));
        assert_int_equal(count.messages_sent_max, 2 * (n - 1));
        assert_int_equal(count.messages_received_max, 2 * (n - 1));
        assert_near(count.sent_max, 2.0 * (n - 1) / n);
        assert_near(count.received_max, 2.0 * (n - 1) / n);
        assert_near(count.reduced_max, (n - 1.0) / n);
        assert_near(count.copied_max, 0);
    }
}

static void halving_and_doubling_sends_ranges_in_2_log_n_rounds(void **state)
{
    (void)state;
    for (int n = 2; n <= 16; n *= 2) {
        struct schedule_count count = measure(TUTTI_ALL_REDUCE, textbook_halving_doubling, n, NULL);
        assert_int_equal(count.rounds, 2 * log2_up(n));
        assert_int_equal(count.messages_sent_max, 2 * log2_up(n));
        assert_near(count.sent_max, 2.0 * (n - 1) / n);
        assert_near(count.reduced_max, (n - 1.0) / n);
    }
}

static void recursive_doubling_sends_whole_vectors_in_log_n_rounds(void **state)
{
    (void)state;
    for (int n = 2; n <= 16; n *= 2) {
        struct schedule_count count = measure(TUTTI_ALL_REDUCE, textbook_recursive_doubling, n, NULL);
        assert_int_equal(count.rounds, log2_up(n));
        assert_int_equal(count.messages_sent_max, log2_up(n));
        assert_near(count.sent_max, log2_up(n));
        assert_near(count.reduced_max, log2_up(n));
    }
}

static void messages_that_do_not_wait_for_each_other_are_one_round(void **state)
{
    (void)state;
    for (int n = 2; n <= 9; n++) {
        struct schedule_count count = measure(TUTTI_REDUCE, textbook_linear_reduce, n, NULL);
        assert_int_equal(count.rounds, 1);
        assert_int_equal(count.messages_sent_max, 1);
        assert_int_equal(count.messages_received_max, n - 1);
        assert_near(count.sent_max, 1);
        assert_near(count.received_max, n - 1);
        assert_near(count.reduced_max, n - 1); /* the first of n operands is not counted */
    }
}

/* To rank 0, which takes last what rank 2 sent to it directly, long before what came through rank 1. */
static void gather_by_a_detour(struct schedule *s)
{
    s->chunks = 3;
    if (s->rank == 0) {
        schedule_copy(s, 0, 1, span_send(), span_recv());
        schedule_recv(s, 1, 2, 1, span_recv());
        schedule_recv(s, 1, 1, 1, span_recv());
        schedule_recv(s, 2, 2, 1, span_scratch(0, 2));
    } else if (s->rank == 1) {
        schedule_recv_send(s, 2, 0, 2, 1, span_scratch(0, 2));
        schedule_send(s, 0, 1, 1, span_send());
    } else {
        schedule_send(s, 1, 2, 1, span_send());
        schedule_send(s, 0, 2, 1, span_send());
    }
}

static void a_message_that_came_early_does_not_turn_back_time(void **state)
{
    (void)state;
    assert_int_equal(measure(TUTTI_GATHER, gather_by_a_detour, 3, NULL).rounds, 2);
}

static void a_chain_takes_n_minus_1_rounds_and_a_tree_the_logarithm(void **state)
{
    (void)state;
    for (int n = 2; n <= 16; n++) {
        struct schedule_count chain = measure(TUTTI_BROADCAST, textbook_chain_broadcast, n, NULL);
        assert_int_equal(chain.rounds, n - 1);
        assert_int_equal(chain.messages_sent_max, 1);
        assert_near(chain.copied_max, 1);
        struct schedule_count tree = measure(TUTTI_BROADCAST, textbook_tree_broadcast, n, NULL);
        assert_int_equal(tree.messages_sent_max, log2_up(n));
        assert_int_equal(tree.messages_received_max, 1);
        assert_in_range(tree.rounds, 1, log2_up(n));
    }
    assert_int_equal(measure(TUTTI_BROADCAST, textbook_tree_broadcast, 16, NULL).rounds, 4);
    assert_int_equal(measure(TUTTI_BROADCAST, textbook_tree_broadcast, 9, NULL).rounds, 3);
}

static void all_to_all_is_counted_in_inputs_of_one_rank(void **state)
{
    (void)state;
    for (int n = 2; n <= 9; n++) {
        struct schedule_count count = measure(TUTTI_ALL_TO_ALL, textbook_pairwise_all_to_all, n, NULL);
        assert_int_equal(count.rounds, n - 1);
        assert_near(count.sent_max, (n - 1.0) / n);
        assert_near(count.received_max, (n - 1.0) / n);
        assert_near(count.copied_max, 1.0 / n);
    }
}

static void a_barrier_takes_rounds_and_messages_but_moves_nothing(void **state)
{
    (void)state;
    for (int n = 2; n <= 9; n++) {
        struct schedule_count count = measure(TUTTI_BARRIER, textbook_dissemination_barrier, n, NULL);
        assert_int_equal(count.rounds, log2_up(n));
        assert_int_equal(count.messages_sent_max, log2_up(n));
        assert_near(count.sent_max, 0);
        assert_near(count.received_max, 0);
    }
}

static void what_goes_between_hosts_is_counted_by_rank_and_by_host(void **state)
{
    (void)state;
    const int host_of[] = {0, 0, 1, 1};
    const struct host_map hosts = {2, host_of};
    struct schedule_count ring = measure(TUTTI_ALL_REDUCE, textbook_ring_all_reduce, 4, &hosts);
    assert_int_equal(ring.messages_sent_between_hosts_max, 6);
    assert_int_equal(ring.messages_received_between_hosts_max, 6);
    assert_near(ring.sent_between_hosts_max, 1.5);
    assert_near(ring.received_between_hosts_max, 1.5);

    /* Only the first exchange goes to the other host: half a vector from each of the two ranks there. */
    struct schedule_count halving = measure(TUTTI_ALL_REDUCE, textbook_halving_doubling, 4, &hosts);
    assert_int_equal(halving.messages_sent_between_hosts_max, 2);
    assert_near(halving.sent_between_hosts_max, 2.0);

    struct schedule_count linear = measure(TUTTI_REDUCE, textbook_linear_reduce, 4, &hosts);
    assert_int_equal(linear.messages_sent_between_hosts_max, 1);
    assert_int_equal(linear.messages_received_between_hosts_max, 2);
    assert_near(linear.sent_between_hosts_max, 2);
    assert_near(linear.received_between_hosts_max, 2);

    assert_near(measure(TUTTI_REDUCE, textbook_linear_reduce, 4, NULL).sent_between_hosts_max, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ring_all_reduce_takes_2_n_minus_1_messages_of_one_chunk_in_as_many_rounds),
        cmocka_unit_test(halving_and_doubling_sends_ranges_in_2_log_n_rounds),
        cmocka_unit_test(recursive_doubling_sends_whole_vectors_in_log_n_rounds),
        cmocka_unit_test(messages_that_do_not_wait_for_each_other_are_one_round),
        cmocka_unit_test(a_message_that_came_early_does_not_turn_back_time),
        cmocka_unit_test(a_chain_takes_n_minus_1_rounds_and_a_tree_the_logarithm),
        cmocka_unit_test(all_to_all_is_counted_in_inputs_of_one_rank),
        cmocka_unit_test(a_barrier_takes_rounds_and_messages_but_moves_nothing),
        cmocka_unit_test(what_goes_between_hosts_is_counted_by_rank_and_by_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
