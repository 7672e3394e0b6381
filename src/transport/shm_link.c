#include "transport/shm_link.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "base/copy.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "transport/descriptor.h"
#include "transport/shm_offer.h"
#include "transport/stream.h"

#define BELL            1    /* the first byte of a frame is another: 'T' */
#define LOOKS_PER_DRAIN 1024 /* looks in vain after which the socket tells whether the peer lives */

enum shm_state {
    SHM_OFFERED, /* the offer has been sent, or has not been received yet */
    SHM_RING,
    SHM_STREAM /* frames go over the socket, through `inner` */
};

struct shm_link {
    struct link link; /* first */
    int fd;           /* -1: it is of `inner` */
    enum shm_state state;
    bool is_sender, may_share;
    bool broken; /* by a failpoint */
    bool closed; /* at the other end */
    unsigned looks;
    char peer_text[320];
    const struct log *log;
    struct link *inner;

    struct shm_share share;

    /* The frame being sent: its encoded header, and how much of its payload has gone. */
    uint8_t head_out[FRAME_HEADER_BYTES];
    uint32_t sent;
    bool sending;

    /* The frame being received, likewise. */
    struct frame frame_in;
    uint32_t received;
    bool decoded;
    uint32_t held; /* 1: the slot of the latest loan, which is not free yet */
    uint32_t held_bytes;
    uint8_t *loan; /* for payloads that span slots; NULL until the first one */
    size_t loan_bytes;
};

static_assert(FRAME_HEADER_BYTES == SHM_RING_HEADER_BYTES, "a header lies beside its slot");

/* ---- Errors ------------------------------------------------------------------------------------ */

static int name_peer(const struct shm_link *s, struct tutti_error *error)
{
    error->rank = s->link.peer;
    return error->code;
}

static int lost(const struct shm_link *s, int error_number, struct tutti_error *error)
{
    error_set(error, TUTTI_ERR_PEER_LOST, "lost the %s connection to %s while %s: %s", s->link.ops->transport,
              s->peer_text, s->is_sender ? "sending" : "receiving",
              error_number == 0 ? "it was closed there" : strerror(error_number));
    return name_peer(s, error);
}

static int broken(const struct shm_link *s, const char *what, struct tutti_error *error)
{
    error_set(error, TUTTI_ERR_PROTOCOL,
              "%s of the shm link to %s cannot be: the peer runs another build of tutti, or "
              "something has written to its memory",
              what, s->peer_text);
    return name_peer(s, error);
}

static void warn_of_fallback(const struct shm_link *s, const char *why)
{
    log_warning(s->log, "no shared memory for the link %s %s (%s): using its Unix socket",
                s->is_sender ? "to" : "from", s->peer_text, why);
}

/* ---- The socket -------------------------------------------------------------------------------- */

static void ring_bell(const struct shm_link *s)
{
    static const uint8_t bell = BELL;
    /* Where there is no room it is readable already; that the peer is gone shows when this end looks. */
    (void)!send(s->fd, &bell, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Takes in the bells that have rung, and notes the end of the stream.  What the ring holds comes first. */
static void drain(struct shm_link *s)
{
    uint8_t bells[64];
    ssize_t n;
    do {
        n = recv(s->fd, bells, sizeof bells, MSG_DONTWAIT);
    } while (n == sizeof bells || (n < 0 && errno == EINTR));
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK))
        s->closed = true;
}

/* ---- Over the socket --------------------------------------------------------------------------- */

static struct link *inner_of(struct link *link)
{
    struct shm_link *s = (struct shm_link *)link;
    s->inner->failpoints = link->failpoints;
    return s->inner;
}

static int take_counts(struct link *link, int result)
{
    const struct link *inner = ((struct shm_link *)link)->inner;
    atomic_store_explicit(&link->sent_bytes, inner->sent_bytes, memory_order_relaxed);
    atomic_store_explicit(&link->received_bytes, inner->received_bytes, memory_order_relaxed);
    return result;
}

