/* Traces of the rendezvous: survivors of other generations than it has in mind, and of groups that it does
 * not know. */
#include "rendezvous_trace.h"

/* ---- A group that never came about ----------------------------------------------------------------- */

/* "a" and "c" have been welcomed to generation 2 on connections 11 and 13; "b", rank 1 of 3, is dead. */
static void begin_and_shrink(struct trace *t)
{
    begin(t, 3);
    say_abort(t, 1, 1, 1, "rank 0 lost rank 1");
    hang_up(t, 2);
    survive(t, 11, "a", of_group(t, 1, 0, 3, 7));
    survive(t, 13, "c", of_group(t, 1, 2, 3, 8));
    heard(t);
}

static void a_survivor_whose_welcome_was_lost_is_welcomed_again_to_the_same_group(void **state)
{
    struct trace *t = *state;
    begin(t, 2);
    struct candidate candidate = member("a", ANY, 2, "h");
    Wire__Previous previous = of_group(t, 1, 0, 2, 7);
    candidate.previous = &previous;
    candidate.pid = 5;
    survive(t, 12, "b", of_group(t, 1, 1, 2, 8));
    say(t, 11, &candidate);
    heard(t);
    hang_up(t, 11);
    say(t, 21, &candidate);
    const char *text = heard(t);
    assert_non_null(strstr(text, "21 welcome 0/2 gen 2"));
    assert_non_null(strstr(text, "was 0/2 gen 1 completed 7-8 lost ()"));
    assert_null(strstr(text, "abort"));
    candidate.address = "elsewhere"; /* another attempt: what was assigned did not work */
    say(t, 31, &candidate);
    assert_heard(t, "21 close\n12 abort rank 0: rank 0 (host h.name, pid 5) could not connect its ring in "
                    "generation 2 and re-forms the group\n");
}

static void where_no_ring_was_connected_the_report_is_of_the_group_before(void **state)
{
    struct trace *t = *state;
    begin_and_shrink(t);
    uint64_t instance = t->instance;
    say_abort(t, 11, 2, -1, "rank 0 could not connect its ring in time");
    Wire__Previous previous = of_group(t, 1, 2, 3, 8);
    previous.instance = 1;
    survive(t, 23, "c", previous);
    previous.rank = 0;
    previous.completed = 7;
    heard(t);
    survive(t, 21, "a", previous);
    assert_true(t->instance != instance);
    const char *text = heard(t);
    assert_non_null(strstr(text, "21 welcome 0/2 gen 3"));
    assert_non_null(
        strstr(text, "was 0/3 gen 1 completed 7-8 lost (rank 1) for: rank 1: rank 0 lost rank 1\n"));
    assert_non_null(
        strstr(text, "was 2/3 gen 1 completed 7-8 lost (rank 1) for: rank 1: rank 0 lost rank 1\n"));
}

static void who_reaches_back_further_has_completed_nothing_of_the_group_that_failed(void **state)
{
    struct trace *t = *state;
    begin_and_shrink(t);
    say_abort(t, 11, 2, -1, "no");
    survive(t, 21, "a", of_group(t, 2, 0, 2, 5));
    heard(t);
    Wire__Previous previous = of_group(t, 1, 2, 3, 8);
    survive(t, 23, "c", previous);
    const char *text = heard(t);
    assert_non_null(strstr(text, "was 0/2 gen 2 completed 0-5 lost () for: rank -1: no\n"));
    assert_non_null(strstr(text, "was 1/2 gen 2 completed 0-5 lost () for: rank -1: no\n"));
}

/* ---- Who may not --------------------------------------------------------------------------------- */

static void a_job_that_is_formed_anew_takes_no_survivors_of_the_old_one(void **state)
{
    struct trace *t = *state;
    join(t, 1, "x", 0, 2, "h");
    t->instance = 77;
    survive(t, 2, "a", of_group(t, 4, 1, 2, 1));
    assert_heard(
        t, "2 refused refused: job 'job' is being formed anew by other members, so that this one, which "
           "was rank 1 of generation 4, cannot re-form it; start it as a new member under another job "
           "name (TUTTI_JOB), or end it\n2 close\n");
}

