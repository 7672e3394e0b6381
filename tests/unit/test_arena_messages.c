#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
#include "engine/arena_messages.h"
#include "engine/clock.h"
#include "transport/descriptor.h"
#include "transport/shared_memory.h"

#define LONG_MS    20000 /* before a test fails */
#define PIECES_MAX 450   /* three parcels */

struct ends {
    struct arena_line a, b;
    int doorbell;
    int before; /* descriptors that were open */
};

static int open_descriptors(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static int64_t in_ms(int64_t ms)
{
    return clock_now_ns() + ms * NS_PER_MS;
}

static int set_up(void **state)
{
    struct ends *ends = calloc(1, sizeof *ends);
    int fds[2];
    assert_non_null(ends);
    descriptor_close(descriptor_event(0)); /* what the process keeps is there before it is counted */
    ends->before = open_descriptors();
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    ends->doorbell = descriptor_event(0);
    assert_true(ends->doorbell >= 0);
    ends->a = (struct arena_line){fds[0], ends->doorbell, in_ms(LONG_MS)};
    ends->b = (struct arena_line){fds[1], ends->doorbell, in_ms(LONG_MS)};
    *state = ends;
    return 0;
}

/* Whatever a test has let through, no descriptor may be left. */
static int tear_down(void **state)
{
    struct ends *ends = *state;
    if (ends->a.fd >= 0)
        descriptor_close(ends->a.fd);
    if (ends->b.fd >= 0)
        descriptor_close(ends->b.fd);
    descriptor_close(ends->doorbell);
    int left = open_descriptors() - ends->before;
    free(ends);
    if (left != 0)
        print_error("%d descriptors are left open\n", left);
    return left;
}

static void hang_up(struct arena_line *line)
{
    descriptor_close(line->fd);
    line->fd = -1;
}

static struct arena_message sample(int kind)
{
    return (struct arena_message){
        .kind = (uint32_t)kind, .nonce = 0x1122334455667788, .count = 7, .agrees = 1, .why = "because"};
}

/* An eventfd whose value tells which it is. */
static struct arena_piece piece_of(int number)
{
    struct arena_item item = {ARENA_BELL, (uint16_t)number};
    return (struct arena_piece){item, descriptor_event((unsigned)number + 1)};
}

static void close_pieces(const struct arena_piece *pieces, int count)
{
    for (int i = 0; i < count; i++)
        descriptor_close(pieces[i].fd);
}

static void assert_refused(struct ends *ends, int kind, int max, int code, const char *expected)
{
    struct arena_message message;
    struct arena_piece pieces[4];
    struct tutti_error error = TUTTI_ERROR_INIT;
    assert_int_equal(arena_message_receive(&ends->b, kind, &message, pieces, max, &error), code);
    assert_int_equal(message.items, 0);
    if (!strstr(error.message, expected))
        fail_msg("the error says \"%s\", expected \"%s\"", error.message, expected);
}

/* ---- What goes well ---------------------------------------------------------------------------- */

struct sender {
    const struct arena_line *line;
    const struct arena_piece *pieces;
    int count, status;
};

static void *send_all(void *context)
{
    struct sender *sender = context;
    struct arena_message message = sample(ARENA_FURNISH);
    struct tutti_error error;
    sender->status = arena_message_send(sender->line, &message, sender->pieces, sender->count, &error);
    return NULL;
}

/* The kernel takes 253 descriptors at once at most; more go in several parcels. */
static void a_message_brings_any_number_of_descriptors_in_order(void **state)
{
    struct ends *ends = *state;
    static const int counts[] = {0, 1, 2, 199, 200, 201, 400, PIECES_MAX};
    static struct arena_piece sent[PIECES_MAX], came[PIECES_MAX];
    for (int i = 0; i < PIECES_MAX; i++) {
        sent[i] = piece_of(i);
        assert_true(sent[i].fd >= 0);
    }
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct sender sender = {&ends->a, sent, counts[i], TUTTI_PENDING};
        struct arena_message message;
        struct tutti_error error;
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, send_all, &sender), 0);
        assert_int_equal(arena_message_receive(&ends->b, ARENA_FURNISH, &message, came, PIECES_MAX, &error),
                         TUTTI_OK);
        pthread_join(thread, NULL);
        assert_int_equal(sender.status, TUTTI_OK);
        assert_int_equal(message.items, counts[i]);
        assert_true(message.nonce == sample(0).nonce && message.count == 7 && message.agrees == 1);
        assert_string_equal(message.why, "because");
        for (int k = 0; k < counts[i]; k++) {
            eventfd_t value = 0;
            assert_int_equal(came[k].item.index, k);
            assert_int_equal(came[k].item.kind, ARENA_BELL);
            assert_int_equal(eventfd_read(came[k].fd, &value), 0);
            assert_int_equal(value, k + 1);
            assert_true(fcntl(came[k].fd, F_GETFD) & FD_CLOEXEC);
            eventfd_write(came[k].fd, value);
        }
        close_pieces(came, counts[i]);
    }
    close_pieces(sent, PIECES_MAX);
}

