/* Traces of the rendezvous: groups that fail, and what their survivors make of them. */
#include <time.h>
#include "rendezvous_trace.h"

/* ---- Abort --------------------------------------------------------------------------------------- */

static void the_first_abort_is_passed_on_to_all_others_and_later_ones_are_not(void **state)
{
    struct trace *t = *state;
    begin(t, 4);
    hang_up(t, 4);
    say_abort(t, 2, 1, 3, "rank 1 lost rank 3");
    assert_heard(t, "1 abort rank 3: rank 1 lost rank 3\n3 abort rank 3: rank 1 lost rank 3\n");
    say_abort(t, 1, 1, 3, "rank 0 lost rank 3");
    say_abort(t, 2, 1, 3, "rank 1 lost rank 3");
    assert_heard(t, "");
}

static void an_abort_of_another_group_is_ignored(void **state)
{
    struct trace *t = *state;
    begin(t, 2);
    say_abort(t, 1, 2, -1, "another generation");
    t->instance++;
    say_abort(t, 1, 1, -1, "another instance");
    assert_heard(t, "");
}

static void a_rank_that_there_is_not_is_no_cause(void **state)
{
    struct trace *t = *state;
    begin(t, 2);
    say_abort(t, 1, 1, 2, "lost somebody");
    assert_heard(t, "2 abort rank -1: lost somebody\n");
}

static void an_abort_travels_whole(void **state)
{
    struct trace *t = *state;
    begin(t, 2);
    Wire__Abort abort = failure(t, 1, 1, "rank 0 lost rank 1");
    abort.from = 0;
    abort.host = (char *)"i";
    abort.operation = (char *)"all_reduce";
    abort.sequence = 17;
    abort.moved_bytes = 4096;
    tell(t, 1, WIRE__CONTROL__BODY_ABORT, &abort);
    assert_heard(t, "2 abort rank 1: rank 0 lost rank 1\n");
    const Wire__Abort *last = &t->last_abort;
    assert_int_equal(last->status, TUTTI_ERR_PEER_LOST);
    assert_int_equal(last->from, 0);
    assert_int_equal(last->sequence, 17);
    assert_int_equal(last->moved_bytes, 4096);
    assert_int_equal(last->instance, t->instance);
    assert_int_equal(last->generation, 1);
}

static void a_member_that_comes_again_to_a_group_that_has_failed_is_told_so(void **state)
{
    struct trace *t = *state;
    struct candidate candidate = member("b", 1, 2, "h");
    join(t, 1, "a", 0, 2, "h");
    candidate.pid = 7;
    say(t, 2, &candidate);
    heard(t);
    say_abort(t, 1, 1, -1, "no");
    assert_heard(t, "2 abort rank -1: no\n");
    say(t, 3, &candidate);
    assert_heard(t, "2 close\n"
                    "3 welcome 1/2 gen 1 local 1/2 hosts 1 next 0 at unix:@a previous 0 at unix:@a\n"
                    "3 abort rank -1: no\n");
    candidate.pid = 8; /* a new process under the old name: no survivor */
    say(t, 4, &candidate);
    assert_heard(t, "");
}

/* ---- Re-forming ---------------------------------------------------------------------------------- */

static void survivors_become_the_next_generation_in_their_old_order(void **state)
{
    struct trace *t = *state;
    begin(t, 4);
    t->now_ms = 1000;
    hang_up(t, 2);
    say_abort(t, 3, 1, 1, "rank 2 lost rank 1");
    heard(t);
    survive(t, 13, "c", of_group(t, 1, 2, 4, 17));
    survive(t, 14, "d", of_group(t, 1, 3, 4, 18));
    assert_heard(t, "3 close\n4 close\n");
    survive(t, 11, "a", of_group(t, 1, 0, 4, 16));
#define REPORT " completed 16-18 lost (rank 1) for: rank 1: rank 2 lost rank 1\n"
    assert_heard(t, "1 close\n"
                    "11 welcome 0/3 gen 2 local 0/3 hosts 1 next 1 at unix:@c previous 2 at unix:@d was 0/4 "
                    "gen 1" REPORT
                    "13 welcome 1/3 gen 2 local 1/3 hosts 1 next 2 at unix:@d previous 0 at unix:@a was 2/4 "
                    "gen 1" REPORT
                    "14 welcome 2/3 gen 2 local 2/3 hosts 1 next 0 at unix:@a previous 1 at unix:@c was 3/4 "
                    "gen 1" REPORT);
    hang_up(t, 11);
    hang_up(t, 13);
    hang_up(t, 14);
    assert_int_equal(rendezvous_active_jobs(t->rendezvous), 0);
}