static void a_survivor_that_contradicts_its_own_place_is_refused(void **state)
{
    struct trace *t = *state;
    begin(t, 3);
    Wire__Previous previous = of_group(t, 1, 1, 3, 1);
    survive(t, 11, "a", previous);
    assert_heard(t,
                 "11 refused refused: this member says that it was rank 1 of generation 1 of job 'job', but "
                 "its member id is that of rank 0 (host h.name, pid 101); give every process a TUTTI_MEMBER "
                 "of its own, or none\n11 close\n");
    previous.rank = 0;
    previous.size = 4;
    survive(t, 12, "a", previous);
    assert_heard(t,
                 "12 refused refused: this member re-forms generation 1 of job 'job' (size 4, instance 1), "
                 "but the group that others know here (rank 0 on host h.name (pid 101)) is generation 1 "
                 "(size 3, instance 1); start it as a new member under another job name (TUTTI_JOB), or end "
                 "it\n12 close\n");
    previous.size = 3;
    previous.instance = 5;
    survive(t, 13, "a", previous);
    assert_non_null(strstr(heard(t),
                           "13 refused refused: this member re-forms generation 1 of job 'job' (size "
                           "3, instance 5)"));
    previous.instance = 1;
    previous.generation = 2;
    survive(t, 14, "a", previous);
    assert_non_null(strstr(heard(t), "14 refused refused: this member re-forms generation 2"));
    struct candidate candidate = member("a", ANY, 3, "h");
    previous.generation = 1;
    candidate.previous = &previous;
    candidate.checksum = true;
    say(t, 15, &candidate);
    assert_non_null(strstr(heard(t), "15 refused refused: this member says checksum 1"));
    candidate.checksum = false;
    candidate.agreement = "TUTTI_DETERMINISTIC=1";
    say(t, 16, &candidate);
    assert_non_null(strstr(heard(t), "16 refused refused: this member says TUTTI_DETERMINISTIC=1"));
}

static void a_group_that_cannot_have_been_is_refused(void **state)
{
    struct trace *t = *state;
    t->instance = 3;
    const Wire__Previous wrong[] = {of_group(t, 0, 0, 2, 1), of_group(t, 1, 2, 2, 1), of_group(t, 1, 0, 0, 1),
                                    of_group(t, 1, 0, 4097, 1), of_group(t, 0x80000000u, 0, 2, 1)};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        survive(t, i + 1, "a", wrong[i]);
        assert_non_null(strstr(heard(t),
                               "refused protocol: this member re-forms a group of job 'job' that cannot "
                               "have been"));
    }
    t->instance = 0;
    survive(t, 9, "a", of_group(t, 1, 0, 2, 1));
    assert_non_null(strstr(heard(t), "9 refused protocol"));
    assert_int_equal(rendezvous_active_jobs(t->rendezvous), 0);
}

/* ---- A rendezvous that does not know the group ----------------------------------------------------- */

static void a_new_rendezvous_believes_the_first_survivor(void **state)
{
    struct trace *t = *state;
    t->instance = 42;
    t->now_ms = 1000;
    survive(t, 1, "c", of_group(t, 5, 2, 3, 17));
    survive(t, 2, "a", of_group(t, 5, 0, 3, 16));
    assert_heard(t, "");
    assert_int_equal(wait_until(t, 1000 + WARN_MS), 1000 + TIMEOUT_MS);
    assert_heard(t, "1 waiting: 2 of 3 survivors have come to re-form job 'job'; not yet: rank 1\n"
                    "2 waiting: 2 of 3 survivors have come to re-form job 'job'; not yet: rank 1\n");
    wait_until(t, 1000 + TIMEOUT_MS);
#define ADOPTED                                                                                              \
    " gen 5 completed 16-17 lost (rank 1) for: rank 2: rank 2 (host h.name, pid 101) re-forms the group of " \
    "generation 5 and does not say why it has failed\n"
    assert_heard(
        t, "2 welcome 0/2 gen 6 local 0/2 hosts 1 next 1 at unix:@c previous 1 at unix:@c was 0/3" ADOPTED
           "1 welcome 1/2 gen 6 local 1/2 hosts 1 next 0 at unix:@a previous 0 at unix:@a was "
           "2/3" ADOPTED);
    survive(t, 3, "b", of_group(t, 5, 1, 3, 16));
    assert_non_null(
        strstr(heard(t), "3 refused refused: job 'job' is at generation 6 now and went on without"));
}

