#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/error.h"
#include "group/lateness.h"

#define MS           INT64_C(1000000)
#define START_NS     (1000000 * MS) /* all times below are milliseconds after it */
#define DUE_MS       2000
#define STRAGGLER_MS 500
#define HEARTBEAT_MS 400

/* Rank 2 of 4 in an all_reduce with a deadline of 2 s, which waits for data from rank 1, a ring neighbour.
 * That one has not made the call, as far as is known; the other one, rank 3, has. */
struct world {
    struct group_place place;
    struct membership membership;
    struct operation operation;
    struct lateness lateness;
    struct lateness_view view;
    struct tutti_error error;
};

static int set_up(void **state)
{
    static struct world world;
    struct world *w = &world;
    memset(w, 0, sizeof *w);
    w->place = (struct group_place){.rank = 2,
                                    .size = 4,
                                    .next = {.rank = 3, .text = "rank 3 (host b, pid 4711)"},
                                    .previous = {.rank = 1, .text = "rank 1 (host a, pid 17)"}};
    w->membership.place = &w->place;
    w->membership.open[SIDE_NEXT] = w->membership.open[SIDE_PREVIOUS] = true;
    w->membership.open[SIDE_RENDEZVOUS] = true;
    w->membership.heartbeat_ms = HEARTBEAT_MS;
    w->membership.heard_latest[SIDE_NEXT] = 17;
    w->membership.heard_latest[SIDE_PREVIOUS] = 16;
    w->operation.call = (struct fingerprint){TUTTI_ALL_REDUCE, TUTTI_FLOAT32, TUTTI_SUM, .count = 4};
    w->operation.sequence = 17;
    w->operation.started_ns = START_NS;
    w->operation.deadline_ns = START_NS + DUE_MS * MS;
    w->operation.wait = (struct operation_wait){.from = 1, .to = -1};
    w->view = (struct lateness_view){.operation = &w->operation,
                                     .due_ns = w->operation.deadline_ns,
                                     .straggler_after_ns = STRAGGLER_MS * MS,
                                     .membership = &w->membership,
                                     .peer = 1,
                                     .peer_text = w->place.previous.text};
    *state = w;
    return 0;
}

static const char *step_name(enum lateness_step step)
{
    static const char *const names[] = {"none", "announce", "warn", "ask", "expire"};
    return names[step];
}

static void assert_step(struct world *w, int64_t at_ms, enum lateness_step expected)
{
    memset(&w->error, 0, sizeof w->error);
    enum lateness_step step = lateness_judge(&w->lateness, &w->view, START_NS + at_ms * MS, &w->error);
    if (step != expected)
        fail_msg("at %d ms: %s instead of %s", (int)at_ms, step_name(step), step_name(expected));
}

/* A shell that sleeps exactly until it must look again: writes down what it is told to do, until the end. */
static const char *live(struct world *w)
{
    static char text[1000];
    size_t used = 0;
    int64_t now_ns = START_NS;
    text[0] = '\0';
    for (int looks = 0; looks < 100; looks++) {
        enum lateness_step step = lateness_judge(&w->lateness, &w->view, now_ns, &w->error);
        if (step == LATENESS_NONE) {
            int64_t next_ns = lateness_next_ns(&w->lateness, &w->view, now_ns);
            assert_true(next_ns > now_ns); /* else the shell would spin */
            now_ns = next_ns;
            continue;
        }
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%d %s", used > 0 ? ", " : "",
                                 (int)((now_ns - START_NS) / MS), step_name(step));
        assert_true(used < sizeof text);
        if (step == LATENESS_EXPIRE)
            return text;
    }
    fail_msg("it never ends: %s", text);
    return text;
}

static void has_called(struct world *w, enum membership_side side)
{
    w->membership.heard_latest[side] = 17;
}

static void has_not_called(struct world *w, enum membership_side side)
{
    w->membership.heard_latest[side] = 16;
}

static void waits_to_send_to_the_next_rank(struct world *w)
{
    w->operation.wait = (struct operation_wait){.from = -1, .to = 3};
    w->view.peer = 3;
    w->view.peer_text = w->place.next.text;
}

/* Which no heartbeat speaks of. */
static void waits_for_a_rank_across_the_ring(struct world *w)
{
    w->operation.wait = (struct operation_wait){.from = 0, .to = -1};
    w->view.peer = 0;
    w->view.peer_text = "rank 0 (host c, pid 9)";
    has_called(w, SIDE_PREVIOUS);
}

