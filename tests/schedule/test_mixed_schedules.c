/* The parts of mixed algorithms between hosts (local/mixed.h), proved by the checker as what they are with
 * the parts within hosts, for which schedules stand here; their costs; their names and numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <math.h>
#include <string.h>
#include <cmocka.h>
#include "algorithm/algorithm.h"
#include "algorithm/hierarchy.h"
#include "algorithm/ring.h"
#include "host_maps.h"
#include "tensor/type.h"

#define HOSTS_MAX 9
#define EACH_MAX  5
#define RANKS_MAX (HOSTS_MAX * EACH_MAX)
#define ROUNDING  1e-9

struct layout {
    int hosts, each, size, host_of[RANKS_MAX];
    struct host_map map; /* refers to the above: do not copy */
};

static const struct algorithm *part_between_hosts; /* of the algorithm that is looked at */

static void lay_out(struct layout *layout, int hosts, int each)
{
    layout->hosts = hosts;
    layout->each = each;
    layout->size = hosts * each;
    for (int rank = 0; rank < layout->size; rank++)
        layout->host_of[rank] = rank / each;
    layout->map = (struct host_map){hosts, layout->host_of};
}

/* ---- The whole as a schedule ----------------------------------------------------------------------- */

/* The part between hosts says in how many chunks it cuts the vector: as many for each rank of a host. */
static int chunks_of(const struct schedule *s)
{
    struct schedule *part = schedule_new(s->operation, s->algorithm, part_between_hosts->emit, s->rank,
                                         s->size, s->root, s->hosts);
    assert_non_null(part);
    int chunks = part->chunks;
    schedule_free(part);
    return chunks;
}

static void emit_all_reduce(struct schedule *s)
{
    struct hierarchy h;
    assert_true(hierarchy_init(&h, s));
    struct team local = hierarchy_local(&h, s);
    s->chunks = chunks_of(s);
    assert_int_equal(s->chunks % local.size, 0);
    struct parts parts = {0, s->chunks / local.size, local.size};
    ring_phase_reduce_scatter(s, &local, &parts, span_send(), false);
    part_between_hosts->emit(s);
    ring_phase_all_gather(s, &local, &parts);
    hierarchy_clean_up(&h);
}

static void emit_barrier(struct schedule *s)
{
    struct hierarchy h;
    assert_true(hierarchy_init(&h, s));
    struct team local = hierarchy_local(&h, s);
    int leader = local.first;
    s->chunks = chunks_of(s);
    for (int rank = leader + 1; rank < leader + local.size && s->rank == leader; rank++)
        schedule_recv(s, rank, rank, 1, span_recv());
    if (s->rank != leader)
        schedule_send(s, leader, s->rank, 1, span_send());
    part_between_hosts->emit(s);
    for (int rank = leader + 1; rank < leader + local.size && s->rank == leader; rank++)
        schedule_send(s, rank, leader, 1, span_send());
    if (s->rank != leader)
        schedule_recv(s, leader, leader, 1, span_recv());
    hierarchy_clean_up(&h);
}

static void whole_new(const struct algorithm *algorithm, const struct layout *layout, struct schedule **ranks)
{
    part_between_hosts = algorithm;
    for (int rank = 0; rank < layout->size; rank++) {
        ranks[rank] = schedule_new(algorithm->operation, algorithm->name,
                                   algorithm->operation == TUTTI_BARRIER ? emit_barrier : emit_all_reduce,
                                   rank, layout->size, 0, &layout->map);
        assert_non_null(ranks[rank]);
    }
}

static void whole_free(struct schedule **ranks, int size)
{
    for (int rank = 0; rank < size; rank++)
        schedule_free(ranks[rank]);
}

/* ---- Tests --------------------------------------------------------------------------------------- */

static void check(const struct algorithm *algorithm, const struct layout *layout)
{
    struct schedule *ranks[RANKS_MAX];
    char why[512] = "";
    whole_new(algorithm, layout, ranks);
    int queue_max = layout->size <= 12 ? 2 : 0, slices_max = layout->size <= 12 ? 3 : 1;
    for (int queue = 0; queue <= queue_max; queue++)
        for (int slices = 1; slices <= slices_max; slices++)
            if (!schedule_check(ranks, layout->size, slices, queue, why, sizeof why))
                fail_msg("%s, %d hosts of %d: %s", algorithm->name, layout->hosts, layout->each, why);
    whole_free(ranks, layout->size);
}

static void with_the_parts_within_hosts_they_keep_the_promise_of_the_operation(void **state)
{
    (void)state;
    for (size_t place = algorithm_count; place < algorithm_places; place++)
        for (int hosts = 2; hosts <= HOSTS_MAX; hosts++)
            for (int each = 2; each <= EACH_MAX; each++) {
                struct layout layout;
                lay_out(&layout, hosts, each);
                check(algorithm_at(place), &layout);
            }
}

