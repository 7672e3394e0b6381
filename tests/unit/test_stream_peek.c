/* The header before the payload: what peek() shows, and what recv() then brings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include "tests/unit/stream_pair.h"

static int peek(const struct pair *pair, struct frame *frame, struct tutti_error *error)
{
    *error = (struct tutti_error)TUTTI_ERROR_INIT;
    return pair->link->ops->peek(pair->link, frame, error);
}

static void a_header_is_peeked_wherever_the_frame_was_cut_and_received_after(void **state)
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
            frame = (struct frame){0};
            write_raw(pair, bytes, cut);
            if (cut < FRAME_HEADER_BYTES) {
                assert_int_equal(peek(pair, &frame, &error), LINK_AGAIN);
                write_raw(pair, bytes + cut, FRAME_HEADER_BYTES - cut);
            }
            size_t there = cut < FRAME_HEADER_BYTES ? FRAME_HEADER_BYTES : cut;
            for (int again = 0; again < 2; again++) {
                assert_int_equal(peek(pair, &frame, &error), LINK_DONE);
                assert_int_equal(frame.sequence, sequence);
                assert_int_equal(frame.length, lengths[l]);
            }
            assert_int_equal(pair->link->received_bytes, total + FRAME_HEADER_BYTES);
            if (there < whole) {
                assert_int_equal(receive(pair, &frame, payload, lengths[l], &error), LINK_AGAIN);
                assert_int_equal(peek(pair, &frame, &error), LINK_DONE); /* in the middle of the payload */
                assert_int_equal(frame.sequence, sequence);
            }
            write_raw(pair, bytes + there, whole - there);
            assert_int_equal(receive(pair, &frame, payload, lengths[l], &error), LINK_DONE);
            check_frame(&frame, payload, lengths[l], sequence);
            total += whole;
            assert_int_equal(pair->link->received_bytes, total);
        }
}

static void a_peeked_frame_can_be_loaned_and_has_one_length(void **state)
{
    const struct pair *pair = *state;
    static uint8_t bytes[2000], payload[2000];
    struct frame frame;
    const void *loan = NULL;
    struct tutti_error error;
    write_raw(pair, bytes, encode(bytes, 1000, 1, FRAME_HAS_PAYLOAD_CRC));
    assert_int_equal(peek(pair, &frame, &error), LINK_DONE);
    assert_int_equal(pair->link->ops->recv_loan(pair->link, &frame, &loan, 1000, &error), LINK_DONE);
    check_frame(&frame, loan, 1000, 1);
    write_raw(pair, bytes, encode(bytes, 1000, 2, 0));
    assert_int_equal(peek(pair, &frame, &error), LINK_DONE);
    frame = (struct frame){0};
    assert_int_equal(receive(pair, &frame, payload, 1, &error), LINK_UNEXPECTED);
    assert_int_equal(frame.length, 1000);
    assert_int_equal(frame.sequence, 2);
}

static void what_is_wrong_with_a_header_or_its_peer_shows_in_the_peek(void **state)
{
    struct pair *pair = *state;
    static uint8_t bytes[FRAME_HEADER_BYTES + 16];
    struct frame frame;
    struct tutti_error error;
    encode(bytes, 16, 1, 0);
    bytes[20] ^= 1;
    write_raw(pair, bytes, FRAME_HEADER_BYTES);
    int status = peek(pair, &frame, &error);
    check_error(&error, status, TUTTI_ERR_PROTOCOL, PEER_TEXT);

    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    struct pair closed = {stream_link_new(fds[0], STREAM_UDS, PEER, PEER_TEXT, LOAN_MAX), fds[1]};
    assert_non_null(closed.link);
    write_raw(&closed, bytes, 10);
    close(closed.fd);
    status = peek(&closed, &frame, &error);
    check_error(&error, status, TUTTI_ERR_PEER_LOST, "it was closed there");
    closed.link->ops->free(closed.link);
}

#define ON_A_PAIR(test) cmocka_unit_test_setup_teardown(test, open_pair, close_pair)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_A_PAIR(a_header_is_peeked_wherever_the_frame_was_cut_and_received_after),
        ON_A_PAIR(a_peeked_frame_can_be_loaned_and_has_one_length),
        ON_A_PAIR(what_is_wrong_with_a_header_or_its_peer_shows_in_the_peek),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