static void does_not_wait(struct world *w)
{
    w->operation.wait = (struct operation_wait){.from = -1, .to = -1};
    w->view.peer = -1;
    w->view.peer_text = "";
}

static void the_rendezvous_is_gone(struct world *w)
{
    w->membership.open[SIDE_RENDEZVOUS] = false;
}

/* ---- The life of a call that hangs --------------------------------------------------------------- */

static void a_late_neighbour_is_announced_to_warned_about_asked_after_and_named(void **state)
{
    struct world *w = *state;
    assert_string_equal(live(w), "20 announce, 500 warn, 2000 ask, 2300 expire");
    assert_int_equal(w->error.code, TUTTI_ERR_TIMEOUT);
    assert_int_equal(w->error.rank, 1);
    assert_string_equal(
        w->error.message,
        "did not complete within 2.0 s, its deadline: waiting for data from rank 1 (host a, pid "
        "17), which has not made this call");
}

static void without_a_rendezvous_who_knows_the_late_rank_names_it_at_once(void **state)
{
    struct world *w = *state;
    the_rendezvous_is_gone(w);
    assert_string_equal(live(w), "20 announce, 500 warn, 2000 expire");
    assert_int_equal(w->error.rank, 1);
}

static void who_knows_less_lets_the_others_speak_first(void **state)
{
    struct world *w = *state;
    has_called(w, SIDE_PREVIOUS);
    assert_string_equal(live(w), "20 announce, 2000 ask, 2600 expire");
    assert_int_equal(w->error.rank, -1);
    assert_string_equal(
        w->error.message,
        "did not complete within 2.0 s, its deadline: waiting for data from rank 1 (host a, pid "
        "17), which has made this call and waits as well: another rank is late");
}

static void who_knows_less_waits_without_a_rendezvous_too(void **state)
{
    struct world *w = *state;
    has_called(w, SIDE_PREVIOUS);
    the_rendezvous_is_gone(w);
    assert_string_equal(live(w), "20 announce, 2300 expire");
    assert_int_equal(w->error.rank, -1);
}

static void a_rendezvous_that_goes_away_while_it_is_asked_is_not_waited_for(void **state)
{
    struct world *w = *state;
    w->lateness.announced = w->lateness.warned = true;
    assert_step(w, 2000, LATENESS_ASK);
    assert_step(w, 2001, LATENESS_NONE);
    the_rendezvous_is_gone(w);
    assert_step(w, 2002, LATENESS_EXPIRE);
    assert_int_equal(w->error.rank, 1);
}

static void a_call_that_waits_to_send_suspects_whom_it_sends_to(void **state)
{
    struct world *w = *state;
    waits_to_send_to_the_next_rank(w);
    has_called(w, SIDE_PREVIOUS);
    has_not_called(w, SIDE_NEXT);
    the_rendezvous_is_gone(w);
    assert_string_equal(live(w), "20 announce, 500 warn, 2000 expire");
    assert_int_equal(w->error.rank, 3);
    assert_non_null(strstr(w->error.message, "waiting to send to rank 3 (host b, pid 4711), which has not"));
}

static void a_call_that_still_moves_data_at_its_deadline_blames_nobody(void **state)
{
    struct world *w = *state;
    does_not_wait(w);
    has_not_called(w, SIDE_NEXT);
    the_rendezvous_is_gone(w);
    assert_string_equal(live(w), "20 announce, 2300 expire");
    assert_int_equal(w->error.rank, -1);
    assert_string_equal(w->error.message, "did not complete within 2.0 s, its deadline: still moving data");
}

static void a_group_of_one_only_knows_its_deadline(void **state)
{
    struct world *w = *state;
    w->view.membership = NULL;
    assert_string_equal(live(w), "2000 expire");
    assert_string_equal(w->error.message, "did not complete within 2.0 s, its deadline: still moving data");

    set_up(state); /* one that is left of several still has a rendezvous */
    w->place.size = 1;
    assert_string_equal(live(w), "2000 expire");
    assert_int_equal(w->error.rank, -1);
}

/* ---- A rank across the ring, of which no heartbeat speaks --------------------------------------- */

static void a_rank_across_the_ring_may_be_late_or_wait_as_well(void **state)
{
    struct world *w = *state;
    waits_for_a_rank_across_the_ring(w);
    assert_string_equal(live(w), "20 announce, 500 warn, 2000 ask, 2600 expire");
    assert_int_equal(w->error.rank, -1); /* it may be innocent */
    assert_string_equal(w->error.message,
                        "did not complete within 2.0 s, its deadline: waiting for data from rank 0 (host c, "
                        "pid 9), which may be late or wait as well");
}