static void a_failure_that_only_a_survivor_brings_along_is_told_to_the_others(void **state)
{
    struct trace *t = *state;
    begin(t, 3);
    Wire__Previous previous = of_group(t, 1, 0, 3, 4);
    Wire__Abort cause = failure(t, 1, -1, "rank 0: ValueError");
    previous.cause = &cause;
    survive(t, 11, "a", previous);
    assert_heard(t, "1 close\n2 abort rank -1: rank 0: ValueError\n3 abort rank -1: rank 0: ValueError\n");
    survive(t, 12, "b", of_group(t, 1, 1, 3, 4));
    survive(t, 13, "c", of_group(t, 1, 2, 3, 4));
    const char *text = heard(t);
    assert_non_null(strstr(text, "13 welcome 2/3 gen 2"));
    assert_non_null(strstr(text, "was 2/3 gen 1 completed 4-4 lost () for: rank -1: rank 0: ValueError\n"));
}

static void a_survivor_that_says_no_cause_is_the_cause_itself(void **state)
{
    struct trace *t = *state;
    begin(t, 2);
    survive(t, 11, "a", of_group(t, 1, 0, 2, 4));
    assert_heard(t, "1 close\n2 abort rank 0: rank 0 (host h.name, pid 111) re-forms the group of generation "
                    "1 and does not say why it has failed\n");
}

static void who_has_left_is_not_waited_for(void **state)
{
    struct trace *t = *state;
    begin(t, 3);
    say_goodbye(t, 3);
    say_abort(t, 1, 1, -1, "no");
    heard(t);
    survive(t, 11, "a", of_group(t, 1, 0, 3, 1));
    survive(t, 12, "b", of_group(t, 1, 1, 3, 1));
    assert_non_null(strstr(heard(t), "12 welcome 1/2 gen 2"));
}

static void who_is_gone_is_waited_for_for_a_moment(void **state)
{
    struct trace *t = *state;
    begin(t, 3);
    t->now_ms = 1000;
    say_abort(t, 1, 1, -1, "no");
    heard(t);
    survive(t, 11, "a", of_group(t, 1, 0, 3, 1));
    hang_up(t, 2);
    hang_up(t, 3);
    assert_int_equal(wait_until(t, 1400), 1500);
    survive(t, 12, "b", of_group(t, 1, 1, 3, 1)); /* it was about to come on another connection */
    assert_heard(t, "1 close\n");
    wait_until(t, 1500);
    assert_non_null(strstr(heard(t), "12 welcome 1/2 gen 2"));
}

static void who_is_accused_and_gone_is_not_waited_for_at_all(void **state)
{
    struct trace *t = *state;
    begin(t, 2);
    t->now_ms = 1000;
    say_abort(t, 1, 1, 1, "rank 0 lost rank 1");
    hang_up(t, 2);
    heard(t);
    survive(t, 11, "a", of_group(t, 1, 0, 2, 1));
    assert_heard(t,
                 "1 close\n11 welcome 0/1 gen 2 local 0/1 hosts 1 was 0/2 gen 1 completed 1-1 lost (rank 1) "
                 "for: rank 1: rank 0 lost rank 1\n");
}

