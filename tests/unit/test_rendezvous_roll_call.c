/* Traces of the rendezvous: who has not made the call in which others wait? */
#include "rendezvous_trace.h"

#define ALL_REDUCE "all_reduce(sum, 4 x float32)"

static void say_late_of(struct trace *t, uint64_t connection, uint32_t generation, uint64_t sequence)
{
    Wire__Late body = WIRE__LATE__INIT;
    body.generation = generation;
    body.sequence = sequence;
    tell(t, connection, WIRE__CONTROL__BODY_LATE, &body);
}

static void say_late(struct trace *t, uint64_t connection, uint64_t sequence)
{
    say_late_of(t, connection, 1, sequence);
}

static void say_present_in(struct trace *t, uint64_t connection, uint32_t generation, uint64_t sequence,
                           const char *call)
{
    char lent[64];
    Wire__Present body = WIRE__PRESENT__INIT;
    snprintf(lent, sizeof lent, "%s", call);
    body.generation = generation;
    body.sequence = sequence;
    body.call = lent;
    tell(t, connection, WIRE__CONTROL__BODY_PRESENT, &body);
    memset(lent, 0xdd, sizeof lent - 1); /* must not be kept */
}

static void say_present(struct trace *t, uint64_t connection, uint64_t sequence, const char *call)
{
    say_present_in(t, connection, 1, sequence, call);
}

/* ---- Happy path ---------------------------------------------------------------------------------- */

static void everyone_is_asked_and_those_behind_are_named_with_their_last_calls(void **state)
{
    struct trace *t = *state;
    begin(t, 4);
    say_late(t, 1, 17);
    assert_heard(t, "1 roll call gen 1\n2 roll call gen 1\n3 roll call gen 1\n4 roll call gen 1\n");
    say_present(t, 1, 17, ALL_REDUCE);
    say_present(t, 2, 18, ALL_REDUCE); /* is ahead */
    say_present(t, 4, 0, "");
    assert_heard(t, "");
    say_present(t, 3, 16, ALL_REDUCE);
    assert_heard(
        t, "1 missing gen 1 in 17: 3 2 (rank 3 (host h.name, pid 104), which has made no call yet; rank 2 "
           "(host h.name, pid 103), whose last call was " ALL_REDUCE " as operation 16)\n");
}

static void nobody_is_missing_where_all_have_made_the_call(void **state)
{
    struct trace *t = *state;
    begin(t, 2);
    say_late(t, 1, 3);
    heard(t);
    say_present(t, 1, 3, ALL_REDUCE);
    say_present(t, 2, 3, ALL_REDUCE);
    assert_heard(t, "1 missing gen 1 in 3: ()\n");
}

static void who_asks_during_a_roll_call_takes_part_in_it_and_is_told_of_its_own_operation(void **state)
{
    struct trace *t = *state;
    begin(t, 3);
    say_late(t, 1, 5);
    heard(t);
    say_late(t, 2, 7);
    say_late(t, 2, 8); /* 7 is the one that is stuck */
    assert_heard(t, "");
    say_present(t, 1, 5, ALL_REDUCE);
    say_present(t, 2, 7, ALL_REDUCE);
    say_present(t, 3, 6, ALL_REDUCE);
#define BEHIND(rank, pid, operation)                                                                         \
    "rank " rank " (host h.name, pid " pid "), whose last call was " ALL_REDUCE " as operation " operation
    assert_heard(t, "1 missing gen 1 in 5: ()\n"
                    "2 missing gen 1 in 7: 0 2 (" BEHIND("0", "101", "5") "; " BEHIND("2", "103", "6") ")\n");
}

static void after_a_roll_call_there_may_be_another(void **state)
{
    struct trace *t = *state;
    begin(t, 2);
    for (uint64_t sequence = 1; sequence <= 2; sequence++) {
        say_late(t, 1, sequence);
        assert_heard(t, "1 roll call gen 1\n2 roll call gen 1\n");
        say_present(t, 1, sequence, ALL_REDUCE);
        say_present(t, 2, 0, "");
        assert_non_null(strstr(heard(t), ": 1 (rank 1 (host h.name, pid 102), which has made no call yet)"));
        say_present(t, 2, 0, ""); /* nobody asked */
    }
    assert_heard(t, "");
}

