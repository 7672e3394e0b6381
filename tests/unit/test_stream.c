/* Framing over real sockets.  send() and sendmsg() are those of this file, so that a test can say how many
 * bytes the kernel takes at a time; below them the sockets are the kernel's own. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include "tests/unit/stream_pair.h"

#define FRAMES 200 /* that go from end to end */

static long budget = -1; /* bytes that send() and sendmsg() still take; -1: no limit */
static bool interrupted; /* the next of them ends with EINTR */

static bool within_budget(size_t *size)
{
    if (interrupted || budget == 0) {
        errno = interrupted ? EINTR : EAGAIN;
        interrupted = false;
        return false;
    }
    if (budget >= 0 && *size > (size_t)budget)
        *size = (size_t)budget;
    return true;
}

static ssize_t spend(ssize_t sent)
{
    if (sent > 0 && budget >= 0)
        budget -= sent;
    return sent;
}

ssize_t send(int fd, const void *bytes, size_t size, int flags)
{
    return within_budget(&size) ? spend(sendto(fd, bytes, size, flags, NULL, 0)) : -1;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    struct iovec pieces[2];
    struct msghdr cut = *message;
    size_t whole = 0;
    assert_true(message->msg_iovlen <= 2);
    for (size_t i = 0; i < message->msg_iovlen; i++)
        whole += message->msg_iov[i].iov_len;
    if (!within_budget(&whole))
        return -1;
    for (size_t i = 0; i < message->msg_iovlen; i++) {
        pieces[i] = message->msg_iov[i];
        if (pieces[i].iov_len > whole)
            pieces[i].iov_len = whole;
        whole -= pieces[i].iov_len;
    }
    cut.msg_iov = pieces;
    return spend(syscall(SYS_sendmsg, fd, &cut, flags));
}

/* ---- Receiving --------------------------------------------------------------------------------- */

static void a_frame_is_received_whole_wherever_it_was_cut(void **state)
{
    const struct pair *pair = *state;
    static uint8_t bytes[2000], payload[2000];
    struct frame frame;
    struct tutti_error error;
    uint64_t sequence = 0, total = 0;
    for (size_t l = 0; l < LENGTHS; l++)
        for (size_t cut = 0; cut <= FRAME_HEADER_BYTES + lengths[l]; cut++) {
            uint16_t flags = ++sequence % 2 ? FRAME_HAS_PAYLOAD_CRC : 0;
            size_t whole = encode(bytes, lengths[l], sequence, flags);
            memset(payload, 0, sizeof payload);
            write_raw(pair, bytes, cut);
            if (cut < whole)
                assert_int_equal(receive(pair, &frame, payload, lengths[l], &error), LINK_AGAIN);
            write_raw(pair, bytes + cut, whole - cut);
            assert_int_equal(receive(pair, &frame, payload, lengths[l], &error), LINK_DONE);
            check_frame(&frame, payload, lengths[l], sequence);
            total += whole;
            assert_int_equal(pair->link->received_bytes, total);
        }
}

static void a_frame_is_received_byte_by_byte_and_loaned(void **state)
{
    const struct pair *pair = *state;
    static uint8_t bytes[2000];
    struct frame frame;
    const void *loan = NULL;
    struct tutti_error error = TUTTI_ERROR_INIT;
    for (size_t l = 0; l < LENGTHS; l++) {
        size_t whole = encode(bytes, lengths[l], 100 + l, FRAME_HAS_PAYLOAD_CRC);
        for (size_t i = 0; i < whole; i++) {
            assert_int_equal(pair->link->ops->recv_loan(pair->link, &frame, &loan, lengths[l], &error),
                             LINK_AGAIN);
            write_raw(pair, bytes + i, 1);
        }
        assert_int_equal(pair->link->ops->recv_loan(pair->link, &frame, &loan, lengths[l], &error),
                         LINK_DONE);
        check_frame(&frame, loan, lengths[l], 100 + l);
    }
}

