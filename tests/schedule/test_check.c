/* The checker finds what is wrong: faults planted in schedules that are right without them. */
#include "textbook.h"

/* ---- Without faults ---------------------------------------------------------------------------- */

static void every_textbook_schedule_passes_with_any_number_of_slices_and_any_queue(void **state)
{
    (void)state;
    const struct {
        int operation;
        schedule_emitter emit;
        bool powers_of_two;
    } cases[] = {
        {TUTTI_ALL_REDUCE, textbook_ring_all_reduce, false},
        {TUTTI_ALL_REDUCE, textbook_exchange, false},
        {TUTTI_ALL_REDUCE, textbook_recursive_doubling, true},
        {TUTTI_ALL_REDUCE, textbook_halving_doubling, true},
        {TUTTI_REDUCE_SCATTER, textbook_ring_reduce_scatter, false},
        {TUTTI_REDUCE, textbook_linear_reduce, false},
        {TUTTI_BROADCAST, textbook_chain_broadcast, false},
        {TUTTI_BROADCAST, textbook_tree_broadcast, false},
        {TUTTI_ALL_GATHER, textbook_ring_all_gather, false},
        {TUTTI_GATHER, textbook_ring_gather, false},
        {TUTTI_SCATTER, textbook_linear_scatter, false},
        {TUTTI_SCATTER, textbook_tree_scatter, true},
        {TUTTI_ALL_TO_ALL, textbook_pairwise_all_to_all, false},
        {TUTTI_BARRIER, textbook_dissemination_barrier, false},
        {TUTTI_BARRIER, textbook_ring_all_gather, false}, /* of nothing */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int size = 2; size <= RANKS_MAX; size++) {
            if (cases[i].powers_of_two && (size & (size - 1)) != 0)
                continue;
            struct group group = group_new(cases[i].operation, cases[i].emit, size, 0);
            for (int slices = 1; slices <= 4; slices++) {
                for (int queue = 0; queue <= 3; queue++)
                    assert_passes(&group, slices, queue);
            }
            group_free(&group);
        }
    }
}

/* ---- What is sent ------------------------------------------------------------------------------ */

static void a_send_that_is_dropped_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_REDUCE, textbook_ring_all_reduce, 4, 0);
    remove_step(group.ranks[1], 0);
    assert_refused(&group, 3, 1,
                   "rank 2, step 1 expects slice 0 of chunk 1 but rank 1 sends slice 0 of chunk 0");
}

static void a_rank_that_waits_for_what_nobody_sends_is_a_deadlock(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_BROADCAST, textbook_chain_broadcast, 4, 0);
    step_at(&group, 1, 0)->kind = STEP_RECV;
    step_at(&group, 1, 0)->to = -1;
    assert_refused(&group, 1, 1, "rank 2, step 0 (RECV_SEND chunk 0): deadlock");
}

static void a_send_that_nobody_receives_is_found(void **state)
{
    (void)state;
    for (int queue = 0; queue <= 1; queue++) {
        struct group group = group_new(TUTTI_ALL_GATHER, textbook_ring_all_gather, 3, 0);
        schedule_send(group.ranks[0], 2, 0, 1, span_send());
        assert_refused(&group, 1, queue,
                       queue ? "that rank 2 never receives" : "its slice is never received");
    }
}

static void chunks_that_come_in_another_order_than_expected_are_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_GATHER, textbook_ring_all_gather, 4, 0);
    step_at(&group, 0, 2)->chunk = 2;
    step_at(&group, 0, 3)->chunk = 3;
    assert_refused(&group, 1, 1,
                   "rank 0, step 2 expects slice 0 of chunk 2 but rank 3 sends slice 0 of chunk 3");
}

/* Chunk by chunk the same would arrive, but the ends would cut it into different slices. */
static void a_range_that_is_received_in_other_parts_than_it_was_sent_in_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_SCATTER, textbook_tree_scatter, 4, 0);
    struct schedule *s = group.ranks[2];
    struct step first = s->steps[0], send = s->steps[1], copy = s->steps[2], second = first;
    assert_int_equal(first.chunks, 2);
    first.chunks = second.chunks = 1;
    second.chunk++;
    s->count = 0;
    schedule_recv(s, first.from, first.chunk, 1, first.target);
    schedule_recv(s, second.from, second.chunk, 1, second.target);
    schedule_send(s, send.to, send.chunk, 1, send.source);
    schedule_copy(s, copy.chunk, 1, copy.source, copy.target);
    assert_refused(&group, 1, 1,
                   "rank 2, step 0 expects slice 0 of chunk 2 but rank 0 sends slice 0 of chunks 2-3");
}