static void who_holds_up_the_others_is_named_first(void **state)
{
    struct trace *t = *state;
    begin(t, 5);
    say_late(t, 1, 8);
    say_late(t, 4, 6);
    heard(t);
    say_present(t, 1, 8, ALL_REDUCE);
    say_present(t, 2, 7, ALL_REDUCE);
    say_present(t, 3, 5, ALL_REDUCE);
    wait_until(t, 200);
    const char *text = heard(t);
    assert_non_null(strstr(text,
                           "1 missing gen 1 in 8: 4 2 3 1 (rank 4 (host h.name, pid 105), which does not "
                           "answer; rank 2 "));
    assert_non_null(strstr(text,
                           "as operation 5; rank 3 (host h.name, pid 104), which waits in operation 6; rank "
                           "1 (host"));
    assert_non_null(strstr(text, "4 missing gen 1 in 6: 4 2 (rank 4 "));
}

/* ---- Failure modes ------------------------------------------------------------------------------- */

static void who_does_not_answer_in_time_is_missing(void **state)
{
    struct trace *t = *state;
    begin(t, 3);
    t->now_ms = 1000;
    say_late(t, 1, 17);
    heard(t);
    say_present(t, 2, 17, ALL_REDUCE);
    wait_until(t, 1199);
    assert_heard(t, "");
    assert_int_equal(wait_until(t, 1199), 1200);
    wait_until(t, 1200);
    /* The one that asked is in operation 17, though it has not answered either. */
    assert_heard(t, "1 missing gen 1 in 17: 2 (rank 2 (host h.name, pid 103), which does not answer)\n");
    assert_int_equal(wait_until(t, 100000), -1);
}

static void who_is_gone_is_missing_and_not_waited_for(void **state)
{
    struct trace *t = *state;
    begin(t, 4);
    hang_up(t, 3);
    say_late(t, 1, 17);
    assert_heard(t, "1 roll call gen 1\n2 roll call gen 1\n4 roll call gen 1\n");
    say_present(t, 1, 17, ALL_REDUCE);
    say_present(t, 2, 17, ALL_REDUCE);
    hang_up(t, 4);
    assert_heard(t,
                 "1 missing gen 1 in 17: 2 3 (rank 2 (host h.name, pid 103), which does not answer; rank 3 "
                 "(host h.name, pid 104), which does not answer)\n");
}

static void what_was_answered_to_an_earlier_roll_call_does_not_count(void **state)
{
    struct trace *t = *state;
    begin(t, 2);
    say_late(t, 1, 1);
    say_present(t, 1, 1, ALL_REDUCE);
    say_present(t, 2, 7, ALL_REDUCE);
    hang_up(t, 2);
    heard(t);
    say_late(t, 1, 2);
    say_present(t, 1, 2, ALL_REDUCE);
    assert_heard(t, "1 roll call gen 1\n"
                    "1 missing gen 1 in 2: 1 (rank 1 (host h.name, pid 102), which does not answer)\n");
}

static void who_has_left_is_not_missing(void **state)
{
    struct trace *t = *state;
    begin(t, 2);
    say_goodbye(t, 2);
    heard(t);
    say_late(t, 1, 17);
    say_present(t, 1, 17, ALL_REDUCE);
    assert_heard(t, "1 roll call gen 1\n1 missing gen 1 in 17: ()\n");
}

static void an_asker_that_hangs_up_is_not_answered(void **state)
{
    struct trace *t = *state;
    begin(t, 2);
    say_late(t, 1, 17);
    heard(t);
    hang_up(t, 1);
    say_present(t, 2, 17, ALL_REDUCE);
    assert_heard(t, "");
}

