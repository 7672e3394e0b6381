/* Traces of the rendezvous as the arbiter: of one group there is never more than one successor. */
#include "rendezvous_trace.h"

static void a_minority_of_an_unknown_group_does_not_become_one(void **state)
{
    struct trace *t = *state;
    t->instance = 42;
    survive(t, 1, "d", of_group(t, 1, 3, 4, 7));
    wait_until(t, TIMEOUT_MS);
    const char *text = heard(t);
    assert_non_null(strstr(text,
                           "1 refused timeout: job 'job' cannot be re-formed: this rendezvous has not seen "
                           "generation 1 of it, and only 1 of the 4 members that may live have come; the "
                           "others (ranks 0-2) may have gone on without them\n"));
    assert_int_equal(rendezvous_active_jobs(t->rendezvous), 0);
}

static void half_of_an_unknown_group_is_not_enough_either(void **state)
{
    struct trace *t = *state;
    t->instance = 42;
    survive(t, 1, "c", of_group(t, 1, 2, 4, 7));
    survive(t, 2, "d", of_group(t, 1, 3, 4, 7));
    wait_until(t, TIMEOUT_MS);
    assert_non_null(strstr(heard(t), "2 refused timeout: "));
}

static void members_of_a_newer_group_take_the_place_of_one_that_was_left_behind(void **state)
{
    struct trace *t = *state;
    t->instance = 42;
    survive(t, 1, "d", of_group(t, 1, 3, 4, 7));
    t->instance = 43;
    survive(t, 2, "a", of_group(t, 2, 0, 2, 9));
    assert_non_null(
        strstr(heard(t), "1 refused refused: job 'job' is at generation 2 now and went on without"));
    survive(t, 3, "c", of_group(t, 2, 1, 2, 9));
    assert_non_null(strstr(heard(t), "3 welcome 1/2 gen 3"));
}

static void who_serves_in_the_place_of_another_proves_that_it_is_gone(void **state)
{
    struct trace *t = *state;
    t->instance = 42;
    Wire__Previous previous = of_group(t, 1, 1, 3, 7);
    struct candidate server = member("b", ANY, 3, "h");
    server.previous = &previous;
    server.serves = true;
    previous.server = 0; /* who aborted and left, so that nobody has it for lost */
    say(t, 1, &server);
    survive(t, 2, "c", of_group(t, 1, 2, 3, 7));
    const char *text = heard(t);
    assert_non_null(strstr(text, "1 welcome 0/2 gen 2"));
    assert_non_null(strstr(text, "2 welcome 1/2 gen 2"));
}

static void who_served_and_serves_still_is_not_gone(void **state)
{
    struct trace *t = *state;
    t->instance = 42;
    Wire__Previous previous = of_group(t, 1, 0, 2, 7);
    struct candidate server = member("a", ANY, 2, "h");
    server.previous = &previous;
    server.serves = true;
    previous.server = 0;
    say(t, 1, &server);
    assert_heard(t, "");
    survive(t, 2, "b", of_group(t, 1, 1, 2, 7));
    assert_non_null(strstr(heard(t), "1 welcome 0/2 gen 2"));
}

static void who_was_given_up_by_all_others_does_not_re_form_alone(void **state)
{
    struct trace *t = *state;
    begin(t, 3);
    say_abort(t, 2, 1, 0, "rank 1 lost rank 0");
    hang_up(t, 2);
    hang_up(t, 3);
    heard(t);
    survive(t, 11, "a", of_group(t, 1, 0, 3, 7));
    wait_until(t, 600);
    assert_non_null(strstr(heard(t),
                           "11 refused refused: generation 1 of job 'job' is over: the others gave up the "
                           "members that want to re-form it, and are not here: rank 1 lost rank 0\n"));
}

static void the_rank_whose_process_serves_is_told_to_all(void **state)
{
    struct trace *t = *state;
    struct candidate server = member("b", 1, 2, "h");
    server.serves = true;
    join(t, 1, "a", 0, 2, "h");
    say(t, 2, &server);
    heard(t);
    assert_int_equal(t->last_server, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TRACE(a_minority_of_an_unknown_group_does_not_become_one),
        TRACE(half_of_an_unknown_group_is_not_enough_either),
        TRACE(members_of_a_newer_group_take_the_place_of_one_that_was_left_behind),
        TRACE(who_serves_in_the_place_of_another_proves_that_it_is_gone),
        TRACE(who_served_and_serves_still_is_not_gone),
        TRACE(who_was_given_up_by_all_others_does_not_re_form_alone),
        TRACE(the_rank_whose_process_serves_is_told_to_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