static int socket_send(struct link *link, struct frame *frame, const void *payload, struct tutti_error *error)
{
    struct link *inner = inner_of(link);
    return take_counts(link, inner->ops->send(inner, frame, payload, error));
}

static int socket_recv(struct link *link, struct frame *frame, void *payload, uint32_t length,
                       struct tutti_error *error)
{
    struct link *inner = inner_of(link);
    return take_counts(link, inner->ops->recv(inner, frame, payload, length, error));
}

static int socket_recv_loan(struct link *link, struct frame *frame, const void **payload, uint32_t length,
                            struct tutti_error *error)
{
    struct link *inner = inner_of(link);
    return take_counts(link, inner->ops->recv_loan(inner, frame, payload, length, error));
}

static int socket_peek(struct link *link, struct frame *frame, struct tutti_error *error)
{
    struct link *inner = inner_of(link);
    return take_counts(link, inner->ops->peek(inner, frame, error));
}

static int shm_descriptor(const struct link *link)
{
    const struct shm_link *s = (const struct shm_link *)link;
    return s->inner ? s->inner->ops->descriptor(s->inner) : s->fd;
}

static void shm_free(struct link *link)
{
    struct shm_link *s = (struct shm_link *)link;
    if (s->inner)
        s->inner->ops->free(s->inner);
    else if (s->fd >= 0)
        descriptor_close(s->fd);
    shm_share_release(&s->share);
    free(s->loan);
    free(s);
}

static const struct link_ops socket_ops = {
    .transport = "uds",
    .send = socket_send,
    .recv = socket_recv,
    .recv_loan = socket_recv_loan,
    .peek = socket_peek,
    .descriptor = shm_descriptor,
    .free = shm_free,
};

/* From now on frames go over the socket; nothing has gone through the ring. */
static int become_stream(struct shm_link *s, struct tutti_error *error)
{
    shm_share_release(&s->share);
    s->inner = stream_link_new(s->fd, STREAM_UDS, s->link.peer, s->peer_text, s->loan_bytes);
    s->fd = -1; /* closed if that failed */
    if (!s->inner)
        return error_set(error, TUTTI_ERR_MEMORY, "no memory for the link to %s", s->peer_text);
    s->state = SHM_STREAM;
    /* Whoever asks for the transport has not got the token. */
    __atomic_store_n(&s->link.ops, &socket_ops, __ATOMIC_RELEASE);
    return LINK_DONE;
}

/* ---- The ring or the socket -------------------------------------------------------------------- */

static int take_offer(struct shm_link *s, struct tutti_error *error)
{
    struct tutti_error why;
    switch (shm_offer_take(&s->share, s->fd, s->may_share, s->link.failpoints, &why)) {
    case SHM_OFFER_AGAIN:
        return LINK_AGAIN;
    case SHM_OFFER_TAKEN:
        s->state = SHM_RING;
        return LINK_DONE;
    case SHM_OFFER_FAILED:
        warn_of_fallback(s, why.message);
        return become_stream(s, error);
    case SHM_OFFER_NONE:
        return become_stream(s, error);
    case SHM_OFFER_CLOSED:
        return lost(s, 0, error);
    case SHM_OFFER_UNKNOWN:
        break;
    }
    return broken(s, "the offer", error);
}