static void without_a_rendezvous_those_beside_the_rank_across_the_ring_speak_first(void **state)
{
    struct world *w = *state;
    waits_for_a_rank_across_the_ring(w);
    the_rendezvous_is_gone(w);
    assert_string_equal(live(w), "20 announce, 500 warn, 2300 expire");
    assert_int_equal(w->error.rank, -1);
}

static void a_warning_about_a_rank_across_the_ring_says_what_is_not_known(void **state)
{
    struct world *w = *state;
    waits_for_a_rank_across_the_ring(w);
    assert_step(w, 600, LATENESS_ANNOUNCE);
    assert_step(w, 600, LATENESS_WARN);
    assert_int_equal(w->error.rank, 0);
    assert_string_equal(
        w->error.message,
        "all_reduce (operation 17) has been under way for 0.6 s, waiting for data from rank 0 "
        "(host c, pid 9), which may be late or wait as well; its deadline is 2.0 s");
}

static void a_neighbour_that_has_not_called_is_to_blame_whomever_this_rank_waits_for(void **state)
{
    for (int side = 0; side < SIDE_NEIGHBOURS; side++) {
        set_up(state);
        struct world *w = *state;
        waits_for_a_rank_across_the_ring(w);
        has_not_called(w, side);
        assert_string_equal(live(w), "20 announce, 500 warn, 2000 ask, 2300 expire");
        assert_int_equal(w->error.rank, side == SIDE_NEXT ? 3 : 1);
        assert_string_equal(w->error.message, side == SIDE_NEXT
                                                  ? "did not complete within 2.0 s, its deadline: waiting "
                                                    "for rank 3 (host b, pid 4711), which has not made this "
                                                    "call"
                                                  : "did not complete within 2.0 s, its deadline: waiting "
                                                    "for rank 1 (host a, pid 17), which has not made this "
                                                    "call");
    }
}

static void who_knows_a_late_neighbour_names_it_at_once_where_there_is_no_rendezvous(void **state)
{
    struct world *w = *state;
    waits_for_a_rank_across_the_ring(w);
    has_not_called(w, SIDE_NEXT);
    the_rendezvous_is_gone(w);
    assert_string_equal(live(w), "20 announce, 500 warn, 2000 expire");
    assert_int_equal(w->error.rank, 3);
}

static void a_neighbour_has_two_heartbeats_to_say_that_it_has_called(void **state)
{
    struct world *w = *state;
    waits_for_a_rank_across_the_ring(w);
    has_not_called(w, SIDE_PREVIOUS);
    w->view.straggler_after_ns = 2 * HEARTBEAT_MS * MS;
    w->lateness.announced = true;
    assert_step(w, 2 * HEARTBEAT_MS, LATENESS_WARN);
    assert_int_equal(w->error.rank, 0);
    w->lateness.warned = false;
    assert_step(w, 2 * HEARTBEAT_MS + 1, LATENESS_WARN);
    assert_int_equal(w->error.rank, 1);
    assert_non_null(strstr(w->error.message, "waiting for rank 1 (host a, pid 17), which has not made this"));
}

static void a_neighbour_that_is_waited_for_would_have_said_at_once_that_it_has_called(void **state)
{
    struct world *w = *state;
    w->view.straggler_after_ns = 30 * MS;
    assert_step(w, 30, LATENESS_ANNOUNCE);
    assert_step(w, 30, LATENESS_WARN);
    assert_int_equal(w->error.rank, 1);
}

static void of_two_neighbours_that_have_not_called_the_one_waited_for_is_named(void **state)
{
    struct world *w = *state;
    has_not_called(w, SIDE_NEXT);
    live(w);
    assert_int_equal(w->error.rank, 1);
    set_up(state);
    waits_to_send_to_the_next_rank(w);
    has_not_called(w, SIDE_NEXT);
    live(w);
    assert_int_equal(w->error.rank, 3);
}

static void when_the_one_waited_for_waits_as_well_the_other_neighbour_may_be_to_blame(void **state)
{
    struct world *w = *state;
    has_called(w, SIDE_PREVIOUS);
    has_not_called(w, SIDE_NEXT);
    assert_string_equal(live(w), "20 announce, 2000 ask, 2300 expire");
    assert_int_equal(w->error.rank, 3);
    assert_non_null(strstr(w->error.message, "waiting for rank 3 (host b, pid 4711), which has not made"));
}

