/* The rendezvous behind real sockets, service and members on one loop. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "engine/connection.h"
#include "engine/rendezvous_service.h"
#include "transport/socket.h"

#define TURNS_MAX 20000 /* of the loop, before a test gives up; the loop waits up to 1 ms in each */

static const struct log quiet = {.level = LOG_LEVEL_ERROR, .rank = -1};

struct fixture {
    uv_loop_t loop;
    uv_timer_t tick; /* bounds the wait of a turn */
    char name[ENDPOINT_UNIX_PATH_MAX + 1];
    struct rendezvous_service *service;
    int service_closed;
};

struct member {
    struct connection *connection;
    int welcomes, refusals, closes;
    uint32_t rank, size;
    uint64_t instance;
    int32_t status; /* of a refusal */
};

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct tutti_error error;
    assert_non_null(f);
    assert_int_equal(uv_loop_init(&f->loop), 0);
    uv_timer_init(&f->loop, &f->tick);
    uv_timer_start(&f->tick, on_tick, 1, 1);
    int fd = socket_listen_unix_anywhere(f->name, sizeof f->name, &error);
    assert_true(fd >= 0);
    f->service = rendezvous_service_new(&f->loop, &fd, 1, false, &quiet, &error);
    assert_non_null(f->service);
    *state = f;
    return 0;
}

static void on_service_closed(void *context)
{
    struct fixture *f = context;
    f->service_closed++;
}

static void turn(struct fixture *f)
{
    uv_run(&f->loop, UV_RUN_ONCE);
}

static void run_until(struct fixture *f, const int *counter, int value)
{
    for (int i = 0; i < TURNS_MAX && *counter < value; i++)
        turn(f);
    assert_int_equal(*counter, value);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    if (f->service)
        rendezvous_service_close(f->service, on_service_closed, f);
    run_until(f, &f->service_closed, 1);
    uv_close((uv_handle_t *)&f->tick, NULL);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    free(f);
    return 0;
}

/* ---- Members ----------------------------------------------------------------------------------- */

static void on_frame(struct connection *connection, const struct frame *frame, const uint8_t *payload)
{
    struct member *member = connection_context(connection);
    struct tutti_error error;
    Wire__Control *message = control_decode(payload, frame->length, &error);
    assert_non_null(message);
    if (message->body_case == WIRE__CONTROL__BODY_WELCOME) {
        member->welcomes++;
        member->rank = message->welcome->rank;
        member->size = message->welcome->size;
        member->instance = message->welcome->instance;
    } else if (message->body_case == WIRE__CONTROL__BODY_REFUSED) {
        member->refusals++;
        member->status = message->refused->status;
    }
    wire__control__free_unpacked(message, NULL);
}

static void on_closed(struct connection *connection, const struct tutti_error *why)
{
    (void)why;
    struct member *member = connection_context(connection);
    member->closes++;
    member->connection = NULL;
}

static const struct connection_events events = {.frame = on_frame, .closed = on_closed};

static void member_connect(struct fixture *f, struct member *member)
{
    struct tutti_error error;
    int fd = socket_connect_unix(f->name);
    assert_true(fd >= 0);
    *member = (struct member){0};
    member->connection = connection_new(&f->loop, fd, &events, member, &error);
    assert_non_null(member->connection);
}

static void member_join(struct member *member, int rank, uint32_t size)
{
    char job[] = "test", host[] = "host", host_name[] = "host.example", address[] = "unix:@x";
    char *addresses[] = {address};
    uint8_t id[16] = {(uint8_t)(rank + 1)};
    Wire__Join join = WIRE__JOIN__INIT;
    Wire__Control message = WIRE__CONTROL__INIT;
    join.job = job;
    join.member_id.data = id;
    join.member_id.len = sizeof id;
    join.rank = rank;
    join.size = size;
    join.host = host;
    join.host_name = host_name;
    join.pid = 1;
    join.addresses = addresses;
    join.n_addresses = 1;
    join.slice_bytes = 65536;
    join.join_timeout_ms = 60000;
    join.missing_after_ms = 60000;
    message.body_case = WIRE__CONTROL__BODY_JOIN;
    message.join = &join;
    connection_send_control(member->connection, NULL, &message);
}

static void member_leave(struct member *member)
{
    if (member->connection)
        connection_close(member->connection, false);
}

/* ---- Tests ------------------------------------------------------------------------------------- */

