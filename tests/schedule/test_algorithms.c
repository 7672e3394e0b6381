/* Every algorithm, proved by the checker for every size from 1 to 64; the hierarchical ones for hosts that
 * are alike and hosts that are not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "algorithm/algorithm.h"
#include "host_maps.h"
#include "tensor/type.h"

#define SIZE_MAX_CHECKED 64
#define ALL_UP_TO        8  /* ranks: every root, number of slices and length of queue */
#define MOST_UP_TO       16 /* ranks: every root and layout of hosts; of more, some of them */

static bool is_hierarchical(const struct algorithm *algorithm)
{
    return (algorithm->traits & ALGORITHM_HIERARCHICAL) != 0;
}

static void schedules_new(const struct algorithm *algorithm, int size, int root, const struct host_map *hosts,
                          struct schedule **ranks)
{
    for (int rank = 0; rank < size; rank++) {
        ranks[rank] =
            schedule_new(algorithm->operation, algorithm->name, algorithm->emit, rank, size, root, hosts);
        assert_non_null(ranks[rank]);
    }
}

static void schedules_free(struct schedule **ranks, int size)
{
    for (int rank = 0; rank < size; rank++)
        schedule_free(ranks[rank]);
}

static void check(const struct algorithm *algorithm, int size, int root, const struct host_map *hosts,
                  const char *layout)
{
    struct schedule *ranks[SIZE_MAX_CHECKED];
    char why[512] = "";
    const char *operation = operation_name(algorithm->operation);
    schedules_new(algorithm, size, root, hosts, ranks);
    /* What passes with links of no room passes with any (schedule.h), which the small sizes check. */
    int queue_max = size <= ALL_UP_TO ? 2 : 0, slices_max = size <= ALL_UP_TO ? 3 : 1;
    for (int queue = 0; queue <= queue_max; queue++) {
        for (int slices = 1; slices <= slices_max; slices++) {
            if (!schedule_check(ranks, size, slices, queue, why, sizeof why))
                fail_msg("%s, root %d, %s: %s", operation, root, layout, why);
        }
    }
    if ((algorithm->traits & ALGORITHM_RANK_ORDER) &&
        !schedule_check_rank_order(ranks, size, why, sizeof why))
        fail_msg("%s, root %d, %s: %s", operation, root, layout, why);
    schedules_free(ranks, size);
}

static void check_all_roots(const struct algorithm *algorithm, int size, const struct host_map *hosts,
                            const char *layout)
{
    const int few[] = {0, size / 2, size - 1};
    bool rooted = operation_has_root(algorithm->operation), all = size <= MOST_UP_TO;
    int roots = !rooted ? 1 : all ? size : (int)(sizeof few / sizeof *few);
    for (int i = 0; i < roots; i++)
        check(algorithm, size, all ? i : few[i], hosts, layout);
}

static void check_flat(int operation_first, int operation_last)
{
    for (size_t a = 0; a < algorithm_count; a++) {
        if (algorithms[a].operation < operation_first || algorithms[a].operation > operation_last)
            continue;
        for (int size = 1; size <= SIZE_MAX_CHECKED && !is_hierarchical(&algorithms[a]); size++)
            check_all_roots(&algorithms[a], size, NULL, "one host");
    }
}

static void all_reduce_and_broadcast_keep_their_promises_for_1_to_64_ranks(void **state)
{
    (void)state;
    check_flat(TUTTI_ALL_REDUCE, TUTTI_BROADCAST);
}

static void gathering_and_reducing_keep_their_promises_for_1_to_64_ranks(void **state)
{
    (void)state;
    check_flat(TUTTI_ALL_GATHER, TUTTI_SCATTER);
}

static void all_to_all_keeps_its_promise_for_1_to_64_ranks(void **state)
{
    (void)state;
    check_flat(TUTTI_ALL_TO_ALL, TUTTI_ALL_TO_ALL);
}

