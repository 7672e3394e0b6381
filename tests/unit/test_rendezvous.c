/* Traces of the rendezvous: groups that form, again and again, and those that wait. */
#include <time.h>
#include "rendezvous_trace.h"

/* ---- Happy path ---------------------------------------------------------------------------------- */

static void the_last_of_a_job_completes_it_and_all_are_welcomed(void **state)
{
    struct trace *t = *state;
    join(t, 11, "a", 1, 3, "h");
    join(t, 12, "b", 2, 3, "h");
    assert_heard(t, "");
    assert_int_equal(rendezvous_active_jobs(t->rendezvous), 1);
    join(t, 13, "c", 0, 3, "h");
    assert_heard(t, "13 welcome 0/3 gen 1 local 0/3 hosts 1 next 1 at unix:@a previous 2 at unix:@b\n"
                    "11 welcome 1/3 gen 1 local 1/3 hosts 1 next 2 at unix:@b previous 0 at unix:@c\n"
                    "12 welcome 2/3 gen 1 local 2/3 hosts 1 next 0 at unix:@c previous 1 at unix:@a\n");
    hang_up(t, 11);
    hang_up(t, 12);
    assert_int_equal(rendezvous_active_jobs(t->rendezvous), 1);
    hang_up(t, 13);
    assert_int_equal(rendezvous_active_jobs(t->rendezvous), 0);
    assert_heard(t, "");
    assert_int_equal(wait_until(t, 1000000), -1);
}

static void a_group_of_one_has_no_neighbours(void **state)
{
    struct trace *t = *state;
    join(t, 1, "a", ANY, 1, "h");
    assert_heard(t, "1 welcome 0/1 gen 1 local 0/1 hosts 1\n");
}

static void in_a_group_of_two_both_neighbours_are_the_other(void **state)
{
    struct trace *t = *state;
    join(t, 1, "a", ANY, 2, "h");
    join(t, 2, "b", ANY, 2, "i");
    assert_heard(t, "1 welcome 0/2 gen 1 local 0/1 hosts 2 next 1 at unix:@b previous 1 at unix:@b\n"
                    "2 welcome 1/2 gen 1 local 0/1 hosts 2 next 0 at unix:@a previous 0 at unix:@a\n");
}

static void ranks_assigned_on_arrival_are_grouped_by_host(void **state)
{
    struct trace *t = *state;
    join(t, 1, "a", ANY, 4, "h");
    join(t, 2, "b", ANY, 4, "i");
    join(t, 3, "c", ANY, 4, "h");
    join(t, 4, "d", ANY, 4, "i");
    assert_heard(t, "1 welcome 0/4 gen 1 local 0/2 hosts 2 next 1 at unix:@c previous 3 at unix:@d\n"
                    "3 welcome 1/4 gen 1 local 1/2 hosts 2 next 2 at unix:@b previous 0 at unix:@a\n"
                    "2 welcome 2/4 gen 1 local 0/2 hosts 2 next 3 at unix:@d previous 1 at unix:@c\n"
                    "4 welcome 3/4 gen 1 local 1/2 hosts 2 next 0 at unix:@a previous 2 at unix:@b\n");
}

static void explicit_ranks_and_ranks_on_arrival_mix(void **state)
{
    struct trace *t = *state;
    join(t, 1, "a", ANY, 3, "h");
    join(t, 2, "b", 0, 3, "h");
    join(t, 3, "c", ANY, 3, "h");
    assert_heard(t, "2 welcome 0/3 gen 1 local 0/3 hosts 1 next 1 at unix:@a previous 2 at unix:@c\n"
                    "1 welcome 1/3 gen 1 local 1/3 hosts 1 next 2 at unix:@c previous 0 at unix:@b\n"
                    "3 welcome 2/3 gen 1 local 2/3 hosts 1 next 0 at unix:@b previous 1 at unix:@a\n");
}