static void a_member_on_a_new_connection_does_not_answer_for_the_old_one(void **state)
{
    struct trace *t = *state;
    begin(t, 2);
    say_late(t, 1, 17);
    heard(t);
    say_present(t, 1, 17, ALL_REDUCE);
    join(t, 3, "b", 1, 2, "h");
    const char *text = heard(t);
    assert_non_null(strstr(text, "1 missing gen 1 in 17: 1 (rank 1 (host h.name, pid 102), which does not"));
    assert_non_null(strstr(text, "3 welcome 1/2 gen 1"));
    say_present(t, 3, 17, ALL_REDUCE);
    assert_heard(t, "");
}

static void a_failure_ends_the_roll_call(void **state)
{
    struct trace *t = *state;
    begin(t, 3);
    say_late(t, 1, 17);
    heard(t);
    say_abort(t, 2, 1, -1, "no");
    assert_heard(t, "1 abort rank -1: no\n3 abort rank -1: no\n");
    say_present(t, 1, 17, ALL_REDUCE);
    say_late(t, 3, 17);
    wait_until(t, 100000);
    assert_heard(t, "");
}

static void questions_and_answers_of_another_generation_are_ignored(void **state)
{
    struct trace *t = *state;
    begin(t, 2);
    say_late_of(t, 1, 2, 17);
    say_late(t, 1, 0); /* no operation has that number */
    assert_heard(t, "");
    say_late(t, 1, 17);
    heard(t);
    say_present(t, 1, 17, ALL_REDUCE);
    say_present_in(t, 2, 2, 17, ALL_REDUCE);
    wait_until(t, 200);
    assert_non_null(strstr(heard(t), "1 missing gen 1 in 17: 1 ("));
}

static void eight_are_named_with_their_calls_and_the_others_by_rank(void **state)
{
    struct trace *t = *state;
    begin(t, 21);
    t->now_ms = 1000;
    say_late(t, 1, 17);
    heard(t);
    wait_until(t, 1200);
    const char *text = heard(t);
    assert_non_null(
        strstr(text, "1 missing gen 1 in 17: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 ("));
    assert_non_null(strstr(text, "rank 8 (host h.name, pid 109), which does not answer; and ranks 9-20)\n"));
    assert_null(strstr(text, "rank 9 "));
}

static void the_longest_names_and_calls_fit_a_text(void **state)
{
    struct trace *t = *state;
    char host[100], call[64];
    memset(host, 'h', sizeof host - 1);
    memset(call, 'c', sizeof call - 1);
    host[sizeof host - 1] = call[sizeof call - 1] = '\0';
    for (int rank = 0; rank < 10; rank++) {
        char id[2] = {(char)('a' + rank)};
        join(t, (uint64_t)rank + 1, id, rank, 10, host);
    }
    heard(t);
    say_late(t, 10, UINT64_MAX);
    heard(t);
    for (uint64_t connection = 1; connection <= 10; connection++)
        say_present(t, connection, UINT64_MAX - (connection < 10), call);
    const char *text = heard(t);
    assert_non_null(strstr(text, "as operation 18446744073709551614; and rank 8)\n"));
    assert_true(strlen(text) < 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TRACE(everyone_is_asked_and_those_behind_are_named_with_their_last_calls),
        TRACE(nobody_is_missing_where_all_have_made_the_call),
        TRACE(who_asks_during_a_roll_call_takes_part_in_it_and_is_told_of_its_own_operation),
        TRACE(after_a_roll_call_there_may_be_another),
        TRACE(who_holds_up_the_others_is_named_first),
        TRACE(who_does_not_answer_in_time_is_missing),
        TRACE(who_is_gone_is_missing_and_not_waited_for),
        TRACE(what_was_answered_to_an_earlier_roll_call_does_not_count),
        TRACE(who_has_left_is_not_missing),
        TRACE(an_asker_that_hangs_up_is_not_answered),
        TRACE(a_member_on_a_new_connection_does_not_answer_for_the_old_one),
        TRACE(a_failure_ends_the_roll_call),
        TRACE(questions_and_answers_of_another_generation_are_ignored),
        TRACE(eight_are_named_with_their_calls_and_the_others_by_rank),
        TRACE(the_longest_names_and_calls_fit_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