/* ---- A communicator that was split from another --------------------------------------------------- */

static void a_call_of_a_child_is_neither_announced_nor_asked_after(void **state)
{
    struct world *w = *state;
    w->view.is_child = true;
    assert_string_equal(live(w), "500 warn, 2300 expire");
    assert_int_equal(w->error.rank, -1);
    assert_string_equal(w->error.message,
                        "did not complete within 2.0 s, its deadline: waiting for data from rank 1 (host a, "
                        "pid 17), which may be late or wait as well");
}

/* Its calls have numbers of their own. */
static void what_neighbours_say_of_the_calls_of_the_root_is_nothing_about_those_of_a_child(void **state)
{
    struct world *w = *state;
    w->view.is_child = true;
    for (int side = 0; side < SIDE_NEIGHBOURS; side++) {
        has_called(w, SIDE_NEXT);
        has_called(w, SIDE_PREVIOUS);
        has_not_called(w, side);
        w->lateness = (struct lateness){0};
        assert_string_equal(live(w), "500 warn, 2300 expire");
        assert_int_equal(w->error.rank, -1);
    }
}

static void a_call_of_a_child_that_still_moves_data_blames_nobody(void **state)
{
    struct world *w = *state;
    w->view.is_child = true;
    does_not_wait(w);
    assert_string_equal(live(w), "2300 expire");
    assert_int_equal(w->error.rank, -1);
}

/* ---- Steps ------------------------------------------------------------------------------------- */

static void nothing_is_said_before_its_time(void **state)
{
    struct world *w = *state;
    assert_step(w, 19, LATENESS_NONE);
    assert_step(w, 20, LATENESS_ANNOUNCE);
    assert_step(w, 499, LATENESS_NONE);
    assert_step(w, 500, LATENESS_WARN);
    assert_step(w, 1999, LATENESS_NONE);
    assert_step(w, 2000, LATENESS_ASK);
    assert_step(w, 2000, LATENESS_NONE);
    assert_step(w, 2299, LATENESS_NONE);
    assert_step(w, 2300, LATENESS_EXPIRE);
}

static void a_warning_names_the_late_rank_and_the_deadline(void **state)
{
    struct world *w = *state;
    assert_step(w, 600, LATENESS_ANNOUNCE);
    assert_step(w, 600, LATENESS_WARN);
    assert_string_equal(
        w->error.message,
        "all_reduce (operation 17) has been under way for 0.6 s, waiting for data from rank 1 "
        "(host a, pid 17), which has not made this call; its deadline is 2.0 s");
    w->operation.call = (struct fingerprint){.operation = TUTTI_BARRIER, .count = 1};
    w->lateness.warned = false;
    assert_step(w, 600, LATENESS_WARN);
    assert_non_null(strstr(w->error.message, "finalize (operation 17) has been under way"));
}

static void only_the_rank_beside_the_late_one_warns(void **state)
{
    struct world *w = *state;
    has_called(w, SIDE_PREVIOUS);
    assert_step(w, 600, LATENESS_ANNOUNCE);
    assert_step(w, 600, LATENESS_NONE);
    assert_true(w->lateness.warned);
}

static void an_error_is_not_preceded_by_a_warning_of_the_same(void **state)
{
    struct world *w = *state;
    w->view.straggler_after_ns = DUE_MS * MS;
    assert_string_equal(live(w), "20 announce, 2000 ask, 2300 expire");
}

static void the_deadline_of_a_call_behind_counts_too(void **state)
{
    struct world *w = *state;
    w->view.due_ns = START_NS + 1000 * MS;
    assert_string_equal(live(w), "20 announce, 500 warn, 1000 ask, 1300 expire");
    assert_non_null(
        strstr(w->error.message,
               "did not complete within 1.0 s, when the deadline of a call behind it passed: waiting"));
}

static void who_looks_late_asks_and_waits_before_it_judges(void **state)
{
    struct world *w = *state;
    w->lateness.announced = true;
    /* It was stopped for ten seconds; the others may have ended the group, and that is still unread. */
    assert_step(w, 12000, LATENESS_ASK);
    assert_step(w, 12000, LATENESS_NONE);
    assert_true(lateness_next_ns(&w->lateness, &w->view, START_NS + 12000 * MS) == START_NS + 12600 * MS);
    assert_step(w, 12599, LATENESS_NONE);
    assert_step(w, 12600, LATENESS_EXPIRE);
}