static void who_is_accused_and_connected_has_a_moment_to_come_and_is_sent_away_then(void **state)
{
    struct trace *t = *state;
    begin(t, 3);
    t->now_ms = 1000;
    say_abort(t, 1, 1, 2, "rank 0 lost rank 2");
    heard(t);
    wait_until(t, 5000);
    assert_heard(t, "");
    survive(t, 11, "a", of_group(t, 1, 0, 3, 1));
    survive(t, 12, "b", of_group(t, 1, 1, 3, 1));
    assert_heard(t, "1 close\n2 close\n");
    assert_int_equal(wait_until(t, 5499), 5500);
    wait_until(t, 5500);
    const char *text = heard(t);
    assert_non_null(strstr(text,
                           "3 refused refused: job 'job' is at generation 2 now and went on without this "
                           "member, which was rank 2 of generation 1; start it as a new member under "
                           "another job name (TUTTI_JOB), or end it\n3 close\n"));
    assert_non_null(strstr(text, "12 welcome 1/2 gen 2"));
    survive(t, 13, "c", of_group(t, 1, 2, 3, 1)); /* it wakes up */
    assert_non_null(
        strstr(heard(t), "13 refused refused: job 'job' is at generation 2 now and went on without"));
}

static void who_is_blamed_for_something_else_or_by_itself_is_waited_for(void **state)
{
    struct trace *t = *state;
    begin(t, 3);
    Wire__Abort mismatch = failure(t, 1, 2, "rank 2 called broadcast");
    mismatch.status = TUTTI_ERR_MISMATCH;
    tell(t, 1, WIRE__CONTROL__BODY_ABORT, &mismatch);
    say_abort(t, 3, 1, 2, "the group gave rank 2 up");
    survive(t, 11, "a", of_group(t, 1, 0, 3, 1));
    survive(t, 12, "b", of_group(t, 1, 1, 3, 1));
    heard(t);
    wait_until(t, TIMEOUT_MS - 1);
    assert_null(strstr(heard(t), "welcome"));
    survive(t, 13, "c", of_group(t, 1, 2, 3, 1));
    assert_non_null(strstr(heard(t), "13 welcome 2/3 gen 2"));
}

static void
who_does_not_even_say_that_it_lives_is_not_waited_for_longer_than_a_neighbour_may_be_silent(void **state)
{
    struct trace *t = *state;
    begin(t, 4);
    say_abort(t, 1, 1, -1, "no");
    heard(t);
    survive_impatiently(t, 11, "a", of_group(t, 1, 0, 4, 1), 5000);
    assert_heard(t, "1 close\n2 roll call gen 1\n3 roll call gen 1\n4 roll call gen 1\n");
    Wire__Present present = WIRE__PRESENT__INIT; /* it lives, and is merely late */
    present.generation = 1;
    tell(t, 3, WIRE__CONTROL__BODY_PRESENT, &present);
    survive_impatiently(t, 12, "b", of_group(t, 1, 1, 4, 1), 3000);
    assert_heard(t, "2 close\n");
    wait_until(t, 5000); /* the fourth is stopped or cut off: not awaited any more, but the third is */
    assert_heard(t, "");
    survive_impatiently(t, 13, "c", of_group(t, 1, 2, 4, 1), 5000);
    const char *text = heard(t);
    assert_non_null(strstr(text, "4 refused refused: job 'job' is at generation 2 now and went on without"));
    assert_non_null(strstr(text, "13 welcome 2/3 gen 2"));
}

static void who_comes_before_the_silence_is_too_long_survives(void **state)
{
    struct trace *t = *state;
    begin(t, 2);
    say_abort(t, 1, 1, -1, "no");
    survive_impatiently(t, 11, "a", of_group(t, 1, 0, 2, 1), 5000);
    wait_until(t, 4999);
    heard(t);
    survive_impatiently(t, 12, "b", of_group(t, 1, 1, 2, 1), 5000);
    assert_non_null(strstr(heard(t), "12 welcome 1/2 gen 2"));
}

static void two_members_that_lost_only_each_other_both_survive(void **state)
{
    struct trace *t = *state;
    begin(t, 2);
    t->now_ms = 1000;
    say_abort(t, 1, 1, 1, "rank 0 lost rank 1");
    say_abort(t, 2, 1, 0, "rank 1 lost rank 0");
    heard(t);
    survive(t, 11, "a", of_group(t, 1, 0, 2, 1));
    wait_until(t, 1100);
    survive(t, 12, "b", of_group(t, 1, 1, 2, 1));
    assert_non_null(strstr(heard(t), "12 welcome 1/2 gen 2"));
}

