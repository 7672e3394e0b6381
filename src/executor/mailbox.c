#include "executor/mailbox.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "base/error.h"
#include "executor/frame_check.h"
#include "executor/kept.h"
#include "tensor/type.h"

#define TURNS_MAX 64 /* of all links in one progress(): a deadline and other work must get through */

/* The message of which frames are coming, and the frame. */
struct arrival {
    bool message_begun, frame_begun;
    struct fingerprint call;
    struct message message;
    size_t done; /* bytes of it in frames that are whole */
    uint32_t step, length;
    struct mail *into; /* the receive that it is for; NULL: none yet */
    struct kept *kept; /* where it is kept; with `into` too: where its frame under way began to go */
};

struct peer {
    int rank;
    /* Sending. */
    struct mail_queue sends;
    uint64_t sent_messages;
    size_t sent_bytes; /* of the first send, in frames that are whole */
    bool frame_begun;
    struct frame frame;
    /* Receiving. */
    uint64_t received_messages; /* begun ones */
    struct arrival arrival;
    struct kept_list kept; /* the last one may still be coming */
    size_t waiting;        /* receives that wait for this peer by name */
    bool stopped;          /* its next message finds no room and no receive */
};

struct mailbox {
    const struct executor_group *group;
    int rank, size;
    struct mail_queue fresh;    /* receives that have not looked through what is kept */
    struct mail_queue waiting;  /* receives that nothing that is kept fits */
    struct mail_queue complete; /* not yet taken */
    size_t waiting_for_any;     /* of those that wait, from any source */
    size_t pending;             /* mails */
    uint64_t arrivals;
    int first; /* the peer whose turn is the next */
    bool cut;  /* a message was given up in its middle: its link is of no more use */
    struct peer peers[];
};

/* ---- Messages and receives --------------------------------------------------------------------- */

static void complete(struct mailbox *box, struct mail *mail)
{
    mail->complete = true;
    box->pending--;
    mail_queue_add(&box->complete, mail);
}

static void complete_receive(struct mailbox *box, struct mail *mail, const struct message *message)
{
    if (mail->received)
        *mail->received = (struct tutti_received){message->source, message->tag, message->count};
    complete(box, mail);
}

static void copy(void *to, const void *from, size_t bytes)
{
    if (bytes > 0) /* else either may be NULL */
        memmove(to, from, bytes);
}

static size_t *waiting_count(struct mailbox *box, const struct mail *receive)
{
    return receive->peer == TUTTI_ANY_SOURCE ? &box->waiting_for_any : &box->peers[receive->peer].waiting;
}

static void wait_for_message(struct mailbox *box, struct mail *receive)
{
    mail_queue_add(&box->waiting, receive);
    ++*waiting_count(box, receive);
}

/* `link` is the place of a receive that waits; it does so no longer. */
static struct mail *stop_waiting(struct mailbox *box, struct mail **link)
{
    --*waiting_count(box, *link);
    return mail_queue_remove(&box->waiting, link);
}

/* The earliest receive that waits for such a message, as its place in the queue; NULL when none does. */
static struct mail **find_receive(struct mailbox *box, int source, int tag)
{
    for (struct mail **link = &box->waiting.first; *link; link = &(*link)->next) {
        if (mail_takes(*link, source, tag))
            return link;
    }
    return NULL;
}

/* ---- What is kept ------------------------------------------------------------------------------ */

/* The earliest message that fits the receive, as its place in what is kept of *from; NULL: none. */
static struct kept **find_kept(struct mailbox *box, const struct mail *receive, struct peer **from)
{
    struct kept **found = NULL;
    bool any = receive->peer == TUTTI_ANY_SOURCE;
    for (int rank = any ? 0 : receive->peer; rank < (any ? box->size : receive->peer + 1); rank++) {
        struct peer *peer = &box->peers[rank];
        struct kept **link = &peer->kept.first;
        while (*link && !mail_takes(receive, rank, (*link)->message.tag))
            link = &(*link)->next;
        if (*link && (!found || (*link)->arrival < (*found)->arrival)) {
            found = link;
            *from = peer;
        }
    }
    return found;
}