static void jobs_with_different_names_do_not_meet(void **state)
{
    struct trace *t = *state;
    struct candidate red = member("a", 0, 2, "h"), blue = red;
    red.job = "red";
    blue.job = "blue";
    say(t, 1, &red);
    say(t, 2, &blue);
    assert_int_equal(rendezvous_active_jobs(t->rendezvous), 2);
    blue.id = "b";
    blue.rank = 1;
    say(t, 3, &blue);
    assert_heard(t, "2 welcome 0/2 gen 1 local 0/2 hosts 1 next 1 at unix:@b previous 1 at unix:@b\n"
                    "3 welcome 1/2 gen 1 local 1/2 hosts 1 next 0 at unix:@a previous 0 at unix:@a\n");
}

static void the_next_generation_gives_the_same_members_the_same_ranks(void **state)
{
    struct trace *t = *state;
    join(t, 1, "a", ANY, 3, "h");
    join(t, 2, "b", ANY, 3, "h");
    join(t, 3, "c", ANY, 3, "h");
    for (uint64_t c = 1; c <= 3; c++)
        hang_up(t, c);
    heard(t);
    join(t, 4, "new", ANY, 3, "h"); /* in the place of "b" */
    join(t, 5, "c", ANY, 3, "h");
    join(t, 6, "a", ANY, 3, "h");
    assert_heard(t, "6 welcome 0/3 gen 2 local 0/3 hosts 1 next 1 at unix:@new previous 2 at unix:@c\n"
                    "4 welcome 1/3 gen 2 local 1/3 hosts 1 next 2 at unix:@c previous 0 at unix:@a\n"
                    "5 welcome 2/3 gen 2 local 2/3 hosts 1 next 0 at unix:@a previous 1 at unix:@new\n");
}

static void another_size_begins_the_next_generation_afresh(void **state)
{
    struct trace *t = *state;
    join(t, 1, "a", 1, 2, "h");
    join(t, 2, "b", 0, 2, "h");
    hang_up(t, 1);
    hang_up(t, 2);
    heard(t);
    join(t, 3, "a", ANY, 1, "h");
    assert_heard(t, "3 welcome 0/1 gen 2 local 0/1 hosts 1\n");
}

/* ---- The same member again ----------------------------------------------------------------------- */

static void the_same_member_on_a_new_connection_keeps_its_place_and_the_old_connection_is_closed(void **state)
{
    struct trace *t = *state;
    join(t, 1, "a", ANY, 3, "h");
    join(t, 2, "b", ANY, 3, "h");
    join(t, 3, "a", ANY, 3, "h");
    assert_heard(t, "1 close\n");
    join(t, 4, "c", ANY, 3, "h");
    assert_heard(t, "3 welcome 0/3 gen 1 local 0/3 hosts 1 next 1 at unix:@b previous 2 at unix:@c\n"
                    "2 welcome 1/3 gen 1 local 1/3 hosts 1 next 2 at unix:@c previous 0 at unix:@a\n"
                    "4 welcome 2/3 gen 1 local 2/3 hosts 1 next 0 at unix:@a previous 1 at unix:@b\n");
}

static void a_member_that_comes_again_without_a_wish_keeps_its_explicit_rank(void **state)
{
    struct trace *t = *state;
    join(t, 1, "a", 1, 2, "h");
    join(t, 2, "a", ANY, 2, "h");
    assert_heard(t, "1 close\n");
    join(t, 3, "b", ANY, 2, "h");
    assert_heard(t, "3 welcome 0/2 gen 1 local 0/2 hosts 1 next 1 at unix:@a previous 1 at unix:@a\n"
                    "2 welcome 1/2 gen 1 local 1/2 hosts 1 next 0 at unix:@b previous 0 at unix:@b\n");
}

static void two_ranks_under_one_member_id_are_told_so(void **state)
{
    struct trace *t = *state;
    join(t, 1, "a", 0, 2, "h");
    join(t, 2, "a", 1, 2, "i");
    assert_heard(t, "2 refused refused: this member wants rank 1 of job 'job' under the member id of rank 0 "
                    "on host h.name (pid 101); give every process a TUTTI_MEMBER of its own, or none\n"
                    "2 close\n");
}

