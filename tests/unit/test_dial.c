/* Dialling over real sockets: to a rank that answers, that is not there yet, that answers wrongly. */
#include "doorstep.h"

#include <sys/resource.h>

struct outcome {
    struct dial *dial;
    int calls, fd;
    bool is_unix, has_why, stops;
    struct tutti_error why;
    int checks, check_status; /* TUTTI_OK: the answer is that of the rank */
};

static int on_check(void *context, const struct hello *answer, struct tutti_error *error)
{
    struct outcome *outcome = context;
    outcome->checks++;
    if (answer->verdict != HELLO_ACCEPTED)
        return error_set(error, TUTTI_ERR_PROTOCOL, "refused: %s", hello_verdict_text(answer->verdict));
    return outcome->check_status == TUTTI_OK ? TUTTI_OK
                                             : error_set(error, outcome->check_status, "another process");
}

static void on_done(void *context, int fd, bool is_unix, const struct tutti_error *why)
{
    struct outcome *outcome = context;
    outcome->calls++;
    outcome->fd = fd;
    outcome->is_unix = is_unix;
    outcome->has_why = why != NULL;
    if (outcome->stops) {
        dial_stop(outcome->dial);
        outcome->dial = NULL;
    }
    if (why) /* it outlives the dial */
        outcome->why = *why;
}

static void start(struct doorstep *d, struct outcome *outcome, const struct connector_targets *targets,
                  int64_t give_up_ms)
{
    const struct dial_options options = {
        .loop = &d->loop,
        .targets = targets,
        .hello = hello_of(7),
        .peer_text = "rank 2 (host b, pid 4711)",
        .what = "data",
        .log = &d->log,
        .failpoints = &d->failpoints,
        .give_up_ms = give_up_ms,
        .check = on_check,
        .done = on_done,
        .context = outcome,
    };
    outcome->dial = dial_start(&options);
    assert_non_null(outcome->dial);
    assert_ptr_equal(dial_context(outcome->dial), outcome);
    assert_int_equal(outcome->calls, 0); /* never from inside dial_start() */
}

/* The connection that came of it leads to what the door has handed over. */
static void check_connected(struct doorstep *d, struct outcome *outcome)
{
    char byte = 0;
    assert_int_equal(outcome->calls, 1);
    assert_true(outcome->fd >= 0);
    assert_true(d->taken > 0);
    say(outcome->fd, "x", 1);
    hear(d->taken_fd[d->taken - 1], &byte, 1);
    assert_int_equal(byte, 'x');
    descriptor_close(outcome->fd);
    dial_stop(outcome->dial);
}

/* A Unix name where nobody listens. */
static void add_dead_unix(struct connector_targets *targets)
{
    char name[64];
    snprintf(name, sizeof name, "@tutti-test-dial-%ld-dead", (long)getpid());
    assert_true(connector_add_unix(targets, name));
}

/* ---- A rank that answers ------------------------------------------------------------------------- */

static void a_unix_socket_that_answers_is_used_without_a_word(void **state)
{
    struct doorstep *d = *state;
    struct outcome outcome = {.fd = -1};
    struct connector_targets targets = {.count = 0};
    add_target(&targets, d, 0);
    add_target(&targets, d, 1);
    start(d, &outcome, &targets, 0);
    targets.count = 0; /* it has a copy */
    run_until(d, outcome.calls == 1 && d->taken == 1);
    assert_true(outcome.is_unix);
    assert_false(outcome.has_why);
    assert_true(d->taken_unix[0]);
    assert_int_equal(d->taken_hello[0].from, 7);
    assert_int_equal(outcome.checks, 1);
    check_connected(d, &outcome);
}

static void tcp_is_no_fallback_where_no_unix_socket_was_tried(void **state)
{
    struct doorstep *d = *state;
    struct outcome outcome = {.fd = -1};
    struct connector_targets targets = {.count = 0};
    add_target(&targets, d, 1);
    start(d, &outcome, &targets, 0);
    run_until(d, outcome.calls == 1 && d->taken == 1);
    assert_false(outcome.is_unix);
    assert_false(outcome.has_why);
    check_connected(d, &outcome);
}

static void a_dial_may_be_stopped_from_within_its_last_call(void **state)
{
    struct doorstep *d = *state;
    struct outcome outcome = {.fd = -1, .stops = true};
    struct connector_targets targets = {.count = 0};
    add_target(&targets, d, 0);
    start(d, &outcome, &targets, 0);
    run_until(d, outcome.calls == 1 && d->taken == 1);
    check_connected(d, &outcome);
}