/* Hands a kept message to a receive: all of it, or, where it is still coming, what has come in whole frames.
 */
static void hand_over(struct mailbox *box, struct peer *peer, struct kept **link, struct mail *receive)
{
    struct arrival *arrival = &peer->arrival;
    struct kept *kept = kept_remove(&peer->kept, link);
    if (arrival->message_begun && arrival->kept == kept) {
        copy(receive->buffer, kept->data, arrival->done);
        arrival->into = receive;
        if (arrival->frame_begun)
            return; /* a link receives a frame into one place: there is no moving it now */
        arrival->kept = NULL;
    } else {
        copy(receive->buffer, kept->data, kept->message.bytes);
        complete_receive(box, receive, &kept->message);
    }
    free(kept);
}

/* Lets the receives that were posted since look through what is kept. */
static int match_fresh(struct mailbox *box, bool *moved, struct tutti_error *error)
{
    while (box->fresh.first) {
        struct peer *peer = NULL;
        struct mail *receive = box->fresh.first;
        struct kept **link = find_kept(box, receive, &peer);
        if (!link) {
            wait_for_message(box, mail_queue_remove(&box->fresh, &box->fresh.first));
            continue;
        }
        int status = mail_check_fit(receive, box->rank, &(*link)->message, error);
        if (status < 0)
            return status;
        hand_over(box, peer, link, mail_queue_remove(&box->fresh, &box->fresh.first));
        *moved = true;
    }
    return TUTTI_OK;
}

/* ---- Sending ----------------------------------------------------------------------------------- */

/* Bytes of payload of the next frame of a message of which `left` bytes are left. */
static uint32_t frame_bytes(const struct mailbox *box, int type, size_t left)
{
    size_t element = type_size((enum tutti_type)type);
    size_t most = box->group->slice_bytes / element * element;
    return (uint32_t)(left < most ? left : most);
}

static void begin_send(struct mailbox *box, struct peer *peer, const struct mail *mail)
{
    bool first = peer->sent_bytes == 0;
    peer->frame = (struct frame){
        .type = FRAME_DATA,
        .flags = box->group->checksum ? FRAME_HAS_PAYLOAD_CRC : 0,
        .channel = box->group->channel,
        .generation = box->group->generation,
        .instance = box->group->instance,
        .sequence = peer->sent_messages + 1,
        .call = {.operation = TUTTI_SEND,
                 .type = (uint8_t)mail->type,
                 .root = (uint32_t)mail->tag,
                 .count = mail->count},
        .step = first ? 0 : peer->frame.step + 1,
        .length = frame_bytes(box, mail->type, mail_bytes(mail) - peer->sent_bytes),
    };
    peer->frame_begun = true;
}

/* A message to this rank itself.  1: it has gone; 0: no room; or an error. */
static int send_to_self(struct mailbox *box, struct peer *self, struct tutti_error *error)
{
    struct mail *mail = self->sends.first, **link = find_receive(box, box->rank, mail->tag);
    const struct message message = {box->rank, mail->tag, mail->type, mail->count, mail_bytes(mail)};
    if (link) {
        int status = mail_check_fit(*link, box->rank, &message, error);
        if (status < 0)
            return status;
        struct mail *receive = stop_waiting(box, link);
        copy(receive->buffer, mail->buffer, message.bytes);
        complete_receive(box, receive, &message);
    } else {
        if (!kept_has_room(&self->kept, message.bytes))
            return 0;
        struct kept *kept = kept_add(&self->kept, &message, box->arrivals++, error);
        if (!kept)
            return TUTTI_ERR_MEMORY;
        copy(kept->data, mail->buffer, message.bytes);
    }
    complete(box, mail_queue_remove(&self->sends, &self->sends.first));
    return 1;
}

