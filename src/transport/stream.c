#include "transport/stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include "base/crc32c.h"
#include "base/error.h"
#include "transport/descriptor.h"

/* A payload of at most so many bytes is copied behind its header, since send() and recv() of one piece cost
 * less than sendmsg() and recvmsg() of two. */
#define SMALL_BYTES 448

struct stream_link {
    struct link link; /* first */
    int fd;
    char peer_text[320];

    /* The frame being sent: its encoded header (and a small payload), and how much of it all has gone. */
    uint8_t head_out[FRAME_HEADER_BYTES + SMALL_BYTES];
    size_t sent;
    bool sending; /* one is under way, though none of it may have gone yet */

    /* The frame being received, likewise. */
    uint8_t head_in[FRAME_HEADER_BYTES + SMALL_BYTES];
    size_t received;
    bool decoded;
    struct frame frame_in;

    uint8_t *loan; /* where recv_loan() receives; NULL until the first one */
    size_t loan_bytes;
};

/* What is left of header and payload when `done` bytes of them have passed. */
static int rest_of_frame(struct iovec rest[2], uint8_t *header, void *payload, size_t length, size_t done)
{
    int count = 0;
    if (done < FRAME_HEADER_BYTES)
        rest[count++] = (struct iovec){header + done, FRAME_HEADER_BYTES - done};
    size_t payload_done = done < FRAME_HEADER_BYTES ? 0 : done - FRAME_HEADER_BYTES;
    if (length > payload_done)
        rest[count++] = (struct iovec){(uint8_t *)payload + payload_done, length - payload_done};
    return count;
}

static int lost(const struct stream_link *s, int error_number, const char *doing, struct tutti_error *error)
{
    int code = error_set(error, TUTTI_ERR_PEER_LOST, "lost the %s connection to %s while %s: %s",
                         s->link.ops->transport, s->peer_text, doing,
                         error_number == 0 ? "it was closed there" : strerror(error_number));
    if (error)
        error->rank = s->link.peer;
    return code;
}

