#include "membership_trace.h"

/* ---- Loss -------------------------------------------------------------------------------------- */

static void a_neighbour_that_closes_without_a_goodbye_is_lost(void **state)
{
    struct trace *t = *state;
    close_side(t, SIDE_NEXT);
    assert_heard(t, "noticed TUTTI_ERR_PEER_LOST rank 3: rank 2 lost rank 3 (host b, pid 103): it closed its "
                    "control connection without a goodbye: its process ended or was killed\n");
}

static void a_neighbour_whose_connection_breaks_is_lost_for_that_reason(void **state)
{
    struct trace *t = *state;
    struct tutti_error why;
    error_set(&why, TUTTI_ERR_PEER_LOST, "connection reset by peer");
    membership_closed(&t->membership, SIDE_PREVIOUS, &why);
    assert_heard(t, "noticed TUTTI_ERR_PEER_LOST rank 1: rank 2 lost rank 1 (host b, pid 101): its control "
                    "connection broke: connection reset by peer\n");
}

static void a_neighbour_that_is_silent_for_too_long_is_lost(void **state)
{
    struct trace *t = *state;
    say_alive(t, SIDE_NEXT);
    say_alive(t, SIDE_PREVIOUS);
    for (int second = 1; second < 5; second++) {
        tick_quietly(t, 1);
        say_alive(t, SIDE_NEXT);
    }
    t->now_ms += HEARTBEAT_MS - 1;
    membership_tick(&t->membership, t->now_ms);
    assert_heard(t, "next heartbeat, latest 0\n"
                    "previous heartbeat, latest 0\n");
    membership_tick(&t->membership, ++t->now_ms); /* too early for the next heartbeat */
    assert_heard(t,
                 "noticed TUTTI_ERR_PEER_LOST rank 1: rank 2 lost rank 1 (host b, pid 101): no heartbeat for "
                 "5.0 s: its process is stopped, or its host or the network is down\n");
}

static void a_control_message_is_a_sign_of_life_too(void **state)
{
    struct trace *t = *state;
    struct frame unknown = of_our_group(FRAME_DATA);
    say_alive(t, SIDE_NEXT);
    say_alive(t, SIDE_PREVIOUS);
    for (int second = 1; second < 20; second++) {
        tick_quietly(t, 1);
        say_frame(t, SIDE_NEXT, &unknown, NULL);
        say_frame(t, SIDE_PREVIOUS, &unknown, NULL);
        assert_heard(t, "");
    }
}

static void neighbours_that_are_still_wiring_are_given_time(void **state)
{
    struct trace *t = *state;
    for (int second = 1; second < (GRACE_MS + DEAD_AFTER_MS) / 1000; second++) {
        t->now_ms += HEARTBEAT_MS;
        membership_tick(&t->membership, t->now_ms);
        assert_heard(t, "next heartbeat, latest 0\n"
                        "previous heartbeat, latest 0\n");
    }
    t->tells = true;
    t->now_ms += HEARTBEAT_MS;
    membership_tick(&t->membership, t->now_ms);
    assert_non_null(strstr(t->heard, "rank 2 lost rank 3 (host b, pid 103): no heartbeat for 5.0 s"));
    /* The first loss is the one that is told. */
    assert_null(strstr(t->heard, "lost rank 1"));
}

static void who_was_suspended_judges_nobody_until_it_has_read_what_came_meanwhile(void **state)
{
    struct trace *t = *state;
    say_alive(t, SIDE_NEXT);
    say_alive(t, SIDE_PREVIOUS);
    t->now_ms += 10 * DEAD_AFTER_MS;
    membership_tick(&t->membership, t->now_ms);
    assert_heard(t, "next heartbeat, latest 0\n"
                    "previous heartbeat, latest 0\n");
    /* One was alive all the time, the other is not: from now on it has its time like everybody. */
    for (int second = 1; second < 5; second++) {
        tick_quietly(t, 1);
        say_alive(t, SIDE_NEXT);
    }
    assert_heard(t, "");
    t->now_ms += HEARTBEAT_MS;
    membership_tick(&t->membership, t->now_ms);
    assert_heard(t,
                 "next heartbeat, latest 0\n"
                 "previous heartbeat, latest 0\n"
                 "noticed TUTTI_ERR_PEER_LOST rank 1: rank 2 lost rank 1 (host b, pid 101): no heartbeat for "
                 "5.0 s: its process is stopped, or its host or the network is down\n");
}

