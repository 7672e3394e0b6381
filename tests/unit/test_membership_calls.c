#include "membership_trace.h"

static const struct fingerprint sum_4 = {TUTTI_ALL_REDUCE, TUTTI_FLOAT32, TUTTI_SUM, .count = 4};
static const struct fingerprint broadcast_from_0 = {TUTTI_BROADCAST, TUTTI_FLOAT32, .count = 4};
static const struct fingerprint broadcast_from_1 = {TUTTI_BROADCAST, TUTTI_FLOAT32, .root = 1, .count = 4};
static const struct fingerprint fused = {TUTTI_ALL_REDUCE, TUTTI_FLOAT32, TUTTI_SUM,
                                         .count = 8,       .fused = 2,    .fused_counts = 0xdecade};
static const struct fingerprint finalize = {.operation = TUTTI_BARRIER, .count = 1};

/* ---- Heartbeats -------------------------------------------------------------------------------- */

static void heartbeats_say_what_this_rank_called_last_and_in_which_call_it_waits(void **state)
{
    struct trace *t = *state;
    t->now_ms += HEARTBEAT_MS;
    membership_tick(&t->membership, t->now_ms);
    assert_heard(t, "next heartbeat, latest 0\n"
                    "previous heartbeat, latest 0\n");
    call_and_wait(t, sum_4);
    t->now_ms += HEARTBEAT_MS;
    membership_tick(&t->membership, t->now_ms);
    assert_heard(t, "next heartbeat, latest 1, in all_reduce(sum, 4 x float32) as 1\n"
                    "previous heartbeat, latest 1, in all_reduce(sum, 4 x float32) as 1\n");
    t->under_way = 0;
    t->now_ms += HEARTBEAT_MS;
    membership_tick(&t->membership, t->now_ms);
    assert_heard(t, "next heartbeat, latest 1\n"
                    "previous heartbeat, latest 1\n");
}

static void heartbeats_tell_a_call_that_others_are_queued_behind(void **state)
{
    struct trace *t = *state;
    call_and_wait(t, fused);
    call_and_wait(t, sum_4);
    call_and_wait(t, finalize);
    t->under_way = 1;
    membership_announce(&t->membership);
    assert_heard(
        t, "next heartbeat, latest 3, in all_reduce(sum, 8 x float32 in 2 fused calls, counts 00decade) "
           "as 1\n"
           "previous heartbeat, latest 3, in all_reduce(sum, 8 x float32 in 2 fused calls, counts "
           "00decade) as 1\n");
    t->under_way = 3;
    close_side(t, SIDE_RENDEZVOUS);
    membership_announce(&t->membership);
    assert_heard(t, "next heartbeat, latest 3, in finalize() as 3\n"
                    "previous heartbeat, latest 3, in finalize() as 3\n");
}

static void the_first_heartbeats_go_out_at_once(void **state)
{
    struct trace *t = *state;
    const struct membership_output output = t->membership.output;
    membership_open(&t->membership, &t->place, &output, HEARTBEAT_MS, DEAD_AFTER_MS, GRACE_MS, true,
                    t->now_ms);
    assert_heard(t, "next heartbeat, latest 0\n"
                    "previous heartbeat, latest 0\n");
}

static void the_latest_calls_of_the_neighbours_are_there_for_others_to_read(void **state)
{
    struct trace *t = *state;
    say_heartbeat(t, SIDE_NEXT, 7, 0, sum_4);
    say_heartbeat(t, SIDE_PREVIOUS, 9, 8, sum_4);
    assert_int_equal(atomic_load(&t->membership.heard_latest[SIDE_NEXT]), 7);
    assert_int_equal(atomic_load(&t->membership.heard_latest[SIDE_PREVIOUS]), 9);
    assert_heard(t, "");
}

/* ---- Different calls ---------------------------------------------------------------------------- */

static void a_neighbour_that_waits_in_another_call_is_a_mismatch(void **state)
{
    struct trace *t = *state;
    call_and_wait(t, broadcast_from_0);
    say_heartbeat(t, SIDE_NEXT, 1, 1, broadcast_from_1);
    assert_heard(
        t, "told TUTTI_ERR_MISMATCH rank 3: rank 3 called broadcast(root 1, 4 x float32) as operation 1, "
           "rank 2 called broadcast(root 0, 4 x float32) as operation 1: every rank must make the same "
           "calls in the same order\n");
}

static void a_call_that_is_made_later_is_compared_when_it_waits(void **state)
{
    struct trace *t = *state;
    say_heartbeat(t, SIDE_PREVIOUS, 1, 1, finalize);
    assert_heard(t, "");
    call_and_wait(t, (struct fingerprint){.operation = TUTTI_BARRIER});
    membership_announce(&t->membership);
    assert_heard(t, "next heartbeat, latest 1, in barrier() as 1\n"
                    "previous heartbeat, latest 1, in barrier() as 1\n"
                    "told TUTTI_ERR_MISMATCH rank 1: rank 1 called finalize() as operation 1, rank 2 called "
                    "barrier() as operation 1: every rank must make the same calls in the same order\n");
}