static void hierarchical_algorithms_keep_their_promises_for_every_layout_of_hosts(void **state)
{
    (void)state;
    for (size_t a = 0; a < algorithm_count; a++) {
        for (int size = 1; size <= SIZE_MAX_CHECKED && is_hierarchical(&algorithms[a]); size++) {
            check_all_roots(&algorithms[a], size, NULL, "hosts not given");
            for (int layout = 0; layout < HOST_LAYOUTS; layout++) {
                struct hosts hosts;
                if (size > MOST_UP_TO && (size + layout) % 3 != 0)
                    continue;
                hosts_lay_out(&hosts, layout, size);
                check_all_roots(&algorithms[a], size, &hosts.map, host_layout_name(layout));
            }
        }
    }
}

/* Two steps are the same but for padding. */
static bool steps_equal(const struct step *a, const struct step *b)
{
    return a->kind == b->kind && a->from == b->from && a->to == b->to && a->chunk == b->chunk &&
           a->chunks == b->chunks && a->source.place == b->source.place && a->target.place == b->target.place;
}

static void other_algorithms_do_not_depend_on_the_hosts(void **state)
{
    (void)state;
    struct hosts hosts;
    hosts_lay_out(&hosts, HOSTS_OF_THREE, 8);
    for (size_t a = 0; a < algorithm_count; a++) {
        struct schedule *with[8], *without[8];
        if (is_hierarchical(&algorithms[a]))
            continue;
        schedules_new(&algorithms[a], 8, 3, &hosts.map, with);
        schedules_new(&algorithms[a], 8, 3, NULL, without);
        for (int rank = 0; rank < 8; rank++) {
            assert_int_equal(with[rank]->count, without[rank]->count);
            for (int i = 0; i < with[rank]->count; i++)
                assert_true(steps_equal(&with[rank]->steps[i], &without[rank]->steps[i]));
        }
        schedules_free(with, 8);
        schedules_free(without, 8);
    }
}

static void direct_algorithms_move_each_part_between_its_owner_and_the_root_only(void **state)
{
    (void)state;
    int found = 0;
    for (size_t a = 0; a < algorithm_count; a++) {
        struct schedule *ranks[8];
        if (!(algorithms[a].traits & ALGORITHM_DIRECT))
            continue;
        found++;
        schedules_new(&algorithms[a], 8, 3, NULL, ranks);
        for (int rank = 0; rank < 8; rank++) {
            for (int i = 0; i < ranks[rank]->count; i++) {
                const struct step *step = &ranks[rank]->steps[i];
                assert_int_equal(step->chunks, 1);
                assert_true(rank == 3 || step->chunk == rank);
                assert_int_not_equal(step->source.place, PLACE_SCRATCH);
                assert_int_not_equal(step->target.place, PLACE_SCRATCH);
            }
        }
        schedules_free(ranks, 8);
    }
    assert_int_equal(found, 2); /* of gather and of scatter, for their _v */
}

static void names_and_numbers_are_different_within_an_operation(void **state)
{
    (void)state;
    for (size_t a = 0; a < algorithm_count; a++) {
        const struct algorithm *algorithm = &algorithms[a];
        assert_true(algorithm->number > 0 && algorithm->emit && algorithm->cost);
        assert_ptr_equal(algorithm_find(algorithm->operation, algorithm->name), algorithm);
        assert_ptr_equal(algorithm_by_number(algorithm->operation, algorithm->number), algorithm);
        assert_true(strlen(algorithm->name) < sizeof((struct tutti_choice *)0)->algorithm);
    }
    assert_null(algorithm_find(TUTTI_ALL_REDUCE, "no such name"));
    assert_null(algorithm_find(TUTTI_SEND, "ring"));
    assert_null(algorithm_by_number(TUTTI_ALL_REDUCE, 0));
    assert_null(algorithm_by_number(TUTTI_ALL_REDUCE, 255));
}