static void a_verdict_may_come_in_the_place_of_any_message(void **state)
{
    struct ends *ends = *state;
    for (int kind = ARENA_OFFER; kind <= ARENA_VERDICT; kind++) {
        struct arena_message verdict = sample(ARENA_VERDICT), message;
        struct arena_piece piece;
        struct tutti_error error;
        verdict.agrees = 0;
        assert_int_equal(arena_message_send(&ends->a, &verdict, NULL, 0, &error), TUTTI_OK);
        assert_int_equal(arena_message_receive(&ends->b, kind, &message, &piece, 1, &error), TUTTI_OK);
        assert_int_equal(message.kind, ARENA_VERDICT);
        assert_int_equal(message.agrees, 0);
    }
}

/* ---- What does not ----------------------------------------------------------------------------- */

static void a_message_of_another_kind_is_refused(void **state)
{
    struct ends *ends = *state;
    struct arena_message message = sample(ARENA_ANSWER);
    struct tutti_error error;
    assert_int_equal(arena_message_send(&ends->a, &message, NULL, 0, &error), TUTTI_OK);
    assert_refused(ends, ARENA_OFFER, 1, TUTTI_ERR_PROTOCOL, "makes no sense");
}

/* Sends the message as it is, after `change` has been made to one of its bytes. */
static void send_changed(struct ends *ends, size_t offset, uint8_t value)
{
    struct arena_message message = sample(ARENA_OFFER), whole;
    struct tutti_error error;
    assert_int_equal(arena_message_send(&ends->a, &message, NULL, 0, &error), TUTTI_OK);
    assert_int_equal(recv(ends->b.fd, &whole, sizeof whole, 0), sizeof whole);
    ((uint8_t *)&whole)[offset] = value;
    assert_int_equal(send(ends->a.fd, &whole, sizeof whole, 0), sizeof whole);
}

static void a_message_that_makes_no_sense_is_refused(void **state)
{
    struct ends *ends = *state;
    static const struct {
        size_t offset;
        uint8_t value;
    } changes[] = {
        {offsetof(struct arena_message, magic), 'X'},  {offsetof(struct arena_message, version), 9},
        {offsetof(struct arena_message, kind), 0},     {offsetof(struct arena_message, kind), 6},
        {offsetof(struct arena_message, items), 5},    {offsetof(struct arena_message, items) + 3, 0x80},
        {offsetof(struct arena_message, reserved), 1},
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        send_changed(ends, changes[i].offset, changes[i].value);
        assert_refused(ends, ARENA_OFFER, 4, TUTTI_ERR_PROTOCOL, "makes no sense");
    }
}

static void a_reason_without_an_end_is_given_one(void **state)
{
    struct ends *ends = *state;
    struct arena_message message = sample(ARENA_OFFER);
    struct tutti_error error;
    memset(message.why, 'x', sizeof message.why);
    assert_int_equal(arena_message_send(&ends->a, &message, NULL, 0, &error), TUTTI_OK);
    assert_int_equal(arena_message_receive(&ends->b, ARENA_OFFER, &message, NULL, 0, &error), TUTTI_OK);
    assert_int_equal(strlen(message.why), sizeof message.why - 1);
}

static void a_verdict_brings_no_descriptors(void **state)
{
    struct ends *ends = *state;
    struct arena_message message = sample(ARENA_VERDICT);
    struct arena_piece piece = piece_of(0);
    struct tutti_error error;
    assert_int_equal(arena_message_send(&ends->a, &message, &piece, 1, &error), TUTTI_OK);
    assert_refused(ends, ARENA_OFFER, 4, TUTTI_ERR_PROTOCOL, "makes no sense");
    close_pieces(&piece, 1);
}

