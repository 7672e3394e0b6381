/* What the checker finds before it runs anything: steps that make no sense, memory that a rank does not have,
 * writes that could overtake a send. */
#include "textbook.h"

/* ---- Steps ------------------------------------------------------------------------------------- */

static void a_step_that_makes_no_sense_is_refused(void **state)
{
    (void)state;
    const struct {
        struct step step;
        const char *expected;
    } cases[] = {
        {{.kind = 99, .to = 1}, "has no kind"},
        {{.to = 1, .chunk = 3}, "names a chunk"},
        {{.to = 1, .chunk = -1}, "names a chunk"},
        {{.to = 1, .chunk = 2, .chunks = 2}, "names a chunk"},
        {{.to = 1, .chunk = 1, .chunks = INT32_MAX}, "names a chunk"},
        {{.to = 1, .chunks = -1}, "names a chunk"},
        {{.to = 0}, "names a peer"},
        {{.to = 3}, "names a peer"},
        {{.to = 1, .from = 2}, "names a peer"},
        {{.to = 1, .source = {PLACE_SCRATCH, 0, 0}}, "reads a place"},
        {{.to = 1, .source = {77, 0, 0}}, "reads a place"},
        {{.to = 1, .operands = 2}, "reads a place"},
        {{.to = 1, .target = {PLACE_RECV, 0, 0}}, "writes a place"},
        {{.to = 1, .after = 1},
         "waits for a step that is no earlier send"}, /* 0 before the numbers are set */
        {{.to = 1, .finish = true}, "finishes a chunk that it does not write"},
        {{.to = 1, .own_first = true}, "that its own could come before"},
        {{.to = 1, .after_slice = true}, "waits by slices"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct group group = group_new(TUTTI_ALL_REDUCE, textbook_ring_all_reduce, 3, 0);
        struct step step = cases[i].step;
        step.from = step.from > 0 ? step.from : -1;
        step.after -= 1; /* above, 0 is none */
        step.chunks = step.chunks != 0 ? step.chunks : 1;
        if (step.source.place == PLACE_NONE)
            step.source = span_send();
        *step_at(&group, 0, 0) = step;
        assert_refused(&group, 1, 1, cases[i].expected);
    }
}

static void schedules_of_different_calls_are_refused(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_BROADCAST, textbook_chain_broadcast, 3, 0);
    group.ranks[2]->root = 1;
    assert_refused(&group, 1, 1, "ranks 0 and 2 differ");

    group = group_new(TUTTI_BROADCAST, textbook_chain_broadcast, 3, 0);
    group.ranks[2]->rank = 1;
    assert_refused(&group, 1, 1, "the schedule of rank 2 of 3 was made for rank 1 of 3");

    group = group_new(TUTTI_BROADCAST, textbook_chain_broadcast, 3, 0);
    for (int rank = 0; rank < 3; rank++)
        group.ranks[rank]->root = 3;
    assert_refused(&group, 1, 1, "root 3 in a group of 3");
}

static void an_operation_without_schedules_is_refused(void **state)
{
    (void)state;
    const int operations[] = {TUTTI_ALL_GATHER_V, TUTTI_SEND, 99};
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        struct group group = group_new(operations[i], textbook_ring_all_gather, 3, 0);
        assert_refused(&group, 1, 1, "there are no schedules of ");
    }
}

static void a_work_vector_that_is_cut_otherwise_than_its_operation_says_is_refused(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_SCATTER, textbook_chain_broadcast, 3, 0);
    assert_refused(&group, 1, 1, "1 chunks, where the work vector of scatter has 3");
    group = group_new(TUTTI_ALL_TO_ALL, textbook_ring_all_gather, 3, 0);
    assert_refused(&group, 1, 1, "3 chunks, where the work vector of all_to_all has 9");
}

/* ---- What a rank has --------------------------------------------------------------------------- */

static void a_write_to_the_input_is_refused(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_REDUCE, textbook_ring_all_reduce, 3, 0);
    step_at(&group, 0, 4)->target = span_send();
    assert_refused(&group, 1, 1, "rank 0, step 4 writes a place that is not this rank's to write");
}

