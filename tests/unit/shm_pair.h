/* Both ends of a link through shared memory, in one process, for tests.  Include the headers that cmocka
 * wants before this one. */
#ifndef TUTTI_TESTS_SHM_PAIR_H
#define TUTTI_TESTS_SHM_PAIR_H

#include <sys/ioctl.h>
#include "tests/unit/stream_pair.h"
#include "transport/shm_link.h"
#include "transport/shm_offer.h"

#define SLOT_BYTES SHM_RING_SLOT_BYTES_MIN
#define LONG_BYTES (1u << 20) /* the longest payload */

static const struct log quiet = {0};

/* What both ends have in common; the peer is always named PEER. */
static inline struct shm_link_options shm_options(int fd, bool is_sender)
{
    return (struct shm_link_options){
        .fd = fd,
        .peer = PEER,
        .peer_text = PEER_TEXT,
        .loan_bytes = LONG_BYTES,
        .is_sender = is_sender,
        .may_share = true,
        .slot_bytes = SLOT_BYTES,
        .log = &quiet,
    };
}

static inline void socket_pair(int fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

struct shm_pair {
    struct link *sender, *receiver;
};

static inline void pair_open(struct shm_pair *pair)
{
    int fds[2];
    socket_pair(fds);
    struct shm_link_options out = shm_options(fds[0], true), in = shm_options(fds[1], false);
    pair->sender = shm_link_new(&out);
    pair->receiver = shm_link_new(&in);
    assert_true(pair->sender && pair->receiver);
}

static inline void pair_close(struct shm_pair *pair)
{
    if (pair->sender)
        pair->sender->ops->free(pair->sender);
    if (pair->receiver)
        pair->receiver->ops->free(pair->receiver);
}

/* The payload of a frame follows from its number. */
static inline int pair_send(const struct shm_pair *pair, uint8_t *payload, uint32_t length, uint64_t sequence,
                            struct tutti_error *error)
{
    struct frame frame = data_frame(length, sequence, sequence % 2 ? FRAME_HAS_PAYLOAD_CRC : 0);
    *error = (struct tutti_error)TUTTI_ERROR_INIT;
    return pair->sender->ops->send(pair->sender, &frame, payload, error);
}

static inline int pair_recv(const struct shm_pair *pair, struct frame *frame, uint8_t *payload,
                            uint32_t length, struct tutti_error *error)
{
    *error = (struct tutti_error)TUTTI_ERROR_INIT;
    return pair->receiver->ops->recv(pair->receiver, frame, payload, length, error);
}

/* A whole frame from end to end, in turns. */
static inline void pair_pass(const struct shm_pair *pair, uint32_t length, uint64_t sequence)
{
    static uint8_t sent[LONG_BYTES], received[LONG_BYTES];
    struct frame frame;
    struct tutti_error error;
    int sending = LINK_AGAIN, receiving = LINK_AGAIN, turns = 0;
    fill(sent, length, (uint32_t)sequence);
    memset(received, 0xA5, length);
    while (receiving == LINK_AGAIN) {
        if (sending == LINK_AGAIN)
            sending = pair_send(pair, sent, length, sequence, &error);
        assert_true(sending >= 0);
        receiving = pair_recv(pair, &frame, received, length, &error);
        assert_true(++turns < 10000);
    }
    assert_int_equal(receiving, LINK_DONE);
    assert_int_equal(sending, LINK_DONE);
    check_frame(&frame, received, length, sequence);
}

/* Bytes that lie in a socket. */
static inline int bytes_in(int fd)
{
    int bytes = -1;
    assert_int_equal(ioctl(fd, FIONREAD, &bytes), 0);
    return bytes;
}

#endif
