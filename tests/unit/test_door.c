/* The door over real sockets: who is let in, who waits, who is dropped. */
#include "doorstep.h"

#include <sys/resource.h>

#define FLOOD 300 /* silent visitors: more than a door keeps */

/* ---- Who comes --------------------------------------------------------------------------------- */

static void who_is_accepted_is_told_so_and_its_connection_is_handed_over(void **state)
{
    struct doorstep *d = *state;
    for (int listener = 0; listener < 2; listener++) {
        int fd = visit(d, listener);
        say_hello(fd, 7);
        run_until(d, d->taken == listener + 1);
        assert_true(d->taken_unix[listener] == (listener == 0));
        assert_int_equal(d->taken_hello[listener].from, 7);
        assert_int_equal(d->taken_hello[listener].channel, 1);
        struct hello answer = hear_hello(fd);
        assert_int_equal(answer.verdict, HELLO_ACCEPTED);
        assert_int_equal(answer.from, 2);
        assert_int_equal(answer.to, 7);
        char byte = 0;
        say(d->taken_fd[listener], "x", 1);
        hear(fd, &byte, 1);
        assert_int_equal(byte, 'x');
        close(fd);
    }
    assert_int_equal(d->judged, 2);
}

static void a_hello_may_come_in_pieces(void **state)
{
    struct doorstep *d = *state;
    uint8_t bytes[HELLO_BYTES];
    const struct hello hello = hello_of(7);
    hello_encode(&hello, bytes);
    int fd = visit(d, 1);
    for (size_t i = 0; i < sizeof bytes; i++) {
        say(fd, &bytes[i], 1);
        assert_int_equal(d->taken, 0);
        turn(d);
    }
    run_until(d, d->taken == 1);
    close(fd);
}

static void who_is_refused_hears_why_and_is_dropped(void **state)
{
    static const int verdicts[] = {HELLO_WRONG_GROUP, HELLO_WRONG_RANK, HELLO_UNWANTED};
    struct doorstep *d = *state;
    for (size_t i = 0; i < sizeof verdicts / sizeof *verdicts; i++) {
        d->verdict = verdicts[i];
        int fd = visit(d, 0);
        say_hello(fd, 7);
        run_until(d, has_input(fd));
        assert_int_equal(hear_hello(fd).verdict, verdicts[i]);
        run_until(d, is_closed(fd));
        close(fd);
    }
    assert_int_equal(d->taken, 0);
}

static void who_has_gone_before_it_could_be_answered_is_not_handed_over(void **state)
{
    struct doorstep *d = *state;
    int fd = visit(d, 0);
    say_hello(fd, 7);
    close(fd);
    run_until(d, d->judged == 1);
    assert_int_equal(d->taken, 0);
}

static void the_owner_may_close_the_door_when_it_takes_a_connection(void **state)
{
    struct doorstep *d = *state;
    d->closes_when_taking = true;
    int waits = visit(d, 1), fd = visit(d, 0);
    say_hello(fd, 7);
    run_until(d, d->taken == 1);
    assert_int_equal(hear_hello(fd).verdict, HELLO_ACCEPTED);
    assert_null(d->door);
    close(fd);
    close(waits);
}

/* ---- Who comes too early ------------------------------------------------------------------------- */

static int come_too_early(struct doorstep *d, uint32_t from)
{
    int judged = d->judged, fd = visit(d, 0);
    d->verdict = DOOR_NOT_YET;
    say_hello(fd, from);
    run_until(d, d->judged == judged + 1);
    return fd;
}

static void who_comes_too_early_waits_until_the_owner_is_asked_again(void **state)
{
    struct doorstep *d = *state;
    int fd = come_too_early(d, 7);
    door_ask_again(d->door);
    assert_int_equal(d->judged, 2);
    assert_false(has_input(fd));
    d->verdict = HELLO_ACCEPTED;
    door_ask_again(d->door);
    assert_int_equal(d->taken, 1);
    assert_int_equal(d->taken_hello[0].from, 7);
    assert_true(d->taken_unix[0]);
    assert_int_equal(hear_hello(fd).verdict, HELLO_ACCEPTED);
    door_ask_again(d->door);
    assert_int_equal(d->judged, 3); /* it waits no more */
    close(fd);
}

static void who_comes_too_early_may_be_refused_in_the_end(void **state)
{
    struct doorstep *d = *state;
    int fd = come_too_early(d, 7);
    d->verdict = HELLO_WRONG_RANK;
    door_ask_again(d->door);
    assert_int_equal(hear_hello(fd).verdict, HELLO_WRONG_RANK);
    assert_true(is_closed(fd));
    assert_int_equal(d->taken, 0);
    close(fd);
}