static void an_output_that_a_rank_does_not_have_is_refused(void **state)
{
    (void)state;
    const char *expected = "rank 2, step 1 writes a place that is not this rank's to write";
    struct group group = group_new(TUTTI_GATHER, textbook_ring_gather, 3, 0);
    step_at(&group, 2, 1)->target = span_recv();
    assert_refused(&group, 1, 1, expected);

    group = group_new(TUTTI_REDUCE_SCATTER, textbook_ring_reduce_scatter, 3, 0);
    step_at(&group, 2, 1)->target = span_recv();
    assert_refused(&group, 1, 1, expected);

    group = group_new(TUTTI_REDUCE, textbook_linear_reduce, 3, 0);
    schedule_copy(group.ranks[2], 0, 1, span_send(), span_recv());
    group.ranks[2]->steps[1].after = -1;
    assert_refused(&group, 1, 1, expected);

    group = group_new(TUTTI_ALL_TO_ALL, textbook_pairwise_all_to_all, 3, 0);
    step_at(&group, 0, 2)->chunk = 2 * 3 + 1; /* what rank 2 sends to rank 1 */
    assert_refused(&group, 1, 1, "rank 0, step 2 writes a place that is not this rank's to write");
}

static void an_input_that_a_rank_does_not_have_is_refused(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_GATHER, textbook_ring_all_gather, 3, 0);
    step_at(&group, 2, 0)->chunk = 1;
    assert_refused(&group, 1, 1, "rank 2, step 0 reads a place that this rank does not have");

    group = group_new(TUTTI_BROADCAST, textbook_chain_broadcast, 3, 0);
    *step_at(&group, 1, 0) = *step_at(&group, 0, 0);
    step_at(&group, 1, 0)->to = 2;
    assert_refused(&group, 1, 1, "rank 1, step 0 reads a place that this rank does not have");

    group = group_new(TUTTI_SCATTER, textbook_linear_scatter, 3, 0);
    *step_at(&group, 1, 0) = *step_at(&group, 0, 2); /* copies its part from the root's input */
    step_at(&group, 1, 0)->chunk = 1;
    assert_refused(&group, 1, 1, "rank 1, step 0 reads a place that this rank does not have");

    group = group_new(TUTTI_ALL_TO_ALL, textbook_pairwise_all_to_all, 3, 0);
    step_at(&group, 1, 1)->chunk = 0 * 3 + 2;
    assert_refused(&group, 1, 1, "rank 1, step 1 reads a place that this rank does not have");
}

static void a_range_of_which_a_rank_has_only_a_part_is_refused(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_GATHER, textbook_ring_all_gather, 3, 0);
    step_at(&group, 1, 1)->chunks = 2;
    assert_refused(&group, 1, 1, "rank 1, step 1 reads a place that this rank does not have");

    group = group_new(TUTTI_SCATTER, textbook_tree_scatter, 4, 0);
    step_at(&group, 2, 0)->target = span_recv(); /* chunks 2 and 3 */
    assert_refused(&group, 1, 1, "rank 2, step 0 writes a place that is not this rank's to write");
}

static void operands_that_are_too_few_or_not_there_are_refused(void **state)
{
    (void)state;
    const struct {
        int operand, operands;
    } cases[] = {{0, 0}, {0, 1}, {-1, 4}, {0, -4}, {0, 5}, {1, 4}, {4, 2}, {INT32_MAX, 2}, {2, INT32_MAX}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct group group = group_new(TUTTI_ALL_REDUCE, textbook_exchange, 4, 0);
        step_at(&group, 1, 4)->operand = cases[i].operand;
        step_at(&group, 1, 4)->operands = cases[i].operands;
        assert_refused(&group, 1, 1, "rank 1, step 4 reads a place that this rank does not have");
    }
    struct group group = group_new(TUTTI_ALL_REDUCE, textbook_exchange, 4, 0);
    *operand_at(&group, 1, 4, 3) = span_scratch(4, 0);
    assert_refused(&group, 1, 1, "rank 1, step 4 reads a place that this rank does not have");
}