static void no_rank_sends_to_another_of_its_host(void **state)
{
    (void)state;
    for (size_t place = algorithm_count; place < algorithm_places; place++) {
        const struct algorithm *algorithm = algorithm_at(place);
        struct layout layout;
        lay_out(&layout, 3, 4);
        for (int rank = 0; rank < layout.size; rank++) {
            struct schedule *s = schedule_new(algorithm->operation, algorithm->name, algorithm->emit, rank,
                                              layout.size, 0, &layout.map);
            assert_non_null(s);
            for (int i = 0; i < s->count; i++)
                if (step_sends(&s->steps[i]))
                    assert_int_not_equal(layout.host_of[s->steps[i].to], layout.host_of[rank]);
            schedule_free(s);
        }
    }
}

#define EXPECT(what, said, found)                                                                            \
    do {                                                                                                     \
        if (fabs((said) - (found)) > ROUNDING)                                                               \
            fail_msg("%s, %d hosts of %d: %s is %g, the cost function says %g", algorithm->name,             \
                     layout->hosts, layout->each, what, (double)(found), (double)(said));                    \
    } while (0)

/* Of a vector of one byte, so that bytes are vectors. */
static void hold_cost_against_schedules(const struct algorithm *algorithm, const struct layout *layout)
{
    struct schedule *ranks[RANKS_MAX];
    struct schedule_count found;
    struct cost cost = {0};
    struct cost_case c = {.operation = algorithm->operation,
                          .size = layout->size,
                          .host_count = layout->hosts,
                          .local_min = layout->each,
                          .local_max = layout->each,
                          .hosts_consecutive = true,
                          .bytes = 1};
    whole_new(algorithm, layout, ranks);
    assert_true(schedule_measure(ranks, layout->size, &layout->map, &found));
    whole_free(ranks, layout->size);
    algorithm->cost(&c, &cost);
    bool barrier = algorithm->operation == TUTTI_BARRIER;
    double within = barrier ? 0 : (layout->each - 1.0) / layout->each; /* reduced there */
    EXPECT("messages between hosts", cost.messages[COST_REMOTE], found.messages_sent_between_hosts_max);
    EXPECT("bytes between hosts", cost.bytes[COST_REMOTE], found.sent_between_hosts_max);
    EXPECT("reduced", cost.reduced, found.reduced_max - within);
    EXPECT("rounds", cost.rounds[COST_REMOTE], found.rounds - (barrier ? 2 : 2 * (layout->each - 1)));
    EXPECT("messages within hosts", cost.messages[COST_LOCAL], 0);
    EXPECT("load", cost.load > 0 ? cost.load : 1, barrier ? 1.0 / layout->each : 1);
}

static void costs_are_those_of_the_part_between_hosts(void **state)
{
    (void)state;
    for (size_t place = algorithm_count; place < algorithm_places; place++)
        for (int hosts = 2; hosts <= HOSTS_MAX; hosts++)
            for (int each = 2; each <= EACH_MAX; each++) {
                struct layout layout;
                lay_out(&layout, hosts, each);
                hold_cost_against_schedules(algorithm_at(place), &layout);
            }
}

static void names_and_numbers_are_frozen(void **state)
{
    (void)state;
    static const struct {
        int operation, number;
        const char *name;
    } frozen[] = {
        {TUTTI_ALL_REDUCE, 65, "hierarchical_shared"},
        {TUTTI_ALL_REDUCE, 66, "hierarchical_exchange"},
        {TUTTI_BARRIER, 65, "hierarchical_shared"},
    };
    assert_int_equal(algorithm_places - algorithm_count, sizeof frozen / sizeof *frozen);
    for (size_t i = 0; i < sizeof frozen / sizeof *frozen; i++) {
        const struct algorithm *algorithm = algorithm_at(algorithm_count + i);
        assert_int_equal(algorithm->operation, frozen[i].operation);
        assert_int_equal(algorithm->number, frozen[i].number);
        assert_string_equal(algorithm->name, frozen[i].name);
        assert_ptr_equal(algorithm_find(frozen[i].operation, frozen[i].name), algorithm);
        assert_ptr_equal(algorithm_by_number(frozen[i].operation, frozen[i].number), algorithm);
        assert_true(algorithm_is_mixed(algorithm) && !algorithm_is_shared(algorithm));
    }
    for (size_t place = 0; place < algorithm_places; place++) {
        assert_int_equal(algorithm_place(algorithm_at(place)), place);
        assert_int_equal(algorithm_is_mixed(algorithm_at(place)), place >= algorithm_count);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_the_parts_within_hosts_they_keep_the_promise_of_the_operation),
        cmocka_unit_test(no_rank_sends_to_another_of_its_host),
        cmocka_unit_test(costs_are_those_of_the_part_between_hosts),
        cmocka_unit_test(names_and_numbers_are_frozen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