static void members_that_join_are_welcomed_with_their_ranks(void **state)
{
    struct fixture *f = *state;
    struct member members[4];
    for (int i = 0; i < 4; i++) {
        member_connect(f, &members[i]);
        member_join(&members[i], 3 - i, 4);
    }
    for (int i = 0; i < 4; i++) {
        run_until(f, &members[i].welcomes, 1);
        assert_int_equal(members[i].rank, 3 - i);
        assert_int_equal(members[i].size, 4);
        assert_int_not_equal(members[i].instance, 0);
        assert_int_equal(members[i].instance, members[0].instance);
    }
    for (int i = 0; i < 4; i++)
        member_leave(&members[i]);
}

static void two_groups_of_one_service_are_different_instances(void **state)
{
    struct fixture *f = *state;
    struct member first, second;
    member_connect(f, &first);
    member_join(&first, 0, 1);
    run_until(f, &first.welcomes, 1);
    member_leave(&first);
    member_connect(f, &second);
    for (int i = 0; i < 10; i++)
        turn(f); /* the service sees the first one go */
    member_join(&second, 0, 1);
    run_until(f, &second.welcomes, 1);
    assert_int_not_equal(first.instance, second.instance);
    member_leave(&second);
}

static void garbage_costs_the_connection_that_sent_it_and_no_other(void **state)
{
    struct fixture *f = *state;
    static const char *const texts[] = {"GET / HTTP/1.0\r\n\r\n", "SSH-2.0-x\r\n", "TUTHELLO",
                                        "\x16\x03\x01zzzz"};
    struct member good, other;
    int strangers[sizeof texts / sizeof *texts];
    member_connect(f, &good);
    member_join(&good, 0, 2);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        strangers[i] = socket_connect_unix(f->name);
        assert_true(strangers[i] >= 0);
        assert_int_equal(write(strangers[i], texts[i], strlen(texts[i])), strlen(texts[i]));
    }
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        ssize_t n = -1;
        for (int turns = 0; turns < TURNS_MAX && n < 0; turns++) {
            char byte;
            turn(f);
            n = read(strangers[i], &byte, 1);
            assert_true(n >= 0 || errno == EAGAIN || errno == ECONNRESET);
            if (n < 0 && errno == ECONNRESET)
                n = 0;
        }
        assert_int_equal(n, 0);
        close(strangers[i]);
    }
    member_connect(f, &other);
    member_join(&other, 1, 2);
    run_until(f, &good.welcomes, 1);
    run_until(f, &other.welcomes, 1);
    assert_int_equal(good.closes, 0);
    member_leave(&good);
    member_leave(&other);
}

static void frames_that_hold_no_message_cost_the_connection(void **state)
{
    struct fixture *f = *state;
    struct member undecodable, not_control;
    struct frame control = {.type = FRAME_CONTROL, .length = 3};
    struct frame heartbeat = {.type = FRAME_HEARTBEAT};
    member_connect(f, &undecodable);
    member_connect(f, &not_control);
    connection_send(undecodable.connection, &control, "\xff\xff\xff");
    connection_send(not_control.connection, &heartbeat, NULL);
    run_until(f, &undecodable.closes, 1);
    run_until(f, &not_control.closes, 1);
}

static void a_refused_member_is_told_so_before_the_close(void **state)
{
    struct fixture *f = *state;
    struct member good, bad;
    member_connect(f, &good);
    member_join(&good, 0, 2);
    member_connect(f, &bad);
    member_join(&bad, 1, 3);
    run_until(f, &bad.closes, 1);
    assert_int_equal(bad.refusals, 1);
    assert_true(bad.status < 0);
    assert_int_equal(good.closes, 0);
    member_leave(&good);
}

static void a_member_that_leaves_makes_room_for_another(void **state)
{
    struct fixture *f = *state;
    struct member leaver, first, second;
    member_connect(f, &leaver);
    member_join(&leaver, 1, 2);
    for (int i = 0; i < 10; i++)
        turn(f);
    member_leave(&leaver);
    for (int i = 0; i < 10; i++)
        turn(f);
    member_connect(f, &first);
    member_connect(f, &second);
    member_join(&first, 0, 2);
    member_join(&second, 1, 2);
    run_until(f, &first.welcomes, 1);
    run_until(f, &second.welcomes, 1);
    assert_int_equal(leaver.welcomes, 0);
    member_leave(&first);
    member_leave(&second);
}