/* The first call must not take bytes of the second frame. */
static void frames_that_arrive_together_are_received_one_by_one(void **state)
{
    const struct pair *pair = *state;
    static uint8_t bytes[2 * LENGTHS * 1100], payload[2000];
    struct frame frame;
    struct tutti_error error;
    size_t used = 0;
    for (uint64_t i = 0; i < 2 * LENGTHS; i++)
        used += encode(bytes + used, lengths[i / 2], i + 1, 0);
    write_raw(pair, bytes, used);
    for (uint64_t i = 0; i < 2 * LENGTHS; i++) {
        assert_int_equal(receive(pair, &frame, payload, lengths[i / 2], &error), LINK_DONE);
        check_frame(&frame, payload, lengths[i / 2], i + 1);
    }
    assert_int_equal(receive(pair, &frame, payload, 1, &error), LINK_AGAIN);
}

static void a_damaged_payload_is_noticed_where_the_flag_is_set(void **state)
{
    static uint8_t bytes[2000], payload[2000];
    static const uint32_t sizes[] = {1, 100, 448, 449, 1000};
    struct frame frame;
    struct tutti_error error;
    const struct pair *pair = *state;
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (uint32_t at = 0; at<sizes[s]; at += sizes[s]> 7 ? sizes[s] / 7 : 1) {
            size_t whole = encode(bytes, sizes[s], 9, FRAME_HAS_PAYLOAD_CRC);
            bytes[FRAME_HEADER_BYTES + at] ^= (uint8_t)(1u << at % 8);
            write_raw(pair, bytes, whole);
            int status = receive(pair, &frame, payload, sizes[s], &error);
            check_error(&error, status, TUTTI_ERR_PROTOCOL, PEER_TEXT);
            assert_non_null(strstr(error.message, "damaged"));
        }
}

static void every_damaged_bit_of_a_header_is_noticed(void **state)
{
    static uint8_t bytes[FRAME_HEADER_BYTES + 16], payload[16];
    struct frame frame;
    struct tutti_error error;
    for (int bit = 0; bit < 8 * FRAME_HEADER_BYTES; bit++) {
        const struct pair *pair = *state;
        size_t whole = encode(bytes, 16, 1, 0);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        write_raw(pair, bytes, whole);
        int status = receive(pair, &frame, payload, 16, &error);
        /* The version is looked at before the checksum, whose place another version may have moved. */
        check_error(&error, status, bit / 8 == 4 ? TUTTI_ERR_VERSION : TUTTI_ERR_PROTOCOL, "");
        close_pair(state); /* of no more use */
        open_pair(state);
    }
}

static void a_frame_of_another_length_is_handed_over_as_unexpected(void **state)
{
    static uint8_t bytes[2000], payload[2000];
    struct frame frame;
    struct tutti_error error;
    for (size_t sent = 0; sent < LENGTHS; sent++)
        for (size_t asked = 0; asked < LENGTHS; asked++) {
            const struct pair *pair = *state;
            if (sent == asked)
                continue;
            memset(&frame, 0, sizeof frame);
            write_raw(pair, bytes, encode(bytes, lengths[sent], 33, 0));
            assert_int_equal(receive(pair, &frame, payload, lengths[asked], &error), LINK_UNEXPECTED);
            assert_int_equal(frame.length, lengths[sent]);
            assert_int_equal(frame.sequence, 33);
            close_pair(state); /* of no more use */
            open_pair(state);
        }
}

static void a_peer_that_closes_is_lost_wherever_it_stops(void **state)
{
    static uint8_t bytes[2000], payload[2000];
    struct frame frame;
    struct tutti_error error;
    static const size_t cuts[] = {0, 1, 63, 64, 65, 300, 563};
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++)
        for (uint32_t length = 500; length > 448 - 50; length -= 100) {
            struct pair *pair = *state;
            size_t whole = encode(bytes, length, 1, 0);
            write_raw(pair, bytes, cuts[i] < whole ? cuts[i] : whole - 1);
            close(pair->fd);
            pair->fd = -1;
            int status = receive(pair, &frame, payload, length, &error);
            check_error(&error, status, TUTTI_ERR_PEER_LOST, PEER_TEXT);
            assert_non_null(strstr(error.message, "uds"));
            assert_non_null(strstr(error.message, "closed"));
            close_pair(state);
            open_pair(state);
        }
}