static ssize_t send_rest(struct stream_link *s, const void *payload, size_t length)
{
    if (length <= SMALL_BYTES)
        return send(s->fd, s->head_out + s->sent, FRAME_HEADER_BYTES + length - s->sent,
                    MSG_NOSIGNAL | MSG_DONTWAIT);
    struct iovec rest[2];
    struct msghdr message = {.msg_iov = rest};
    message.msg_iovlen = (size_t)rest_of_frame(rest, s->head_out, (void *)payload, length, s->sent);
    return sendmsg(s->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Encodes the frame whose turn it is. */
static void begin_frame(struct stream_link *s, struct frame *frame, const void *payload)
{
    if (frame->flags & FRAME_HAS_PAYLOAD_CRC)
        frame->payload_crc = crc32c(0, payload, frame->length);
    frame_encode(frame, s->head_out);
    if (frame->length > 0 && frame->length <= SMALL_BYTES)
        memcpy(s->head_out + FRAME_HEADER_BYTES, payload, frame->length);
    s->sent = 0;
    s->sending = true;
}

static void send_half(const struct stream_link *s, const void *payload, size_t length)
{
    struct iovec half[2] = {{(void *)s->head_out, length > 0 ? FRAME_HEADER_BYTES : FRAME_HEADER_BYTES / 2},
                            {(void *)payload, length / 2}};
    struct msghdr message = {.msg_iov = half, .msg_iovlen = 2};
    (void)sendmsg(s->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* What a test has asked for at this frame, once it is encoded.  The caller's frame stays as it is, and the
 * link goes on as its socket then behaves. */
static void misbehave(struct stream_link *s, struct frame frame, const void *payload,
                      enum failpoint_action action)
{
    switch (action) {
    case FAIL_corrupt_header:
        s->head_out[FRAME_HEADER_BYTES / 2] ^= 1;
        break;
    case FAIL_corrupt_payload:
        frame.payload_crc ^= 1;
        frame_encode(&frame, s->head_out);
        break;
    case FAIL_stale:
        frame.generation--;
        frame_encode(&frame, s->head_out);
        break;
    case FAIL_truncate:
        send_half(s, payload, frame.length);
        shutdown(s->fd, SHUT_RDWR);
        break;
    case FAIL_reset:
        /* Dissolving its association resets a TCP connection; a Unix socket refuses, and has no reset. */
        if (connect(s->fd, &(struct sockaddr){.sa_family = AF_UNSPEC}, sizeof(struct sockaddr)) < 0)
            shutdown(s->fd, SHUT_RDWR);
        break;
    case FAIL_half_close:
        shutdown(s->fd, SHUT_WR);
        break;
    default:
        break;
    }
}

static int stream_send(struct link *link, struct frame *frame, const void *payload, struct tutti_error *error)
{
    struct stream_link *s = (struct stream_link *)link;
    size_t whole = FRAME_HEADER_BYTES + (size_t)frame->length;
    if (!s->sending) {
        begin_frame(s, frame, payload);
        enum failpoint_action action = failpoint_hit(link->failpoints, FAILPOINT_frame_sent);
        if (action != FAIL_NOT)
            misbehave(s, *frame, payload, action);
    }
    while (s->sent < whole) {
        ssize_t n = send_rest(s, payload, frame->length);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            if (errno == EAGAIN || errno == EWOULDBLOCK)
                return LINK_AGAIN;
            return lost(s, errno, "sending", error);
        }
        s->sent += (size_t)n;
        link_count(&link->sent_bytes, (uint64_t)n);
    }
    s->sending = false;
    return LINK_DONE;
}

/* The whole header is there: decode it once. */
static int decode_header(struct stream_link *s, struct tutti_error *error)
{
    int status = frame_decode(s->head_in, &s->frame_in, error);
    if (status < 0) {
        struct tutti_error named;
        error_set(&named, status, "cannot read what %s sent: %.800s", s->peer_text, error->message);
        *error = named;
        error->rank = s->link.peer;
        return status;
    }
    s->decoded = true;
    return LINK_DONE;
}

static int receive_done(struct stream_link *s, struct frame *frame, const void *payload, uint32_t length,
                        struct tutti_error *error)
{
    s->received = 0;
    s->decoded = false;
    *frame = s->frame_in;
    if (!(frame->flags & FRAME_HAS_PAYLOAD_CRC) || crc32c(0, payload, length) == frame->payload_crc)
        return LINK_DONE;
    int code = error_set(error, TUTTI_ERR_PROTOCOL,
                         "a payload of %u bytes from %s arrived damaged: its CRC-32C does not match; check "
                         "memory and network of both hosts",
                         (unsigned)length, s->peer_text);
    error->rank = s->link.peer;
    return code;
}

/* Header and payload in one call: in the good case the length is what was asked for. */
static ssize_t receive_rest(struct stream_link *s, void *payload, size_t length)
{
    if (length <= SMALL_BYTES)
        return recv(s->fd, s->head_in + s->received, FRAME_HEADER_BYTES + length - s->received, MSG_DONTWAIT);
    struct iovec rest[2];
    struct msghdr message = {.msg_iov = rest};
    message.msg_iovlen = (size_t)rest_of_frame(rest, s->head_in, payload, length, s->received);
    return recvmsg(s->fd, &message, MSG_DONTWAIT);
}

/* What is there now, at least a byte: LINK_DONE, LINK_AGAIN or an error. */
static int receive_some(struct stream_link *s, void *payload, size_t length, struct tutti_error *error)
{
    ssize_t n;
    do {
        n = receive_rest(s, payload, length);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return LINK_AGAIN;
    if (n <= 0)
        return lost(s, n == 0 ? 0 : errno, "receiving", error);
    s->received += (size_t)n;
    link_count(&s->link.received_bytes, (uint64_t)n);
    return LINK_DONE;
}

static int stream_recv(struct link *link, struct frame *frame, void *payload, uint32_t length,
                       struct tutti_error *error)
{
    struct stream_link *s = (struct stream_link *)link;
    size_t whole = FRAME_HEADER_BYTES + (size_t)length;
    for (;;) {
        if (s->decoded) {
            *frame = s->frame_in;
            if (frame->length != length)
                return LINK_UNEXPECTED;
            if (s->received == whole)
                break;
        }
        int result = receive_some(s, payload, length, error);
        if (result == LINK_DONE && s->received >= FRAME_HEADER_BYTES && !s->decoded)
            result = decode_header(s, error);
        if (result != LINK_DONE)
            return result;
    }
    if (length > 0 && length <= SMALL_BYTES)
        memcpy(payload, s->head_in + FRAME_HEADER_BYTES, length);
    return receive_done(s, frame, payload, length, error);
}

/* Of most links nothing is ever loaned: those out of this rank, and those for messages. */
static bool loan_is_there(struct stream_link *s)
{
    if (!s->loan)
        s->loan = aligned_alloc(64, (s->loan_bytes + 63) & ~(size_t)63);
    return s->loan != NULL;
}

static int stream_recv_loan(struct link *link, struct frame *frame, const void **payload, uint32_t length,
                            struct tutti_error *error)
{
    struct stream_link *s = (struct stream_link *)link;
    if (!loan_is_there(s))
        return error_set(error, TUTTI_ERR_MEMORY, "no memory for %zu bytes from %s", s->loan_bytes,
                         s->peer_text);
    *payload = s->loan;
    return stream_recv(link, frame, s->loan, length, error);
}

static int stream_peek(struct link *link, struct frame *frame, struct tutti_error *error)
{
    struct stream_link *s = (struct stream_link *)link;
    while (s->received < FRAME_HEADER_BYTES) {
        int result = receive_some(s, NULL, 0, error);
        if (result != LINK_DONE)
            return result;
    }
    int result = s->decoded ? LINK_DONE : decode_header(s, error);
    if (result == LINK_DONE)
        *frame = s->frame_in;
    return result;
}

static int stream_descriptor(const struct link *link)
{
    return ((const struct stream_link *)link)->fd;
}

static void stream_free(struct link *link)
{
    struct stream_link *s = (struct stream_link *)link;
    descriptor_close(s->fd);
    free(s->loan);
    free(s);
}

#define STREAM_OPS(name)                                                                                     \
    {                                                                                                        \
        name, stream_send, stream_recv, stream_recv_loan, stream_peek, stream_descriptor, NULL, stream_free  \
    }

static const struct link_ops stream_ops[] = {STREAM_OPS("uds"), STREAM_OPS("tcp")};

struct link *stream_link_new(int fd, enum stream_transport transport, int peer, const char *peer_text,
                             size_t loan_bytes)
{
    struct stream_link *s = calloc(1, sizeof *s);
    if (!s) {
        descriptor_close(fd);
        return NULL;
    }
    s->link.ops = &stream_ops[transport];
    s->link.peer = peer;
    s->fd = fd;
    s->loan_bytes = loan_bytes;
    strncpy(s->peer_text, peer_text, sizeof s->peer_text - 1);
    return &s->link;
}

static void set_int(int fd, int level, int option, int value)
{
    (void)setsockopt(fd, level, option, &value, sizeof value);
}

void stream_set_options(int fd, enum stream_transport transport, const struct stream_options *options)
{
    if (options->buffer_bytes > 0) {
        set_int(fd, SOL_SOCKET, SO_SNDBUF, options->buffer_bytes);
        set_int(fd, SOL_SOCKET, SO_RCVBUF, options->buffer_bytes);
    }
    if (transport != STREAM_TCP)
        return;
    set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    /* bbr paces even on loopback: less than half of cubic's rate, both ways at once. */
    if (options->local && strcmp(options->congestion, "default") != 0)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, options->congestion,
                         (socklen_t)strlen(options->congestion));
#ifdef __linux__
    set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, 1 + options->dead_after_ms / 1000);
    set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, 1);
    set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
    /* No TCP_USER_TIMEOUT: it would also end the connection to a rank that lives but computes for long while
     * its receive window is full.  Heartbeats judge who is dead. */
#endif
}
