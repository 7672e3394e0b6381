/* What the cost functions say, held against what is counted in the schedules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <math.h>
#include <string.h>
#include <cmocka.h>
#include "algorithm/algorithm.h"
#include "host_maps.h"
#include "tensor/type.h"

#define RANKS_MAX 64
#define ALL_UP_TO 16 /* ranks: every layout of hosts; of more, some of them */
#define ROUNDING  1e-9

struct counted {
    double rounds, messages, bytes; /* messages, bytes: sent or received, whichever are more, by one rank */
    double reduced, copied;
    double average; /* bytes sent, of a barrier messages, over all ranks */
    double between_hosts_messages, between_hosts_bytes;
};

static double sent_by(const struct schedule *s)
{
    double sent = 0, input = s->operation == TUTTI_ALL_TO_ALL ? 1.0 / s->size : 1;
    for (int i = 0; i < s->count; i++) {
        if (step_sends(&s->steps[i]))
            sent += s->operation == TUTTI_BARRIER ? 1 : s->steps[i].chunks / (s->chunks * input);
    }
    return sent;
}

static struct counted count(const struct algorithm *algorithm, int size, const struct hosts *hosts)
{
    struct schedule *ranks[RANKS_MAX] = {NULL};
    struct schedule_count c;
    struct counted counted = {0};
    for (int rank = 0; rank < size; rank++) {
        ranks[rank] =
            schedule_new(algorithm->operation, algorithm->name, algorithm->emit, rank, size, 0, &hosts->map);
        assert_non_null(ranks[rank]);
        counted.average += sent_by(ranks[rank]) / size;
    }
    assert_true(schedule_measure(ranks, size, &hosts->map, &c));
    for (int rank = 0; rank < size; rank++)
        schedule_free(ranks[rank]);
    counted.rounds = c.rounds;
    counted.messages = fmax(c.messages_sent_max, c.messages_received_max);
    counted.bytes = fmax(c.sent_max, c.received_max);
    counted.reduced = c.reduced_max;
    counted.copied = c.copied_max;
    counted.between_hosts_messages =
        fmax(c.messages_sent_between_hosts_max, c.messages_received_between_hosts_max);
    counted.between_hosts_bytes = fmax(c.sent_between_hosts_max, c.received_between_hosts_max);
    return counted;
}

/* Of a vector of one byte, so that bytes are vectors, in the smallest slices. */
static struct cost cost_of(const struct algorithm *algorithm, int size, const struct hosts *hosts)
{
    struct cost_case c = hosts_case(hosts, algorithm->operation, size, 1, 0);
    struct cost cost = {0};
    algorithm->cost(&c, &cost);
    return cost;
}

/* Whether to try that layout with that many ranks, having made `hosts` of it. */
static bool lay_out_several(struct hosts *hosts, int layout, int size)
{
    hosts_lay_out(hosts, layout, size);
    return hosts->map.host_count > 1 && (size <= ALL_UP_TO || (size + layout) % 5 == 0);
}

static bool is_equal(double a, double b)
{
    return fabs(a - b) < ROUNDING;
}

static bool is_flat(const struct algorithm *algorithm)
{
    return !(algorithm->traits & ALGORITHM_HIERARCHICAL);
}

/* Going up and going down a tree follow each other: the sum counts, of which a rank's schedule has each half
 * in one direction only. */
static double passes(const struct algorithm *algorithm)
{
    return algorithm->operation == TUTTI_ALL_REDUCE && strcmp(algorithm->name, "tree") == 0 ? 2 : 1;
}

#define EXPECT(what, said, found)                                                                            \
    do {                                                                                                     \
        if (!is_equal(said, found))                                                                          \
            fail_msg("%s %s of %d ranks: %s is %g, the cost function says %g", algorithm->name,              \
                     operation_name(algorithm->operation), size, what, (double)(found), (double)(said));     \
    } while (0)

static void counts_on_one_host_are_exact(void **state)
{
    (void)state;
    for (size_t a = 0; a < algorithm_count; a++) {
        const struct algorithm *algorithm = &algorithms[a];
        for (int size = 2; size <= RANKS_MAX && is_flat(algorithm); size++) {
            struct hosts hosts;
            hosts_lay_out(&hosts, HOSTS_ONE, size);
            struct counted found = count(algorithm, size, &hosts);
            struct cost cost = cost_of(algorithm, size, &hosts);
            bool barrier = algorithm->operation == TUTTI_BARRIER;
            EXPECT("rounds", cost.rounds[COST_LOCAL], found.rounds);
            EXPECT("messages", cost.messages[COST_LOCAL], found.messages * passes(algorithm));
            EXPECT("bytes", cost.bytes[COST_LOCAL], found.bytes * passes(algorithm));
            EXPECT("reduced", cost.reduced, found.reduced);
            EXPECT("copied", cost.copied, found.copied);
            double most = barrier ? cost.messages[COST_LOCAL] : cost.bytes[COST_LOCAL];
            EXPECT("load", (cost.load > 0 ? cost.load : 1) * most, found.average);
            EXPECT("rounds between hosts", cost.rounds[COST_REMOTE], 0);
            EXPECT("messages between hosts", cost.messages[COST_REMOTE], 0);
            EXPECT("bytes between hosts", cost.bytes[COST_REMOTE], 0);
        }
    }
}