/* The kernel resets a connection that is closed with bytes unread. */
static void a_peer_that_closes_with_bytes_unread_is_lost(void **state)
{
    struct pair *pair = *state;
    uint8_t payload[100] = {0};
    struct frame frame = data_frame(sizeof payload, 1, 0);
    struct tutti_error error = TUTTI_ERROR_INIT;
    assert_int_equal(pair->link->ops->send(pair->link, &frame, payload, &error), LINK_DONE);
    close(pair->fd);
    pair->fd = -1;
    int status = receive(pair, &frame, payload, sizeof payload, &error);
    check_error(&error, status, TUTTI_ERR_PEER_LOST, strerror(ECONNRESET));
}

/* ---- Sending ----------------------------------------------------------------------------------- */

static void read_raw(const struct pair *pair, uint8_t *bytes, size_t size)
{
    if (size > 0)
        assert_int_equal(recv(pair->fd, bytes, size, MSG_WAITALL), (ssize_t)size);
}

static void a_frame_is_sent_whole_wherever_the_kernel_cuts_it(void **state)
{
    const struct pair *pair = *state;
    static uint8_t expected[2000], got[2000], payload[2000];
    struct tutti_error error = TUTTI_ERROR_INIT;
    uint64_t sequence = 0, total = 0;
    for (size_t l = 0; l < LENGTHS; l++)
        for (size_t cut = 0; cut < FRAME_HEADER_BYTES + lengths[l]; cut++) {
            uint16_t flags = ++sequence % 2 ? FRAME_HAS_PAYLOAD_CRC : 0;
            size_t whole = encode(expected, lengths[l], sequence, flags);
            struct frame frame = data_frame(lengths[l], sequence, flags);
            fill(payload, lengths[l], (uint32_t)sequence);
            budget = (long)cut;
            assert_int_equal(pair->link->ops->send(pair->link, &frame, payload, &error), LINK_AGAIN);
            assert_int_equal(pair->link->sent_bytes, total + cut);
            assert_int_equal(pair->link->ops->send(pair->link, &frame, payload, &error), LINK_AGAIN);
            budget = -1;
            interrupted = true;
            assert_int_equal(pair->link->ops->send(pair->link, &frame, payload, &error), LINK_DONE);
            total += whole;
            assert_int_equal(pair->link->sent_bytes, total);
            read_raw(pair, got, whole);
            assert_memory_equal(got, expected, whole);
        }
}

static void a_frame_is_sent_byte_by_byte(void **state)
{
    const struct pair *pair = *state;
    static uint8_t expected[2000], got[2000];
    struct tutti_error error = TUTTI_ERROR_INIT;
    for (size_t l = 0; l < LENGTHS; l++) {
        size_t whole = encode(expected, lengths[l], l, 0);
        struct frame frame = data_frame(lengths[l], l, 0);
        for (size_t i = 0; i < whole; i++) {
            budget = 1;
            assert_int_equal(pair->link->ops->send(pair->link, &frame, expected + FRAME_HEADER_BYTES, &error),
                             i + 1 < whole ? LINK_AGAIN : LINK_DONE);
            read_raw(pair, got + i, 1); /* the kernel takes only some hundred pieces unread */
        }
        assert_memory_equal(got, expected, whole);
    }
}

static void sending_to_a_peer_that_closed_is_an_error_and_no_signal(void **state)
{
    static uint8_t payload[1000];
    for (size_t l = 0; l < LENGTHS; l++) {
        struct pair *pair = *state;
        struct frame frame = data_frame(lengths[l], 1, 0);
        struct tutti_error error = TUTTI_ERROR_INIT;
        close(pair->fd);
        pair->fd = -1;
        int status = pair->link->ops->send(pair->link, &frame, payload, &error);
        check_error(&error, status, TUTTI_ERR_PEER_LOST, PEER_TEXT);
        assert_non_null(strstr(error.message, "sending"));
        close_pair(state);
        open_pair(state);
    }
}

