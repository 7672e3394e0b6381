/* The checker finds what is wrong: faults planted in schedules that are right without them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "algorithm/algorithm.h"
#include "algorithm/ring.h"

#define RANKS_MAX 8

/* ---- A group of schedules to spoil ------------------------------------------------------------- */

struct group {
    struct schedule *ranks[RANKS_MAX];
    int size;
};

static struct group group_new(int operation, schedule_emitter emit, int size, int root)
{
    struct group group = {.size = size};
    for (int rank = 0; rank < size; rank++) {
        group.ranks[rank] = schedule_new(operation, "spoilt", emit, rank, size, root);
        assert_non_null(group.ranks[rank]);
    }
    return group;
}

static void group_free(struct group *group)
{
    for (int rank = 0; rank < group->size; rank++)
        schedule_free(group->ranks[rank]);
}

static bool passes(const struct group *group, int slices, int queue)
{
    char why[512];
    return schedule_check(group->ranks, group->size, slices, queue, why, sizeof why);
}

/* The check must fail, and say so in a sentence that contains `expected`; frees the group. */
static void assert_refused(struct group *group, int slices, int queue, const char *expected)
{
    char why[512] = "";
    if (schedule_check(group->ranks, group->size, slices, queue, why, sizeof why))
        fail_msg("the checker found nothing wrong, expected \"%s\"", expected);
    if (!strstr(why, expected))
        fail_msg("the checker says \"%s\", expected \"%s\"", why, expected);
    group_free(group);
}

static struct step *step_at(struct group *group, int rank, int index)
{
    assert_true(index < group->ranks[rank]->count);
    return &group->ranks[rank]->steps[index];
}

static void remove_step(struct schedule *s, int index)
{
    memmove(&s->steps[index], &s->steps[index + 1], (size_t)(s->count - index - 1) * sizeof *s->steps);
    s->count--;
    for (int i = 0; i < s->count; i++) {
        if (s->steps[i].after >= index)
            s->steps[i].after--;
        if (s->steps[i].after >= 0 && !step_sends(&s->steps[s->steps[i].after]))
            s->steps[i].after = -1;
    }
}

/* ---- What is sent ------------------------------------------------------------------------------ */

static void a_send_that_is_dropped_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_REDUCE, ring_all_reduce, 4, 0);
    remove_step(group.ranks[1], 0);
    assert_refused(&group, 3, 1,
                   "rank 2, step 1 expects slice 0 of chunk 1 but rank 1 sends slice 0 of chunk 0");
}

static void a_rank_that_waits_for_what_nobody_sends_is_a_deadlock(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_BROADCAST, ring_broadcast, 4, 0);
    step_at(&group, 1, 0)->kind = STEP_RECV;
    step_at(&group, 1, 0)->to = -1;
    assert_refused(&group, 1, 1, "rank 2, step 0 (RECV_SEND chunk 0): deadlock");
}

static void a_send_that_nobody_receives_is_found(void **state)
{
    (void)state;
    for (int queue = 0; queue <= 1; queue++) {
        struct group group = group_new(TUTTI_ALL_GATHER, ring_all_gather, 3, 0);
        schedule_send(group.ranks[0], 2, 0, span_send());
        assert_refused(&group, 1, queue,
                       queue ? "that rank 2 never receives" : "its slice is never received");
    }
}

static void chunks_that_come_in_another_order_than_expected_are_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_GATHER, ring_all_gather, 4, 0);
    step_at(&group, 0, 2)->chunk = 2;
    step_at(&group, 0, 3)->chunk = 3;
    assert_refused(&group, 1, 1,
                   "rank 0, step 2 expects slice 0 of chunk 2 but rank 3 sends slice 0 of chunk 3");
}

static void a_chunk_received_into_the_wrong_slot_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_REDUCE, ring_exchange_all_reduce, 4, 0);
    step_at(&group, 0, 3)->target = span_scratch(1);
    step_at(&group, 0, 3)->after = 2;
    assert_refused(&group, 1, 1, "rank 0, step 4 (REDUCE chunk 0): reads what was never written");
}

/* ---- Memory ------------------------------------------------------------------------------------ */