static void a_rank_that_is_not_ready_is_waited_for_also_past_the_time_to_give_up(void **state)
{
    struct doorstep *d = *state;
    struct outcome outcome = {.fd = -1};
    struct connector_targets targets = {.count = 0};
    add_target(&targets, d, 0);
    d->verdict = DOOR_NOT_YET;
    start(d, &outcome, &targets, 50);
    run_until(d, d->judged == 1);
    assert_true(dial_descriptor(outcome.dial) >= 0);
    assert_non_null(strstr(dial_why(outcome.dial)->message, "took the connection and has not said hello"));
    int64_t later_ns = clock_now_ns() + INT64_C(150000000);
    run_until(d, clock_now_ns() > later_ns);
    assert_int_equal(outcome.calls, 0);
    d->verdict = HELLO_ACCEPTED;
    door_ask_again(d->door);
    run_until(d, outcome.calls == 1);
    assert_int_equal(d->judged, 2); /* it has not dialled again meanwhile */
    assert_int_equal(dial_descriptor(outcome.dial), -1);
    check_connected(d, &outcome);
}

/* ---- Falling back to TCP ------------------------------------------------------------------------- */

static void where_the_unix_socket_does_not_connect_tcp_is_used_and_the_reason_told(void **state)
{
    struct doorstep *d = *state;
    struct outcome outcome = {.fd = -1, .stops = true};
    struct connector_targets targets = {.count = 0};
    add_dead_unix(&targets);
    add_target(&targets, d, 1);
    start(d, &outcome, &targets, 0);
    run_until(d, outcome.calls == 1 && d->taken == 1);
    assert_false(outcome.is_unix);
    assert_true(outcome.has_why);
    assert_non_null(strstr(outcome.why.message, "-dead"));
    assert_non_null(strstr(outcome.why.message, strerror(ECONNREFUSED)));
    check_connected(d, &outcome);
}

/* Somebody who has the Unix address of the rank, but is not that rank. */
struct impostor {
    int fd;
    struct watch *watch;
    int visits;
    const char *says; /* NULL: it closes at once; "": it is silent */
    int kept;         /* the latest connection; -1: none */
};

static void on_visit(void *context)
{
    struct impostor *impostor = context;
    int fd = socket_accept(impostor->fd);
    if (fd < 0)
        return;
    impostor->visits++;
    if (impostor->kept >= 0)
        descriptor_close(impostor->kept);
    impostor->kept = -1;
    if (impostor->says) {
        say(fd, impostor->says, strlen(impostor->says));
        impostor->kept = fd;
    } else {
        descriptor_close(fd);
    }
}

static void impostor_begin(struct doorstep *d, struct impostor *impostor, struct connector_targets *targets)
{
    struct tutti_error error;
    char name[112];
    *impostor = (struct impostor){.kept = -1};
    impostor->fd = socket_listen_unix_anywhere(name, sizeof name, &error);
    assert_true(impostor->fd >= 0);
    impostor->watch = watch_new(&d->loop, impostor->fd, UV_READABLE, on_visit, impostor);
    assert_non_null(impostor->watch);
    assert_true(connector_add_unix(targets, name));
}

static void impostor_end(struct impostor *impostor)
{
    watch_free(impostor->watch);
    descriptor_close(impostor->fd);
    if (impostor->kept >= 0)
        descriptor_close(impostor->kept);
}

static void where_the_unix_socket_closes_instead_of_answering_tcp_is_used(void **state)
{
    struct doorstep *d = *state;
    struct outcome outcome = {.fd = -1};
    struct connector_targets targets = {.count = 0};
    struct impostor impostor;
    impostor_begin(d, &impostor, &targets);
    add_target(&targets, d, 1);
    start(d, &outcome, &targets, 0);
    run_until(d, outcome.calls == 1 && d->taken == 1);
    assert_false(outcome.is_unix);
    assert_true(outcome.has_why);
    check_connected(d, &outcome);
    impostor_end(&impostor);
}