/* ---- Scratch slots ----------------------------------------------------------------------------- */

static void a_chunk_before_the_origin_or_beyond_the_end_of_its_slot_is_refused(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_SCATTER, textbook_tree_scatter, 4, 0);
    step_at(&group, 2, 0)->target = span_scratch(0, 3);
    assert_refused(&group, 1, 1, "rank 2, step 0 writes a place that is not this rank's to write");

    group = group_new(TUTTI_SCATTER, textbook_tree_scatter, 4, 0);
    step_at(&group, 2, 0)->target = span_scratch(0, 1); /* three chunks from there, and the slot has two */
    assert_refused(&group, 1, 1, "rank 2, step 0 writes a place that is not this rank's to write");

    group = group_new(TUTTI_SCATTER, textbook_tree_scatter, 4, 0);
    step_at(&group, 2, 1)->source = span_scratch(0, -1);
    assert_refused(&group, 1, 1, "rank 2, step 1 reads a place that this rank does not have");
}

static void a_slot_of_several_origins_holds_one_chunk_at_a_time(void **state)
{
    (void)state;
    /* Chunks 2 and 3 are received into a slot that begins with chunk 2, and chunk 3 is sent from its
     * beginning.
     */
    struct group group = group_new(TUTTI_SCATTER, textbook_tree_scatter, 4, 0);
    step_at(&group, 2, 1)->source = span_scratch(0, 3);
    assert_refused(&group, 1, 1, "rank 2 uses slot 0 with several origins");

    group = group_new(TUTTI_REDUCE_SCATTER, textbook_ring_reduce_scatter, 4, 0);
    assert_passes(&group, 2, 0); /* each of two slots holds one chunk after the other */
    group_free(&group);
}

static void exchange_of_two_chunks(struct schedule *s)
{
    const struct span input[] = {span_send(), span_scratch(0, 0)};
    s->chunks = 2;
    schedule_send(s, 1 - s->rank, 0, 2, span_send());
    schedule_recv(s, 1 - s->rank, 0, 2, span_scratch(0, 0));
    schedule_reduce(s, 0, 2, (struct span[]){input[s->rank], input[1 - s->rank]}, 2, span_recv());
    schedule_mark_finished(s);
}

static void the_origins_of_operands_count(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_REDUCE, exchange_of_two_chunks, 2, 0);
    assert_passes(&group, 2, 0);
    step_at(&group, 1, 2)->chunk = 1;
    step_at(&group, 1, 2)->chunks = 1;
    step_at(&group, 1, 2)->after_slice = false;
    *operand_at(&group, 1, 2, 0) = span_scratch(0, 1);
    assert_refused(&group, 1, 1, "rank 1 uses slot 0 with several origins");
}

/* ---- Overtaking a send ------------------------------------------------------------------------- */

static void a_slot_overwritten_before_it_was_sent_is_found(void **state)
{
    (void)state;
    for (int size = 5; size <= 8; size++) {
        struct group group = group_new(TUTTI_REDUCE_SCATTER, textbook_ring_reduce_scatter, size, 0);
        assert_int_equal(step_at(&group, 2, 3)->after, 1);
        step_at(&group, 2, 3)->after = -1;
        assert_refused(&group, 3, 1, "rank 2, step 3 overwrites what an earlier step may still have to send");
    }
}

static void an_output_overwritten_before_it_was_sent_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_REDUCE, textbook_ring_all_reduce, 4, 0);
    step_at(&group, 3, 5)->after = 0;
    assert_refused(&group, 1, 1, "rank 3, step 5 overwrites what an earlier step may still have to send");
}