static void one_slot_reduce_scatter(struct schedule *s)
{
    int n = s->size, next = ring_next(s), previous = ring_previous(s);
    s->chunks = n;
    schedule_send(s, next, ring_at(s, -1), span_send());
    for (int k = 2; k <= n - 1; k++)
        schedule_recv_reduce_send(s, previous, next, ring_at(s, -k), span_send(), span_scratch(0));
    schedule_recv_reduce(s, previous, s->rank, span_send(), span_recv());
    schedule_mark_finished(s);
}

/* Why ring_reduce_scatter has two: with one slot every rank waits for its next to take what it must send
 * before it can take what comes, unless the links hold a slice. */
static void one_scratch_slot_deadlocks_a_ring_of_unbuffered_links(void **state)
{
    (void)state;
    for (int size = 4; size <= RANKS_MAX; size++) {
        struct group group = group_new(TUTTI_REDUCE_SCATTER, one_slot_reduce_scatter, size, 0);
        assert_true(passes(&group, 3, 1));
        assert_refused(&group, 3, 0, "deadlock, it waits for room to send what it would overwrite");
    }
}

static void a_slot_overwritten_before_it_was_sent_is_found(void **state)
{
    (void)state;
    for (int size = 4; size <= RANKS_MAX; size++) {
        struct group group = group_new(TUTTI_REDUCE_SCATTER, one_slot_reduce_scatter, size, 0);
        step_at(&group, 2, 2)->after = -1;
        assert_refused(&group, 3, 1, "rank 2, step 2 overwrites what an earlier step may still have to send");
    }
}

static void an_output_overwritten_before_it_was_sent_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_REDUCE, ring_all_reduce, 4, 0);
    step_at(&group, 3, 5)->after = 0;
    assert_refused(&group, 1, 1, "rank 3, step 5 overwrites what an earlier step may still have to send");
}

static void an_input_that_is_also_the_output_counts_as_one_memory(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_REDUCE, ring_all_reduce, 4, 0);
    assert_int_equal(step_at(&group, 0, 4)->after, 0); /* sent from the input, received into the output */
    step_at(&group, 0, 4)->after = -1;
    assert_refused(&group, 1, 1, "rank 0, step 4 overwrites what an earlier step may still have to send");
}

/* As ring_exchange_all_reduce, but the sum grows in the output from the start. */
static void exchange_that_forgets_in_place(struct schedule *s)
{
    s->chunks = 1;
    schedule_send(s, ring_next(s), 0, span_send());
    schedule_recv_send(s, ring_previous(s), ring_next(s), 0, span_scratch(0));
    schedule_recv(s, ring_previous(s), 0, span_scratch(1));
    const struct span vectors[][3] = {{span_send(), span_scratch(1), span_scratch(0)},
                                      {span_scratch(0), span_send(), span_scratch(1)},
                                      {span_scratch(1), span_scratch(0), span_send()}};
    const struct span *vector = vectors[s->rank];
    schedule_reduce(s, 0, vector[0], vector[1], span_recv());
    schedule_reduce(s, 0, span_recv(), vector[2], span_recv());
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
    struct group group = group_new(TUTTI_ALL_REDUCE, ring_exchange_all_reduce, 3, 0);
    group.ranks[1]->scratch_slots++;
    step_at(&group, 1, 3)->source = span_scratch(2);
    assert_refused(&group, 1, 1, "rank 1, step 3 (REDUCE chunk 0): reads what was never written");
}

static void a_slot_that_holds_another_chunk_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_REDUCE_SCATTER, ring_reduce_scatter, 4, 0);
    step_at(&group, 1, 3)->source = span_scratch(1);
    assert_refused(&group, 1, 1, "rank 1, step 3 (RECV_REDUCE chunk 1): finds another chunk");
}

/* ---- Shape ------------------------------------------------------------------------------------- */

static void a_write_to_the_input_is_refused(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_REDUCE, ring_all_reduce, 3, 0);
    step_at(&group, 0, 4)->target = span_send();
    assert_refused(&group, 1, 1, "rank 0, step 4 writes a place that is not this rank's to write");
}