/* The receiver: does the sender use the ring or the socket? */
static int await_sender(struct shm_link *s, struct tutti_error *error)
{
    uint8_t byte;
    ssize_t n = 0;
    bool looked = false;
    for (;;) {
        int taken = shm_offer_is_taken(&s->share);
        if (taken > 0) {
            s->state = SHM_RING;
            return LINK_DONE;
        }
        if (taken < 0)
            return broken(s, "the nonce", error);
        if (looked) /* what it did before it closed or rang would show by now */
            return n <= 0 ? lost(s, 0, error) : broken(s, "a bell", error);
        do {
            n = recv(s->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        } while (n < 0 && errno == EINTR);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return LINK_AGAIN;
        if (n > 0 && byte != BELL)
            return become_stream(s, error);
        looked = true;
    }
}

/* LINK_DONE: it is known how frames go. */
static int settle(struct shm_link *s, struct tutti_error *error)
{
    if (s->state != SHM_OFFERED)
        return LINK_DONE;
    return s->is_sender ? take_offer(s, error) : await_sender(s, error);
}

/* ---- Sending ----------------------------------------------------------------------------------- */

/* Room for a slot: LINK_DONE, LINK_AGAIN or an error. */
static int await_room(struct shm_link *s, struct tutti_error *error)
{
    for (bool drained = false;; drained = true) {
        int room = shm_ring_has_room(&s->share.ring);
        if (room < 0)
            return broken(s, "a count of slots", error);
        if (s->broken || s->closed)
            return lost(s, s->broken ? EPIPE : 0, error);
        if (room > 0)
            return LINK_DONE;
        if (drained || ++s->looks % LOOKS_PER_DRAIN != 0)
            return LINK_AGAIN;
        drain(s); /* and looks again: the bell for that room may be gone now */
    }
}

static void send_piece(struct shm_link *s, const uint8_t *payload, uint32_t bytes)
{
    if (s->sent == 0)
        memcpy(shm_ring_header(&s->share.ring, s->share.ring.own), s->head_out, FRAME_HEADER_BYTES);
    if (bytes > 0)
        memcpy(shm_ring_slot(&s->share.ring, s->share.ring.own), payload + s->sent, bytes);
    link_count(&s->link.sent_bytes, (s->sent == 0 ? FRAME_HEADER_BYTES : 0) + (uint64_t)bytes);
    s->sent += bytes;
    if (shm_ring_fill(&s->share.ring))
        ring_bell(s);
}

static uint32_t piece_of(const struct shm_link *s, uint32_t rest)
{
    return rest < s->share.ring.slot_bytes ? rest : s->share.ring.slot_bytes;
}

/* The slots that the first half of the payload fills; of a frame in one slot nothing goes. */
static void send_half(struct shm_link *s, const uint8_t *payload, uint32_t length)
{
    uint32_t half = length / 2 / s->share.ring.slot_bytes * s->share.ring.slot_bytes;
    while (s->sent < half && shm_ring_has_room(&s->share.ring) > 0)
        send_piece(s, payload, s->share.ring.slot_bytes);
}

/* What a test has asked for at this frame, as in stream.c. */
static void misbehave(struct shm_link *s, struct frame frame, const void *payload,
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
        s->broken = true;
        break;
    case FAIL_reset:
        shutdown(s->fd, SHUT_RDWR);
        s->broken = true;
        break;
    case FAIL_half_close:
        shutdown(s->fd, SHUT_WR);
        s->broken = true;
        break;
    default:
        break;
    }
}

static void begin_frame(struct shm_link *s, struct frame *frame, const void *payload)
{
    if (frame->flags & FRAME_HAS_PAYLOAD_CRC)
        frame->payload_crc = crc32c(0, payload, frame->length);
    frame_encode(frame, s->head_out);
    s->sent = 0;
    s->sending = true;
    enum failpoint_action action = failpoint_hit(s->link.failpoints, FAILPOINT_frame_sent);
    if (action != FAIL_NOT)
        misbehave(s, *frame, payload, action);
}

static int shm_send(struct link *link, struct frame *frame, const void *payload, struct tutti_error *error)
{
    struct shm_link *s = (struct shm_link *)link;
    int result = settle(s, error);
    if (result != LINK_DONE)
        return result;
    if (s->state == SHM_STREAM)
        return socket_send(link, frame, payload, error);
    if (!s->sending)
        begin_frame(s, frame, payload);
    do {
        result = await_room(s, error);
        if (result != LINK_DONE)
            return result;
        send_piece(s, payload, piece_of(s, frame->length - s->sent));
    } while (s->sent < frame->length);
    s->sending = false;
    return LINK_DONE;
}

/* ---- Receiving --------------------------------------------------------------------------------- */