/* At most a frame.  1: one has gone; 0: none could; or an error. */
static int send_frame(struct mailbox *box, struct peer *peer, struct tutti_error *error)
{
    struct mail *mail = peer->sends.first;
    if (!mail)
        return 0;
    if (peer->rank == box->rank)
        return send_to_self(box, peer, error);
    struct link *link = box->group->out[peer->rank];
    if (!link)
        return 0;
    if (!peer->frame_begun)
        begin_send(box, peer, mail);
    const uint8_t *payload = mail->buffer ? (const uint8_t *)mail->buffer + peer->sent_bytes : NULL;
    int result = link->ops->send(link, &peer->frame, payload, error);
    if (result != LINK_DONE)
        return result < 0 ? result : 0;
    peer->frame_begun = false;
    peer->sent_bytes += peer->frame.length;
    if (peer->sent_bytes == mail_bytes(mail)) {
        peer->sent_bytes = 0;
        peer->sent_messages++;
        complete(box, mail_queue_remove(&peer->sends, &peer->sends.first));
    }
    return 1;
}

/* ---- Receiving --------------------------------------------------------------------------------- */

static int refuse(const struct mailbox *box, const struct peer *peer, const struct frame *frame,
                  const char *what, struct tutti_error *error)
{
    char call[192];
    error_set(error, TUTTI_ERR_PROTOCOL,
              "rank %d sent a frame of type %d with %u bytes, frame %u of message %llu, %s: %s; it runs "
              "another build of tutti or has a bug",
              peer->rank, frame->type, (unsigned)frame->length, (unsigned)frame->step,
              (unsigned long long)frame->sequence, fingerprint_print(&frame->call, call, sizeof call), what);
    error->rank = executor_rank_name(box->group, peer->rank);
    return TUTTI_ERR_PROTOCOL;
}

/* Is it the next frame that this link can bring?  Nothing in it is trusted before. */
static int check_frame(const struct mailbox *box, const struct peer *peer, const struct frame *frame,
                       struct tutti_error *error)
{
    const struct arrival *arrival = &peer->arrival;
    const struct fingerprint *call = &frame->call;
    int status = frame_check_group(box->group, executor_rank_name(box->group, peer->rank), frame, error);
    if (status < 0)
        return status;
    if (frame->type != FRAME_DATA || call->operation != TUTTI_SEND || !type_is_valid(call->type) ||
        call->reduction != 0 || call->algorithm != 0 || call->fused != 0 || call->root > INT32_MAX)
        return refuse(box, peer, frame, "that is no message", error);
    if (arrival->message_begun) {
        if (frame->sequence != peer->received_messages || frame->step != arrival->step ||
            !fingerprint_equal(call, &arrival->call))
            return refuse(box, peer, frame, "the message before it has not ended", error);
    } else if (frame->sequence != peer->received_messages + 1 || frame->step != 0) {
        return refuse(box, peer, frame, "it is not the beginning of the next message", error);
    }
    size_t element = type_size((enum tutti_type)call->type);
    if (call->count > SIZE_MAX / element)
        return refuse(box, peer, frame, "no memory can hold so much", error);
    size_t left = (size_t)call->count * element - (arrival->message_begun ? arrival->done : 0);
    if (frame->length != frame_bytes(box, call->type, left))
        return refuse(box, peer, frame, "its length is not that of a slice", error);
    return TUTTI_OK;
}

/* Finds a place for the message that begins with this frame: a receive or memory.  1: it has one; 0: there is
 * no room for it; or an error. */
static int begin_message(struct mailbox *box, struct peer *peer, const struct fingerprint *call,
                         struct tutti_error *error)
{
    struct arrival arrival = {.message_begun = true, .call = *call};
    struct message *message = &arrival.message;
    *message = (struct message){peer->rank, (int)call->root, call->type, (size_t)call->count, 0};
    message->bytes = message->count * type_size((enum tutti_type)call->type);
    struct mail **link = find_receive(box, peer->rank, message->tag);
    peer->stopped = !link && !kept_has_room(&peer->kept, message->bytes);
    if (peer->stopped)
        return 0;
    if (link) {
        int status = mail_check_fit(*link, box->rank, message, error);
        if (status < 0)
            return status;
        arrival.into = stop_waiting(box, link);
    } else {
        arrival.kept = kept_add(&peer->kept, message, box->arrivals++, error);
        if (!arrival.kept)
            return TUTTI_ERR_MEMORY;
    }
    peer->arrival = arrival;
    peer->received_messages++;
    return 1;
}