static void the_shortest_patience_of_a_survivor_ends_the_waiting_and_the_others_are_left_behind(void **state)
{
    struct trace *t = *state;
    begin(t, 4);
    t->now_ms = 1000;
    say_abort(t, 1, 1, -1, "no");
    heard(t);
    Wire__Previous previous = of_group(t, 1, 1, 4, 1);
    struct candidate candidate = member("b", ANY, 4, "h");
    candidate.previous = &previous;
    candidate.timeout_ms = 3000;
    survive(t, 11, "a", of_group(t, 1, 0, 4, 1));
    say(t, 12, &candidate);
    heard(t);
    assert_int_equal(wait_until(t, 3999), 4000);
    wait_until(t, 4000);
    const char *text = heard(t);
    assert_non_null(strstr(text, "3 refused refused: job 'job' is at generation 2 now and went on without"));
    assert_non_null(strstr(text, "4 refused refused: job 'job' is at generation 2 now and went on without"));
    assert_non_null(strstr(text, "11 welcome 0/2 gen 2"));
    assert_non_null(strstr(text, "completed 1-1 lost (ranks 2-3) for"));
    survive(t, 13, "c", of_group(t, 1, 2, 4, 1));
    assert_heard(t, "13 refused refused: job 'job' is at generation 2 now and went on without this member, "
                    "which was rank 2 of generation 1; start it as a new member under another job name "
                    "(TUTTI_JOB), or end it\n13 close\n");
}

static void who_has_not_come_yet_is_named_to_each_survivor_once(void **state)
{
    struct trace *t = *state;
    begin(t, 6);
    say_abort(t, 1, 1, 5, "rank 0 lost rank 5");
    hang_up(t, 6);
    t->now_ms = 1000;
    survive(t, 11, "a", of_group(t, 1, 0, 6, 1));
    t->now_ms = 2000;
    survive(t, 12, "b", of_group(t, 1, 1, 6, 1));
    survive(t, 14, "d", of_group(t, 1, 3, 6, 1));
    heard(t);
    wait_until(t, 11000);
    assert_heard(t, "11 waiting: 3 of 5 survivors have come to re-form job 'job'; not yet: ranks 2, 4\n");
    wait_until(t, 12000);
    assert_heard(t, "12 waiting: 3 of 5 survivors have come to re-form job 'job'; not yet: ranks 2, 4\n"
                    "14 waiting: 3 of 5 survivors have come to re-form job 'job'; not yet: ranks 2, 4\n");
    assert_int_equal(wait_until(t, 13000), 1000 + TIMEOUT_MS);
    assert_heard(t, "");
}

static void a_survivor_that_hangs_up_is_gone_and_the_last_one_lets_the_job_rest(void **state)
{
    struct trace *t = *state;
    begin(t, 3);
    say_abort(t, 1, 1, -1, "no");
    survive(t, 11, "a", of_group(t, 1, 0, 3, 1));
    survive(t, 12, "b", of_group(t, 1, 1, 3, 1));
    heard(t);
    t->now_ms = 1000;
    hang_up(t, 11);
    hang_up(t, 12);
    survive(t, 22, "b", of_group(t, 1, 1, 3, 1));
    survive(t, 23, "c", of_group(t, 1, 2, 3, 1));
    assert_heard(t, "3 close\n");
    wait_until(t, 1500);
    assert_non_null(strstr(heard(t), "22 welcome 0/2 gen 2"));
    say_abort(t, 22, 2, -1, "no");
    survive(t, 32, "b", of_group(t, 2, 0, 2, 1));
    hang_up(t, 32);
    hang_up(t, 23);
    assert_int_equal(rendezvous_active_jobs(t->rendezvous), 0);
}