/* ---- Both ends, and buffers that hold next to nothing -------------------------------------------- */

static uint64_t next_random(uint64_t *state) /* xorshift64 */
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

/* Until the kernel takes or has more: both ends are blocked, or one of them has its turn soon. */
static void wait_for_either(const struct link *from, const struct link *to)
{
    struct pollfd fds[2] = {{.fd = from->ops->descriptor(from), .events = POLLOUT},
                            {.fd = to->ops->descriptor(to), .events = POLLIN}};
    assert_true(poll(fds, 2, 10000) > 0);
}

/* Frames of many lengths go through a pair of links whose kernel buffers are as small as they can be; each
 * end gets its turn in a random order. */
static void pump(struct link *from, struct link *to, uint64_t *random, uint16_t flags)
{
    static uint8_t out[LOAN_MAX], in[LOAN_MAX];
    uint32_t size[FRAMES];
    int sent = 0, filled = -1, received = 0;
    long waits = 0;
    for (int i = 0; i < FRAMES; i++)
        size[i] = (uint32_t)(next_random(random) % (i % 8 == 0 ? LOAN_MAX : 600));
    for (long turns = 0; received < FRAMES; turns++) {
        struct tutti_error error = TUTTI_ERROR_INIT;
        assert_true(turns < 1000 * 1000);
        if (sent < FRAMES && next_random(random) % 2) {
            struct frame frame = data_frame(size[sent], (uint64_t)sent, flags);
            if (filled != sent) {
                filled = sent;
                fill(out, size[sent], (uint32_t)sent);
            }
            int result = from->ops->send(from, &frame, out, &error);
            assert_true(result >= 0);
            sent += result == LINK_DONE;
            if (result == LINK_AGAIN) {
                waits++;
                wait_for_either(from, to);
            }
        } else {
            struct frame frame;
            const void *loan = in;
            int result = received % 2 ? to->ops->recv(to, &frame, in, size[received], &error)
                                      : to->ops->recv_loan(to, &frame, &loan, size[received], &error);
            assert_true(result == LINK_DONE || result == LINK_AGAIN);
            if (result == LINK_DONE) {
                check_frame(&frame, loan, size[received], (uint64_t)received);
                received++;
            }
        }
    }
    assert_true(waits > 0); /* or the buffers were not small */
    assert_int_equal(from->sent_bytes, to->received_bytes);
}

static void shrink(int fd)
{
    int least = 1; /* the kernel rounds up to its minimum */
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof least), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &least, sizeof least), 0);
}

static uint64_t seed(void)
{
    const char *text = getenv("TUTTI_TEST_SEED");
    uint64_t value = text ? strtoull(text, NULL, 0) : 1;
    print_message("seed %llu\n", (unsigned long long)value);
    return value ? value : 1;
}