static void a_late_tick_does_not_shorten_the_time_for_wiring(void **state)
{
    struct trace *t = *state;
    t->now_ms += 3 * HEARTBEAT_MS;
    membership_tick(&t->membership, t->now_ms);
    tick_quietly(t, 10);
    membership_tick(&t->membership, t->now_ms);
    assert_heard(t, "");
}

static void silence_is_judged_between_two_heartbeats_as_well(void **state)
{
    struct trace *t = *state;
    say_alive(t, SIDE_PREVIOUS);
    tick_quietly(t, 4);
    say_alive(t, SIDE_NEXT);
    t->now_ms += DEAD_AFTER_MS - 4 * HEARTBEAT_MS - HEARTBEAT_MS / MEMBERSHIP_TICKS;
    membership_tick(&t->membership, t->now_ms);
    assert_heard(t, "");
    t->now_ms += HEARTBEAT_MS / MEMBERSHIP_TICKS;
    membership_tick(&t->membership, t->now_ms);
    assert_heard(t,
                 "next heartbeat, latest 0\n"
                 "previous heartbeat, latest 0\n"
                 "noticed TUTTI_ERR_PEER_LOST rank 1: rank 2 lost rank 1 (host b, pid 101): no heartbeat for "
                 "5.0 s: its process is stopped, or its host or the network is down\n");
}

static void a_tick_within_two_heartbeats_is_not_late(void **state)
{
    struct trace *t = *state;
    say_alive(t, SIDE_NEXT);
    say_alive(t, SIDE_PREVIOUS);
    for (int i = 0; i < 2; i++) {
        t->now_ms += 2 * HEARTBEAT_MS;
        membership_tick(&t->membership, t->now_ms);
        say_alive(t, SIDE_NEXT);
    }
    assert_null(strstr(t->heard, "lost"));
    t->now_ms += 2 * HEARTBEAT_MS;
    membership_tick(&t->membership, t->now_ms);
    assert_non_null(strstr(t->heard, "rank 2 lost rank 1 (host b, pid 101): no heartbeat for 6.0 s"));
}

static void a_side_that_is_gone_is_not_spoken_to(void **state)
{
    struct trace *t = *state;
    close_side(t, SIDE_PREVIOUS);
    tick_quietly(t, 0);
    t->now_ms += HEARTBEAT_MS;
    membership_tick(&t->membership, t->now_ms);
    assert_heard(t, "next heartbeat, latest 0\n");
    membership_say_goodbye(&t->membership);
    assert_heard(t, "next goodbye\n");
}

static void frames_of_another_group_come_from_a_lost_neighbour(void **state)
{
    struct trace *t = *state;
    const char *expected =
        "noticed TUTTI_ERR_PEER_LOST rank 1: rank 2 lost rank 1 (host b, pid 101): it sent a "
        "control frame of another group\n";
    struct frame frame = of_our_group(FRAME_HEARTBEAT);
    frame.sequence = 99;
    frame.generation--;
    say_frame(t, SIDE_PREVIOUS, &frame, NULL);
    assert_heard(t, expected);
    frame = of_our_group(FRAME_HEARTBEAT);
    frame.instance++;
    say_frame(t, SIDE_PREVIOUS, &frame, NULL);
    assert_heard(t, expected);
    assert_int_equal(atomic_load(&t->membership.heard_latest[SIDE_PREVIOUS]), 0);
}

static void bytes_of_a_neighbour_that_mean_nothing_are_its_failure(void **state)
{
    struct trace *t = *state;
    struct frame frame = of_our_group(FRAME_CONTROL);
    frame.length = 3;
    say_frame(t, SIDE_NEXT, &frame, (const uint8_t *)"\xff\xff\xff");
    assert_heard(
        t, "noticed TUTTI_ERR_PROTOCOL rank 3: rank 2 cannot read what rank 3 (host b, pid 103) sent: a "
           "control message is not valid: its content cannot be decoded; the peer is not tutti or runs "
           "another build of it\n");
}

/* ---- Failures that are told -------------------------------------------------------------------- */