/* A change of one of these would break a group of ranks that run different versions. */
static void numbers_are_frozen(void **state)
{
    (void)state;
    static const struct {
        int operation;
        const char *names[9]; /* from number 1 on */
    } frozen[] = {
        {TUTTI_ALL_REDUCE,
         {"ring", "ring_exchange", "exchange", "recursive_doubling", "halving_doubling", "direct", "tree",
          "hierarchical"}},
        {TUTTI_REDUCE, {"ring", "linear", "tree", "scatter_gather"}},
        {TUTTI_BROADCAST, {"ring", "tree", "scatter_gather", "hierarchical"}},
        {TUTTI_ALL_GATHER, {"ring", "bruck", "direct", "hierarchical"}},
        {TUTTI_GATHER, {"ring", "direct", "tree"}},
        {TUTTI_SCATTER, {"", "direct", "tree"}},
        {TUTTI_REDUCE_SCATTER, {"ring", "direct", "halving", "hierarchical"}},
        {TUTTI_ALL_TO_ALL, {"", "direct", "pairwise"}},
        {TUTTI_BARRIER, {"ring", "dissemination", "hierarchical"}},
    };
    size_t rows = 0;
    for (size_t i = 0; i < sizeof frozen / sizeof *frozen; i++) {
        for (int number = 1; frozen[i].names[number - 1]; number++) {
            const struct algorithm *algorithm = algorithm_by_number(frozen[i].operation, number);
            const char *name = frozen[i].names[number - 1];
            assert_string_equal(algorithm ? algorithm->name : "", name);
            rows += name[0] != '\0';
        }
    }
    assert_int_equal(rows, algorithm_count);
}

/* They have no schedule, so nothing that looks at all schedules may meet them. */
static void direct_collectives_stand_beside_the_table_under_one_name_and_number(void **state)
{
    (void)state;
    static const int served[] = {TUTTI_ALL_REDUCE, TUTTI_REDUCE_SCATTER, TUTTI_ALL_GATHER,
                                 TUTTI_BROADCAST,  TUTTI_GATHER,         TUTTI_BARRIER};
    int found = 0;
    for (int operation = 0; operation <= OPERATION_COUNT; operation++)
        found += algorithm_shared(operation) != NULL;
    assert_int_equal(found, sizeof served / sizeof *served);
    for (size_t i = 0; i < sizeof served / sizeof *served; i++) {
        const struct algorithm *algorithm = algorithm_shared(served[i]);
        assert_non_null(algorithm);
        assert_int_equal(algorithm->operation, served[i]);
        assert_string_equal(algorithm->name, "shared");
        assert_int_equal(algorithm->number, 64); /* frozen */
        assert_int_equal(algorithm->traits, ALGORITHM_RANK_ORDER);
        assert_true(algorithm_is_shared(algorithm));
        assert_ptr_equal(algorithm_find(served[i], "shared"), algorithm);
        assert_ptr_equal(algorithm_by_number(served[i], 64), algorithm);
        assert_false(algorithm >= algorithms && algorithm < algorithms + algorithm_count);
    }
    for (size_t i = 0; i < algorithm_count; i++)
        assert_false(algorithm_is_shared(&algorithms[i]));
    assert_null(algorithm_shared(-1));
    assert_null(algorithm_find(TUTTI_SCATTER, "shared"));
    assert_null(algorithm_by_number(TUTTI_ALL_TO_ALL, 64));
}

static void operations_with_counts_have_the_algorithms_of_the_plain_ones(void **state)
{
    (void)state;
    for (int operation = 1; operation < OPERATION_COUNT; operation++) {
        int plain = operation_plain(operation);
        assert_int_equal(algorithm_operation(operation), plain);
        for (int number = 1; number < 10; number++)
            assert_ptr_equal(algorithm_by_number(operation, number), algorithm_by_number(plain, number));
    }
    assert_non_null(algorithm_find(TUTTI_ALL_GATHER_V, "ring"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_reduce_and_broadcast_keep_their_promises_for_1_to_64_ranks),
        cmocka_unit_test(gathering_and_reducing_keep_their_promises_for_1_to_64_ranks),
        cmocka_unit_test(all_to_all_keeps_its_promise_for_1_to_64_ranks),
        cmocka_unit_test(hierarchical_algorithms_keep_their_promises_for_every_layout_of_hosts),
        cmocka_unit_test(other_algorithms_do_not_depend_on_the_hosts),
        cmocka_unit_test(direct_algorithms_move_each_part_between_its_owner_and_the_root_only),
        cmocka_unit_test(names_and_numbers_are_different_within_an_operation),
        cmocka_unit_test(numbers_are_frozen),
        cmocka_unit_test(direct_collectives_stand_beside_the_table_under_one_name_and_number),
        cmocka_unit_test(operations_with_counts_have_the_algorithms_of_the_plain_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