static void an_output_that_a_rank_does_not_have_is_refused(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_GATHER, ring_gather, 3, 0);
    step_at(&group, 2, 1)->target = span_recv();
    assert_refused(&group, 1, 1, "rank 2, step 1 writes a place that is not this rank's to write");

    group = group_new(TUTTI_REDUCE_SCATTER, ring_reduce_scatter, 3, 0);
    step_at(&group, 2, 1)->target = span_recv();
    assert_refused(&group, 1, 1, "rank 2, step 1 writes a place that is not this rank's to write");
}

static void an_input_that_a_rank_does_not_have_is_refused(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_GATHER, ring_all_gather, 3, 0);
    step_at(&group, 2, 0)->chunk = 1;
    assert_refused(&group, 1, 1, "rank 2, step 0 reads a place that this rank does not have");

    group = group_new(TUTTI_BROADCAST, ring_broadcast, 3, 0);
    *step_at(&group, 1, 0) = *step_at(&group, 0, 0);
    step_at(&group, 1, 0)->to = 2;
    assert_refused(&group, 1, 1, "rank 1, step 0 reads a place that this rank does not have");
}

static void a_step_that_makes_no_sense_is_refused(void **state)
{
    (void)state;
    const struct {
        struct step step;
        const char *expected;
    } cases[] = {
        {{.kind = 99, .from = -1, .to = 1, .source = {PLACE_SEND, 0}, .after = -1}, "has no kind"},
        {{.kind = STEP_SEND, .from = -1, .to = 1, .chunk = 3, .source = {PLACE_SEND, 0}, .after = -1},
         "names a chunk"},
        {{.kind = STEP_SEND, .from = -1, .to = 0, .source = {PLACE_SEND, 0}, .after = -1}, "names a peer"},
        {{.kind = STEP_SEND, .from = -1, .to = 3, .source = {PLACE_SEND, 0}, .after = -1}, "names a peer"},
        {{.kind = STEP_SEND, .from = 2, .to = 1, .source = {PLACE_SEND, 0}, .after = -1}, "names a peer"},
        {{.kind = STEP_SEND, .from = -1, .to = 1, .source = {PLACE_SCRATCH, 0}, .after = -1},
         "reads a place"},
        {{.kind = STEP_SEND, .from = -1, .to = 1, .source = {77, 0}, .after = -1}, "reads a place"},
        {{.kind = STEP_SEND, .from = -1, .to = 1, .source = {PLACE_SEND, 0}, .after = 0},
         "waits for a step that is no earlier send"},
        {{.kind = STEP_SEND, .from = -1, .to = 1, .source = {PLACE_SEND, 0}, .after = -1, .finish = true},
         "finishes a chunk that it does not write"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct group group = group_new(TUTTI_ALL_REDUCE, ring_all_reduce, 3, 0);
        *step_at(&group, 0, 0) = cases[i].step;
        assert_refused(&group, 1, 1, cases[i].expected);
    }
}

static void schedules_of_different_calls_are_refused(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_BROADCAST, ring_broadcast, 3, 0);
    group.ranks[2]->root = 1;
    assert_refused(&group, 1, 1, "ranks 0 and 2 differ");

    group = group_new(TUTTI_BROADCAST, ring_broadcast, 3, 0);
    group.ranks[2]->rank = 1;
    assert_refused(&group, 1, 1, "the schedule of rank 2 of 3 was made for rank 1 of 3");
}

/* ---- What is promised -------------------------------------------------------------------------- */

static void a_contribution_that_is_left_out_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_REDUCE, ring_all_reduce, 4, 0);
    struct step *step = step_at(&group, 1, 1);
    step->kind = STEP_RECV_SEND;
    step->source = (struct span){PLACE_NONE, 0};
    assert_refused(&group, 1, 1, "rank 0 ends with chunk 0 without the contribution of rank 1");
}

static void a_contribution_that_counts_twice_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_REDUCE, ring_exchange_all_reduce, 4, 0);
    step_at(&group, 0, 5)->other = span_scratch(2);
    assert_refused(&group, 1, 1, "rank 0, step 5 reduces the contribution of rank 1 to chunk 0 twice");
}