/* The next frame has a place.  1, 0 or an error, as receive_frame(). */
static int begin_frame(struct mailbox *box, struct peer *peer, struct link *link, struct tutti_error *error)
{
    struct arrival *arrival = &peer->arrival;
    struct frame frame;
    int result = link->ops->peek(link, &frame, error);
    if (result != LINK_DONE)
        return result < 0 ? result : 0;
    result = check_frame(box, peer, &frame, error);
    if (result < 0)
        return result;
    result = arrival->message_begun ? 1 : begin_message(box, peer, &frame.call, error);
    if (result != 1)
        return result;
    arrival->length = frame.length;
    arrival->frame_begun = true;
    return 1;
}

static void end_frame(struct mailbox *box, struct peer *peer)
{
    struct arrival *arrival = &peer->arrival;
    if (arrival->into && arrival->kept) {
        copy((uint8_t *)arrival->into->buffer + arrival->done, arrival->kept->data + arrival->done,
             arrival->length);
        free(arrival->kept);
        arrival->kept = NULL;
    }
    arrival->frame_begun = false;
    arrival->done += arrival->length;
    arrival->step++;
    if (arrival->done < arrival->message.bytes)
        return;
    if (arrival->into)
        complete_receive(box, arrival->into, &arrival->message);
    *arrival = (struct arrival){0};
}

/* At most a frame.  1: one has come; 0: none is whole, or none has a place; or an error. */
static int receive_frame(struct mailbox *box, struct peer *peer, struct tutti_error *error)
{
    struct arrival *arrival = &peer->arrival;
    struct link *link = peer->rank == box->rank ? NULL : box->group->in[peer->rank];
    if (!link)
        return 0;
    if (!arrival->frame_begun) {
        int result = begin_frame(box, peer, link, error);
        if (result != 1)
            return result;
    }
    struct frame frame;
    uint8_t *buffer = arrival->kept ? arrival->kept->data : arrival->into->buffer;
    int result =
        link->ops->recv(link, &frame, buffer ? buffer + arrival->done : NULL, arrival->length, error);
    assert(result != LINK_UNEXPECTED); /* it was peeked */
    if (result != LINK_DONE)
        return result < 0 ? result : 0;
    end_frame(box, peer);
    return 1;
}

/* ---- Progress ---------------------------------------------------------------------------------- */

/* Does a receive that is pending want something from this peer? */
static bool is_wanted(const struct mailbox *box, const struct peer *peer)
{
    return peer->arrival.into || peer->waiting > 0 || box->waiting_for_any > 0;
}

/* One frame at most from each peer that is wanted, or from each that is not.  1: something has come; 0, or an
 * error. */
static int receive_from_each(struct mailbox *box, bool wanted, struct tutti_error *error)
{
    int first = box->first, received = 0;
    for (int i = 0; i < box->size; i++) {
        struct peer *peer = &box->peers[(first + i) % box->size];
        int result = is_wanted(box, peer) == wanted ? receive_frame(box, peer, error) : 0;
        if (result < 0)
            return result;
        if (result == 1) {
            received = 1;
            box->first = (peer->rank + 1) % box->size; /* who was served waits until all others were */
        }
    }
    return received;
}

static int send_to_each(struct mailbox *box, struct tutti_error *error)
{
    int sent = 0;
    for (int rank = 0; rank < box->size; rank++) {
        int result = send_frame(box, &box->peers[rank], error);
        if (result < 0)
            return result;
        sent |= result;
    }
    return sent;
}