static void an_abort_from_a_neighbour_is_the_end_and_goes_to_all_sides(void **state)
{
    struct trace *t = *state;
    t->tells = true;
    say_abort(t, SIDE_PREVIOUS, TUTTI_ERR_PEER_LOST, 0, "rank 1 lost rank 0 (host a, pid 7): gone");
    assert_heard(
        t, "told TUTTI_ERR_PEER_LOST rank 0: rank 1 lost rank 0 (host a, pid 7): gone\n"
           "next abort TUTTI_ERR_PEER_LOST rank 0 in  0, 0 bytes: rank 1 lost rank 0 (host a, pid 7): "
           "gone\n"
           "previous abort TUTTI_ERR_PEER_LOST rank 0 in  0, 0 bytes: rank 1 lost rank 0 (host a, pid "
           "7): gone\n"
           "rendezvous abort TUTTI_ERR_PEER_LOST rank 0 in  0, 0 bytes: rank 1 lost rank 0 (host a, pid "
           "7): gone\n");
}

static void an_abort_from_the_rendezvous_counts_as_much(void **state)
{
    struct trace *t = *state;
    say_abort(t, SIDE_RENDEZVOUS, TUTTI_ERR_ABORTED, 0, "aborted by rank 0: enough");
    assert_heard(t, "told TUTTI_ERR_ABORTED rank 0: aborted by rank 0: enough\n");
}

static void an_abort_of_an_earlier_group_from_the_rendezvous_is_old_news(void **state)
{
    struct trace *t = *state;
    say_abort_of(t, SIDE_RENDEZVOUS, INSTANCE, GENERATION - 1, TUTTI_ERR_ABORTED, 0, "old");
    say_abort_of(t, SIDE_RENDEZVOUS, INSTANCE + 1, GENERATION, TUTTI_ERR_ABORTED, 0, "another");
    assert_heard(t, "");
}

static void a_failure_is_told_once(void **state)
{
    struct trace *t = *state;
    struct tutti_error failure;
    error_set(&failure, TUTTI_ERR_TIMEOUT, "too late");
    snprintf(failure.operation, sizeof failure.operation, "gather");
    failure.sequence = 5;
    failure.moved_bytes = 4096;
    close_side(t, SIDE_RENDEZVOUS);
    membership_tell(&t->membership, &failure);
    assert_heard(t, "next abort TUTTI_ERR_TIMEOUT rank -1 in gather 5, 4096 bytes: too late\n"
                    "previous abort TUTTI_ERR_TIMEOUT rank -1 in gather 5, 4096 bytes: too late\n");
    membership_tell(&t->membership, &failure);
    assert_heard(t, "");
}

static void what_follows_from_a_failure_is_no_failure(void **state)
{
    struct trace *t = *state;
    t->tells = true;
    say_alive(t, SIDE_NEXT);
    say_abort(t, SIDE_PREVIOUS, TUTTI_ERR_ABORTED, 0, "aborted by rank 0: enough");
    assert_non_null(strstr(t->heard, "told TUTTI_ERR_ABORTED"));
    tick_quietly(t, 0);
    say_abort(t, SIDE_NEXT, TUTTI_ERR_PEER_LOST, 1, "rank 3 lost rank 1");
    say_abort(t, SIDE_RENDEZVOUS, TUTTI_ERR_ABORTED, 0, "aborted by rank 0: enough");
    close_side(t, SIDE_PREVIOUS);
    assert_heard(t, "");
    for (int i = 0; i < 100; i++) {
        t->now_ms += HEARTBEAT_MS;
        membership_tick(&t->membership, t->now_ms);
        assert_heard(t, "next heartbeat, latest 0\n");
    }
}

static void a_rank_that_was_given_up_is_told_so(void **state)
{
    struct trace *t = *state;
    say_abort(t, SIDE_NEXT, TUTTI_ERR_PEER_LOST, 2,
              "rank 1 lost rank 2 (host b, pid 7): no heartbeat for 5.0 s");
    assert_heard(t, "told TUTTI_ERR_PEER_LOST rank 2: the group gave rank 2 up: rank 1 lost rank 2 (host b, "
                    "pid 7): no heartbeat for 5.0 s\n");
    say_abort(t, SIDE_RENDEZVOUS, TUTTI_ERR_TIMEOUT, 2, "missing: rank 2");
    assert_heard(t, "told TUTTI_ERR_TIMEOUT rank 2: the group gave rank 2 up: missing: rank 2\n");
}

static void a_rank_that_made_another_call_is_told_the_calls(void **state)
{
    struct trace *t = *state;
    say_abort(t, SIDE_NEXT, TUTTI_ERR_MISMATCH, 2, "rank 2 called a, rank 3 called b");
    assert_heard(t, "told TUTTI_ERR_MISMATCH rank 2: rank 2 called a, rank 3 called b\n");
}