static void a_chunk_received_into_the_wrong_slot_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_REDUCE, textbook_exchange, 4, 0);
    step_at(&group, 0, 3)->target = span_scratch(2, 0);
    step_at(&group, 0, 3)->after = 2;
    assert_refused(&group, 1, 1, "rank 0, step 4 (REDUCE chunk 0): reads what was never written");
}

/* ---- Memory ------------------------------------------------------------------------------------ */

static void one_slot_reduce_scatter(struct schedule *s)
{
    int n = s->size, next = ring_at(s, 1), previous = ring_at(s, -1);
    s->chunks = n;
    schedule_send(s, next, ring_at(s, -1), 1, span_send());
    for (int k = 2; k <= n - 1; k++) {
        int chunk = ring_at(s, -k);
        schedule_recv_reduce_send(s, previous, next, chunk, 1, span_send(), span_scratch(0, chunk));
    }
    schedule_recv_reduce(s, previous, s->rank, 1, span_send(), span_recv());
    schedule_mark_finished(s);
}

/* Why a ring needs two: with one slot every rank waits for its next to take what it must send before it can
 * take what comes, unless the links hold the chunk. */
static void one_scratch_slot_deadlocks_a_ring_of_unbuffered_links(void **state)
{
    (void)state;
    for (int size = 4; size <= RANKS_MAX; size++) {
        struct group group = group_new(TUTTI_REDUCE_SCATTER, one_slot_reduce_scatter, size, 0);
        assert_passes(&group, 3, 3);
        assert_refused(&group, 3, 0, "deadlock, it waits for room to send what it would overwrite");
    }
}

/* Each rank would first have its vector taken, then take the other's. */
static void emit_swap_in_place(struct schedule *s)
{
    s->chunks = 1;
    schedule_send(s, 1 - s->rank, 0, 1, span_send());
    schedule_recv_reduce(s, 1 - s->rank, 0, 1, span_send(), span_recv());
    if (s->rank == 0)
        schedule_mark_own_first(s);
    schedule_mark_finished(s);
}

static void two_ranks_that_receive_into_what_they_send_deadlock_without_buffers(void **state)
{
    (void)state;
    for (int slices = 1; slices <= 3; slices++) {
        struct group group = group_new(TUTTI_ALL_REDUCE, emit_swap_in_place, 2, 0);
        for (int queue = 1; queue <= 3; queue++)
            assert_passes(&group, slices, queue);
        assert_refused(&group, slices, 0, "deadlock, it waits for room to send what it would overwrite");
    }
}

static void a_step_that_waits_for_a_whole_send_needs_room_for_all_of_its_slices(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_REDUCE, emit_swap_in_place, 2, 0);
    assert_passes(&group, 3, 1);
    for (int rank = 0; rank < 2; rank++) {
        assert_true(step_at(&group, rank, 1)->after_slice);
        step_at(&group, rank, 1)->after_slice = false;
    }
    assert_passes(&group, 3, 3);
    assert_refused(&group, 3, 2, "deadlock, it waits for room to send what it would overwrite");
}

/* As textbook_exchange, but the sum grows in the output from the start. */
static void exchange_that_forgets_in_place(struct schedule *s)
{
    textbook_exchange(s);
    struct span vectors[RANKS_MAX];
    memcpy(vectors, s->operands, (size_t)s->size * sizeof *vectors);
    s->count--;
    schedule_reduce(s, 0, 1, vectors, 2, span_recv());
    vectors[1] = span_recv();
    schedule_reduce(s, 0, 1, &vectors[1], 2, span_recv());
    schedule_mark_finished(s);
}

static void an_input_that_is_lost_in_place_only_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_REDUCE, exchange_that_forgets_in_place, 3, 0);
    assert_refused(&group, 1, 1, "in place, 1 slices, links of 1: rank 2, step 4");
}

static void a_read_of_a_place_never_written_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_REDUCE, textbook_exchange, 3, 0);
    *operand_at(&group, 1, 3, 2) = span_scratch(1, 0); /* a slot for its own vector, which it does not use */
    assert_refused(&group, 1, 1, "rank 1, step 3 (REDUCE chunk 0): reads what was never written");
}

static void all_gather_that_copies_too_early(struct schedule *s)
{
    s->chunks = 2;
    schedule_send(s, 1 - s->rank, s->rank, 1, span_send());
    schedule_copy(s, s->rank, 1, span_send(), span_recv());
    schedule_copy(s, 0, 2, span_recv(), span_scratch(0, 0));
    schedule_recv(s, 1 - s->rank, 1 - s->rank, 1, span_recv());
}