static void a_new_owner_is_asked_at_once_about_all_that_wait(void **state)
{
    struct doorstep *d = *state;
    struct doorstep next = {.verdict = HELLO_ACCEPTED};
    int first = come_too_early(d, 7), second = come_too_early(d, 8);
    door_hand_over(d->door, &owner, &next);
    assert_int_equal(d->judged, 2);
    assert_int_equal(next.taken, 2);
    assert_int_equal(next.taken_hello[0].from + next.taken_hello[1].from, 15);
    assert_int_equal(hear_hello(first).verdict, HELLO_ACCEPTED);
    assert_int_equal(hear_hello(second).verdict, HELLO_ACCEPTED);
    int third = visit(d, 0);
    say_hello(third, 9);
    run_until(d, next.taken == 3);
    for (int i = 0; i < 3; i++)
        descriptor_close(next.taken_fd[i]);
    close(first);
    close(second);
    close(third);
}

static void who_waits_and_hangs_up_is_forgotten(void **state)
{
    struct doorstep *d = *state;
    int gone = come_too_early(d, 7), stays = come_too_early(d, 8);
    shutdown(gone, SHUT_WR);
    run_until(d, is_closed(gone));
    d->judged = 0;
    door_ask_again(d->door);
    assert_int_equal(d->judged, 1);
    assert_int_equal(d->judged_hello.from, 8);
    close(gone);
    close(stays);
}

static void who_waits_has_nothing_more_to_say(void **state)
{
    struct doorstep *d = *state;
    int fd = come_too_early(d, 7);
    say(fd, "x", 1);
    run_until(d, is_closed(fd));
    d->verdict = HELLO_ACCEPTED;
    door_ask_again(d->door);
    assert_int_equal(d->taken, 0);
    close(fd);
}

static void a_door_that_closes_drops_who_waits(void **state)
{
    struct doorstep *d = *state;
    int waits = come_too_early(d, 7), silent = visit(d, 1);
    say(silent, "TUT", 3);
    int later = come_too_early(d, 8); /* so the silent one has been accepted */
    door_close(d->door);
    d->door = NULL;
    assert_true(is_closed(waits));
    assert_true(is_closed(later));
    close(waits);
    close(silent);
    close(later);
    door_close(NULL);
}

/* ---- Strangers --------------------------------------------------------------------------------- */

/* Counts the lines that are written to standard error between these two. */
static int saved_stderr, captured;

static void capture_begin(void)
{
    FILE *file = tmpfile();
    assert_non_null(file);
    captured = dup(fileno(file));
    fclose(file);
    saved_stderr = dup(STDERR_FILENO);
    dup2(captured, STDERR_FILENO);
}

static int capture_end(const char *line)
{
    static char text[65536];
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    ssize_t size = pread(captured, text, sizeof text - 1, 0);
    assert_true(size >= 0);
    text[size] = '\0';
    close(captured);
    int count = 0;
    for (const char *found = text; (found = strstr(found, line)) != NULL; found++)
        count++;
    return count;
}

static void strangers_cost_their_own_connection_and_one_line_of_log_a_second(void **state)
{
    struct doorstep *d = *state;
    static const char request[HELLO_BYTES] = "GET / HTTP/1.1\r\nHost: tutti.example\r\n";
    d->log.level = LOG_LEVEL_WARNING;
    int64_t began_ns = clock_now_ns();
    capture_begin();
    for (int i = 0; i < 30; i++) {
        int fd = visit(d, 1);
        say(fd, request, sizeof request);
        run_until(d, is_closed(fd));
        close(fd);
    }
    int lines = capture_end("dropped a connection that is not a rank's: ");
    int seconds = (int)((clock_now_ns() - began_ns) / INT64_C(1000000000));
    assert_in_range(lines, 1, 1 + seconds);
    assert_int_equal(d->judged, 0);
    int fd = visit(d, 1);
    say_hello(fd, 7);
    run_until(d, d->taken == 1);
    close(fd);
}

static void a_refusal_is_logged_with_the_rank_and_the_reason(void **state)
{
    struct doorstep *d = *state;
    d->log.level = LOG_LEVEL_WARNING;
    d->verdict = HELLO_WRONG_GROUP;
    capture_begin();
    int fd = visit(d, 0);
    say_hello(fd, 7);
    run_until(d, has_input(fd));
    assert_int_equal(capture_end("tutti[rank 2] warning: dropped a connection from rank 7: it belongs to "
                                 "another group or generation\n"),
                     1);
    close(fd);
}

