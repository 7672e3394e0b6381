/* What a test can make a link do to its peer, at the frame that it names: both ends over real sockets.  Where
 * the library is built without failpoints, that nothing of it is left. */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
#include "transport/stream.h"

#define LENGTH_MAX 20000

/* Without a payload, with one that travels in one piece with its header, and with one that does not. */
static const uint32_t lengths[] = {0, 200, LENGTH_MAX};
#define LENGTHS (sizeof lengths / sizeof lengths[0])

/* Rank 0 sends to rank 1, and has the failpoints. */
static struct link *sender, *receiver;
static struct failpoints failpoints;
static uint8_t payload[LENGTH_MAX], received[LENGTH_MAX];

static void tcp_pair(int fds[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    assert_int_equal(connect(fds[0], (struct sockaddr *)&address, length), 0);
    fds[1] = accept(listener, NULL, NULL);
    assert_true(fds[1] >= 0);
    close(listener);
}

static void close_links(void)
{
    sender->ops->free(sender);
    receiver->ops->free(receiver);
}

/* A pair whose sender does `action` at its frame number `at`. */
static void open_links(enum stream_transport transport, enum failpoint_action action, uint32_t at)
{
    int fds[2];
    if (transport == STREAM_TCP)
        tcp_pair(fds);
    else
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    sender = stream_link_new(fds[0], transport, 1, "rank 1", LENGTH_MAX);
    receiver = stream_link_new(fds[1], transport, 0, "rank 0", LENGTH_MAX);
    assert_true(sender && receiver);
    memset(&failpoints, 0, sizeof failpoints);
    failpoints.points[FAILPOINT_frame_sent].action = action;
    failpoints.points[FAILPOINT_frame_sent].countdown = at;
    sender->failpoints = &failpoints;
}

static struct frame data_frame(uint32_t length, uint64_t sequence)
{
    return (struct frame){.type = FRAME_DATA,
                          .flags = FRAME_HAS_PAYLOAD_CRC,
                          .generation = 3,
                          .instance = 42,
                          .sequence = sequence,
                          .length = length};
}

static int send_frame(uint32_t length, uint64_t sequence, struct tutti_error *error)
{
    struct frame frame = data_frame(length, sequence);
    *error = (struct tutti_error)TUTTI_ERROR_INIT;
    memset(payload, (int)sequence, length);
    int result = sender->ops->send(sender, &frame, payload, error);
    assert_int_equal(frame.generation, 3); /* the caller's frame is as it was */
    return result;
}

/* Waits for what is on its way through the loopback: a socket that is not readable in time fails the test. */
static int receive_frame(uint32_t length, struct frame *frame, struct tutti_error *error)
{
    int result;
    struct timeval patience = {.tv_sec = 10};
    int fd = receiver->ops->descriptor(receiver);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    *error = (struct tutti_error)TUTTI_ERROR_INIT;
    while ((result = receiver->ops->recv(receiver, frame, received, length, error)) == LINK_AGAIN) {
        uint8_t byte;
        assert_true(recv(fd, &byte, 1, MSG_PEEK) >= 0);
    }
    return result;
}

static void expect_good_frame(uint32_t length, uint64_t sequence)
{
    struct tutti_error error;
    struct frame frame;
    assert_int_equal(send_frame(length, sequence, &error), LINK_DONE);
    assert_int_equal(receive_frame(length, &frame, &error), LINK_DONE);
    assert_int_equal(frame.sequence, sequence);
    assert_int_equal(frame.generation, 3);
}

#ifdef TUTTI_FAILPOINTS

static void expect_error(const struct tutti_error *error, int result, int code, int rank)
{
    assert_int_equal(result, code);
    assert_int_equal(error->code, code);
    assert_int_equal(error->rank, rank);
}

static void a_corrupt_header_is_refused_from_the_frame_that_was_named_on(void **state)
{
    (void)state;
    for (size_t l = 0; l < LENGTHS; l++) {
        struct tutti_error error;
        struct frame frame;
        open_links(STREAM_UDS, FAIL_corrupt_header, 3);
        expect_good_frame(lengths[l], 1);
        expect_good_frame(lengths[l], 2);
        assert_int_equal(send_frame(lengths[l], 3, &error), LINK_DONE);
        int result = receive_frame(lengths[l], &frame, &error);
        expect_error(&error, result, TUTTI_ERR_PROTOCOL, 0);
        close_links();
    }
}

static void a_corrupt_payload_is_refused_and_its_header_is_not(void **state)
{
    (void)state;
    for (size_t l = 1; l < LENGTHS; l++) {
        struct tutti_error error;
        struct frame frame;
        open_links(STREAM_UDS, FAIL_corrupt_payload, 1);
        assert_int_equal(send_frame(lengths[l], 1, &error), LINK_DONE);
        int result = receive_frame(lengths[l], &frame, &error);
        expect_error(&error, result, TUTTI_ERR_PROTOCOL, 0);
        assert_non_null(strstr(error.message, "damaged"));
        assert_int_equal(frame.sequence, 1);
        close_links();
    }
}

static void one_frame_carries_the_generation_before_and_the_next_its_own(void **state)
{
    (void)state;
    for (size_t l = 0; l < LENGTHS; l++) {
        struct tutti_error error;
        struct frame frame;
        open_links(STREAM_UDS, FAIL_stale, 1);
        assert_int_equal(send_frame(lengths[l], 1, &error), LINK_DONE);
        assert_int_equal(receive_frame(lengths[l], &frame, &error), LINK_DONE);
        assert_int_equal(frame.generation, 2);
        expect_good_frame(lengths[l], 2);
        close_links();
    }
}

/* The sender has no connection left either, and says whom it has lost. */
static void expect_broken_link(uint32_t length, const char *word)
{
    struct tutti_error error;
    struct frame frame;
    int result = send_frame(length, 1, &error);
    expect_error(&error, result, TUTTI_ERR_PEER_LOST, 1);
    result = receive_frame(length, &frame, &error);
    expect_error(&error, result, TUTTI_ERR_PEER_LOST, 0);
    if (!strstr(error.message, word))
        fail_msg("'%s' should contain '%s'", error.message, word);
}

static void a_truncated_frame_is_a_lost_peer_after_half_of_it(void **state)
{
    (void)state;
    for (enum stream_transport transport = STREAM_UDS; transport <= STREAM_TCP; transport++)
        for (size_t l = 0; l < LENGTHS; l++) {
            open_links(transport, FAIL_truncate, 1);
            expect_broken_link(lengths[l], "closed");
            uint64_t half = lengths[l] > 0 ? FRAME_HEADER_BYTES + lengths[l] / 2 : FRAME_HEADER_BYTES / 2;
            assert_int_equal(receiver->received_bytes, half);
            close_links();
        }
}

static void a_reset_reaches_the_peer_as_a_reset_by_tcp_and_as_a_close_by_uds(void **state)
{
    (void)state;
    for (size_t l = 0; l < LENGTHS; l++) {
        open_links(STREAM_TCP, FAIL_reset, 1);
        expect_broken_link(lengths[l], strerror(ECONNRESET));
        close_links();
        open_links(STREAM_UDS, FAIL_reset, 1);
        expect_broken_link(lengths[l], "closed");
        close_links();
    }
}

static void a_link_that_is_half_closed_still_receives(void **state)
{
    (void)state;
    for (enum stream_transport transport = STREAM_UDS; transport <= STREAM_TCP; transport++) {
        struct tutti_error error = TUTTI_ERROR_INIT;
        struct frame frame = data_frame(200, 7);
        open_links(transport, FAIL_half_close, 1);
        expect_broken_link(200, "closed");
        assert_int_equal(receiver->ops->send(receiver, &frame, payload, &error), LINK_DONE);
        struct link *other = receiver;
        receiver = sender;
        assert_int_equal(receive_frame(200, &frame, &error), LINK_DONE);
        receiver = other;
        close_links();
    }
}

/* A frame of which nothing goes yet is not a new one when it is tried again. */
static void a_frame_that_waits_for_room_counts_once(void **state)
{
    (void)state;
    struct tutti_error error;
    uint32_t frames = 0, many = 1000000;
    open_links(STREAM_UDS, FAIL_corrupt_header, many);
    while (send_frame(0, 1, &error) == LINK_DONE)
        assert_true(++frames < many);
    assert_int_equal(sender->sent_bytes, (uint64_t)frames * FRAME_HEADER_BYTES);
    for (int i = 0; i < 10; i++)
        assert_int_equal(send_frame(0, 1, &error), LINK_AGAIN);
    assert_int_equal(failpoints.points[FAILPOINT_frame_sent].countdown, many - (frames + 1));
    close_links();
}

#else

static void without_failpoints_every_frame_goes_as_it_should(void **state)
{
    (void)state;
    for (enum failpoint_action action = FAIL_NOT; action <= FAIL_no_descriptors; action++) {
        open_links(STREAM_TCP, action, 1);
        for (size_t l = 0; l < LENGTHS; l++)
            expect_good_frame(lengths[l], l + 1);
        close_links();
    }
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifdef TUTTI_FAILPOINTS
        cmocka_unit_test(a_corrupt_header_is_refused_from_the_frame_that_was_named_on),
        cmocka_unit_test(a_corrupt_payload_is_refused_and_its_header_is_not),
        cmocka_unit_test(one_frame_carries_the_generation_before_and_the_next_its_own),
        cmocka_unit_test(a_truncated_frame_is_a_lost_peer_after_half_of_it),
        cmocka_unit_test(a_reset_reaches_the_peer_as_a_reset_by_tcp_and_as_a_close_by_uds),
        cmocka_unit_test(a_link_that_is_half_closed_still_receives),
        cmocka_unit_test(a_frame_that_waits_for_room_counts_once),
#else
        cmocka_unit_test(without_failpoints_every_frame_goes_as_it_should),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