static void a_rank_that_there_is_not_is_not_blamed(void **state)
{
    struct trace *t = *state;
    say_abort(t, SIDE_NEXT, TUTTI_ERR_PEER_LOST, 4, "rank 3 lost rank 4");
    assert_heard(t, "told TUTTI_ERR_PEER_LOST rank -1: rank 3 lost rank 4\n");
}

/* ---- The rendezvous ---------------------------------------------------------------------------- */

static void a_group_survives_the_loss_of_its_rendezvous(void **state)
{
    struct trace *t = *state;
    struct tutti_error why;
    error_set(&why, TUTTI_ERR_PEER_LOST, "connection reset by peer");
    membership_closed(&t->membership, SIDE_RENDEZVOUS, &why);
    membership_ask(&t->membership, 1);
    assert_heard(t, "");
}

static void whatever_else_a_rendezvous_says_is_ignored(void **state)
{
    struct trace *t = *state;
    struct frame frame = {.type = FRAME_CONTROL, .length = 3};
    say_frame(t, SIDE_RENDEZVOUS, &frame, (const uint8_t *)"\xff\xff\xff");
    frame = (struct frame){.type = FRAME_HEARTBEAT, .sequence = 1};
    say_frame(t, SIDE_RENDEZVOUS, &frame, NULL);
    Wire__Waiting waiting = WIRE__WAITING__INIT;
    Wire__Control message = WIRE__CONTROL__INIT;
    message.body_case = WIRE__CONTROL__BODY_WAITING;
    message.waiting = &waiting;
    say(t, SIDE_RENDEZVOUS, &message);
    say_goodbye(t, SIDE_RENDEZVOUS);
    assert_heard(t, "");
}

/* ---- Cards ------------------------------------------------------------------------------------- */

static void a_card_goes_to_the_next_rank(void **state)
{
    struct trace *t = *state;
    uint8_t id[MEMBER_ID_BYTES];
    Wire__Peer peer;
    Wire__Card card;
    card_of(&card, &peer, id, 2);
    membership_pass_card(&t->membership, &card);
    assert_heard(t, "next card of rank 2 in generation 3, tuning \"a line of constants\"\n");
    close_side(t, SIDE_NEXT);
    tick_quietly(t, 0);
    membership_pass_card(&t->membership, &card);
    assert_heard(t, "");
}

/* The shell keeps it and has it passed on. */
static void a_card_from_the_previous_rank_is_handed_over_and_not_sent(void **state)
{
    struct trace *t = *state;
    say_card(t, SIDE_PREVIOUS, 1);
    say_card(t, SIDE_PREVIOUS, 0);
    assert_heard(t, "a card of rank 1, tuning \"a line of constants\"\n"
                    "a card of rank 0, tuning \"a line of constants\"\n");
}

static void cards_go_round_one_way(void **state)
{
    struct trace *t = *state;
    say_card(t, SIDE_NEXT, 3);
    say_card(t, SIDE_RENDEZVOUS, 3);
    assert_heard(t, "");
}

static void a_card_is_a_sign_of_life(void **state)
{
    struct trace *t = *state;
    say_alive(t, SIDE_NEXT);
    say_alive(t, SIDE_PREVIOUS);
    for (int second = 1; second < 20; second++) {
        tick_quietly(t, 1);
        say_alive(t, SIDE_NEXT);
        say_card(t, SIDE_PREVIOUS, 1);
        assert_heard(t, "a card of rank 1, tuning \"a line of constants\"\n");
    }
}

/* ---- Goodbye ----------------------------------------------------------------------------------- */

static void a_normal_end_is_no_failure(void **state)
{
    struct trace *t = *state;
    membership_say_goodbye(&t->membership);
    assert_heard(t, "next goodbye\n"
                    "previous goodbye\n");
    membership_say_goodbye(&t->membership); /* once is enough */
    assert_heard(t, "");
    say_goodbye(t, SIDE_PREVIOUS);
    assert_false(membership_goodbyes_heard(&t->membership));
    close_side(t, SIDE_PREVIOUS);
    say_goodbye(t, SIDE_NEXT);
    assert_true(membership_goodbyes_heard(&t->membership));
    assert_heard(t, "a neighbour said goodbye\n"
                    "a neighbour said goodbye\n");
    membership_leave(&t->membership); /* only now, that nobody can need this member to re-form */
    membership_leave(&t->membership);
    assert_heard(t, "rendezvous goodbye\n");
    close_side(t, SIDE_NEXT);
    close_side(t, SIDE_RENDEZVOUS);
    assert_heard(t, "");
}