static void frames_pass_a_unix_socket_whose_buffers_are_tiny(void **state)
{
    (void)state;
    uint64_t random = seed();
    for (int turn = 0; turn < 2; turn++) {
        int fds[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
        shrink(fds[0]);
        shrink(fds[1]);
        struct link *from = stream_link_new(fds[0], STREAM_UDS, 1, "rank 1", LOAN_MAX);
        struct link *to = stream_link_new(fds[1], STREAM_UDS, 0, "rank 0", LOAN_MAX);
        assert_true(from && to);
        pump(from, to, &random, turn ? FRAME_HAS_PAYLOAD_CRC : 0);
        from->ops->free(from);
        to->ops->free(to);
    }
}

static void tcp_pair(int fds[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(listener >= 0 && fds[0] >= 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    assert_int_equal(connect(fds[0], (struct sockaddr *)&address, length), 0);
    fds[1] = accept(listener, NULL, NULL);
    assert_true(fds[1] >= 0);
    close(listener);
    for (int i = 0; i < 2; i++)
        assert_int_equal(fcntl(fds[i], F_SETFL, O_NONBLOCK), 0);
}

static int option_of(int fd, int level, int option)
{
    int value = -1;
    socklen_t length = sizeof value;
    assert_int_equal(getsockopt(fd, level, option, &value, &length), 0);
    return value;
}

static void frames_pass_a_tcp_connection_with_small_buffers(void **state)
{
    (void)state;
    struct stream_options options = {.buffer_bytes = 16384, .congestion = "default", .dead_after_ms = 5000};
    uint64_t random = seed();
    int fds[2];
    tcp_pair(fds);
    for (int i = 0; i < 2; i++)
        stream_set_options(fds[i], STREAM_TCP, &options);
    struct link *from = stream_link_new(fds[0], STREAM_TCP, 1, "rank 1", LOAN_MAX);
    struct link *to = stream_link_new(fds[1], STREAM_TCP, 0, "rank 0", LOAN_MAX);
    assert_true(from && to);
    assert_string_equal(from->ops->transport, "tcp");
    pump(from, to, &random, FRAME_HAS_PAYLOAD_CRC);
    from->ops->free(from);
    to->ops->free(to);
}

static void options_reach_the_socket(void **state)
{
    (void)state;
    struct stream_options options = {
        .buffer_bytes = 65536, .congestion = "no-such-control", .local = true, .dead_after_ms = 5000};
    int fds[2];
    tcp_pair(fds);
    stream_set_options(fds[0], STREAM_TCP, &options); /* what the kernel refuses is left as it is */
    assert_int_equal(option_of(fds[0], IPPROTO_TCP, TCP_NODELAY), 1);
    assert_int_equal(option_of(fds[0], SOL_SOCKET, SO_KEEPALIVE), 1);
    assert_int_equal(option_of(fds[0], IPPROTO_TCP, TCP_KEEPIDLE), 6);
    assert_int_equal(option_of(fds[0], SOL_SOCKET, SO_SNDBUF), 2 * 65536); /* the kernel doubles */
    int before = option_of(fds[1], SOL_SOCKET, SO_SNDBUF);
    options.buffer_bytes = -1;
    stream_set_options(fds[1], STREAM_TCP, &options);
    assert_int_equal(option_of(fds[1], SOL_SOCKET, SO_SNDBUF), before);
    close(fds[0]);
    close(fds[1]);
}

static void a_link_owns_its_descriptor(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    struct link *link = stream_link_new(fds[0], STREAM_UDS, PEER, PEER_TEXT, 0);
    assert_non_null(link);
    assert_int_equal(link->ops->descriptor(link), fds[0]);
    assert_int_equal(link->peer, PEER);
    assert_string_equal(link->ops->transport, "uds");
    link->ops->free(link);
    assert_int_equal(fcntl(fds[0], F_GETFD), -1);
    assert_int_equal(errno, EBADF);
    close(fds[1]);
}

static int close_pair_without_limit(void **state)
{
    budget = -1;
    return close_pair(state);
}

#define ON_A_PAIR(test) cmocka_unit_test_setup_teardown(test, open_pair, close_pair_without_limit)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_A_PAIR(a_frame_is_received_whole_wherever_it_was_cut),
        ON_A_PAIR(a_frame_is_received_byte_by_byte_and_loaned),
        ON_A_PAIR(frames_that_arrive_together_are_received_one_by_one),
        ON_A_PAIR(a_damaged_payload_is_noticed_where_the_flag_is_set),
        ON_A_PAIR(every_damaged_bit_of_a_header_is_noticed),
        ON_A_PAIR(a_frame_of_another_length_is_handed_over_as_unexpected),
        ON_A_PAIR(a_peer_that_closes_is_lost_wherever_it_stops),
        ON_A_PAIR(a_peer_that_closes_with_bytes_unread_is_lost),
        ON_A_PAIR(a_frame_is_sent_whole_wherever_the_kernel_cuts_it),
        ON_A_PAIR(a_frame_is_sent_byte_by_byte),
        ON_A_PAIR(sending_to_a_peer_that_closed_is_an_error_and_no_signal),
        cmocka_unit_test(frames_pass_a_unix_socket_whose_buffers_are_tiny),
        cmocka_unit_test(frames_pass_a_tcp_connection_with_small_buffers),
        cmocka_unit_test(options_reach_the_socket),
        cmocka_unit_test(a_link_owns_its_descriptor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
