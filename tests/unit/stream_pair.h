/* A link over a socket, and what travels through it, for tests.  Include the headers that cmocka wants before
 * this one. */
#ifndef TUTTI_TESTS_STREAM_PAIR_H
#define TUTTI_TESTS_STREAM_PAIR_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/crc32c.h"
#include "transport/stream.h"

#define PEER      7
#define PEER_TEXT "rank 7 (host b, pid 4711)"
#define LOAN_MAX  20000

/* On both sides of 448 bytes, up to which a payload travels in one piece with its header. */
static const uint32_t lengths[] = {0, 1, 63, 64, 65, 447, 448, 449, 1000};
#define LENGTHS (sizeof lengths / sizeof lengths[0])

/* A link, and the bare socket at its other end. */
struct pair {
    struct link *link;
    int fd;
};

static inline int open_pair(void **state)
{
    struct pair *pair = calloc(1, sizeof *pair);
    int fds[2];
    assert_non_null(pair);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    pair->link = stream_link_new(fds[0], STREAM_UDS, PEER, PEER_TEXT, LOAN_MAX);
    pair->fd = fds[1];
    assert_non_null(pair->link);
    *state = pair;
    return 0;
}

static inline int close_pair(void **state)
{
    struct pair *pair = *state;
    pair->link->ops->free(pair->link);
    if (pair->fd >= 0)
        close(pair->fd);
    free(pair);
    return 0;
}

static inline uint8_t byte_at(uint32_t seed, size_t index)
{
    return (uint8_t)((index * 167 + seed * 13 + (index >> 8)) ^ seed);
}

static inline void fill(uint8_t *bytes, size_t size, uint32_t seed)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = byte_at(seed, i);
}

static inline struct frame data_frame(uint32_t length, uint64_t sequence, uint16_t flags)
{
    return (struct frame){
        .type = FRAME_DATA,
        .flags = flags,
        .generation = 3,
        .instance = 0x1122334455667788,
        .sequence = sequence,
        .call = {.operation = TUTTI_BROADCAST, .type = TUTTI_UINT8, .root = 2, .count = length},
        .step = 5,
        .length = length,
    };
}

/* What travels: header and payload.  Returns how many bytes they are. */
static inline size_t encode(uint8_t *bytes, uint32_t length, uint64_t sequence, uint16_t flags)
{
    struct frame frame = data_frame(length, sequence, flags);
    fill(bytes + FRAME_HEADER_BYTES, length, (uint32_t)sequence);
    if (flags & FRAME_HAS_PAYLOAD_CRC)
        frame.payload_crc = crc32c(0, bytes + FRAME_HEADER_BYTES, length);
    frame_encode(&frame, bytes);
    return FRAME_HEADER_BYTES + length;
}

static inline void check_frame(const struct frame *frame, const uint8_t *payload, uint32_t length,
                               uint64_t sequence)
{
    assert_int_equal(frame->sequence, sequence);
    assert_int_equal(frame->length, length);
    assert_int_equal(frame->call.root, 2);
    assert_int_equal(frame->step, 5);
    size_t right = 0;
    while (right < length && payload[right] == byte_at((uint32_t)sequence, right))
        right++;
    assert_int_equal(right, length);
}

static inline void write_raw(const struct pair *pair, const uint8_t *bytes, size_t size)
{
    if (size > 0)
        assert_int_equal(write(pair->fd, bytes, size), (ssize_t)size);
}

static inline int receive(const struct pair *pair, struct frame *frame, uint8_t *payload, uint32_t length,
                          struct tutti_error *error)
{
    *error = (struct tutti_error)TUTTI_ERROR_INIT;
    return pair->link->ops->recv(pair->link, frame, payload, length, error);
}

static inline void check_error(const struct tutti_error *error, int status, int wanted, const char *word)
{
    assert_int_equal(status, wanted);
    assert_int_equal(error->code, wanted);
    assert_int_equal(error->rank, PEER);
    if (!strstr(error->message, word))
        fail_msg("'%s' should contain '%s'", error->message, word);
}

#endif