static void calls_are_compared_under_their_own_number(void **state)
{
    struct trace *t = *state;
    call_and_wait(t, sum_4);
    call_and_wait(t, broadcast_from_0);
    t->under_way = 2;
    say_heartbeat(t, SIDE_PREVIOUS, 2, 1, sum_4); /* it has called the next one too, and waits in the first */
    say_heartbeat(t, SIDE_NEXT, 5, 2, broadcast_from_0);
    membership_announce(&t->membership);
    assert_null(strstr(t->heard, "told"));
    tick_quietly(t, 0);
    say_heartbeat(t, SIDE_PREVIOUS, 2, 1, broadcast_from_0);
    assert_non_null(strstr(t->heard,
                           "rank 1 called broadcast(root 0, 4 x float32) as operation 1, rank 2 called "
                           "all_reduce(sum, 4 x float32) as operation 1"));
}

static void a_neighbour_that_has_moved_on_is_compared_no_more(void **state)
{
    struct trace *t = *state;
    say_heartbeat(t, SIDE_NEXT, 1, 1, broadcast_from_1);
    say_heartbeat(t, SIDE_NEXT, 1, 0, broadcast_from_1);
    call_and_wait(t, broadcast_from_0);
    membership_announce(&t->membership);
    assert_null(strstr(t->heard, "told"));
}

static void a_heartbeat_whose_numbers_contradict_each_other_tells_of_no_call(void **state)
{
    struct trace *t = *state;
    call_and_wait(t, sum_4);
    struct frame frame = of_our_group(FRAME_HEARTBEAT);
    frame.sequence = 1;
    frame.step = 1; /* the call before the first */
    frame.call = broadcast_from_0;
    say_frame(t, SIDE_NEXT, &frame, NULL);
    frame.step = UINT32_MAX;
    say_frame(t, SIDE_NEXT, &frame, NULL);
    assert_heard(t, "");
}

/* ---- Who is missing ----------------------------------------------------------------------------- */

static void a_roll_call_is_answered_with_the_latest_call(void **state)
{
    struct trace *t = *state;
    say_roll_call(t, GENERATION);
    assert_heard(t, "rendezvous present in 0 of generation 3: \"\"\n");
    call_and_wait(t, sum_4);
    call_and_wait(t, broadcast_from_1);
    t->under_way = 1;
    say_roll_call(t, GENERATION);
    assert_heard(t, "rendezvous present in 2 of generation 3: \"broadcast(root 1, 4 x float32)\"\n");
    say_roll_call(t, GENERATION - 1);
    assert_heard(t, "");
}

static void who_is_late_asks_the_rendezvous_and_hears_who_is_missing(void **state)
{
    struct trace *t = *state;
    uint32_t ranks[] = {0, 3};
    membership_ask(&t->membership, 17);
    assert_heard(t, "rendezvous late in 17 of generation 3\n");
    say_missing(t, GENERATION, 17, ranks, 2, "rank 0 (host a, pid 1); rank 3 (host b, pid 2)");
    assert_heard(t, "missing in 17: first rank 0 on '': rank 0 (host a, pid 1); rank 3 (host b, pid 2)\n");
}

static void where_nobody_is_missing_nothing_is_said(void **state)
{
    struct trace *t = *state;
    uint32_t nobody[] = {4};
    say_missing(t, GENERATION, 17, NULL, 0, "");
    say_missing(t, GENERATION - 1, 17, (uint32_t[]){1}, 1, "rank 1, of an earlier group");
    say_missing(t, GENERATION, 17, nobody, 1, "rank 4, which there is not");
    assert_heard(t, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TRACE(heartbeats_say_what_this_rank_called_last_and_in_which_call_it_waits),
        TRACE(heartbeats_tell_a_call_that_others_are_queued_behind),
        TRACE(the_first_heartbeats_go_out_at_once),
        TRACE(the_latest_calls_of_the_neighbours_are_there_for_others_to_read),
        TRACE(a_neighbour_that_waits_in_another_call_is_a_mismatch),
        TRACE(a_call_that_is_made_later_is_compared_when_it_waits),
        TRACE(calls_are_compared_under_their_own_number),
        TRACE(a_neighbour_that_has_moved_on_is_compared_no_more),
        TRACE(a_heartbeat_whose_numbers_contradict_each_other_tells_of_no_call),
        TRACE(a_roll_call_is_answered_with_the_latest_call),
        TRACE(who_is_late_asks_the_rendezvous_and_hears_who_is_missing),
        TRACE(where_nobody_is_missing_nothing_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