static void a_range_of_which_only_a_part_was_written_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_GATHER, all_gather_that_copies_too_early, 2, 0);
    assert_refused(&group, 1, 1, "rank 0, step 2 (COPY chunks 0-1): reads what was never written");
}

static void a_slot_that_holds_another_chunk_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_REDUCE_SCATTER, textbook_ring_reduce_scatter, 4, 0);
    step_at(&group, 1, 3)->source = span_scratch(1, 1);
    assert_refused(&group, 1, 1, "rank 1, step 3 (RECV_REDUCE chunk 1): finds another chunk");
}

/* ---- What is promised -------------------------------------------------------------------------- */

static void a_contribution_that_is_left_out_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_REDUCE, textbook_ring_all_reduce, 4, 0);
    struct step *step = step_at(&group, 1, 1);
    step->kind = STEP_RECV_SEND;
    step->source = (struct span){PLACE_NONE, 0, 0};
    assert_refused(&group, 1, 1, "rank 0 ends with chunk 0 without the contribution of rank 1");

    for (int operands = 2; operands <= 3; operands++) {
        group = group_new(TUTTI_REDUCE, textbook_linear_reduce, 4, 2);
        step_at(&group, 2, 3)->operands = operands;
        assert_refused(&group, 1, 1,
                       operands == 2 ? "rank 2 ends with chunk 0 without the contribution of rank 2"
                                     : "rank 2 ends with chunk 0 without the contribution of rank 3");
    }
}

static void a_contribution_that_counts_twice_is_found(void **state)
{
    (void)state;
    for (int operand = 0; operand < 4; operand++) {
        struct group group = group_new(TUTTI_ALL_REDUCE, textbook_exchange, 4, 0);
        *operand_at(&group, 0, 4, operand) = span_scratch(operand == 1 ? 2 : 1, 0);
        assert_refused(&group, 1, 1,
                       operand == 1 ? "rank 0, step 4 reduces the contribution of rank 2 to chunk 0 twice"
                                    : "rank 0, step 4 reduces the contribution of rank 1 to chunk 0 twice");
    }
    struct group group = group_new(TUTTI_ALL_REDUCE, textbook_recursive_doubling, 4, 0);
    *operand_at(&group, 0, 4, 1) = *operand_at(&group, 0, 4, 0);
    assert_refused(&group, 1, 1, "rank 0, step 4 reduces the contribution of rank 0 to chunk 0 twice");
}

static void orders_of_reduction_that_differ_are_found(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct group group = group_new(TUTTI_ALL_REDUCE, textbook_exchange, 4, 0);
        struct span left = *operand_at(&group, 2, 4, i);
        *operand_at(&group, 2, 4, i) = *operand_at(&group, 2, 4, i + 1);
        *operand_at(&group, 2, 4, i + 1) = left;
        assert_refused(&group, 1, 1, "ranks 0 and 2 reduce chunk 0 in different orders");
    }
    /* In halving and doubling each chunk is reduced in one place, so nothing but a fixed order is lost. */
    struct group group = group_new(TUTTI_ALL_REDUCE, textbook_halving_doubling, 4, 0);
    step_at(&group, 0, 1)->own_first = false;
    assert_passes(&group, 1, 1);
    group_free(&group);
    group = group_new(TUTTI_ALL_REDUCE, textbook_recursive_doubling, 4, 0);
    step_at(&group, 0, 1)->own_first = false;
    assert_refused(&group, 1, 1, "ranks 0 and 1 reduce chunk 0 in different orders");
}

/* Rank 3 reduces the first `first` and then the rest, where the others reduce all at once: rounded twice. */
static void exchange_in_two_reductions(struct schedule *s, int first)
{
    textbook_exchange(s);
    if (s->rank != 3)
        return;
    struct span vectors[RANKS_MAX];
    memcpy(vectors, s->operands, (size_t)s->size * sizeof *vectors);
    s->count--;
    schedule_reduce(s, 0, 1, vectors, first, span_scratch(3, 0));
    vectors[first - 1] = span_scratch(3, 0);
    schedule_reduce(s, 0, 1, &vectors[first - 1], s->size - first + 1, span_recv());
    schedule_mark_finished(s);
}

static void exchange_two_first(struct schedule *s)
{
    exchange_in_two_reductions(s, 2);
}

static void exchange_three_first(struct schedule *s)
{
    exchange_in_two_reductions(s, 3);
}