int mailbox_progress(struct mailbox *box, bool *moved, struct tutti_error *error)
{
    assert(!box->cut);
    *moved = false;
    size_t pending = box->pending;
    int status = match_fresh(box, moved, error);
    for (int turn = 0; status == TUTTI_OK && turn < TURNS_MAX; turn++) {
        /* Sending first: a peer may be idle until it arrives. */
        int sent = send_to_each(box, error);
        int received = sent < 0 ? sent : receive_from_each(box, true, error);
        /* Who gets a mail back may soon post the receive for what comes next: that saves keeping it. */
        if (sent == 0 && received == 0 && box->pending == pending)
            received = receive_from_each(box, false, error);
        if (received < 0)
            status = received;
        else if (sent == 0 && received == 0)
            break;
        else
            *moved = true;
    }
    if (status == TUTTI_ERR_MISMATCH) /* the sender, as the communicator names it */
        error->rank = executor_rank_name(box->group, error->rank);
    return status;
}

/* ---- The mailbox ------------------------------------------------------------------------------- */

struct mailbox *mailbox_new(const struct executor_group *group, int rank, int size)
{
    struct mailbox *box = calloc(1, sizeof *box + (size_t)size * sizeof box->peers[0]);
    if (!box)
        return NULL;
    box->group = group;
    box->rank = rank;
    box->size = size;
    mail_queue_init(&box->fresh);
    mail_queue_init(&box->waiting);
    mail_queue_init(&box->complete);
    for (int i = 0; i < size; i++) {
        struct peer *peer = &box->peers[i];
        peer->rank = i;
        mail_queue_init(&peer->sends);
        kept_init(&peer->kept);
    }
    return box;
}

void mailbox_free(struct mailbox *box)
{
    if (!box)
        return;
    for (int i = 0; i < box->size; i++) {
        struct peer *peer = &box->peers[i];
        if (peer->arrival.into)
            free(peer->arrival.kept); /* else it is among the others */
        kept_clear(&peer->kept);
    }
    free(box);
}

void mailbox_post(struct mailbox *box, struct mail *mail)
{
    assert(type_is_valid(mail->type) && mail->count <= SIZE_MAX / type_size(mail->type));
    assert(mail->peer >= (mail->sends ? 0 : TUTTI_ANY_SOURCE) && mail->peer < box->size);
    assert(mail->tag >= (mail->sends ? 0 : TUTTI_ANY_TAG));
    mail->complete = false;
    box->pending++;
    mail_queue_add(mail->sends ? &box->peers[mail->peer].sends : &box->fresh, mail);
}

struct mail *mailbox_take_complete(struct mailbox *box)
{
    return box->complete.first ? mail_queue_remove(&box->complete, &box->complete.first) : NULL;
}

bool mailbox_is_busy(const struct mailbox *box)
{
    return box->pending > 0;
}

bool mailbox_awaits(const struct mailbox *box, int from)
{
    const struct peer *peer = &box->peers[from];
    if (from == box->rank || peer->stopped)
        return false;
    return is_wanted(box, peer) || box->group->in[from];
}

bool mailbox_sends(const struct mailbox *box, int to)
{
    return to != box->rank && box->peers[to].sends.first;
}

static void forget_waiting(struct mailbox *box, const void *owner)
{
    box->pending -= mail_queue_forget(&box->waiting, owner);
    box->waiting_for_any = 0;
    for (int rank = 0; rank < box->size; rank++)
        box->peers[rank].waiting = 0;
    for (const struct mail *mail = box->waiting.first; mail; mail = mail->next)
        ++*waiting_count(box, mail);
}

void mailbox_forget(struct mailbox *box, const void *owner)
{
    mail_queue_forget(&box->complete, owner);
    box->pending -= mail_queue_forget(&box->fresh, owner);
    forget_waiting(box, owner);
    for (int rank = 0; rank < box->size; rank++) {
        struct peer *peer = &box->peers[rank];
        struct arrival *arrival = &peer->arrival;
        const struct mail *first = peer->sends.first;
        bool first_begun = peer->frame_begun || peer->sent_bytes > 0;
        box->pending -= mail_queue_forget(&peer->sends, owner);
        box->cut |= first_begun && peer->sends.first != first;
        if (arrival->into && (!owner || arrival->into->owner == owner)) {
            free(arrival->kept);
            arrival->kept = NULL;
            arrival->into = NULL;
            box->pending--;
            box->cut = true;
        }
    }
}
