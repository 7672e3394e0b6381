/* Connecting to a list of addresses, against the real kernel on loopback. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "engine/connector.h"
#include "engine/watch.h"
#include "transport/socket.h"

#define ATTEMPT_MS  2000
#define FILLERS_MAX 16 /* connections that fill the queue of a listener which nobody serves */

struct outcome {
    int calls, fd, index;
    struct tutti_error why;
};

static void on_done(void *context, int fd, int index, const struct tutti_error *why)
{
    struct outcome *outcome = context;
    outcome->calls++;
    outcome->fd = fd;
    outcome->index = index;
    outcome->why = *why;
}

/* Runs the loop until nothing is left in it: a connector must leave nothing behind. */
static struct outcome connect_to(const struct connector_targets *targets, int first, int attempt_ms)
{
    struct outcome outcome = {.fd = -1, .index = -1};
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_non_null(connector_start(&loop, targets, first, attempt_ms, on_done, &outcome));
    assert_int_equal(outcome.calls, 0); /* never from inside connector_start() */
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(outcome.calls, 1);
    return outcome;
}

static void abstract_name(char name[64], const char *what)
{
    snprintf(name, 64, "@tutti-test-connector-%ld-%s", (long)getpid(), what);
}

static int listen_unix(char name[64], const char *what)
{
    struct tutti_error error;
    abstract_name(name, what);
    int fd = socket_listen_unix(name, &error);
    assert_true(fd >= 0);
    return fd;
}

static int listen_tcp(struct sockaddr_storage *address)
{
    struct tutti_error error;
    struct sockaddr_in loopback = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    memset(address, 0, sizeof *address);
    memcpy(address, &loopback, sizeof loopback);
    int fd = socket_listen_tcp(address, 0, 0, &error);
    assert_true(fd >= 0);
    return fd;
}

/* A TCP address of this host where nobody listens: bound, so that nobody else can. */
static int occupy_tcp(struct sockaddr_storage *address)
{
    socklen_t length = sizeof *address;
    struct sockaddr_in loopback = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&loopback, sizeof loopback), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)address, &length), 0);
    return fd;
}