static void reductions_that_differ_only_in_their_roundings_are_found(void **state)
{
    (void)state;
    for (int size = 4; size <= 6; size++) {
        struct group group = group_new(TUTTI_ALL_REDUCE, exchange_two_first, size, 0);
        assert_refused(&group, 1, 1, "ranks 0 and 3 reduce chunk 0 in different orders");
        group = group_new(TUTTI_ALL_REDUCE, exchange_three_first, size, 0);
        assert_refused(&group, 1, 1, "ranks 0 and 3 reduce chunk 0 in different orders");
    }
}

static void a_chunk_that_is_not_finished_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_REDUCE, textbook_ring_all_reduce, 4, 0);
    step_at(&group, 0, 3)->finish = false;
    assert_refused(&group, 1, 1, "ends with chunk 1 not finished");
}

static void a_chunk_that_is_finished_twice_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_REDUCE, textbook_ring_all_reduce, 4, 0);
    step_at(&group, 0, 4)->finish = true;
    assert_refused(&group, 1, 1, "rank 0, step 4 (RECV_SEND chunk 0): finishes a chunk a second time");
}

static void a_chunk_that_is_reduced_after_it_was_finished_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_REDUCE_SCATTER, textbook_ring_reduce_scatter, 4, 0);
    step_at(&group, 0, 1)->finish = true;
    assert_refused(&group, 1, 1, "reduces a chunk that is finished already");

    group = group_new(TUTTI_ALL_REDUCE, textbook_exchange, 4, 0);
    step_at(&group, 0, 3)->finish = true;
    assert_refused(&group, 1, 1, "rank 0, step 4 (REDUCE chunk 0): reduces a chunk that is finished already");
}

static void an_output_that_is_never_written_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_BROADCAST, textbook_chain_broadcast, 4, 1);
    remove_step(group.ranks[1], 1);
    assert_refused(&group, 1, 1, "out of place, 1 slices, links of 1: rank 1 ends without chunk 0");
}

static void a_gather_that_reduces_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_GATHER, textbook_ring_all_gather, 2, 0);
    step_at(&group, 0, 1)->finish = true;
    step_at(&group, 0, 1)->after = 0;
    assert_refused(&group, 1, 1, "rank 0 ends with a chunk 0 that is not what rank 0 sent");
}

static void barrier_that_stops_too_early(struct schedule *s)
{
    s->chunks = s->size;
    schedule_send(s, ring_at(s, 1), s->rank, 1, span_send());
    schedule_recv(s, ring_at(s, -1), ring_at(s, -1), 1, span_recv());
}

static void a_barrier_that_some_rank_leaves_early_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_BARRIER, barrier_that_stops_too_early, 3, 0);
    assert_refused(&group, 1, 1, "rank 0 leaves the barrier without news of rank 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_textbook_schedule_passes_with_any_number_of_slices_and_any_queue),
        cmocka_unit_test(a_send_that_is_dropped_is_found),
        cmocka_unit_test(a_rank_that_waits_for_what_nobody_sends_is_a_deadlock),
        cmocka_unit_test(a_send_that_nobody_receives_is_found),
        cmocka_unit_test(chunks_that_come_in_another_order_than_expected_are_found),
        cmocka_unit_test(a_range_that_is_received_in_other_parts_than_it_was_sent_in_is_found),
        cmocka_unit_test(a_chunk_received_into_the_wrong_slot_is_found),
        cmocka_unit_test(one_scratch_slot_deadlocks_a_ring_of_unbuffered_links),
        cmocka_unit_test(two_ranks_that_receive_into_what_they_send_deadlock_without_buffers),
        cmocka_unit_test(a_step_that_waits_for_a_whole_send_needs_room_for_all_of_its_slices),
        cmocka_unit_test(an_input_that_is_lost_in_place_only_is_found),
        cmocka_unit_test(a_read_of_a_place_never_written_is_found),
        cmocka_unit_test(a_range_of_which_only_a_part_was_written_is_found),
        cmocka_unit_test(a_slot_that_holds_another_chunk_is_found),
        cmocka_unit_test(a_contribution_that_is_left_out_is_found),
        cmocka_unit_test(a_contribution_that_counts_twice_is_found),
        cmocka_unit_test(orders_of_reduction_that_differ_are_found),
        cmocka_unit_test(reductions_that_differ_only_in_their_roundings_are_found),
        cmocka_unit_test(a_chunk_that_is_not_finished_is_found),
        cmocka_unit_test(a_chunk_that_is_finished_twice_is_found),
        cmocka_unit_test(a_chunk_that_is_reduced_after_it_was_finished_is_found),
        cmocka_unit_test(an_output_that_is_never_written_is_found),
        cmocka_unit_test(a_gather_that_reduces_is_found),
        cmocka_unit_test(a_barrier_that_some_rank_leaves_early_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