static void orders_of_reduction_that_differ_are_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_REDUCE, ring_exchange_all_reduce, 4, 0);
    struct step *step = step_at(&group, 2, 6);
    struct span left = step->source;
    step->source = step->other;
    step->other = left;
    assert_refused(&group, 1, 1, "ranks 0 and 2 reduce chunk 0 in different orders");
}

static void a_chunk_that_is_not_finished_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_REDUCE, ring_all_reduce, 4, 0);
    step_at(&group, 0, 3)->finish = false;
    assert_refused(&group, 1, 1, "ends with chunk 1 not finished");
}

static void a_chunk_that_is_finished_twice_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_REDUCE, ring_all_reduce, 4, 0);
    step_at(&group, 0, 4)->finish = true;
    assert_refused(&group, 1, 1, "rank 0, step 4 (RECV_SEND chunk 0): finishes a chunk a second time");
}

static void a_chunk_that_is_reduced_after_it_was_finished_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_REDUCE_SCATTER, ring_reduce_scatter, 4, 0);
    step_at(&group, 0, 1)->finish = true;
    assert_refused(&group, 1, 1, "reduces a chunk that is finished already");
}

static void an_output_that_is_never_written_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_BROADCAST, ring_broadcast, 4, 1);
    remove_step(group.ranks[1], 1);
    assert_refused(&group, 1, 1, "out of place, 1 slices, links of 1: rank 1 ends without chunk 0");
}

static void a_gather_that_reduces_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_ALL_GATHER, ring_all_gather, 2, 0);
    step_at(&group, 0, 1)->finish = true;
    step_at(&group, 0, 1)->after = 0;
    assert_refused(&group, 1, 1, "rank 0 ends with a chunk 0 that is not what rank 0 sent");
}

static void barrier_that_stops_too_early(struct schedule *s)
{
    s->chunks = s->size;
    schedule_send(s, ring_next(s), s->rank, span_send());
    schedule_recv(s, ring_previous(s), ring_at(s, -1), span_recv());
}

static void a_barrier_that_some_rank_leaves_early_is_found(void **state)
{
    (void)state;
    struct group group = group_new(TUTTI_BARRIER, barrier_that_stops_too_early, 3, 0);
    assert_refused(&group, 1, 1, "rank 0 leaves the barrier without news of rank 1");
}

/* ---- Nothing can be missed --------------------------------------------------------------------- */

static void no_step_of_any_algorithm_can_be_left_out(void **state)
{
    (void)state;
    for (size_t a = 0; a < algorithm_count; a++) {
        for (int size = 1; size <= 5; size++) {
            for (int rank = 0; rank < size; rank++) {
                struct group probe = group_new(algorithms[a].operation, algorithms[a].emit, size, size / 2);
                int steps = probe.ranks[rank]->count;
                group_free(&probe);
                for (int i = 0; i < steps; i++) {
                    struct group group =
                        group_new(algorithms[a].operation, algorithms[a].emit, size, size / 2);
                    remove_step(group.ranks[rank], i);
                    assert_false(passes(&group, 2, 1));
                    group_free(&group);
                }
            }
        }
    }
}

static void no_finish_of_any_reduction_can_be_moved(void **state)
{
    (void)state;
    for (size_t a = 0; a < algorithm_count; a++) {
        if (algorithms[a].operation == TUTTI_BARRIER)
            continue; /* has no elements to finish */
        for (int size = 1; size <= 5; size++) {
            struct group group = group_new(algorithms[a].operation, algorithms[a].emit, size, 0);
            for (int i = 0; i < group.size; i++) {
                for (int k = 0; k < group.ranks[i]->count; k++) {
                    step_at(&group, i, k)->finish ^= true;
                    assert_false(passes(&group, 1, 1));
                    step_at(&group, i, k)->finish ^= true;
                }
            }
            assert_true(passes(&group, 1, 1));
            group_free(&group);
        }
    }
}