/* `listener` has got the connection that `outcome` is the other end of; closes both. */
static void check_connected(const struct outcome *outcome, int listener)
{
    struct pollfd waiting = {.fd = listener, .events = POLLIN};
    char byte = 'x', got = 0;
    assert_true(outcome->fd >= 0);
    assert_int_equal(poll(&waiting, 1, 10000), 1);
    int accepted = socket_accept(listener);
    assert_true(accepted >= 0);
    assert_true(fcntl(outcome->fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(outcome->fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(write(outcome->fd, &byte, 1), 1);
    waiting.fd = accepted;
    assert_int_equal(poll(&waiting, 1, 10000), 1);
    assert_int_equal(read(accepted, &got, 1), 1);
    assert_int_equal(got, byte);
    close(accepted);
    close(outcome->fd);
}

static void the_first_address_that_answers_is_taken(void **state)
{
    (void)state;
    char name[64];
    struct sockaddr_storage address;
    struct connector_targets targets = {.count = 0};
    int unix_listener = listen_unix(name, "good"), tcp_listener = listen_tcp(&address);
    assert_true(connector_add_unix(&targets, name));
    assert_true(connector_add_address(&targets, (struct sockaddr *)&address));
    struct outcome outcome = connect_to(&targets, 0, ATTEMPT_MS);
    assert_int_equal(outcome.index, 0);
    check_connected(&outcome, unix_listener);
    assert_int_equal(socket_accept(tcp_listener), -EAGAIN);
    outcome = connect_to(&targets, 1, ATTEMPT_MS); /* as the caller does when the first led nowhere */
    assert_int_equal(outcome.index, 1);
    check_connected(&outcome, tcp_listener);
    assert_int_equal(socket_accept(unix_listener), -EAGAIN);
    close(unix_listener);
    close(tcp_listener);
}

static void a_dead_unix_socket_is_passed_over(void **state)
{
    (void)state;
    char dead[64], name[64];
    struct connector_targets targets = {.count = 0};
    abstract_name(dead, "dead");
    int listener = listen_unix(name, "good");
    assert_true(connector_add_unix(&targets, dead));
    assert_true(connector_add_unix(&targets, "/nonexistent/tutti.sock"));
    assert_true(connector_add_unix(&targets, name));
    struct outcome outcome = connect_to(&targets, 0, ATTEMPT_MS);
    assert_int_equal(outcome.index, 2);
    check_connected(&outcome, listener);
    close(listener);
}

static void a_dead_tcp_address_is_passed_over(void **state)
{
    (void)state;
    struct sockaddr_storage dead, address;
    struct connector_targets targets = {.count = 0};
    int occupied = occupy_tcp(&dead), listener = listen_tcp(&address);
    assert_true(connector_add_address(&targets, (struct sockaddr *)&dead));
    assert_true(connector_add_address(&targets, (struct sockaddr *)&address));
    struct outcome outcome = connect_to(&targets, 0, ATTEMPT_MS);
    assert_int_equal(outcome.index, 1);
    check_connected(&outcome, listener);
    close(occupied);
    close(listener);
}

static void when_nobody_answers_the_last_address_and_its_error_are_named(void **state)
{
    (void)state;
    char dead[64], text[128];
    struct sockaddr_storage address;
    struct connector_targets targets = {.count = 0};
    abstract_name(dead, "dead");
    int occupied = occupy_tcp(&address);
    assert_true(connector_add_unix(&targets, dead));
    assert_true(connector_add_address(&targets, (struct sockaddr *)&address));
    struct outcome outcome = connect_to(&targets, 0, ATTEMPT_MS);
    assert_int_equal(outcome.fd, -1);
    assert_int_equal(outcome.why.code, TUTTI_ERR_UNREACHABLE);
    assert_non_null(strstr(outcome.why.message, connector_print(&targets.list[1], text, sizeof text)));
    assert_non_null(strstr(outcome.why.message, strerror(ECONNREFUSED)));

    targets.count = 1;
    outcome = connect_to(&targets, 0, ATTEMPT_MS);
    assert_int_equal(outcome.fd, -1);
    assert_int_equal(outcome.why.code, TUTTI_ERR_UNREACHABLE);
    assert_non_null(strstr(outcome.why.message, dead));
    close(occupied);
}

static void without_an_address_to_try_it_fails_at_once(void **state)
{
    (void)state;
    char name[64];
    struct connector_targets targets = {.count = 0};
    struct outcome outcome = connect_to(&targets, 0, ATTEMPT_MS);
    assert_int_equal(outcome.fd, -1);
    assert_int_equal(outcome.why.code, TUTTI_ERR_UNREACHABLE);
    assert_non_null(strstr(outcome.why.message, "no address"));
    int listener = listen_unix(name, "good");
    assert_true(connector_add_unix(&targets, name));
    outcome = connect_to(&targets, 1, ATTEMPT_MS);
    assert_int_equal(outcome.fd, -1);
    assert_int_equal(socket_accept(listener), -EAGAIN);
    close(listener);
}

/* Connects to a listener that accepts nothing until one attempt hangs.  False where the kernel never says
 * no. */
static bool fill_backlog(const struct sockaddr_storage *address, int fillers[FILLERS_MAX], int *count)
{
    for (*count = 0; *count < FILLERS_MAX; (*count)++) {
        int fd = fillers[*count] =
            socket_connect_tcp((const struct sockaddr *)address, sizeof(struct sockaddr_in));
        struct pollfd waiting = {.fd = fd, .events = POLLOUT};
        assert_true(fd >= 0);
        if (poll(&waiting, 1, 200) == 0) {
            (*count)++;
            return true;
        }
    }
    return false;
}

static void an_address_that_does_not_answer_costs_one_attempt_and_no_more(void **state)
{
    (void)state;
    struct sockaddr_in deaf = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_storage deaf_address = {0}, address;
    socklen_t length = sizeof deaf_address;
    int fillers[FILLERS_MAX], count;
    int deaf_listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(deaf_listener, (struct sockaddr *)&deaf, sizeof deaf), 0);
    assert_int_equal(listen(deaf_listener, 0), 0);
    assert_int_equal(getsockname(deaf_listener, (struct sockaddr *)&deaf_address, &length), 0);
    bool full = fill_backlog(&deaf_address, fillers, &count);
    if (full) {
        struct connector_targets targets = {.count = 0};
        int listener = listen_tcp(&address);
        assert_true(connector_add_address(&targets, (struct sockaddr *)&deaf_address));
        struct outcome outcome = connect_to(&targets, 0, 50);
        assert_int_equal(outcome.fd, -1);
        assert_non_null(strstr(outcome.why.message, strerror(ETIMEDOUT)));
        assert_true(connector_add_address(&targets, (struct sockaddr *)&address));
        outcome = connect_to(&targets, 0, 50);
        assert_int_equal(outcome.index, 1);
        check_connected(&outcome, listener);
        close(listener);
    }
    while (count-- > 0)
        close(fillers[count]);
    close(deaf_listener);
    if (!full) {
        print_message("SKIPPED: this kernel answers every connection to a listener whose queue is full\n");
        skip();
    }
}

static void cancel(void *context)
{
    connector_cancel(*(struct connector **)context);
    *(struct connector **)context = NULL;
}

/* Before the first attempt, and while one is under way. */
static void a_cancelled_connector_does_not_call(void **state)
{
    (void)state;
    char name[64];
    struct connector_targets targets = {.count = 0};
    int listener = listen_unix(name, "good");
    assert_true(connector_add_unix(&targets, name));
    for (int turns = 0; turns < 2; turns++) {
        struct outcome outcome = {.fd = -1};
        uv_loop_t loop;
        assert_int_equal(uv_loop_init(&loop), 0);
        /* Alarms that are due together ring in the order in which they were set: with the connector's own
         * first, its attempt has begun, and its socket is not looked at before the next turn of the loop. */
        struct connector *connector = NULL;
        struct alarm *alarm = alarm_new(&loop, cancel, &connector);
        assert_non_null(alarm);
        if (turns == 0)
            alarm_set(alarm, 0);
        connector = connector_start(&loop, &targets, 0, ATTEMPT_MS, on_done, &outcome);
        assert_non_null(connector);
        if (turns == 1)
            alarm_set(alarm, 0);
        assert_int_equal(uv_run(&loop, UV_RUN_NOWAIT) >= 0, 1);
        alarm_free(alarm);
        uv_run(&loop, UV_RUN_DEFAULT);
        assert_int_equal(uv_loop_close(&loop), 0);
        assert_null(connector);
        assert_int_equal(outcome.calls, 0);
    }
    connector_cancel(NULL);
    close(listener);
}

static void addresses_are_added_from_text_and_printed_the_same(void **state)
{
    (void)state;
    static const char *const good[] = {"10.0.0.1:4711", "[::1]:4711", "unix:@abstract",
                                       "unix:/run/tutti.sock"};
    static const char *const bad[] = {"",      "host:4711", "10.0.0.1", "10.0.0.1:0x1", "file:/tmp/meet",
                                      "pigeon"};
    struct connector_targets targets = {.count = 0};
    char text[128];
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(connector_add_text(&targets, good[i]));
        assert_string_equal(connector_print(&targets.list[i], text, sizeof text), good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(connector_add_text(&targets, bad[i]));
    assert_int_equal(targets.count, sizeof good / sizeof good[0]);
}

static void assert_listed(const char *transports, char *const *addresses, size_t count, bool same_host,
                          const char *expected)
{
    struct connector_targets targets = {.count = 0};
    char all[512] = "", text[128];
    connector_add_list(&targets, transports, addresses, count, same_host);
    for (int i = 0; i < targets.count; i++) {
        size_t used = strlen(all);
        snprintf(all + used, sizeof all - used, "%s%s", used > 0 ? " " : "",
                 connector_print(&targets.list[i], text, sizeof text));
    }
    assert_string_equal(all, expected);
}

static void the_addresses_of_a_rank_are_tried_in_the_order_of_the_transports(void **state)
{
    (void)state;
    char *addresses[] = {(char *)"10.0.0.1:4711", (char *)"unix:@a", (char *)"nonsense", (char *)"[::1]:4711",
                         (char *)"unix:@b"};
    assert_listed("uds,tcp", addresses, 5, true, "unix:@a unix:@b 10.0.0.1:4711 [::1]:4711");
    assert_listed("tcp,uds", addresses, 5, true, "10.0.0.1:4711 [::1]:4711 unix:@a unix:@b");
    assert_listed("tcp", addresses, 5, true, "10.0.0.1:4711 [::1]:4711");
    assert_listed("uds", addresses, 5, true, "unix:@a unix:@b");
}

/* Shared memory is set up over a Unix socket, and both ends agree what becomes of it. */
static void shared_memory_begins_at_the_unix_sockets_which_are_tried_once(void **state)
{
    (void)state;
    char *addresses[] = {(char *)"10.0.0.1:4711", (char *)"unix:@a", (char *)"unix:@b"};
    assert_listed("shm,uds,tcp", addresses, 3, true, "unix:@a unix:@b 10.0.0.1:4711");
    assert_listed("shm,tcp,uds", addresses, 3, true, "unix:@a unix:@b 10.0.0.1:4711");
    assert_listed("uds,shm,tcp", addresses, 3, true, "unix:@a unix:@b 10.0.0.1:4711");
    assert_listed("tcp,shm", addresses, 3, true, "10.0.0.1:4711 unix:@a unix:@b");
    assert_listed("uds,tcp,shm", addresses, 3, true, "unix:@a unix:@b 10.0.0.1:4711");
    assert_listed("shm", addresses, 3, true, "unix:@a unix:@b");
    assert_listed("shm,uds,tcp", addresses, 3, false, "10.0.0.1:4711");
    assert_listed("shm", addresses, 3, false, "");
}

static void the_unix_sockets_of_another_host_are_of_no_use(void **state)
{
    (void)state;
    char *addresses[] = {(char *)"unix:@a", (char *)"10.0.0.1:4711"};
    assert_listed("uds,tcp", addresses, 2, false, "10.0.0.1:4711");
    assert_listed("uds", addresses, 2, false, "");
    assert_listed("uds,tcp", addresses, 0, true, "");
}

static void a_list_that_is_full_and_a_name_that_is_too_long_are_refused(void **state)
{
    (void)state;
    struct connector_targets targets = {.count = 0};
    struct sockaddr_in address = {.sin_family = AF_INET};
    char name[200];
    memset(name, 'x', sizeof name);
    name[0] = '/';
    name[108] = '\0';
    assert_false(connector_add_unix(&targets, name));
    name[107] = '\0';
    assert_true(connector_add_unix(&targets, name));
    for (int i = 1; i < CONNECTOR_TARGETS_MAX; i++)
        assert_true(connector_add_address(&targets, (struct sockaddr *)&address));
    assert_false(connector_add_unix(&targets, "@one-more"));
    assert_false(connector_add_address(&targets, (struct sockaddr *)&address));
    assert_false(connector_add_text(&targets, "10.0.0.1:4711"));
    assert_int_equal(targets.count, CONNECTOR_TARGETS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_address_that_answers_is_taken),
        cmocka_unit_test(a_dead_unix_socket_is_passed_over),
        cmocka_unit_test(a_dead_tcp_address_is_passed_over),
        cmocka_unit_test(when_nobody_answers_the_last_address_and_its_error_are_named),
        cmocka_unit_test(without_an_address_to_try_it_fails_at_once),
        cmocka_unit_test(an_address_that_does_not_answer_costs_one_attempt_and_no_more),
        cmocka_unit_test(a_cancelled_connector_does_not_call),
        cmocka_unit_test(addresses_are_added_from_text_and_printed_the_same),
        cmocka_unit_test(the_addresses_of_a_rank_are_tried_in_the_order_of_the_transports),
        cmocka_unit_test(shared_memory_begins_at_the_unix_sockets_which_are_tried_once),
        cmocka_unit_test(the_unix_sockets_of_another_host_are_of_no_use),
        cmocka_unit_test(a_list_that_is_full_and_a_name_that_is_too_long_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