static void a_member_of_a_complete_job_that_lost_its_connection_is_welcomed_again(void **state)
{
    struct trace *t = *state;
    join(t, 1, "a", ANY, 2, "h");
    join(t, 2, "b", ANY, 2, "h");
    heard(t);
    join(t, 3, "b", 1, 2, "h"); /* the old connection still stands */
    assert_heard(t, "2 close\n"
                    "3 welcome 1/2 gen 1 local 1/2 hosts 1 next 0 at unix:@a previous 0 at unix:@a\n");
    hang_up(t, 1);
    join(t, 4, "a", ANY, 2, "h"); /* the old one has gone */
    assert_heard(t, "4 welcome 0/2 gen 1 local 0/2 hosts 1 next 1 at unix:@b previous 1 at unix:@b\n");
    hang_up(t, 3);
    assert_int_equal(rendezvous_active_jobs(t->rendezvous), 1);
    hang_up(t, 4);
    assert_int_equal(rendezvous_active_jobs(t->rendezvous), 0);
}

/* ---- The end of a group -------------------------------------------------------------------------- */

static void who_says_goodbye_has_left_and_its_connection_is_closed(void **state)
{
    struct trace *t = *state;
    join(t, 1, "a", 0, 2, "h");
    join(t, 2, "b", 1, 2, "h");
    heard(t);
    say_goodbye(t, 1);
    assert_heard(t, "1 close\n");
    assert_int_equal(wait_until(t, 100000), -1);
    assert_int_equal(rendezvous_active_jobs(t->rendezvous), 1);
    say_goodbye(t, 2);
    assert_heard(t, "2 close\n");
    assert_int_equal(rendezvous_active_jobs(t->rendezvous), 0);
}

static void who_has_left_is_a_stranger_to_the_group_and_begins_the_next(void **state)
{
    struct trace *t = *state;
    join(t, 1, "a", 0, 2, "h");
    join(t, 2, "b", 1, 2, "h");
    say_goodbye(t, 1);
    heard(t);
    join(t, 3, "a", 0, 2, "h");
    assert_heard(t, "");
    say_goodbye(t, 2);
    join(t, 4, "b", 1, 2, "h");
    assert_heard(t, "2 close\n"
                    "3 welcome 0/2 gen 2 local 0/2 hosts 1 next 1 at unix:@b previous 1 at unix:@b\n"
                    "4 welcome 1/2 gen 2 local 1/2 hosts 1 next 0 at unix:@a previous 0 at unix:@a\n");
}

static void a_wired_member_that_goes_is_left_to_its_neighbours(void **state)
{
    struct trace *t = *state;
    join(t, 1, "a", 0, 2, "h");
    join(t, 2, "b", 1, 2, "h");
    say_wired(t, 1, 1);
    heard(t);
    hang_up(t, 1);
    assert_int_equal(wait_until(t, 100000), -1);
    assert_heard(t, "");
}

static void a_member_that_goes_before_it_is_wired_ends_the_group(void **state)
{
    struct trace *t = *state;
    join(t, 1, "a", 0, 3, "h");
    join(t, 2, "b", 1, 3, "h");
    join(t, 3, "c", 2, 3, "h");
    say_wired(t, 1, 1);
    say_wired(t, 2, 7); /* of another group */
    heard(t);
    t->now_ms = 100;
    hang_up(t, 2);
    assert_int_equal(wait_until(t, 599), 600);
    assert_heard(t, "");
    wait_until(t, 600);
#define LOST                                                                                                 \
    " abort rank 1: the rendezvous lost rank 1 (host h.name, pid 102), which had not connected its ring "    \
    "yet: its process ended or was killed\n"
    assert_heard(t, "1" LOST "3" LOST);
}

