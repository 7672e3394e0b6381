/* Traces of the rendezvous: what it refuses, and that nobody else is disturbed. */
#include "rendezvous_trace.h"

/* ---- Disagreement -------------------------------------------------------------------------------- */

static void a_member_with_another_size_is_refused_naming_both(void **state)
{
    struct trace *t = *state;
    join(t, 1, "a", 0, 4, "h");
    join(t, 2, "b", 7, 8, "i");
    assert_heard(t,
                 "2 refused refused: this member says size 8, but job 'job' was opened with size 4 by rank "
                 "0 on host h.name (pid 101); start every rank with the same size, or give this one "
                 "another job name\n2 close\n");
    assert_int_equal(rendezvous_active_jobs(t->rendezvous), 1);
}

static void members_must_agree_on_slices_and_checksums(void **state)
{
    struct trace *t = *state;
    struct candidate candidate = member("a", ANY, 3, "h");
    say(t, 1, &candidate);
    candidate.id = "b";
    candidate.slice_bytes = 4096;
    say(t, 2, &candidate);
    assert_heard(t, "2 refused refused: this member says slice_bytes 4096, but job 'job' was opened with "
                    "slice_bytes 262144 by a member on host h.name (pid 101); set TUTTI_SLICE_BYTES to the "
                    "same value everywhere\n2 close\n");
    candidate = member("b", ANY, 3, "h");
    candidate.checksum = true;
    say(t, 3, &candidate);
    assert_heard(t, "3 refused refused: this member says checksum 1, but job 'job' was opened with checksum "
                    "0 by a member on host h.name (pid 101); set TUTTI_CHECKSUM to the same value "
                    "everywhere\n3 close\n");
}

static void members_must_agree_on_all_that_decides_which_algorithm_runs(void **state)
{
    struct trace *t = *state;
    struct candidate candidate = member("a", ANY, 2, "h");
    candidate.agreement = "TUTTI_ALGORITHM=all_reduce:ring TUTTI_DETERMINISTIC=0";
    say(t, 1, &candidate);
    assert_heard(t, "");
    candidate.id = "b";
    candidate.agreement = "TUTTI_ALGORITHM=all_reduce:tree TUTTI_DETERMINISTIC=0";
    say(t, 2, &candidate);
    assert_heard(t, "2 refused refused: this member says TUTTI_ALGORITHM=all_reduce:tree "
                    "TUTTI_DETERMINISTIC=0, but job 'job' was opened with TUTTI_ALGORITHM=all_reduce:ring "
                    "TUTTI_DETERMINISTIC=0 by a member on host h.name (pid 101); set them to the same values "
                    "everywhere\n2 close\n");
    candidate.agreement = NULL;
    say(t, 3, &candidate);
    assert_non_null(strstr(heard(t), "3 refused refused: this member says "));
    candidate.agreement = "TUTTI_ALGORITHM=all_reduce:ring TUTTI_DETERMINISTIC=0";
    say(t, 4, &candidate);
    assert_heard(t, "1 welcome 0/2 gen 1 local 0/2 hosts 1 next 1 at unix:@b previous 1 at unix:@b\n"
                    "4 welcome 1/2 gen 1 local 1/2 hosts 1 next 0 at unix:@a previous 0 at unix:@a\n");
}

static void what_one_job_agreed_on_does_not_bind_the_next(void **state)
{
    struct trace *t = *state;
    struct candidate candidate = member("a", ANY, 2, "h");
    candidate.agreement = "TUTTI_ALGORITHM=all_reduce:ring";
    say(t, 1, &candidate);
    hang_up(t, 1);
    candidate.agreement = "TUTTI_ALGORITHM=all_reduce:tree";
    say(t, 2, &candidate);
    candidate.id = "b";
    say(t, 3, &candidate);
    assert_heard(t, "2 welcome 0/2 gen 1 local 0/2 hosts 1 next 1 at unix:@b previous 1 at unix:@b\n"
                    "3 welcome 1/2 gen 1 local 1/2 hosts 1 next 0 at unix:@a previous 0 at unix:@a\n");
}

/* Another build might have more to agree on than there is room for here. */
static void an_agreement_that_is_too_long_opens_no_job(void **state)
{
    struct trace *t = *state;
    char agreement[4097];
    memset(agreement, 'x', sizeof agreement - 1);
    agreement[sizeof agreement - 1] = '\0';
    struct candidate candidate = member("a", ANY, 2, "h");
    candidate.agreement = agreement;
    say(t, 1, &candidate);
    assert_non_null(strstr(heard(t), "1 close"));
    assert_int_equal(rendezvous_active_jobs(t->rendezvous), 0);
}