static void who_looks_late_waits_without_a_rendezvous_too(void **state)
{
    struct world *w = *state;
    w->lateness.announced = true;
    the_rendezvous_is_gone(w);
    assert_step(w, 12000, LATENESS_NONE);
    assert_step(w, 12299, LATENESS_NONE);
    assert_step(w, 12300, LATENESS_EXPIRE);
}

static void a_look_that_is_a_little_late_costs_no_patience(void **state)
{
    struct world *w = *state;
    w->lateness.announced = true;
    the_rendezvous_is_gone(w);
    assert_step(w, 2100, LATENESS_EXPIRE);
}

static void a_roll_call_names_all_that_are_missing(void **state)
{
    struct world *w = *state;
    lateness_expire_by_roll_call(
        &w->view, 3, "b",
        "rank 3 (host b, pid 4711), whose last call was all_reduce(sum, 4 x float32) as "
        "operation 16; rank 0 (host a, pid 1), which has made no call yet",
        &w->error);
    assert_int_equal(w->error.code, TUTTI_ERR_TIMEOUT);
    assert_int_equal(w->error.rank, 3);
    assert_string_equal(w->error.host, "b");
    assert_string_equal(
        w->error.message,
        "did not complete within 2.0 s, its deadline: missing: rank 3 (host b, pid 4711), whose "
        "last call was all_reduce(sum, 4 x float32) as operation 16; rank 0 (host a, pid 1), which "
        "has made no call yet");
}

static void a_roll_call_of_thousands_is_cut(void **state)
{
    struct world *w = *state;
    char text[4097];
    memset(text, 'r', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    lateness_expire_by_roll_call(&w->view, 0, "b", text, &w->error);
    assert_int_equal(w->error.rank, 0);
    assert_string_equal(w->error.message + strlen(w->error.message) - 4, "r...");
}

#define LATENESS(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LATENESS(a_late_neighbour_is_announced_to_warned_about_asked_after_and_named),
        LATENESS(without_a_rendezvous_who_knows_the_late_rank_names_it_at_once),
        LATENESS(who_knows_less_lets_the_others_speak_first),
        LATENESS(who_knows_less_waits_without_a_rendezvous_too),
        LATENESS(a_rendezvous_that_goes_away_while_it_is_asked_is_not_waited_for),
        LATENESS(a_call_that_waits_to_send_suspects_whom_it_sends_to),
        LATENESS(a_call_that_still_moves_data_at_its_deadline_blames_nobody),
        LATENESS(a_group_of_one_only_knows_its_deadline),
        LATENESS(a_rank_across_the_ring_may_be_late_or_wait_as_well),
        LATENESS(without_a_rendezvous_those_beside_the_rank_across_the_ring_speak_first),
        LATENESS(a_warning_about_a_rank_across_the_ring_says_what_is_not_known),
        LATENESS(a_neighbour_that_has_not_called_is_to_blame_whomever_this_rank_waits_for),
        LATENESS(who_knows_a_late_neighbour_names_it_at_once_where_there_is_no_rendezvous),
        LATENESS(a_neighbour_has_two_heartbeats_to_say_that_it_has_called),
        LATENESS(a_neighbour_that_is_waited_for_would_have_said_at_once_that_it_has_called),
        LATENESS(of_two_neighbours_that_have_not_called_the_one_waited_for_is_named),
        LATENESS(when_the_one_waited_for_waits_as_well_the_other_neighbour_may_be_to_blame),
        LATENESS(a_call_of_a_child_is_neither_announced_nor_asked_after),
        LATENESS(what_neighbours_say_of_the_calls_of_the_root_is_nothing_about_those_of_a_child),
        LATENESS(a_call_of_a_child_that_still_moves_data_blames_nobody),
        LATENESS(nothing_is_said_before_its_time),
        LATENESS(a_warning_names_the_late_rank_and_the_deadline),
        LATENESS(only_the_rank_beside_the_late_one_warns),
        LATENESS(an_error_is_not_preceded_by_a_warning_of_the_same),
        LATENESS(the_deadline_of_a_call_behind_counts_too),
        LATENESS(who_looks_late_asks_and_waits_before_it_judges),
        LATENESS(who_looks_late_waits_without_a_rendezvous_too),
        LATENESS(a_look_that_is_a_little_late_costs_no_patience),
        LATENESS(a_roll_call_names_all_that_are_missing),
        LATENESS(a_roll_call_of_thousands_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