static void on_iteration(uv_prepare_t *prepare)
{
    (*(int *)prepare->data)++;
}

static void on_enough(uv_timer_t *timer)
{
    *(int *)timer->data = 1;
}

/* The listener stays readable then: a loop that went on trying would take all of a core. */
static void without_descriptors_the_service_waits_instead_of_spinning(void **state)
{
    struct fixture *f = *state;
    struct member member;
    struct rlimit before, none;
    uv_prepare_t prepare;
    uv_timer_t enough;
    int iterations = 0, done = 0;
    member_connect(f, &member);
    member_join(&member, 0, 1);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 3; /* below every descriptor that an accept could give */
    uv_timer_stop(&f->tick);
    uv_prepare_init(&f->loop, &prepare);
    prepare.data = &iterations;
    uv_prepare_start(&prepare, on_iteration);
    uv_timer_init(&f->loop, &enough);
    enough.data = &done;
    uv_timer_start(&enough, on_enough, 300, 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    while (!done)
        uv_run(&f->loop, UV_RUN_ONCE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_true(iterations < 50);
    assert_int_equal(member.welcomes, 0);
    uv_close((uv_handle_t *)&prepare, NULL);
    uv_close((uv_handle_t *)&enough, NULL);
    uv_timer_start(&f->tick, on_tick, 1, 1);
    run_until(f, &member.welcomes, 1);
    member_leave(&member);
}

static void members_of_another_user_are_turned_away(void **state)
{
    struct fixture *f = *state;
    if (geteuid() != 0) {
        print_message("SKIPPED: needs root, to become another user\n");
        skip();
    }
    pid_t child = fork();
    if (child == 0) {
        char byte;
        if (setresuid(65534, 65534, 65534) < 0)
            _exit(1);
        int fd = socket_connect_unix(f->name);
        if (fd < 0 || fcntl(fd, F_SETFL, 0) < 0)
            _exit(2);
        _exit(read(fd, &byte, 1) <= 0 ? 0 : 3);
    }
    int status = -1;
    for (int i = 0; i < TURNS_MAX && waitpid(child, &status, WNOHANG) == 0; i++)
        turn(f);
    assert_int_equal(status, 0);
}

static void a_closing_service_lets_go_of_its_members_and_says_when_it_is_gone(void **state)
{
    struct fixture *f = *state;
    struct member waiting, silent;
    member_connect(f, &waiting);
    member_join(&waiting, 0, 2);
    member_connect(f, &silent);
    for (int i = 0; i < 10; i++)
        turn(f);
    rendezvous_service_close(f->service, on_service_closed, f);
    f->service = NULL;
    assert_int_equal(f->service_closed, 0);
    run_until(f, &f->service_closed, 1);
    run_until(f, &waiting.closes, 1);
    run_until(f, &silent.closes, 1);
    assert_true(socket_connect_unix(f->name) < 0);
}

static void a_listener_that_cannot_be_watched_is_an_error_and_closes_all(void **state)
{
    struct fixture *f = *state;
    char name[ENDPOINT_UNIX_PATH_MAX + 1];
    struct tutti_error error;
    int fds[3] = {socket_listen_unix_anywhere(name, sizeof name, &error), open("/proc/self/exe", O_RDONLY),
                  dup(STDERR_FILENO)};
    assert_null(rendezvous_service_new(&f->loop, fds, 3, false, &quiet, &error));
    assert_int_equal(error.code, TUTTI_ERR_SYSTEM);
    for (int i = 0; i < 3; i++)
        assert_int_equal(fcntl(fds[i], F_GETFD), -1);
}

#define WITH_SERVICE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVICE(members_that_join_are_welcomed_with_their_ranks),
        WITH_SERVICE(two_groups_of_one_service_are_different_instances),
        WITH_SERVICE(garbage_costs_the_connection_that_sent_it_and_no_other),
        WITH_SERVICE(frames_that_hold_no_message_cost_the_connection),
        WITH_SERVICE(a_refused_member_is_told_so_before_the_close),
        WITH_SERVICE(a_member_that_leaves_makes_room_for_another),
        WITH_SERVICE(without_descriptors_the_service_waits_instead_of_spinning),
        WITH_SERVICE(members_of_another_user_are_turned_away),
        WITH_SERVICE(a_closing_service_lets_go_of_its_members_and_says_when_it_is_gone),
        WITH_SERVICE(a_listener_that_cannot_be_watched_is_an_error_and_closes_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