static void a_group_that_fails_again_and_again_shrinks_to_one(void **state)
{
    struct trace *t = *state;
    begin(t, 3);
    for (uint32_t generation = 1; generation <= 2; generation++) {
        uint32_t size = 4 - generation;
        uint64_t at = 10 * generation; /* connections of this round */
        say_abort(t, at - 9, generation, (int)size - 1, "lost the last");
        hang_up(t, at - 10 + size);
        heard(t);
        for (uint32_t rank = 0; rank + 1 < size; rank++) {
            char id[2] = {(char)('a' + rank)};
            survive(t, at + 1 + rank, id, of_group(t, generation, rank, size, generation));
        }
    }
    assert_heard(t,
                 "11 close\n21 welcome 0/1 gen 3 local 0/1 hosts 1 was 0/2 gen 2 completed 2-2 lost (rank 1) "
                 "for: rank 1: lost the last\n");
    hang_up(t, 21);
    join(t, 1, "a", ANY, 1, "h"); /* the seat is remembered, the report is not */
    assert_heard(t, "1 welcome 0/1 gen 4 local 0/1 hosts 1\n");
}

static void hosts_are_counted_anew(void **state)
{
    struct trace *t = *state;
    join(t, 1, "a", 0, 3, "i");
    join(t, 2, "b", 1, 3, "j");
    join(t, 3, "c", 2, 3, "j");
    say_abort(t, 3, 1, 1, "rank 2 lost rank 1");
    hang_up(t, 2);
    heard(t);
    survive(t, 13, "c", of_group(t, 1, 2, 3, 0));
    survive(t, 11, "a", of_group(t, 1, 0, 3, 0)); /* both are on "h" by now */
    const char *text = heard(t);
    assert_non_null(strstr(text, "11 welcome 0/2 gen 2 local 0/2 hosts 1 next 1 at unix:@c"));
    assert_non_null(strstr(text, "13 welcome 1/2 gen 2 local 1/2 hosts 1 next 0 at unix:@a"));
}

static void the_seats_of_the_new_group_are_remembered(void **state)
{
    struct trace *t = *state;
    begin(t, 3);
    say_abort(t, 1, 1, 0, "lost");
    survive(t, 13, "c", of_group(t, 1, 2, 3, 0));
    survive(t, 12, "b", of_group(t, 1, 1, 3, 0));
    hang_up(t, 1);
    wait_until(t, 500);
    say_goodbye(t, 12);
    say_goodbye(t, 13);
    heard(t);
    join(t, 23, "c", ANY, 2, "h");
    join(t, 22, "b", ANY, 2, "h");
    assert_heard(t, "22 welcome 0/2 gen 3 local 0/2 hosts 1 next 1 at unix:@c previous 1 at unix:@c\n"
                    "23 welcome 1/2 gen 3 local 1/2 hosts 1 next 0 at unix:@b previous 0 at unix:@b\n");
}

/* ---- Nobody comes -------------------------------------------------------------------------------- */

static void a_failed_job_rests_when_only_the_accused_are_left_and_strangers_take_over(void **state)
{
    struct trace *t = *state;
    begin(t, 2);
    t->now_ms = 1000;
    say_abort(t, 1, 1, 1, "rank 0 lost rank 1");
    join(t, 3, "x", 0, 2, "h");
    join(t, 4, "y", 1, 2, "h");
    heard(t);
    hang_up(t, 1);
    assert_int_equal(wait_until(t, 1100), 1500);
    assert_heard(t, "");
    wait_until(t, 1500);
    assert_heard(
        t, "2 refused refused: generation 1 of job 'job' is over: it has failed and all others have gone; "
           "they gave this member up: rank 0 lost rank 1\n2 close\n"
           "3 welcome 0/2 gen 2 local 0/2 hosts 1 next 1 at unix:@y previous 1 at unix:@y\n"
           "4 welcome 1/2 gen 2 local 1/2 hosts 1 next 0 at unix:@x previous 0 at unix:@x\n");
}