/* Fewer, more, or none than the message has announced, or in what is no parcel. */
static void descriptors_other_than_announced_are_refused_and_closed(void **state)
{
    struct ends *ends = *state;
    struct arena_piece piece = piece_of(0);
    uint8_t no_parcel[sizeof(uint64_t) + DESCRIPTORS_PASSED_MAX * sizeof(struct arena_item)] = {0};
    const int twice[2] = {piece.fd, piece.fd};
    static const struct {
        int fds;
        const char *expected;
    } cases[] = {{0, "could not be received"}, {1, "something else came"}, {2, "could not be received"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        send_changed(ends, offsetof(struct arena_message, items), 1);
        assert_int_equal(descriptors_send(ends->a.fd, no_parcel, sizeof no_parcel, twice, cases[i].fds),
                         TUTTI_OK);
        assert_refused(ends, ARENA_OFFER, 4, i == 1 ? TUTTI_ERR_PROTOCOL : TUTTI_ERR_SYSTEM,
                       cases[i].expected);
    }
    close_pieces(&piece, 1);
}

/* The first parcel has come when the second turns out to be none. */
static void the_descriptors_of_a_message_that_breaks_off_are_closed(void **state)
{
    struct ends *ends = *state;
    static struct arena_piece sent[DESCRIPTORS_PASSED_MAX + 1], came[DESCRIPTORS_PASSED_MAX + 1];
    struct arena_message message = sample(ARENA_FURNISH), whole;
    struct tutti_error error;
    uint8_t parcel[2000];
    for (int i = 0; i <= DESCRIPTORS_PASSED_MAX; i++)
        sent[i] = piece_of(i);
    assert_int_equal(arena_message_send(&ends->a, &message, sent, DESCRIPTORS_PASSED_MAX, &error), TUTTI_OK);
    assert_int_equal(recv(ends->b.fd, &whole, sizeof whole, 0), sizeof whole);
    whole.items++;
    int fds[DESCRIPTORS_PASSED_MAX];
    size_t size = sizeof(uint64_t) + DESCRIPTORS_PASSED_MAX * sizeof(struct arena_item);
    assert_int_equal(descriptors_receive(ends->b.fd, parcel, size, fds, DESCRIPTORS_PASSED_MAX), TUTTI_OK);
    assert_int_equal(send(ends->a.fd, &whole, sizeof whole, 0), sizeof whole);
    assert_int_equal(descriptors_send(ends->a.fd, parcel, size, fds, DESCRIPTORS_PASSED_MAX), TUTTI_OK);
    for (int i = 0; i < DESCRIPTORS_PASSED_MAX; i++)
        descriptor_close(fds[i]);
    hang_up(&ends->a);
    assert_int_equal(
        arena_message_receive(&ends->b, ARENA_FURNISH, &message, came, DESCRIPTORS_PASSED_MAX + 1, &error),
        TUTTI_ERR_SYSTEM);
    assert_int_equal(message.items, 0);
    close_pieces(sent, DESCRIPTORS_PASSED_MAX + 1);
}

static void a_process_without_descriptors_says_so(void **state)
{
    struct ends *ends = *state;
    struct arena_message message = sample(ARENA_OFFER);
    struct arena_piece piece = piece_of(0);
    struct rlimit before, none;
    struct tutti_error error;
    assert_int_equal(arena_message_send(&ends->a, &message, &piece, 1, &error), TUTTI_OK);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    int next = dup(ends->doorbell); /* the first that is free, and so the limit of a process that has all */
    close(next);
    none = (struct rlimit){(rlim_t)next, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct arena_piece came;
    int status = arena_message_receive(&ends->b, ARENA_OFFER, &message, &came, 1, &error);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(status, TUTTI_ERR_SYSTEM);
    assert_non_null(strstr(error.message, "Too many open files"));
    close_pieces(&piece, 1);
}

static void a_peer_that_hangs_up_is_noticed(void **state)
{
    struct ends *ends = *state;
    struct arena_message message = sample(ARENA_ANSWER);
    struct tutti_error error;
    hang_up(&ends->a);
    assert_refused(ends, ARENA_OFFER, 1, TUTTI_ERR_SYSTEM, "could not be received");
    assert_int_equal(arena_message_send(&ends->b, &message, NULL, 0, &error), TUTTI_ERR_SYSTEM);
    assert_non_null(strstr(error.message, "could not be sent"));
}

/* ---- Waiting ----------------------------------------------------------------------------------- */

static void *ring_doorbell(void *context)
{
    eventfd_write(*(int *)context, 1);
    return NULL;
}

static void the_doorbell_ends_a_wait(void **state)
{
    struct ends *ends = *state;
    struct arena_message message;
    struct tutti_error error;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, ring_doorbell, &ends->doorbell), 0);
    assert_int_equal(arena_message_receive(&ends->b, ARENA_OFFER, &message, NULL, 0, &error),
                     TUTTI_ERR_ABORTED);
    pthread_join(thread, NULL);
}

static void a_wait_has_an_end(void **state)
{
    struct ends *ends = *state;
    struct arena_message message = sample(ARENA_OFFER);
    struct tutti_error error;
    ends->b.until_ns = in_ms(30);
    assert_int_equal(arena_message_receive(&ends->b, ARENA_OFFER, &message, NULL, 0, &error),
                     TUTTI_ERR_TIMEOUT);
    assert_true(clock_now_ns() >= ends->b.until_ns);
    ends->a.until_ns = in_ms(30); /* nobody takes what is sent */
    int status = TUTTI_OK;
    for (int i = 0; i < 100000 && status == TUTTI_OK; i++)
        status = arena_message_send(&ends->a, &message, NULL, 0, &error);
    assert_int_equal(status, TUTTI_ERR_TIMEOUT);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_message_brings_any_number_of_descriptors_in_order),
        TEST(a_verdict_may_come_in_the_place_of_any_message),
        TEST(a_message_of_another_kind_is_refused),
        TEST(a_message_that_makes_no_sense_is_refused),
        TEST(a_reason_without_an_end_is_given_one),
        TEST(a_verdict_brings_no_descriptors),
        TEST(descriptors_other_than_announced_are_refused_and_closed),
        TEST(the_descriptors_of_a_message_that_breaks_off_are_closed),
        TEST(a_process_without_descriptors_says_so),
        TEST(a_peer_that_hangs_up_is_noticed),
        TEST(the_doorbell_ends_a_wait),
        TEST(a_wait_has_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