static void a_member_that_comes_back_before_it_is_wired_is_welcomed_again(void **state)
{
    struct trace *t = *state;
    join(t, 1, "a", 0, 2, "h");
    join(t, 2, "b", 1, 2, "h");
    hang_up(t, 2);
    wait_until(t, 400);
    hang_up(t, 1);
    assert_int_equal(rendezvous_active_jobs(t->rendezvous), 0);
    heard(t);
    join(t, 3, "a", 0, 2, "h");
    join(t, 4, "b", 1, 2, "h");
    hang_up(t, 4);
    wait_until(t, 600);
    heard(t);
    join(t, 5, "b", 1, 2, "h");
    assert_heard(t, "5 welcome 1/2 gen 2 local 1/2 hosts 1 next 0 at unix:@a previous 0 at unix:@a\n");
    assert_int_equal(wait_until(t, 100000), -1);
    assert_heard(t, "");
}

static void an_embedded_rendezvous_says_so_in_each_welcome(void **state)
{
    struct trace *t = *state;
    const struct rendezvous_output output = {t, on_send, on_close, on_random};
    rendezvous_free(t->rendezvous);
    t->rendezvous = rendezvous_new(&output, true);
    assert_non_null(t->rendezvous);
    join(t, 1, "a", 0, 1, "h");
    assert_heard(t, "1 welcome 0/1 gen 1 local 0/1 hosts 1 embedded\n");
    survive(t, 2, "a", of_group(t, 1, 0, 1, 5));
    assert_non_null(strstr(heard(t), "2 welcome 0/1 gen 2 local 0/1 hosts 1 embedded was 0/1"));
}

/* ---- Strangers at a complete job ----------------------------------------------------------------- */

static void a_stranger_to_a_complete_job_is_refused_after_a_moment(void **state)
{
    struct trace *t = *state;
    join(t, 1, "a", ANY, 2, "h");
    join(t, 2, "b", ANY, 2, "h");
    heard(t);
    join(t, 3, "c", ANY, 2, "h");
    assert_int_equal(wait_until(t, 999), 1000);
    assert_heard(t, "");
    assert_int_equal(wait_until(t, 1000), -1);
    assert_heard(t, "3 refused refused: job 'job' is complete and running with 2 ranks; join another group "
                    "under another job name (TUTTI_JOB), or wait until this one has ended\n3 close\n");
}

static void who_overtakes_the_hanging_up_of_others_begins_the_next_generation(void **state)
{
    struct trace *t = *state;
    join(t, 1, "a", 0, 2, "h");
    join(t, 2, "b", 1, 2, "h");
    hang_up(t, 1);
    heard(t);
    join(t, 3, "a2", 0, 2, "h"); /* the process of "a", in its next group */
    assert_heard(t, "");
    hang_up(t, 2);
    assert_int_equal(rendezvous_active_jobs(t->rendezvous), 1);
    assert_int_equal(wait_until(t, 1000), WARN_MS);
    assert_heard(t, "");
    join(t, 4, "b2", 1, 2, "h");
    assert_heard(t, "3 welcome 0/2 gen 2 local 0/2 hosts 1 next 1 at unix:@b2 previous 1 at unix:@b2\n"
                    "4 welcome 1/2 gen 2 local 1/2 hosts 1 next 0 at unix:@a2 previous 0 at unix:@a2\n");
}

static void parked_members_that_contradict_each_other_are_told_when_their_turn_comes(void **state)
{
    struct trace *t = *state;
    join(t, 1, "a", 0, 1, "h");
    heard(t);
    join(t, 2, "b", 0, 2, "h");
    join(t, 3, "c", 0, 2, "h");
    join(t, 4, "d", 0, 3, "h");
    join(t, 5, "e", 1, 2, "h");
    join(t, 6, "f", 1, 2, "h");
    hang_up(t, 3);
    hang_up(t, 1);
    assert_heard(t,
                 "4 refused refused: this member says size 3, but job 'job' was opened with size 2 by rank "
                 "0 on host h.name (pid 102); start every rank with the same size, or give this one "
                 "another job name\n4 close\n"
                 "2 welcome 0/2 gen 2 local 0/2 hosts 1 next 1 at unix:@e previous 1 at unix:@e\n"
                 "5 welcome 1/2 gen 2 local 1/2 hosts 1 next 0 at unix:@b previous 0 at unix:@b\n");
    wait_until(t, 1000);
    assert_non_null(strstr(heard(t), "6 refused refused: job 'job' is complete"));
}