static void who_has_said_goodbye_may_be_silent(void **state)
{
    struct trace *t = *state;
    say_goodbye(t, SIDE_NEXT);
    assert_heard(t, "a neighbour said goodbye\n");
    for (int i = 0; i < 100; i++) {
        say_alive(t, SIDE_PREVIOUS);
        t->now_ms += HEARTBEAT_MS;
        membership_tick(&t->membership, t->now_ms);
        assert_heard(t, "next heartbeat, latest 0\n"
                        "previous heartbeat, latest 0\n");
    }
}

static void our_goodbye_does_not_excuse_a_neighbour_without_one(void **state)
{
    struct trace *t = *state;
    membership_say_goodbye(&t->membership);
    say_goodbye(t, SIDE_NEXT);
    tick_quietly(t, 0);
    close_side(t, SIDE_PREVIOUS);
    assert_non_null(strstr(t->heard, "noticed TUTTI_ERR_PEER_LOST rank 1"));
}

static void a_group_can_fail_after_a_neighbour_has_said_goodbye(void **state)
{
    struct trace *t = *state;
    say_goodbye(t, SIDE_NEXT);
    say_abort(t, SIDE_NEXT, TUTTI_ERR_PEER_LOST, 0, "rank 3 lost rank 0");
    assert_heard(t, "a neighbour said goodbye\n"
                    "told TUTTI_ERR_PEER_LOST rank 0: rank 3 lost rank 0\n");
}

static void a_group_of_one_only_knows_its_rendezvous(void **state)
{
    struct trace *t = *state;
    open_in(t, 1, true);
    assert_true(membership_goodbyes_heard(&t->membership));
    for (int i = 0; i < 100; i++) {
        t->now_ms += HEARTBEAT_MS;
        membership_tick(&t->membership, t->now_ms);
    }
    membership_announce(&t->membership);
    assert_heard(t, "");
    say_roll_call(t, GENERATION);
    membership_leave(&t->membership);
    assert_heard(t, "rendezvous present in 0 of generation 3: \"\"\n"
                    "rendezvous goodbye\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TRACE(a_neighbour_that_closes_without_a_goodbye_is_lost),
        TRACE(a_neighbour_whose_connection_breaks_is_lost_for_that_reason),
        TRACE(a_neighbour_that_is_silent_for_too_long_is_lost),
        TRACE(a_control_message_is_a_sign_of_life_too),
        TRACE(neighbours_that_are_still_wiring_are_given_time),
        TRACE(who_was_suspended_judges_nobody_until_it_has_read_what_came_meanwhile),
        TRACE(a_late_tick_does_not_shorten_the_time_for_wiring),
        TRACE(silence_is_judged_between_two_heartbeats_as_well),
        TRACE(a_tick_within_two_heartbeats_is_not_late),
        TRACE(a_side_that_is_gone_is_not_spoken_to),
        TRACE(frames_of_another_group_come_from_a_lost_neighbour),
        TRACE(bytes_of_a_neighbour_that_mean_nothing_are_its_failure),
        TRACE(an_abort_from_a_neighbour_is_the_end_and_goes_to_all_sides),
        TRACE(an_abort_from_the_rendezvous_counts_as_much),
        TRACE(an_abort_of_an_earlier_group_from_the_rendezvous_is_old_news),
        TRACE(a_failure_is_told_once),
        TRACE(what_follows_from_a_failure_is_no_failure),
        TRACE(a_rank_that_was_given_up_is_told_so),
        TRACE(a_rank_that_made_another_call_is_told_the_calls),
        TRACE(a_rank_that_there_is_not_is_not_blamed),
        TRACE(a_group_survives_the_loss_of_its_rendezvous),
        TRACE(whatever_else_a_rendezvous_says_is_ignored),
        TRACE(a_card_goes_to_the_next_rank),
        TRACE(a_card_from_the_previous_rank_is_handed_over_and_not_sent),
        TRACE(cards_go_round_one_way),
        TRACE(a_card_is_a_sign_of_life),
        TRACE(a_normal_end_is_no_failure),
        TRACE(who_has_said_goodbye_may_be_silent),
        TRACE(our_goodbye_does_not_excuse_a_neighbour_without_one),
        TRACE(a_group_can_fail_after_a_neighbour_has_said_goodbye),
        TRACE(a_group_of_one_only_knows_its_rendezvous),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