/* Families in which every rank does the same, and which a boundary between hosts cuts in a known way. */
static bool is_regular(const struct algorithm *algorithm)
{
    bool rooted = operation_has_root(algorithm->operation);
    const char *const names[] = {"ring", "ring_exchange", "exchange", "direct", "pairwise", "hierarchical"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(algorithm->name, names[i]) == 0)
            return !rooted;
    }
    return false;
}

static void bytes_between_hosts_are_exact_for_regular_families_and_every_layout(void **state)
{
    (void)state;
    for (size_t a = 0; a < algorithm_count; a++) {
        const struct algorithm *algorithm = &algorithms[a];
        for (int layout = HOSTS_OF_ONE; layout < HOST_LAYOUTS; layout++) {
            for (int size = 2; size <= RANKS_MAX && is_regular(algorithm); size++) {
                struct hosts hosts;
                if (!lay_out_several(&hosts, layout, size))
                    continue;
                struct counted found = count(algorithm, size, &hosts);
                struct cost cost = cost_of(algorithm, size, &hosts);
                EXPECT("bytes between hosts", cost.bytes[COST_REMOTE], found.between_hosts_bytes);
                EXPECT("messages between hosts", cost.messages[COST_REMOTE], found.between_hosts_messages);
            }
        }
    }
}

/* `floor` and `ceiling` as multiples of what was counted. */
static void expect_within(const struct algorithm *algorithm, int size, int layout, const char *what,
                          double said, double found, double floor, double ceiling)
{
    if (said < floor * found - ROUNDING || said > ceiling * found + ROUNDING)
        fail_msg("%s %s of %d ranks, %s: %s are %g, the cost function says %g", algorithm->name,
                 operation_name(algorithm->operation), size, host_layout_name(layout), what, found, said);
}

static void counts_over_hosts_that_are_alike_are_close(void **state)
{
    (void)state;
    const int layouts[] = {HOSTS_OF_ONE, HOSTS_OF_TWO, HOSTS_OF_FOUR};
    for (size_t a = 0; a < algorithm_count; a++) {
        const struct algorithm *algorithm = &algorithms[a];
        for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
            for (int size = 8; size <= RANKS_MAX; size *= 2) {
                struct hosts hosts;
                hosts_lay_out(&hosts, layouts[i], size);
                struct counted found = count(algorithm, size, &hosts);
                struct cost cost = cost_of(algorithm, size, &hosts);
                double rounds = cost.rounds[COST_LOCAL] + cost.rounds[COST_REMOTE];
                double messages = cost.messages[COST_LOCAL] + cost.messages[COST_REMOTE];
                EXPECT("rounds", rounds, found.rounds);
                EXPECT("reduced", cost.reduced, found.reduced);
                EXPECT("copied", cost.copied, found.copied);
                expect_within(algorithm, size, layouts[i], "messages", messages, found.messages, 1, 2);
                expect_within(algorithm, size, layouts[i], "bytes between hosts", cost.bytes[COST_REMOTE],
                              found.between_hosts_bytes, 1, 2);
            }
        }
    }
}

static void no_layout_of_hosts_is_promised_much_less_than_it_takes(void **state)
{
    (void)state;
    for (size_t a = 0; a < algorithm_count; a++) {
        const struct algorithm *algorithm = &algorithms[a];
        for (int layout = HOSTS_OF_ONE; layout < HOST_LAYOUTS; layout++) {
            for (int size = 2; size <= RANKS_MAX; size++) {
                struct hosts hosts;
                if (!lay_out_several(&hosts, layout, size))
                    continue;
                struct counted found = count(algorithm, size, &hosts);
                struct cost cost = cost_of(algorithm, size, &hosts);
                double rounds = cost.rounds[COST_LOCAL] + cost.rounds[COST_REMOTE];
                double messages = cost.messages[COST_LOCAL] + cost.messages[COST_REMOTE];
                expect_within(algorithm, size, layout, "rounds", rounds, found.rounds, 1, 2);
                expect_within(algorithm, size, layout, "messages", messages, found.messages, 1, 2);
                expect_within(algorithm, size, layout, "bytes between hosts", cost.bytes[COST_REMOTE],
                              found.between_hosts_bytes, 0.7, INFINITY);
            }
        }
    }
}

