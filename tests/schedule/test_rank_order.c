/* schedule_check_rank_order: which schedules give bits that depend on nothing but the ranks' contributions.
 */
#include "textbook.h"

static void assert_rank_order(struct group *group, bool expected)
{
    char why[WHY_SIZE] = "";
    assert_passes(group, 2, 0);
    bool found = schedule_check_rank_order(group->ranks, group->size, why, sizeof why);
    if (found != expected)
        fail_msg("%d ranks: %s", group->size, found ? "no other order was noticed" : why);
    if (!found)
        assert_non_null(strstr(why, "in the order of the ranks in one step"));
    group_free(group);
}

static void one_reduction_of_all_in_the_order_of_the_ranks_is_accepted(void **state)
{
    (void)state;
    for (int size = 2; size <= 9; size++) {
        struct group group = group_new(TUTTI_ALL_REDUCE, textbook_exchange, size, 0);
        assert_rank_order(&group, true);
        for (int root = 0; root < size; root++) {
            group = group_new(TUTTI_REDUCE, textbook_linear_reduce, size, root);
            assert_rank_order(&group, true);
        }
    }
}

static void emit_alone(struct schedule *s)
{
    s->chunks = 1;
    schedule_copy(s, 0, 1, span_send(), span_recv());
    schedule_mark_finished(s);
}

static void a_group_of_one_has_no_order(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_REDUCE, emit_alone, 1, 0);
    assert_rank_order(&group, true);
}

static void two_ranks_that_keep_the_lower_one_first_are_in_order(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_REDUCE, textbook_recursive_doubling, 2, 0);
    assert_rank_order(&group, true);
}

static void the_order_of_a_ring_depends_on_the_chunk(void **state)
{
    (void)state;
    for (int size = 2; size <= 5; size++) {
        struct group group = group_new(TUTTI_ALL_REDUCE, textbook_ring_all_reduce, size, 0);
        assert_rank_order(&group, false);
        group = group_new(TUTTI_REDUCE_SCATTER, textbook_ring_reduce_scatter, size, 0);
        assert_rank_order(&group, false);
    }
}

/* ((0 1) (2 3)): in order, but rounded three times. */
static void several_reductions_are_not_one_even_in_order(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_REDUCE, textbook_recursive_doubling, 4, 0);
    assert_rank_order(&group, false);
}

/* ((0 1) 2), rounded twice. */
static void exchange_in_two_steps(struct schedule *s)
{
    textbook_exchange(s);
    struct span vectors[3];
    memcpy(vectors, s->operands, sizeof vectors);
    s->count--;
    schedule_reduce(s, 0, 1, vectors, 2, span_scratch(3, 0));
    schedule_reduce(s, 0, 1, (struct span[]){span_scratch(3, 0), vectors[2]}, 2, span_recv());
    schedule_mark_finished(s);
}

static void a_sum_that_grows_in_order_is_rounded_too_often(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_REDUCE, exchange_in_two_steps, 3, 0);
    assert_rank_order(&group, false);
}

static void another_order_that_all_ranks_share_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_REDUCE, textbook_exchange, 4, 0);
    for (int rank = 0; rank < 4; rank++) {
        int last = group.ranks[rank]->count - 1;
        struct span swapped = *operand_at(&group, rank, last, 1);
        *operand_at(&group, rank, last, 1) = *operand_at(&group, rank, last, 2);
        *operand_at(&group, rank, last, 2) = swapped;
    }
    assert_rank_order(&group, false);
}

static void what_reduces_nothing_is_in_order(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_GATHER, textbook_ring_all_gather, 4, 0);
    assert_rank_order(&group, true);
    group = group_new(TUTTI_ALL_TO_ALL, textbook_pairwise_all_to_all, 4, 0);
    assert_rank_order(&group, true);
    group = group_new(TUTTI_BARRIER, textbook_dissemination_barrier, 4, 0);
    assert_rank_order(&group, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_reduction_of_all_in_the_order_of_the_ranks_is_accepted),
        cmocka_unit_test(a_group_of_one_has_no_order),
        cmocka_unit_test(two_ranks_that_keep_the_lower_one_first_are_in_order),
        cmocka_unit_test(the_order_of_a_ring_depends_on_the_chunk),
        cmocka_unit_test(several_reductions_are_not_one_even_in_order),
        cmocka_unit_test(a_sum_that_grows_in_order_is_rounded_too_often),
        cmocka_unit_test(another_order_that_all_ranks_share_is_found),
        cmocka_unit_test(what_reduces_nothing_is_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