static void half_a_hello_is_no_hello(void **state)
{
    struct doorstep *d = *state;
    uint8_t bytes[HELLO_BYTES];
    const struct hello hello = hello_of(7);
    hello_encode(&hello, bytes);
    int fd = visit(d, 0);
    say(fd, bytes, sizeof bytes - 1);
    shutdown(fd, SHUT_WR);
    run_until(d, is_closed(fd));
    assert_int_equal(d->judged, 0);
    close(fd);
}

static void a_damaged_hello_is_no_hello(void **state)
{
    struct doorstep *d = *state;
    uint8_t bytes[HELLO_BYTES];
    const struct hello hello = hello_of(7);
    hello_encode(&hello, bytes);
    bytes[28] ^= 1; /* of the rank */
    int fd = visit(d, 0);
    say(fd, bytes, sizeof bytes);
    run_until(d, is_closed(fd));
    assert_int_equal(d->judged, 0);
    close(fd);
}

static void a_flood_of_silent_visitors_locks_nobody_out(void **state)
{
    struct doorstep *d = *state;
    static int silent[FLOOD];
    for (int i = 0; i < FLOOD; i++) {
        silent[i] = visit(d, i % 2);
        turn(d); /* lest the backlog be full */
    }
    int fd = visit(d, 0);
    say_hello(fd, 7);
    run_until(d, d->taken == 1);
    assert_int_equal(hear_hello(fd).verdict, HELLO_ACCEPTED);
    /* Those that had been silent for longest made room; the newest have theirs. */
    run_until(d, is_closed(silent[0]));
    assert_false(is_closed(silent[FLOOD - 1]));
    for (int i = 0; i < FLOOD; i++)
        close(silent[i]);
    close(fd);
}

/* ---- Exhaustion -------------------------------------------------------------------------------- */

#ifdef TUTTI_FAILPOINTS
static void a_moment_without_descriptors_costs_a_moment(void **state)
{
    struct doorstep *d = *state;
    assert_int_equal(failpoints_parse(&d->failpoints, "accept=no_descriptors@2", NULL), TUTTI_OK);
    int first = visit(d, 0);
    say_hello(first, 7);
    run_until(d, d->taken == 1);
    int second = visit(d, 0);
    say_hello(second, 8);
    run_until(d, d->taken == 2);
    assert_int_equal(d->exhausted, 0);
    close(first);
    close(second);
}
#endif

/* For real: the process has no descriptor left for about a second. */
static void an_owner_is_told_once_that_nobody_can_be_accepted_and_who_waits_is_accepted_later(void **state)
{
    struct doorstep *d = *state;
    struct rlimit before, none;
    int fd = visit(d, 0);
    say_hello(fd, 7);
    int lowest = dup(fd); /* the next descriptor that there would be */
    assert_true(lowest >= 0);
    close(lowest);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){.rlim_cur = (rlim_t)lowest, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    run_until(d, d->exhausted == 1);
    assert_int_equal(d->exhausted_errno, EMFILE);
    assert_int_equal(d->taken, 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    run_until(d, d->taken == 1);
    assert_int_equal(d->exhausted, 1);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DOORSTEP(who_is_accepted_is_told_so_and_its_connection_is_handed_over),
        DOORSTEP(a_hello_may_come_in_pieces),
        DOORSTEP(who_is_refused_hears_why_and_is_dropped),
        DOORSTEP(who_has_gone_before_it_could_be_answered_is_not_handed_over),
        DOORSTEP(the_owner_may_close_the_door_when_it_takes_a_connection),
        DOORSTEP(who_comes_too_early_waits_until_the_owner_is_asked_again),
        DOORSTEP(who_comes_too_early_may_be_refused_in_the_end),
        DOORSTEP(a_new_owner_is_asked_at_once_about_all_that_wait),
        DOORSTEP(who_waits_and_hangs_up_is_forgotten),
        DOORSTEP(who_waits_has_nothing_more_to_say),
        DOORSTEP(a_door_that_closes_drops_who_waits),
        DOORSTEP(strangers_cost_their_own_connection_and_one_line_of_log_a_second),
        DOORSTEP(a_refusal_is_logged_with_the_rank_and_the_reason),
        DOORSTEP(half_a_hello_is_no_hello),
        DOORSTEP(a_damaged_hello_is_no_hello),
        DOORSTEP(a_flood_of_silent_visitors_locks_nobody_out),
#ifdef TUTTI_FAILPOINTS
        DOORSTEP(a_moment_without_descriptors_costs_a_moment),
#endif
        DOORSTEP(an_owner_is_told_once_that_nobody_can_be_accepted_and_who_waits_is_accepted_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