static void a_rank_that_is_taken_is_refused_naming_its_holder_who_is_not_disturbed(void **state)
{
    struct trace *t = *state;
    join(t, 1, "a", 1, 2, "h");
    join(t, 2, "b", 1, 2, "i");
    assert_heard(t, "2 refused refused: rank 1 of job 'job' is already taken by rank 1 on host h.name (pid "
                    "101); give every process a rank of its own, or this group another job name\n2 close\n");
    join(t, 3, "b", 0, 2, "i");
    assert_heard(t, "3 welcome 0/2 gen 1 local 0/1 hosts 2 next 1 at unix:@a previous 1 at unix:@a\n"
                    "1 welcome 1/2 gen 1 local 0/1 hosts 2 next 0 at unix:@b previous 0 at unix:@b\n");
}

static void impossible_wishes_are_refused(void **state)
{
    struct trace *t = *state;
    static const struct {
        const char *job;
        int rank;
        uint32_t size;
        const char *expected;
    } cases[] = {
        {"job", 4, 4, "wants rank 4 of job 'job', whose size 4 allows 0 to 3"},
        {"job", -2, 4, "wants rank -2 of job 'job'"},
        {"job", 0, 0, "says size 0 for job 'job', and a group has 1 to 4096"},
        {"job", 0, 4097, "says size 4097"},
        {"job", 0, UINT32_MAX, "says size 4294967295"},
        {"job", INT32_MAX, UINT32_MAX, "says size 4294967295"},
        {"", 0, 4, "1 to 127 bytes, this one 0"},
        {"a\tb", 0, 4, "control characters"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct candidate candidate = member("a", cases[i].rank, cases[i].size, "h");
        candidate.job = cases[i].job;
        say(t, i + 1, &candidate);
        const char *text = heard(t);
        if (!strstr(text, cases[i].expected) || !strstr(text, "close"))
            fail_msg("expected '%s' in '%s'", cases[i].expected, text);
        assert_int_equal(rendezvous_active_jobs(t->rendezvous), 0);
    }
}

static void the_name_of_a_job_has_a_limit(void **state)
{
    struct trace *t = *state;
    char name[200];
    memset(name, 'j', sizeof name);
    name[127] = '\0';
    struct candidate candidate = member("a", 0, 2, "h");
    candidate.job = name;
    say(t, 1, &candidate);
    assert_heard(t, "");
    name[127] = 'j';
    name[128] = '\0';
    say(t, 2, &candidate);
    assert_non_null(strstr(heard(t), "this one 128"));
}

static void a_member_that_announces_too_much_is_refused(void **state)
{
    struct trace *t = *state;
    static char text[4000];
    uint8_t id[16] = {1};
    memset(text, 'x', sizeof text - 1);
    char *addresses[] = {text, text, text, text, text};
    Wire__Join body = WIRE__JOIN__INIT;
    Wire__Control message = WIRE__CONTROL__INIT;
    char job[] = "job", host[] = "h";
    body.job = job;
    body.host = host;
    body.size = 2;
    body.rank = ANY;
    body.member_id = (ProtobufCBinaryData){sizeof id, id};
    body.addresses = addresses;
    body.n_addresses = 5;
    message.body_case = WIRE__CONTROL__BODY_JOIN;
    message.join = &body;
    rendezvous_receive(t->rendezvous, 1, &message, 0);
    assert_non_null(strstr(heard(t), "bytes of names and addresses, and 16384 are the most"));
    body.n_addresses = 1;
    body.member_id.len = 15;
    rendezvous_receive(t->rendezvous, 2, &message, 0);
    assert_heard(t, "2 refused protocol: the member id of a Join has 15 bytes instead of 16\n2 close\n");
}

/* ---- Abuse --------------------------------------------------------------------------------------- */

static void a_message_other_than_a_join_is_refused_from_who_is_in_no_group(void **state)
{
    struct trace *t = *state;
    Wire__Goodbye goodbye = WIRE__GOODBYE__INIT;
    Wire__Control message = WIRE__CONTROL__INIT;
    message.body_case = WIRE__CONTROL__BODY_GOODBYE;
    message.goodbye = &goodbye;
    rendezvous_receive(t->rendezvous, 1, &message, 0);
    assert_heard(t, "1 refused protocol: a message came to the rendezvous that is not for it, or not at this "
                    "time; this member runs another build of tutti or has a bug\n1 close\n");
    join(t, 2, "a", 0, 2, "h");
    rendezvous_receive(t->rendezvous, 2, &message, 0);
    assert_non_null(strstr(heard(t), "2 close\n"));
    assert_int_equal(rendezvous_active_jobs(t->rendezvous), 0);
}

static void what_no_member_says_costs_it_its_connection_also_in_a_group(void **state)
{
    struct trace *t = *state;
    Wire__RollCall body = WIRE__ROLL_CALL__INIT;
    join(t, 1, "a", 0, 2, "h");
    join(t, 2, "b", 1, 2, "h");
    say_wired(t, 1, 1);
    heard(t);
    tell(t, 1, WIRE__CONTROL__BODY_ROLL_CALL, &body);
    const char *text = heard(t);
    assert_non_null(strstr(text, "1 refused protocol: a message came to the rendezvous that is not for it"));
    assert_non_null(strstr(text, "1 close\n"));
    join(t, 3, "c", 0, 2, "h"); /* is parked */
    say_wired(t, 3, 1);
    assert_non_null(strstr(heard(t), "3 refused protocol"));
    hang_up(t, 2);
    assert_int_equal(rendezvous_active_jobs(t->rendezvous), 0);
}

static void a_second_join_on_one_connection_is_refused_and_the_seat_freed(void **state)
{
    struct trace *t = *state;
    join(t, 1, "a", 0, 2, "h");
    join(t, 2, "b", 1, 3, "h");
    heard(t);
    join(t, 1, "a", 0, 2, "h");
    assert_heard(t, "1 refused protocol: a second Join came on this connection; a member joins once and then "
                    "waits\n1 close\n");
    assert_int_equal(rendezvous_active_jobs(t->rendezvous), 0);
}

static void jobs_are_limited_and_the_longest_resting_is_forgotten_first(void **state)
{
    struct trace *t = *state;
    char name[32];
    struct candidate candidate = member("a", ANY, 1, "h");
    candidate.job = name;
    t->silent = true;
    for (int i = 0; i < RENDEZVOUS_JOBS_MAX; i++) { /* all of them rest */
        snprintf(name, sizeof name, "job-%d", i);
        say(t, 1, &candidate);
        hang_up(t, 1);
    }
    t->silent = false;
    snprintf(name, sizeof name, "one-more");
    say(t, 1, &candidate);
    hang_up(t, 1);
    assert_heard(t, "1 welcome 0/1 gen 1 local 0/1 hosts 1\n");
    snprintf(name, sizeof name, "job-1"); /* is remembered still */
    say(t, 1, &candidate);
    hang_up(t, 1);
    assert_heard(t, "1 welcome 0/1 gen 2 local 0/1 hosts 1\n");
    snprintf(name, sizeof name, "job-0"); /* was forgotten */
    say(t, 1, &candidate);
    hang_up(t, 1);
    assert_heard(t, "1 welcome 0/1 gen 1 local 0/1 hosts 1\n");

    candidate.size = 2;
    for (uint64_t i = 0; i < RENDEZVOUS_JOBS_MAX; i++) { /* all of them fill */
        snprintf(name, sizeof name, "filling-%d", (int)i);
        say(t, i + 1, &candidate);
    }
    assert_heard(t, "");
    assert_int_equal(rendezvous_active_jobs(t->rendezvous), RENDEZVOUS_JOBS_MAX);
    snprintf(name, sizeof name, "too-many");
    say(t, 9999, &candidate);
    assert_heard(t, "9999 refused refused: job 'too-many' cannot be opened: this rendezvous has 1024 jobs "
                    "under way, its most; try again later or start another rendezvous\n9999 close\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TRACE(a_member_with_another_size_is_refused_naming_both),
        TRACE(members_must_agree_on_slices_and_checksums),
        TRACE(members_must_agree_on_all_that_decides_which_algorithm_runs),
        TRACE(what_one_job_agreed_on_does_not_bind_the_next),
        TRACE(an_agreement_that_is_too_long_opens_no_job),
        TRACE(a_rank_that_is_taken_is_refused_naming_its_holder_who_is_not_disturbed),
        TRACE(impossible_wishes_are_refused),
        TRACE(the_name_of_a_job_has_a_limit),
        TRACE(a_member_that_announces_too_much_is_refused),
        TRACE(a_message_other_than_a_join_is_refused_from_who_is_in_no_group),
        TRACE(what_no_member_says_costs_it_its_connection_also_in_a_group),
        TRACE(a_second_join_on_one_connection_is_refused_and_the_seat_freed),
        TRACE(jobs_are_limited_and_the_longest_resting_is_forgotten_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