static void where_another_process_answers_at_the_unix_socket_tcp_is_used(void **state)
{
    struct doorstep *d = *state;
    struct outcome outcome = {.fd = -1};
    struct connector_targets targets = {.count = 0};
    struct impostor impostor;
    char noise[HELLO_BYTES + 1];
    memset(noise, 'n', sizeof noise - 1);
    noise[sizeof noise - 1] = '\0';
    impostor_begin(d, &impostor, &targets);
    impostor.says = noise;
    add_target(&targets, d, 1);
    start(d, &outcome, &targets, 0);
    run_until(d, outcome.calls == 1 && d->taken == 1);
    assert_false(outcome.is_unix);
    assert_true(outcome.has_why);
    assert_int_equal(outcome.why.code, TUTTI_ERR_PROTOCOL);
    assert_int_equal(outcome.checks, 1); /* noise is not even an answer */
    check_connected(d, &outcome);
    impostor_end(&impostor);
}

static void a_unix_socket_that_is_silent_for_seconds_gives_way_to_tcp(void **state)
{
    struct doorstep *d = *state;
    struct outcome outcome = {.fd = -1};
    struct connector_targets targets = {.count = 0};
    struct impostor impostor;
    impostor_begin(d, &impostor, &targets);
    impostor.says = "";
    add_target(&targets, d, 1);
    start(d, &outcome, &targets, 0);
    run_until(d, outcome.calls == 1 && d->taken == 1);
    assert_false(outcome.is_unix);
    assert_non_null(strstr(outcome.why.message, "took the connection and has not said hello"));
    check_connected(d, &outcome);
    impostor_end(&impostor);
}

/* ---- A rank that does not answer ------------------------------------------------------------------ */

static void a_rank_that_does_not_listen_yet_is_tried_until_it_does(void **state)
{
    struct doorstep *d = *state;
    struct outcome outcome = {.fd = -1};
    struct connector_targets targets = {.count = 0};
    struct tutti_error error;
    char name[64];
    snprintf(name, sizeof name, "@tutti-test-dial-%ld-late", (long)getpid());
    assert_true(connector_add_unix(&targets, name));
    start(d, &outcome, &targets, 0);
    run_until(d, dial_why(outcome.dial)->code != TUTTI_OK);
    assert_int_equal(dial_why(outcome.dial)->code, TUTTI_ERR_UNREACHABLE);
    assert_int_equal(dial_descriptor(outcome.dial), -1);
    door_close(d->door);
    listeners_close(&d->listeners);
    d->listeners.count = 1;
    d->listeners.fd[0] = socket_listen_unix(name, &error);
    assert_true(d->listeners.fd[0] >= 0);
    snprintf(d->listeners.address[0], sizeof d->listeners.address[0], "unix:%s", name);
    open_door(d);
    run_until(d, outcome.calls == 1 && d->taken == 1);
    assert_false(outcome.has_why);
    check_connected(d, &outcome);
}

static void a_refusal_is_not_final_as_the_rank_may_be_about_to_change_its_mind(void **state)
{
    struct doorstep *d = *state;
    struct outcome outcome = {.fd = -1};
    struct connector_targets targets = {.count = 0};
    add_target(&targets, d, 0);
    d->verdict = HELLO_WRONG_GROUP;
    start(d, &outcome, &targets, 0);
    run_until(d, outcome.checks == 2);
    assert_string_equal(dial_why(outcome.dial)->message,
                        "refused: it belongs to another group or generation");
    d->verdict = HELLO_ACCEPTED;
    outcome.check_status = TUTTI_ERR_PROTOCOL;
    int checks = outcome.checks;
    run_until(d, outcome.checks >= checks + 2);
    assert_string_equal(dial_why(outcome.dial)->message, "another process");
    assert_int_equal(outcome.calls, 0);
    outcome.check_status = TUTTI_OK;
    run_until(d, outcome.calls == 1);
    check_connected(d, &outcome);
}

static void an_unreachable_rank_is_given_up_when_the_time_has_come(void **state)
{
    struct doorstep *d = *state;
    struct outcome outcome = {.fd = 99};
    struct connector_targets targets = {.count = 0};
    int64_t began_ns = clock_now_ns();
    add_dead_unix(&targets);
    start(d, &outcome, &targets, 100);
    run_until(d, outcome.calls == 1);
    assert_true(clock_now_ns() - began_ns >= INT64_C(100000000));
    assert_int_equal(outcome.fd, -1);
    assert_false(outcome.is_unix);
    assert_true(outcome.has_why);
    assert_int_equal(outcome.why.code, TUTTI_ERR_UNREACHABLE);
    assert_non_null(strstr(outcome.why.message, "-dead"));
    dial_stop(outcome.dial);
}