/* ---- Missing members ----------------------------------------------------------------------------- */

static void missing_ranks_are_named_to_each_member_once(void **state)
{
    struct trace *t = *state;
    join(t, 1, "a", 0, 4, "h");
    assert_int_equal(wait_until(t, 4000), WARN_MS);
    join(t, 2, "b", 1, 4, "h");
    join(t, 3, "c", 3, 4, "h");
    assert_int_equal(wait_until(t, 9999), WARN_MS);
    assert_heard(t, "");
    assert_int_equal(wait_until(t, 10000), 14000);
    assert_heard(t, "1 waiting: 3 of 4 ranks have joined job 'job'; missing: rank 2\n");
    assert_int_equal(wait_until(t, 20000), TIMEOUT_MS);
    assert_heard(t, "2 waiting: 3 of 4 ranks have joined job 'job'; missing: rank 2\n"
                    "3 waiting: 3 of 4 ranks have joined job 'job'; missing: rank 2\n");
}

static void missing_members_without_ranks_are_counted(void **state)
{
    struct trace *t = *state;
    join(t, 1, "a", ANY, 3, "h");
    wait_until(t, WARN_MS);
    assert_heard(t, "1 waiting: 1 of 3 ranks have joined job 'job'; missing: 2 members\n");
}

static void a_member_that_comes_again_with_a_wish_lets_the_missing_be_named(void **state)
{
    struct trace *t = *state;
    join(t, 1, "a", ANY, 3, "h");
    join(t, 2, "a", 1, 3, "h");
    heard(t);
    wait_until(t, WARN_MS);
    assert_heard(t, "2 waiting: 1 of 3 ranks have joined job 'job'; missing: ranks 0, 2\n");
}

static void a_deadline_ends_the_attempt_for_all_and_names_the_missing_and_the_present(void **state)
{
    struct trace *t = *state;
    struct candidate candidate = member("a", 0, 8, "h");
    candidate.timeout_ms = 2000;
    candidate.warn_ms = 5000;
    wait_until(t, 1000);
    say(t, 1, &candidate);
    join(t, 2, "b", 1, 8, "i");
    join(t, 3, "c", 3, 8, "h");
    join(t, 4, "d", 4, 8, "h");
    assert_int_equal(wait_until(t, 2999), 3000);
    assert_heard(t, "");
    assert_int_equal(wait_until(t, 3000), -1);
#define REASON                                                                                               \
    " refused timeout: job 'job' was not complete after 2000 ms: 4 of 8 ranks have joined (3 on host "       \
    "h.name, 1 on host i.name); missing: ranks 2, 5-7; start what is missing with this rendezvous and "      \
    "job name, or raise TUTTI_JOIN_TIMEOUT\n"
    assert_heard(t, "1" REASON "1 close\n2" REASON "2 close\n3" REASON "3 close\n4" REASON "4 close\n");
    assert_int_equal(rendezvous_active_jobs(t->rendezvous), 0);
    join(t, 5, "e", 0, 1, "h"); /* the job is empty again */
    assert_heard(t, "5 welcome 0/1 gen 1 local 0/1 hosts 1\n");
}

static void a_join_without_times_gets_the_defaults(void **state)
{
    struct trace *t = *state;
    struct candidate candidate = member("a", 0, 2, "h");
    candidate.timeout_ms = candidate.warn_ms = 0;
    say(t, 1, &candidate);
    assert_int_equal(wait_until(t, 0), 10000);
    assert_int_equal(wait_until(t, 10000), 60000);
}