/* A slot behind the one that is on loan: LINK_DONE, LINK_AGAIN or an error. */
static int await_slot(struct shm_link *s, struct tutti_error *error)
{
    for (bool drained = false;; drained = true) {
        int there = shm_ring_has_slot(&s->share.ring, s->held);
        if (there < 0)
            return broken(s, "a count of slots", error);
        if (there > 0)
            return LINK_DONE;
        if (drained && s->closed)
            return lost(s, 0, error);
        if (drained || (!s->closed && ++s->looks % LOOKS_PER_DRAIN != 0))
            return LINK_AGAIN;
        drain(s); /* and looks again: what was sent before the end, or the bell for it may be gone now */
    }
}

static void free_slot(struct shm_link *s, uint32_t bytes)
{
    hand_back_lines(shm_ring_slot(&s->share.ring, s->share.ring.own), bytes);
    if (shm_ring_free(&s->share.ring))
        ring_bell(s);
}

static void end_loan(struct shm_link *s)
{
    if (s->held > 0)
        free_slot(s, s->held_bytes); /* the next header may be in frame_in already */
    s->held = 0;
}

/* The header of the next frame, in s->frame_in; its slot stays, for the payload. */
static int receive_header(struct shm_link *s, struct tutti_error *error)
{
    if (s->decoded)
        return LINK_DONE;
    int result = await_slot(s, error);
    if (result != LINK_DONE)
        return result;
    uint8_t head[FRAME_HEADER_BYTES]; /* of our own, so that it cannot change while it is looked at */
    memcpy(head, shm_ring_header(&s->share.ring, s->share.ring.own + s->held), sizeof head);
    int status = frame_decode(head, &s->frame_in, error);
    if (status < 0) {
        error_set(error, status, "cannot read what %s sent: %.800s", s->peer_text, error->message);
        return name_peer(s, error);
    }
    link_count(&s->link.received_bytes, FRAME_HEADER_BYTES);
    s->received = 0;
    s->decoded = true;
    return LINK_DONE;
}

static int receive_done(struct shm_link *s, struct frame *frame, const void *payload, uint32_t length,
                        struct tutti_error *error)
{
    s->decoded = false;
    *frame = s->frame_in;
    if (!(frame->flags & FRAME_HAS_PAYLOAD_CRC) || crc32c(0, payload, length) == frame->payload_crc)
        return LINK_DONE;
    error_set(
        error, TUTTI_ERR_PROTOCOL,
        "a payload of %u bytes from %s arrived damaged: its CRC-32C does not match; check the memory of "
        "this host",
        (unsigned)length, s->peer_text);
    return name_peer(s, error);
}

/* Of the frame whose header is here. */
static int receive_payload(struct shm_link *s, uint8_t *payload, uint32_t length, struct tutti_error *error)
{
    do {
        int result = await_slot(s, error);
        if (result != LINK_DONE)
            return result;
        uint32_t piece = piece_of(s, length - s->received);
        if (piece > 0)
            memcpy(payload + s->received, shm_ring_slot(&s->share.ring, s->share.ring.own), piece);
        free_slot(s, piece);
        s->received += piece;
        link_count(&s->link.received_bytes, piece);
    } while (s->received < length);
    return LINK_DONE;
}

static int shm_recv(struct link *link, struct frame *frame, void *payload, uint32_t length,
                    struct tutti_error *error)
{
    struct shm_link *s = (struct shm_link *)link;
    int result = settle(s, error);
    if (result != LINK_DONE)
        return result;
    if (s->state == SHM_STREAM)
        return socket_recv(link, frame, payload, length, error);
    end_loan(s);
    result = receive_header(s, error);
    if (result != LINK_DONE)
        return result;
    *frame = s->frame_in;
    if (frame->length != length)
        return LINK_UNEXPECTED;
    result = receive_payload(s, payload, length, error);
    return result == LINK_DONE ? receive_done(s, frame, payload, length, error) : result;
}