static void a_rank_that_refuses_until_the_end_is_given_up_with_its_reason(void **state)
{
    struct doorstep *d = *state;
    struct outcome outcome = {.fd = 99, .stops = true};
    struct connector_targets targets = {.count = 0};
    add_target(&targets, d, 0);
    d->verdict = HELLO_UNWANTED;
    start(d, &outcome, &targets, 100);
    run_until(d, outcome.calls == 1);
    assert_int_equal(outcome.fd, -1);
    assert_string_equal(outcome.why.message, "refused: it does not expect this connection");
    assert_true(outcome.checks > 1);
}

/* For real: this process has no descriptor left for a second. */
static void without_descriptors_it_gives_up_early_as_that_is_no_fault_of_the_rank(void **state)
{
    struct doorstep *d = *state;
    struct outcome outcome = {.fd = 99, .stops = true};
    struct connector_targets targets = {.count = 0};
    struct rlimit before, none;
    int lowest = dup(STDERR_FILENO); /* the next descriptor that there would be */
    assert_true(lowest >= 0);
    close(lowest);
    add_target(&targets, d, 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){.rlim_cur = (rlim_t)lowest, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    start(d, &outcome, &targets, 600000);
    run_until(d, outcome.calls == 1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(outcome.fd, -1);
    assert_int_equal(outcome.why.code, TUTTI_ERR_SYSTEM);
    assert_non_null(strstr(outcome.why.message, strerror(EMFILE)));
}

static void without_a_time_to_give_up_it_goes_on(void **state)
{
    struct doorstep *d = *state;
    struct outcome outcome = {.fd = -1};
    struct connector_targets targets = {.count = 0};
    struct impostor impostor;
    impostor_begin(d, &impostor, &targets);
    start(d, &outcome, &targets, 0);
    run_until(d, impostor.visits == 20);
    assert_int_equal(outcome.calls, 0);
    dial_stop(outcome.dial);
    impostor_end(&impostor);
}

/* ---- Stopping ---------------------------------------------------------------------------------- */

/* In every state that it has; tear_down() sees whether something is left on the loop. */
static void a_dial_can_be_stopped_at_any_time_and_calls_nobody(void **state)
{
    struct doorstep *d = *state;
    struct outcome outcome = {.fd = -1};
    struct connector_targets dead = {.count = 0}, targets = {.count = 0};
    add_dead_unix(&dead);
    add_target(&targets, d, 0);
    d->verdict = DOOR_NOT_YET;

    start(d, &outcome, &targets, 0); /* before its first attempt */
    dial_stop(outcome.dial);

    start(d, &outcome, &dead, 0); /* between two attempts */
    run_until(d, dial_why(outcome.dial)->code != TUTTI_OK);
    dial_stop(outcome.dial);

    start(d, &outcome, &targets, 0); /* while the answer is awaited */
    run_until(d, d->judged == 1);
    dial_stop(outcome.dial);
    dial_stop(NULL);

    int64_t later_ns = clock_now_ns() + INT64_C(100000000);
    run_until(d, clock_now_ns() > later_ns);
    assert_int_equal(outcome.calls, 0);
    assert_int_equal(d->judged, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DOORSTEP(a_unix_socket_that_answers_is_used_without_a_word),
        DOORSTEP(tcp_is_no_fallback_where_no_unix_socket_was_tried),
        DOORSTEP(a_dial_may_be_stopped_from_within_its_last_call),
        DOORSTEP(a_rank_that_is_not_ready_is_waited_for_also_past_the_time_to_give_up),
        DOORSTEP(where_the_unix_socket_does_not_connect_tcp_is_used_and_the_reason_told),
        DOORSTEP(where_the_unix_socket_closes_instead_of_answering_tcp_is_used),
        DOORSTEP(where_another_process_answers_at_the_unix_socket_tcp_is_used),
        DOORSTEP(a_unix_socket_that_is_silent_for_seconds_gives_way_to_tcp),
        DOORSTEP(a_rank_that_does_not_listen_yet_is_tried_until_it_does),
        DOORSTEP(a_refusal_is_not_final_as_the_rank_may_be_about_to_change_its_mind),
        DOORSTEP(an_unreachable_rank_is_given_up_when_the_time_has_come),
        DOORSTEP(a_rank_that_refuses_until_the_end_is_given_up_with_its_reason),
        DOORSTEP(without_descriptors_it_gives_up_early_as_that_is_no_fault_of_the_rank),
        DOORSTEP(without_a_time_to_give_up_it_goes_on),
        DOORSTEP(a_dial_can_be_stopped_at_any_time_and_calls_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