static void every_cost_is_a_number_whatever_is_asked(void **state)
{
    (void)state;
    const double bytes[] = {0, 1, 4096, 1e12};
    for (size_t i = 0; i < algorithm_count * HOST_LAYOUTS * RANKS_MAX * 8; i++) {
        const struct algorithm *algorithm = &algorithms[i % algorithm_count];
        size_t rest = i / algorithm_count;
        int layout = (int)(rest % HOST_LAYOUTS), size = (int)(rest / HOST_LAYOUTS % RANKS_MAX) + 1;
        size_t variant = rest / HOST_LAYOUTS / RANKS_MAX;
        struct hosts hosts;
        if (size == 1)
            continue;
        hosts_lay_out(&hosts, layout, size);
        struct cost_case c = hosts_case(&hosts, algorithm->operation, size, bytes[variant % 4], 1 << 16);
        c.hosts_consecutive = variant < 4;
        struct cost cost = {0};
        algorithm->cost(&c, &cost);
        double counts[] = {cost.rounds[0], cost.rounds[1], cost.messages[0], cost.messages[1],
                           cost.bytes[0],  cost.bytes[1],  cost.reduced,     cost.copied};
        for (size_t k = 0; k < sizeof counts / sizeof *counts; k++)
            assert_true(isfinite(counts[k]) && counts[k] >= 0);
        assert_true(cost.load >= 0 && cost.load <= 1 + ROUNDING);
    }
}

static void a_chain_takes_one_slice_more_for_each_rank_on_the_way(void **state)
{
    (void)state;
    const int operations[] = {TUTTI_BROADCAST, TUTTI_REDUCE};
    for (int i = 0; i < 2; i++) {
        struct cost large = {0}, small = {0};
        struct hosts hosts;
        hosts_lay_out(&hosts, HOSTS_ONE, 8);
        struct cost_case c = hosts_case(&hosts, operations[i], 8, 1000, 10);
        algorithm_find(operations[i], "ring")->cost(&c, &large);
        assert_true(is_equal(large.bytes[COST_LOCAL], 1000 + 6 * 10));
        c.slice_bytes = 2000; /* not cut: each rank waits for the whole of it */
        algorithm_find(operations[i], "ring")->cost(&c, &small);
        assert_true(is_equal(small.bytes[COST_LOCAL], 7 * 1000));
        assert_true(is_equal(small.rounds[COST_LOCAL], 7));
    }
}

static struct counted count_of(int operation, const char *name, int size, int layout)
{
    struct hosts hosts;
    hosts_lay_out(&hosts, layout, size);
    const struct algorithm *algorithm = algorithm_find(operation, name);
    assert_non_null(algorithm);
    return count(algorithm, size, &hosts);
}

static void a_small_all_reduce_of_8_ranks_takes_three_steps(void **state)
{
    (void)state;
    struct counted found = count_of(TUTTI_ALL_REDUCE, "recursive_doubling", 8, HOSTS_ONE);
    assert_true(is_equal(found.rounds, 3) && is_equal(found.messages, 3));
    assert_true(is_equal(count_of(TUTTI_ALL_REDUCE, "exchange", 8, HOSTS_ONE).rounds, 1));
}

static void reduce_scatter_moves_half_the_bytes_of_all_reduce(void **state)
{
    (void)state;
    const char *const names[][2] = {{"ring", "ring"}, {"direct", "direct"}, {"halving", "halving_doubling"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        double scattered = count_of(TUTTI_REDUCE_SCATTER, names[i][0], 8, HOSTS_ONE).bytes;
        double everywhere = count_of(TUTTI_ALL_REDUCE, names[i][1], 8, HOSTS_ONE).bytes;
        assert_true(is_equal(2 * scattered, everywhere));
    }
}

/* 2S(h-1)/h: less than that no all_reduce over h hosts can do.  The plain ring of ranks sends 2S(n-1)/n. */
static void hierarchical_all_reduce_sends_the_least_between_hosts(void **state)
{
    (void)state;
    for (int layout = HOSTS_OF_ONE; layout < HOST_LAYOUTS; layout++) {
        for (int size = 2; size <= RANKS_MAX; size++) {
            struct hosts hosts;
            hosts_lay_out(&hosts, layout, size);
            double h = hosts.map.host_count;
            struct counted found = count(algorithm_find(TUTTI_ALL_REDUCE, "hierarchical"), size, &hosts);
            assert_true(is_equal(found.between_hosts_bytes, 2 * (h - 1) / h));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_on_one_host_are_exact),
        cmocka_unit_test(bytes_between_hosts_are_exact_for_regular_families_and_every_layout),
        cmocka_unit_test(counts_over_hosts_that_are_alike_are_close),
        cmocka_unit_test(no_layout_of_hosts_is_promised_much_less_than_it_takes),
        cmocka_unit_test(every_cost_is_a_number_whatever_is_asked),
        cmocka_unit_test(a_chain_takes_one_slice_more_for_each_rank_on_the_way),
        cmocka_unit_test(a_small_all_reduce_of_8_ranks_takes_three_steps),
        cmocka_unit_test(reduce_scatter_moves_half_the_bytes_of_all_reduce),
        cmocka_unit_test(hierarchical_all_reduce_sends_the_least_between_hosts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