static void random_damage_never_crashes_the_checker(void **state)
{
    (void)state;
    const char *given = getenv("TUTTI_TEST_SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 0) : 20250131;
    print_message("TUTTI_TEST_SEED=%u\n", seed);
    unsigned short random[3] = {(unsigned short)seed, (unsigned short)(seed >> 16), 0x330e};
    int refused = 0;
    for (int turn = 0; turn < 3000; turn++) {
        const struct algorithm *algorithm = &algorithms[(size_t)nrand48(random) % algorithm_count];
        int size = 2 + (int)nrand48(random) % 4;
        struct group group = group_new(algorithm->operation, algorithm->emit, size, 0);
        for (int damage = 0; damage < 2; damage++) {
            struct schedule *s = group.ranks[nrand48(random) % size];
            struct step *step = &s->steps[nrand48(random) % s->count];
            int small = (int)(nrand48(random) % (size + 2)) - 1;
            switch (nrand48(random) % 9) {
            case 0:
                step->kind = (uint8_t)(nrand48(random) % 8);
                break;
            case 1:
                step->from = small;
                break;
            case 2:
                step->to = small;
                break;
            case 3:
                step->chunk = small;
                break;
            case 4:
                step->source = (struct span){(uint8_t)(nrand48(random) % 5), (uint16_t)(small & 3)};
                break;
            case 5:
                step->other = (struct span){(uint8_t)(nrand48(random) % 5), (uint16_t)(small & 3)};
                break;
            case 6:
                step->target = (struct span){(uint8_t)(nrand48(random) % 5), (uint16_t)(small & 3)};
                break;
            case 7:
                step->after = small;
                break;
            default:
                step->finish ^= true;
                break;
            }
        }
        refused += !passes(&group, 2, turn % 3);
        group_free(&group);
    }
    /* Some damage does no harm, such as waiting for a send that does not matter; most does. */
    assert_in_range(refused, 1500, 3000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_send_that_is_dropped_is_found),
        cmocka_unit_test(a_rank_that_waits_for_what_nobody_sends_is_a_deadlock),
        cmocka_unit_test(a_send_that_nobody_receives_is_found),
        cmocka_unit_test(chunks_that_come_in_another_order_than_expected_are_found),
        cmocka_unit_test(a_chunk_received_into_the_wrong_slot_is_found),
        cmocka_unit_test(one_scratch_slot_deadlocks_a_ring_of_unbuffered_links),
        cmocka_unit_test(a_slot_overwritten_before_it_was_sent_is_found),
        cmocka_unit_test(an_output_overwritten_before_it_was_sent_is_found),
        cmocka_unit_test(an_input_that_is_also_the_output_counts_as_one_memory),
        cmocka_unit_test(an_input_that_is_lost_in_place_only_is_found),
        cmocka_unit_test(a_read_of_a_place_never_written_is_found),
        cmocka_unit_test(a_slot_that_holds_another_chunk_is_found),
        cmocka_unit_test(a_write_to_the_input_is_refused),
        cmocka_unit_test(an_output_that_a_rank_does_not_have_is_refused),
        cmocka_unit_test(an_input_that_a_rank_does_not_have_is_refused),
        cmocka_unit_test(a_step_that_makes_no_sense_is_refused),
        cmocka_unit_test(schedules_of_different_calls_are_refused),
        cmocka_unit_test(a_contribution_that_is_left_out_is_found),
        cmocka_unit_test(a_contribution_that_counts_twice_is_found),
        cmocka_unit_test(orders_of_reduction_that_differ_are_found),
        cmocka_unit_test(a_chunk_that_is_not_finished_is_found),
        cmocka_unit_test(a_chunk_that_is_finished_twice_is_found),
        cmocka_unit_test(a_chunk_that_is_reduced_after_it_was_finished_is_found),
        cmocka_unit_test(an_output_that_is_never_written_is_found),
        cmocka_unit_test(a_gather_that_reduces_is_found),
        cmocka_unit_test(a_barrier_that_some_rank_leaves_early_is_found),
        cmocka_unit_test(no_step_of_any_algorithm_can_be_left_out),
        cmocka_unit_test(no_finish_of_any_reduction_can_be_moved),
        cmocka_unit_test(random_damage_never_crashes_the_checker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