/* Only payloads that span slots are put together. */
static int recv_whole(struct shm_link *s, struct frame *frame, const void **payload, uint32_t length,
                      struct tutti_error *error)
{
    if (!s->loan)
        s->loan = aligned_alloc(64, (s->loan_bytes + 63) & ~(size_t)63);
    if (!s->loan)
        return error_set(error, TUTTI_ERR_MEMORY, "no memory for %zu bytes from %s", s->loan_bytes,
                         s->peer_text);
    *payload = s->loan;
    return shm_recv(&s->link, frame, s->loan, length, error);
}

static int shm_recv_loan(struct link *link, struct frame *frame, const void **payload, uint32_t length,
                         struct tutti_error *error)
{
    struct shm_link *s = (struct shm_link *)link;
    int result = settle(s, error);
    if (result != LINK_DONE)
        return result;
    if (s->state == SHM_STREAM)
        return socket_recv_loan(link, frame, payload, length, error);
    if (length > s->share.ring.slot_bytes)
        return recv_whole(s, frame, payload, length, error);
    end_loan(s);
    result = receive_header(s, error);
    if (result != LINK_DONE)
        return result;
    *frame = s->frame_in;
    if (frame->length != length)
        return LINK_UNEXPECTED;
    *payload = shm_ring_slot(&s->share.ring, s->share.ring.own);
    s->held = 1;
    s->held_bytes = length;
    link_count(&link->received_bytes, length);
    return receive_done(s, frame, *payload, length, error);
}

static int shm_peek(struct link *link, struct frame *frame, struct tutti_error *error)
{
    struct shm_link *s = (struct shm_link *)link;
    int result = settle(s, error);
    if (result != LINK_DONE)
        return result;
    if (s->state == SHM_STREAM)
        return socket_peek(link, frame, error);
    result = receive_header(s, error);
    if (result == LINK_DONE)
        *frame = s->frame_in;
    return result;
}

/* ---- Waiting ----------------------------------------------------------------------------------- */

/* Sleeping is said in the ring before it is looked at once more.  The word stays set when there is something:
 * whoever polls on may be another thread, and relies on it. */
static bool shm_arm(struct link *link)
{
    struct shm_link *s = (struct shm_link *)link;
    struct tutti_error error;
    if (s->state == SHM_OFFERED) {
        bool sleeps = s->is_sender || !shm_ring_receiver_sleeps(&s->share.ring, 0);
        int result = sleeps ? settle(s, &error) : LINK_DONE;
        return result != LINK_AGAIN;
    }
    drain(s);
    return s->closed || (s->is_sender ? shm_ring_sender_sleeps(&s->share.ring)
                                      : shm_ring_receiver_sleeps(&s->share.ring, s->held));
}

/* An end that may not share memory only has to learn that the other knows. */
#define SHM_OPS(name)                                                                                        \
    {                                                                                                        \
        name, shm_send, shm_recv, shm_recv_loan, shm_peek, shm_descriptor, shm_arm, shm_free                 \
    }

static const struct link_ops shm_ops[] = {SHM_OPS("uds"), SHM_OPS("shm")};

/* ---- Making ------------------------------------------------------------------------------------ */

struct link *shm_link_new(const struct shm_link_options *options)
{
    struct shm_link *s = calloc(1, sizeof *s);
    if (!s) {
        descriptor_close(options->fd);
        return NULL;
    }
    s->link.ops = &shm_ops[options->may_share];
    s->link.peer = options->peer;
    s->link.failpoints = options->failpoints;
    s->fd = options->fd;
    s->is_sender = options->is_sender;
    s->may_share = options->may_share;
    s->log = options->log;
    s->loan_bytes = options->loan_bytes;
    strncpy(s->peer_text, options->peer_text, sizeof s->peer_text - 1);
    struct tutti_error error;
    if (options->is_sender || (options->may_share && shm_offer_ring(&s->share, s->fd, options->slot_bytes,
                                                                    s->link.failpoints, &error) == TUTTI_OK))
        return &s->link;
    if (options->may_share)
        warn_of_fallback(s, error.message);
    shm_offer_none(s->fd);
    if (become_stream(s, &error) == LINK_DONE)
        return &s->link;
    shm_free(&s->link);
    return NULL;
}