static void an_input_that_is_also_the_output_counts_as_one_memory(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_REDUCE, textbook_ring_all_reduce, 4, 0);
    assert_int_equal(step_at(&group, 0, 4)->after, 0); /* sent from the input, received into the output */
    step_at(&group, 0, 4)->after = -1;
    assert_refused(&group, 1, 1, "rank 0, step 4 overwrites what an earlier step may still have to send");
}

/* Rank 0 sends chunks 1 to 3 and then receives others into the same place, without waiting. */
static void assert_overlap(int chunk, int chunks, struct span span, bool overlap)
{
    char why[WHY_SIZE];
    struct group group = group_new(TUTTI_ALL_REDUCE, textbook_halving_doubling, 8, 0);
    struct schedule *s = group.ranks[0];
    s->count = 0;
    schedule_send(s, 1, 1, 3, span);
    schedule_recv(s, 1, chunk, chunks, span);
    s->scratch_slots = 1;
    s->scratch_chunks = 8;
    assert_false(schedule_check(group.ranks, group.size, 1, 1, why, sizeof why));
    assert_int_equal(strstr(why, "step 1 overwrites what an earlier step may still have to send") != NULL,
                     overlap);
    group_free(&group);
}

static void a_range_that_overlaps_one_in_flight_is_found(void **state)
{
    (void)state;
    const struct span spans[] = {span_recv(), span_scratch(0, 0), span_scratch(0, 1)};
    for (int i = 0; i < 3; i++) {
        assert_overlap(1, 3, spans[i], true);
        assert_overlap(3, 4, spans[i], true);
        assert_overlap(2, 1, spans[i], true);
        assert_overlap(1, 7, spans[i], true);
        assert_overlap(1, 1, spans[i], true);
        assert_overlap(4, 4, spans[i], false);
    }
    assert_overlap(0, 1, span_recv(), false);
    assert_overlap(0, 2, span_recv(), true);
}

static void waiting_by_slices_for_other_memory_is_refused(void **state)
{
    (void)state;
    const char *expected = "waits by slices for a step that sends other memory";
    struct group group = group_new(TUTTI_REDUCE_SCATTER, textbook_ring_reduce_scatter, 5, 0);
    assert_false(step_at(&group, 2, 3)->after_slice); /* its slot held another chunk */
    step_at(&group, 2, 3)->after_slice = true;
    assert_refused(&group, 1, 1, expected);

    group = group_new(TUTTI_ALL_REDUCE, textbook_halving_doubling, 8, 0);
    /* The last receive takes chunks 4 to 7, which were sent from the input; make it wait for the send before.
     */
    assert_true(step_at(&group, 0, 11)->after_slice);
    step_at(&group, 0, 11)->after = 10;
    assert_refused(&group, 1, 1, expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_that_makes_no_sense_is_refused),
        cmocka_unit_test(schedules_of_different_calls_are_refused),
        cmocka_unit_test(an_operation_without_schedules_is_refused),
        cmocka_unit_test(a_work_vector_that_is_cut_otherwise_than_its_operation_says_is_refused),
        cmocka_unit_test(a_write_to_the_input_is_refused),
        cmocka_unit_test(an_output_that_a_rank_does_not_have_is_refused),
        cmocka_unit_test(an_input_that_a_rank_does_not_have_is_refused),
        cmocka_unit_test(a_range_of_which_a_rank_has_only_a_part_is_refused),
        cmocka_unit_test(operands_that_are_too_few_or_not_there_are_refused),
        cmocka_unit_test(a_chunk_before_the_origin_or_beyond_the_end_of_its_slot_is_refused),
        cmocka_unit_test(a_slot_of_several_origins_holds_one_chunk_at_a_time),
        cmocka_unit_test(the_origins_of_operands_count),
        cmocka_unit_test(a_slot_overwritten_before_it_was_sent_is_found),
        cmocka_unit_test(an_output_overwritten_before_it_was_sent_is_found),
        cmocka_unit_test(an_input_that_is_also_the_output_counts_as_one_memory),
        cmocka_unit_test(a_range_that_overlaps_one_in_flight_is_found),
        cmocka_unit_test(waiting_by_slices_for_other_memory_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