static void who_hangs_up_while_the_job_fills_is_forgotten(void **state)
{
    struct trace *t = *state;
    join(t, 1, "a", 0, 2, "h");
    join(t, 2, "b", ANY, 2, "h");
    heard(t);
    for (uint64_t c = 1; c <= 2; c++)
        hang_up(t, c);
    join(t, 3, "c", 0, 3, "h");
    hang_up(t, 3);
    assert_int_equal(rendezvous_active_jobs(t->rendezvous), 1 - 1);
    hang_up(t, 3); /* unknown by now */
    join(t, 4, "d", 0, 3, "h");
    join(t, 5, "e", 1, 3, "h");
    hang_up(t, 4);
    join(t, 6, "f", 0, 3, "h");
    assert_int_equal(rendezvous_active_jobs(t->rendezvous), 1);
    wait_until(t, WARN_MS);
    assert_heard(t, "5 waiting: 2 of 3 ranks have joined job 'job'; missing: rank 2\n"
                    "6 waiting: 2 of 3 ranks have joined job 'job'; missing: rank 2\n");
}

/* ---- Size ---------------------------------------------------------------------------------------- */

static void a_job_of_4096_ranks_forms_in_near_linear_time(void **state)
{
    struct trace *t = *state;
    char id[16], host[20];
    clock_t begin = clock();
    t->silent = true;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < RENDEZVOUS_SIZE_MAX; i++) {
            snprintf(id, sizeof id, "m%d", i);
            snprintf(host, sizeof host, "host-%d", i % 64);
            join(t, (uint64_t)i + 1, id, ANY, RENDEZVOUS_SIZE_MAX, host);
            wait_until(t, i);
        }
        for (int i = 0; i < RENDEZVOUS_SIZE_MAX; i++)
            hang_up(t, (uint64_t)i + 1);
    }
    double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
    print_message("two generations of %d ranks: %.3f s\n", RENDEZVOUS_SIZE_MAX, seconds);
    assert_int_equal(t->sends, 2 * RENDEZVOUS_SIZE_MAX);
    assert_int_equal(rendezvous_active_jobs(t->rendezvous), 0);
    assert_true(seconds < 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TRACE(the_last_of_a_job_completes_it_and_all_are_welcomed),
        TRACE(a_group_of_one_has_no_neighbours),
        TRACE(in_a_group_of_two_both_neighbours_are_the_other),
        TRACE(ranks_assigned_on_arrival_are_grouped_by_host),
        TRACE(explicit_ranks_and_ranks_on_arrival_mix),
        TRACE(jobs_with_different_names_do_not_meet),
        TRACE(the_next_generation_gives_the_same_members_the_same_ranks),
        TRACE(another_size_begins_the_next_generation_afresh),
        TRACE(the_same_member_on_a_new_connection_keeps_its_place_and_the_old_connection_is_closed),
        TRACE(a_member_that_comes_again_without_a_wish_keeps_its_explicit_rank),
        TRACE(two_ranks_under_one_member_id_are_told_so),
        TRACE(a_member_of_a_complete_job_that_lost_its_connection_is_welcomed_again),
        TRACE(who_says_goodbye_has_left_and_its_connection_is_closed),
        TRACE(who_has_left_is_a_stranger_to_the_group_and_begins_the_next),
        TRACE(a_wired_member_that_goes_is_left_to_its_neighbours),
        TRACE(a_member_that_goes_before_it_is_wired_ends_the_group),
        TRACE(a_member_that_comes_back_before_it_is_wired_is_welcomed_again),
        TRACE(an_embedded_rendezvous_says_so_in_each_welcome),
        TRACE(a_stranger_to_a_complete_job_is_refused_after_a_moment),
        TRACE(who_overtakes_the_hanging_up_of_others_begins_the_next_generation),
        TRACE(parked_members_that_contradict_each_other_are_told_when_their_turn_comes),
        TRACE(missing_ranks_are_named_to_each_member_once),
        TRACE(missing_members_without_ranks_are_counted),
        TRACE(a_member_that_comes_again_with_a_wish_lets_the_missing_be_named),
        TRACE(a_deadline_ends_the_attempt_for_all_and_names_the_missing_and_the_present),
        TRACE(a_join_without_times_gets_the_defaults),
        TRACE(who_hangs_up_while_the_job_fills_is_forgotten),
        TRACE(a_job_of_4096_ranks_forms_in_near_linear_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