static void strangers_wait_for_what_becomes_of_a_job_that_has_failed(void **state)
{
    struct trace *t = *state;
    struct candidate impatient = member("y", ANY, 2, "h");
    impatient.timeout_ms = 2500;
    begin(t, 2);
    say_abort(t, 1, 1, -1, "no");
    join(t, 3, "x", 0, 2, "h");
    say(t, 4, &impatient);
    survive(t, 11, "a", of_group(t, 1, 0, 2, 0));
    heard(t);
    assert_int_equal(wait_until(t, 2499), 2500);
    assert_heard(t, "");
    wait_until(t, 2500);
    assert_heard(
        t, "4 refused refused: job 'job' has failed, and its survivors are re-forming it or have not left; "
           "join another group under another job name (TUTTI_JOB), or end what is left of this one\n"
           "4 close\n");
    survive(t, 12, "b", of_group(t, 1, 1, 2, 0)); /* the job is complete again */
    heard(t);
    assert_int_equal(wait_until(t, 3499), 3500);
    wait_until(t, 3500);
    assert_non_null(strstr(heard(t), "3 refused refused: job 'job' is complete and running with 2 ranks"));
}

/* ---- Size ---------------------------------------------------------------------------------------- */

static void a_job_of_4096_ranks_re_forms_in_near_linear_time(void **state)
{
    struct trace *t = *state;
    char id[16];
    const uint32_t size = RENDEZVOUS_SIZE_MAX;
    t->silent = true;
    for (uint32_t i = 0; i < size; i++) {
        snprintf(id, sizeof id, "m%u", i);
        join(t, i + 1, id, (int)i, size, "h");
    }
    clock_t begin_time = clock();
    for (uint32_t i = 0; i < size; i++) { /* the upper half dies, everybody tells */
        if (i >= size / 2)
            hang_up(t, i + 1);
        else
            say_abort(t, i + 1, 1, (int)(size / 2), "lost");
        wait_until(t, i / 100);
    }
    long before = t->sends;
    for (uint32_t i = 0; i < size / 2; i++) {
        snprintf(id, sizeof id, "m%u", i);
        survive(t, size + 1 + i, id, of_group(t, 1, i, size, i));
        wait_until(t, 50 + i / 100);
    }
    wait_until(t, 1000);
    double seconds = (double)(clock() - begin_time) / CLOCKS_PER_SEC;
    print_message("%u ranks shrink to their half: %.3f s\n", size, seconds);
    assert_int_equal(t->sends - before, size / 2); /* welcomes */
    assert_true(seconds < 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TRACE(the_first_abort_is_passed_on_to_all_others_and_later_ones_are_not),
        TRACE(an_abort_of_another_group_is_ignored),
        TRACE(a_rank_that_there_is_not_is_no_cause),
        TRACE(an_abort_travels_whole),
        TRACE(a_member_that_comes_again_to_a_group_that_has_failed_is_told_so),
        TRACE(survivors_become_the_next_generation_in_their_old_order),
        TRACE(a_failure_that_only_a_survivor_brings_along_is_told_to_the_others),
        TRACE(a_survivor_that_says_no_cause_is_the_cause_itself),
        TRACE(who_has_left_is_not_waited_for),
        TRACE(who_is_gone_is_waited_for_for_a_moment),
        TRACE(who_is_accused_and_gone_is_not_waited_for_at_all),
        TRACE(who_is_accused_and_connected_has_a_moment_to_come_and_is_sent_away_then),
        TRACE(who_is_blamed_for_something_else_or_by_itself_is_waited_for),
        TRACE(who_does_not_even_say_that_it_lives_is_not_waited_for_longer_than_a_neighbour_may_be_silent),
        TRACE(who_comes_before_the_silence_is_too_long_survives),
        TRACE(two_members_that_lost_only_each_other_both_survive),
        TRACE(the_shortest_patience_of_a_survivor_ends_the_waiting_and_the_others_are_left_behind),
        TRACE(who_has_not_come_yet_is_named_to_each_survivor_once),
        TRACE(a_survivor_that_hangs_up_is_gone_and_the_last_one_lets_the_job_rest),
        TRACE(a_group_that_fails_again_and_again_shrinks_to_one),
        TRACE(hosts_are_counted_anew),
        TRACE(the_seats_of_the_new_group_are_remembered),
        TRACE(a_failed_job_rests_when_only_the_accused_are_left_and_strangers_take_over),
        TRACE(strangers_wait_for_what_becomes_of_a_job_that_has_failed),
        TRACE(a_job_of_4096_ranks_re_forms_in_near_linear_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
