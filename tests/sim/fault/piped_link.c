#include "tests/sim/fault/piped_link.h"

#include <string.h>
#include "base/crc32c.h"
#include "base/error.h"
#include "tests/sim/fault/allocation.h"

struct piped_link {
    struct link link; /* first */
    struct end *end;
    struct node *node;
    const char *peer_text;
    uint8_t header_out[FRAME_HEADER_BYTES], header_in[FRAME_HEADER_BYTES];
    uint32_t sent, received, cut_at; /* cut_at: of the frame being sent, where it ends early; 0: nowhere */
    bool begun, decoded;
    struct frame frame_in;
    uint8_t *loan;
};

static int lost(const struct piped_link *p, const char *doing, const char *why, struct tutti_error *error)
{
    error_set(error, TUTTI_ERR_PEER_LOST, "lost the virtual connection to %s while %s: %s", p->peer_text,
              doing, why);
    error->rank = p->link.peer;
    return error->code;
}

/* ---- Sending ------------------------------------------------------------------------------------- */

static void frame_begin(struct piped_link *p, const struct frame *frame, const void *payload)
{
    enum failpoint_action action = failpoint_hit(p->link.failpoints, FAILPOINT_frame_sent);
    struct frame sent = *frame;
    p->begun = true;
    p->cut_at = 0;
    if (action != FAIL_NOT)
        p->node->network->harmed = end_other(p->end)->node;
    if (frame->flags & FRAME_HAS_PAYLOAD_CRC)
        sent.payload_crc = crc32c(0, payload, frame->length);
    if (action == FAIL_corrupt_payload)
        sent.payload_crc ^= 1;
    if (action == FAIL_stale)
        sent.generation--;
    frame_encode(&sent, p->header_out);
    if (action == FAIL_corrupt_header)
        p->header_out[17] ^= 4;
    if (action == FAIL_truncate)
        p->cut_at = (FRAME_HEADER_BYTES + frame->length) / 2;
    if (action == FAIL_half_close)
        end_shut_write(p->end);
    if (action == FAIL_reset)
        end_abort(p->end);
}

static int send_piece(struct piped_link *p, const void *payload, uint32_t until)
{
    if (p->sent < FRAME_HEADER_BYTES) {
        uint32_t header = until < FRAME_HEADER_BYTES ? until : FRAME_HEADER_BYTES;
        return end_write(p->end, p->header_out + p->sent, header - p->sent);
    }
    return end_write(p->end, (const uint8_t *)payload + (p->sent - FRAME_HEADER_BYTES), until - p->sent);
}

static int piped_send(struct link *link, struct frame *frame, const void *payload, struct tutti_error *error)
{
    struct piped_link *p = (struct piped_link *)link;
    uint32_t whole = FRAME_HEADER_BYTES + frame->length;
    if (!p->begun)
        frame_begin(p, frame, payload);
    while (p->sent < whole) {
        if (p->cut_at > 0 && p->sent == p->cut_at)
            end_shut_write(p->end);
        int n = send_piece(p, payload, p->cut_at > p->sent ? p->cut_at : whole);
        if (n < 0)
            return lost(p, "sending", "Connection reset by peer", error);
        if (n == 0)
            return LINK_AGAIN;
        p->sent += (uint32_t)n;
        link->sent_bytes += (uint64_t)n;
    }
    p->sent = 0;
    p->begun = false;
    return LINK_DONE;
}

/* ---- Receiving ----------------------------------------------------------------------------------- */

static int header_done(struct piped_link *p, struct tutti_error *error)
{
    int status = frame_decode(p->header_in, &p->frame_in, error);
    if (status < 0) {
        error->rank = p->link.peer;
        return status;
    }
    p->decoded = true;
    return LINK_DONE;
}

static int frame_done(struct piped_link *p, const void *payload, uint32_t length, struct tutti_error *error)
{
    p->received = 0;
    p->decoded = false;
    if (!(p->frame_in.flags & FRAME_HAS_PAYLOAD_CRC) || crc32c(0, payload, length) == p->frame_in.payload_crc)
        return LINK_DONE;
    error_set(error, TUTTI_ERR_PROTOCOL, "a payload of %u bytes from %s arrived damaged", (unsigned)length,
              p->peer_text);
    error->rank = p->link.peer;
    return error->code;
}

static int receive_piece(struct piped_link *p, void *payload, uint32_t whole, struct tutti_error *error)
{
    int n =
        p->received < FRAME_HEADER_BYTES
            ? end_read(p->end, p->header_in + p->received, FRAME_HEADER_BYTES - p->received)
            : end_read(p->end, (uint8_t *)payload + (p->received - FRAME_HEADER_BYTES), whole - p->received);
    if (n == READ_NOTHING)
        return LINK_AGAIN;
    if (n < 0)
        return lost(p, "receiving", n == READ_END ? "it was closed there" : "Connection reset by peer",
                    error);
    p->received += (uint32_t)n;
    p->link.received_bytes += (uint64_t)n;
    return LINK_DONE;
}

static int piped_peek(struct link *link, struct frame *frame, struct tutti_error *error)
{
    struct piped_link *p = (struct piped_link *)link;
    while (p->received < FRAME_HEADER_BYTES) {
        int result = receive_piece(p, NULL, FRAME_HEADER_BYTES, error);
        if (result != LINK_DONE)
            return result;
    }
    int result = p->decoded ? LINK_DONE : header_done(p, error);
    if (result == LINK_DONE)
        *frame = p->frame_in;
    return result;
}

static int piped_recv(struct link *link, struct frame *frame, void *payload, uint32_t length,
                      struct tutti_error *error)
{
    struct piped_link *p = (struct piped_link *)link;
    uint32_t whole = FRAME_HEADER_BYTES + length;
    int result = piped_peek(link, frame, error);
    if (result == LINK_DONE && frame->length != length)
        return LINK_UNEXPECTED;
    while (result == LINK_DONE && p->received < whole)
        result = receive_piece(p, payload, whole, error);
    return result == LINK_DONE ? frame_done(p, payload, length, error) : result;
}

static int piped_recv_loan(struct link *link, struct frame *frame, const void **payload, uint32_t length,
                           struct tutti_error *error)
{
    struct piped_link *p = (struct piped_link *)link;
    *payload = p->loan;
    return piped_recv(link, frame, p->loan, length, error);
}

static int piped_descriptor(const struct link *link)
{
    (void)link;
    return -1;
}

static void piped_free(struct link *link)
{
    struct piped_link *p = (struct piped_link *)link;
    if (!p->node->dead)
        end_close(p->end);
    world_free(p->loan);
    world_free(p);
}

struct link *piped_link_new(struct end *end, int peer, const char *peer_text, uint32_t loan_bytes,
                            struct failpoints *failpoints, void (*ready)(void *context), void *context)
{
    static const struct link_ops ops = {"virtual",  piped_send,       piped_recv, piped_recv_loan,
                                        piped_peek, piped_descriptor, NULL,       piped_free};
    struct piped_link *p = world_alloc(sizeof *p);
    p->link.ops = &ops;
    p->link.peer = peer;
    p->link.failpoints = failpoints;
    p->end = end;
    p->node = end->node;
    p->peer_text = peer_text;
    p->loan = world_alloc_raw(loan_bytes);
    end_attach(end, ready, context);
    return &p->link;
}
