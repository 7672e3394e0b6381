/* For tests of doors and dials: a loop, two listeners with a door behind them, and an owner of that door who
 * does as the test says. */
#ifndef TUTTI_TESTS_DOORSTEP_H
#define TUTTI_TESTS_DOORSTEP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/error.h"
#include "engine/clock.h"
#include "engine/dial.h"
#include "engine/door.h"
#include "engine/watch.h"
#include "transport/descriptor.h"
#include "transport/socket.h"

#define INSTANCE   0x1122334455667788u
#define TAKEN_MAX  8
#define PATIENCE_S 20 /* before a test fails */

struct doorstep {
    uv_loop_t loop;
    uv_timer_t tick;            /* bounds the wait of a turn */
    struct listeners listeners; /* 0: Unix, 1: TCP */
    struct door *door;
    struct log log;
    struct failpoints failpoints;
    /* The owner. */
    int verdict; /* that it gives to everybody */
    bool closes_when_taking;
    int judged, taken, exhausted, exhausted_errno;
    struct hello judged_hello, taken_hello[TAKEN_MAX];
    int taken_fd[TAKEN_MAX];
    bool taken_unix[TAKEN_MAX];
};

static inline int on_judge(void *context, const struct hello *hello, struct hello *answer)
{
    struct doorstep *d = context;
    d->judged++;
    d->judged_hello = *hello;
    *answer = (struct hello){.role = hello->role,
                             .channel = hello->channel,
                             .instance = INSTANCE,
                             .generation = 3,
                             .from = 2,
                             .to = hello->from};
    return d->verdict;
}

static inline void on_take(void *context, const struct hello *hello, int fd, bool is_unix)
{
    struct doorstep *d = context;
    assert_true(d->taken < TAKEN_MAX);
    d->taken_hello[d->taken] = *hello;
    d->taken_fd[d->taken] = fd;
    d->taken_unix[d->taken++] = is_unix;
    if (d->closes_when_taking) {
        door_close(d->door);
        d->door = NULL;
    }
}

static inline void on_exhausted(void *context, int error_number)
{
    struct doorstep *d = context;
    d->exhausted++;
    d->exhausted_errno = error_number;
}

static const struct door_events owner = {on_judge, on_take, on_exhausted};

/* ---- The loop ---------------------------------------------------------------------------------- */

static inline void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static inline void turn(struct doorstep *d)
{
    uv_run(&d->loop, UV_RUN_ONCE);
}

#define run_until(d, condition)                                                                              \
    do {                                                                                                     \
        int64_t give_up_ns = clock_now_ns() + PATIENCE_S * INT64_C(1000000000);                              \
        while (!(condition)) {                                                                               \
            if (clock_now_ns() > give_up_ns)                                                                 \
                fail_msg("after %d s still not: %s", PATIENCE_S, #condition);                                \
            turn(d);                                                                                         \
        }                                                                                                    \
    } while (0)

static inline void open_listeners(struct doorstep *d)
{
    struct tutti_error error;
    char name[112], text[128];
    struct sockaddr_storage address = {0};
    struct sockaddr_in loopback = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    memcpy(&address, &loopback, sizeof loopback);
    d->listeners.count = 2;
    d->listeners.fd[0] = socket_listen_unix_anywhere(name, sizeof name, &error);
    d->listeners.fd[1] = socket_listen_tcp(&address, 0, 0, &error);
    assert_true(d->listeners.fd[0] >= 0 && d->listeners.fd[1] >= 0);
    snprintf(d->listeners.address[0], sizeof d->listeners.address[0], "unix:%s", name);
    snprintf(d->listeners.address[1], sizeof d->listeners.address[1], "%s",
             socket_print((struct sockaddr *)&address, text, sizeof text));
}

static inline void open_door(struct doorstep *d)
{
    d->door = door_open(&d->loop, &d->listeners, &d->log, &d->failpoints, &owner, d);
    assert_non_null(d->door);
}

static inline int set_up(void **state)
{
    struct doorstep *d = calloc(1, sizeof *d);
    assert_non_null(d);
    assert_int_equal(uv_loop_init(&d->loop), 0);
    uv_timer_init(&d->loop, &d->tick);
    uv_timer_start(&d->tick, on_tick, 1, 1);
    d->log = (struct log){.level = LOG_LEVEL_ERROR, .rank = 2};
    open_listeners(d);
    open_door(d);
    *state = d;
    return 0;
}

/* Nothing may be left on the loop. */
static inline int tear_down(void **state)
{
    struct doorstep *d = *state;
    door_close(d->door);
    listeners_close(&d->listeners);
    for (int i = 0; i < d->taken; i++)
        if (d->taken_fd[i] >= 0)
            descriptor_close(d->taken_fd[i]);
    uv_close((uv_handle_t *)&d->tick, NULL);
    uv_run(&d->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&d->loop), 0);
    free(d);
    return 0;
}

/* ---- Visitors ---------------------------------------------------------------------------------- */

static inline struct hello hello_of(uint32_t from)
{
    return (struct hello){
        .role = HELLO_DATA, .channel = 1, .instance = INSTANCE, .generation = 3, .from = from, .to = 2};
}

/* Of the connector that a dial or a visitor uses. */
static inline void add_target(struct connector_targets *targets, const struct doorstep *d, int listener)
{
    assert_true(connector_add_text(targets, d->listeners.address[listener]));
}

/* A connection to that listener; whether the door has accepted it yet is another matter. */
static inline int visit(const struct doorstep *d, int listener)
{
    struct connector_targets targets = {.count = 0};
    add_target(&targets, d, listener);
    const struct connector_target *target = &targets.list[0];
    int fd = target->is_unix ? socket_connect_unix(target->name)
                             : socket_connect_tcp((const struct sockaddr *)&target->address, target->length);
    struct pollfd connected = {.fd = fd, .events = POLLOUT};
    assert_true(fd >= 0);
    assert_int_equal(poll(&connected, 1, PATIENCE_S * 1000), 1);
    assert_int_equal(socket_connect_result(fd), 0);
    return fd;
}

static inline void say(int fd, const void *bytes, size_t size)
{
    assert_int_equal(send(fd, bytes, size, MSG_NOSIGNAL), size);
}

static inline void say_hello(int fd, uint32_t from)
{
    uint8_t bytes[HELLO_BYTES];
    const struct hello hello = hello_of(from);
    hello_encode(&hello, bytes);
    say(fd, bytes, sizeof bytes);
}

static inline bool has_input(int fd)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    return poll(&readable, 1, 0) == 1;
}

static inline void hear(int fd, void *bytes, size_t size)
{
    for (size_t have = 0; have < size;) {
        struct pollfd readable = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&readable, 1, PATIENCE_S * 1000), 1);
        ssize_t n = recv(fd, (char *)bytes + have, size - have, MSG_DONTWAIT);
        assert_true(n > 0);
        have += (size_t)n;
    }
}

/* The answer, which has been sent. */
static inline struct hello hear_hello(int fd)
{
    uint8_t bytes[HELLO_BYTES];
    struct hello hello = {0};
    struct tutti_error error;
    hear(fd, bytes, sizeof bytes);
    assert_int_equal(hello_decode(bytes, &hello, &error), TUTTI_OK);
    return hello;
}

/* The other end has closed the connection, and said nothing more. */
static inline bool is_closed(int fd)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);
    assert_true(n <= 0);
    return n == 0 || errno == ECONNRESET;
}

#define DOORSTEP(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