static void in_an_unknown_group_too_the_accused_have_a_moment_only(void **state)
{
    struct trace *t = *state;
    t->instance = 42;
    t->now_ms = 1000;
    Wire__Previous previous = of_group(t, 5, 0, 2, 17);
    Wire__Abort cause = failure(t, 5, 1, "rank 0 lost rank 1");
    previous.cause = &cause;
    survive(t, 1, "a", previous);
    assert_int_equal(wait_until(t, 1000), 1500);
    wait_until(t, 1500);
    assert_heard(
        t, "1 welcome 0/1 gen 6 local 0/1 hosts 1 was 0/2 gen 5 completed 17-17 lost (rank 1) for: rank "
           "1: rank 0 lost rank 1\n");
}

static void survivors_of_an_unknown_group_that_contradict_each_other_are_refused_naming_both(void **state)
{
    struct trace *t = *state;
    t->instance = 42;
    survive(t, 1, "a", of_group(t, 5, 0, 3, 17));
    survive(t, 2, "b", of_group(t, 4, 1, 3, 17));
    assert_heard(
        t, "2 refused refused: this member re-forms generation 4 of job 'job' (size 3, instance 2a), but "
           "the group that others know here (rank 0 on host h.name (pid 101)) is generation 5 (size 3, "
           "instance 2a); start it as a new member under another job name (TUTTI_JOB), or end it\n"
           "2 close\n");
    survive(t, 3, "b", of_group(t, 5, 1, 4, 17));
    assert_non_null(
        strstr(heard(t), "3 refused refused: this member re-forms generation 5 of job 'job' (size 4"));
    survive(t, 4, "b", of_group(t, 5, 0, 3, 17));
    assert_heard(
        t, "4 refused refused: this member says that it was rank 0 of generation 5 of job 'job', but that "
           "was rank 0 (host h.name, pid 101); start it as a new member under another job name "
           "(TUTTI_JOB), or end it\n4 close\n");
    survive(t, 5, "a", of_group(t, 5, 1, 3, 17));
    assert_non_null(strstr(heard(t), "5 refused refused: this member says that it was rank 1"));
    survive(t, 6, "a", of_group(t, 5, 0, 3, 17)); /* on another connection */
    assert_heard(t, "1 close\n");
    hang_up(t, 6);
    assert_int_equal(rendezvous_active_jobs(t->rendezvous), 0);
}

static void an_older_generation_than_the_one_remembered_is_refused(void **state)
{
    struct trace *t = *state;
    join(t, 1, "a", 0, 1, "h");
    hang_up(t, 1);
    join(t, 2, "b", 0, 1, "h");
    hang_up(t, 2);
    heard(t);
    survive(t, 3, "a", of_group(t, 1, 0, 1, 3));
    assert_non_null(
        strstr(heard(t), "3 refused refused: job 'job' is at generation 2 now and went on without"));
    survive(t, 4, "b", of_group(t, 2, 0, 1, 3));
    assert_non_null(strstr(heard(t), "4 welcome 0/1 gen 3 local 0/1 hosts 1 was 0/1 gen 2 completed 3-3"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TRACE(a_survivor_whose_welcome_was_lost_is_welcomed_again_to_the_same_group),
        TRACE(where_no_ring_was_connected_the_report_is_of_the_group_before),
        TRACE(who_reaches_back_further_has_completed_nothing_of_the_group_that_failed),
        TRACE(a_job_that_is_formed_anew_takes_no_survivors_of_the_old_one),
        TRACE(a_survivor_that_contradicts_its_own_place_is_refused),
        TRACE(a_group_that_cannot_have_been_is_refused),
        TRACE(a_new_rendezvous_believes_the_first_survivor),
        TRACE(in_an_unknown_group_too_the_accused_have_a_moment_only),
        TRACE(survivors_of_an_unknown_group_that_contradict_each_other_are_refused_naming_both),
        TRACE(an_older_generation_than_the_one_remembered_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
