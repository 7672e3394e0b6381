#include "group/membership.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include "base/error.h"
#include "executor/mismatch.h"

/* ---- What goes out ----------------------------------------------------------------------------- */

/* The rendezvous serves many groups: what it must know of ours is in the messages. */
static struct frame frame_for(const struct membership *m, enum membership_side side, enum frame_type type)
{
    struct frame frame = {.type = (uint8_t)type};
    if (side != SIDE_RENDEZVOUS) {
        frame.instance = m->place->instance;
        frame.generation = m->place->generation;
    }
    return frame;
}

static void send_message(struct membership *m, enum membership_side side, const Wire__Control *message)
{
    struct frame frame = frame_for(m, side, FRAME_CONTROL);
    if (m->open[side])
        m->output.send(m->output.context, side, &frame, message);
}

static void send_message_to_all(struct membership *m, const Wire__Control *message)
{
    for (int side = 0; side < SIDES; side++)
        send_message(m, (enum membership_side)side, message);
}

static void send_heartbeats(struct membership *m)
{
    struct membership_calls calls;
    m->output.look(m->output.context, &calls);
    assert(calls.under_way <= calls.latest);
    for (int side = 0; side < SIDE_NEIGHBOURS; side++) {
        struct frame frame = frame_for(m, (enum membership_side)side, FRAME_HEARTBEAT);
        frame.sequence = calls.latest;
        if (calls.under_way > 0) {
            frame.call = calls.under_way_call;
            frame.step = (uint32_t)(calls.latest - calls.under_way);
        }
        if (m->open[side])
            m->output.send(m->output.context, (enum membership_side)side, &frame, NULL);
    }
}

void membership_pass_card(struct membership *m, Wire__Card *card)
{
    Wire__Control message = WIRE__CONTROL__INIT;
    message.body_case = WIRE__CONTROL__BODY_CARD;
    message.card = card;
    send_message(m, SIDE_NEXT, &message);
}

/* ---- Failures ---------------------------------------------------------------------------------- */

static const struct neighbour *neighbour_at(const struct membership *m, enum membership_side side)
{
    return side == SIDE_NEXT ? &m->place->next : &m->place->previous;
}

static void fail(struct membership *m, const struct tutti_error *cause, bool noticed_here)
{
    if (!m->told) /* else the group is dead, and this is but what comes of it */
        m->output.fail(m->output.context, cause, noticed_here);
}

static void neighbour_is_lost(struct membership *m, enum membership_side side, const char *how)
{
    struct tutti_error error;
    error_set(&error, TUTTI_ERR_PEER_LOST, "rank %d lost %s: %s", m->place->rank, neighbour_at(m, side)->text,
              how);
    error.rank = neighbour_at(m, side)->rank;
    fail(m, &error, true);
}

/* Both calls are known once this rank has made its own under that number. */
static void compare_calls(struct membership *m, enum membership_side side)
{
    struct fingerprint ours;
    uint64_t sequence = m->heard_call[side].sequence;
    const struct fingerprint *theirs = &m->heard_call[side].call;
    if (sequence == 0 || !m->output.recall(m->output.context, sequence, &ours) ||
        fingerprint_equal(theirs, &ours))
        return;
    struct tutti_error error;
    mismatch_error(&(struct mismatch_side){neighbour_at(m, side)->rank, sequence, theirs},
                   &(struct mismatch_side){m->place->rank, sequence, &ours}, &error);
    fail(m, &error, false);
}

/* ---- What comes in ----------------------------------------------------------------------------- */

static void on_abort(struct membership *m, const Wire__Abort *abort)
{
    struct tutti_error cause;
    control_to_error(abort, &cause);
    if (cause.rank >= m->place->size)
        cause.rank = -1;
    /* The others have ended the group because of this rank, while it was stopped or late, say.  Different
     * calls and an abort by the user are told as they are. */
    if (cause.rank == m->place->rank && cause.code != TUTTI_ERR_MISMATCH && cause.code != TUTTI_ERR_ABORTED) {
        struct tutti_error given_up;
        error_set(&given_up, cause.code, "the group gave rank %d up: %s", cause.rank, cause.message);
        memcpy(cause.message, given_up.message, sizeof cause.message);
    }
    fail(m, &cause, false);
}

static void on_message_of_neighbour(struct membership *m, enum membership_side side,
                                    const struct frame *frame, const uint8_t *payload)
{
    struct tutti_error error;
    Wire__Control *message = control_decode(payload, frame->length, &error);
    if (!message) {
        error_set(&error, error.code, "rank %d cannot read what %s sent: %s", m->place->rank,
                  neighbour_at(m, side)->text, error.message);
        error.rank = neighbour_at(m, side)->rank;
        fail(m, &error, true);
        return;
    }
    if (message->body_case == WIRE__CONTROL__BODY_ABORT) {
        on_abort(m, message->abort);
    } else if (message->body_case == WIRE__CONTROL__BODY_GOODBYE) {
        m->goodbye_heard[side] = true;
        m->output.goodbye(m->output.context);
    } else if (message->body_case == WIRE__CONTROL__BODY_CARD && side == SIDE_PREVIOUS) {
        m->output.card(m->output.context, message->card);
    }
    wire__control__free_unpacked(message, NULL);
}

static void on_heartbeat(struct membership *m, enum membership_side side, const struct frame *frame)
{
    m->heard_latest[side] = frame->sequence;
    /* Numbers that contradict each other make one that recall() does not know. */
    m->heard_call[side].sequence = frame->call.operation != 0 ? frame->sequence - frame->step : 0;
    m->heard_call[side].call = frame->call;
    compare_calls(m, side);
}

static void receive_from_neighbour(struct membership *m, enum membership_side side, const struct frame *frame,
                                   const uint8_t *payload, int64_t now_ms)
{
    if (frame->instance != m->place->instance || frame->generation != m->place->generation) {
        neighbour_is_lost(m, side, "it sent a control frame of another group");
        return;
    }
    m->heard_ms[side] = now_ms;
    if (frame->type == FRAME_HEARTBEAT)
        on_heartbeat(m, side, frame);
    else if (frame->type == FRAME_CONTROL)
        on_message_of_neighbour(m, side, frame, payload);
}

static void answer_roll_call(struct membership *m)
{
    struct membership_calls calls;
    char call[192] = "";
    m->output.look(m->output.context, &calls);
    if (calls.latest > 0)
        fingerprint_print(&calls.latest_call, call, sizeof call);
    Wire__Present body = WIRE__PRESENT__INIT;
    body.generation = m->place->generation;
    body.sequence = calls.latest;
    body.call = call;
    Wire__Control message = WIRE__CONTROL__INIT;
    message.body_case = WIRE__CONTROL__BODY_PRESENT;
    message.present = &body;
    send_message(m, SIDE_RENDEZVOUS, &message);
}

static void on_missing(struct membership *m, const Wire__Missing *missing)
{
    if (missing->n_ranks > 0 && missing->ranks[0] < (uint32_t)m->place->size)
        m->output.missing(m->output.context, missing->sequence, (int)missing->ranks[0], missing->host,
                          missing->text);
}

/* It may have sent this before it knew of our group.  And a group does not die of its rendezvous, whatever
 * that sends. */
static void receive_from_rendezvous(struct membership *m, const struct frame *frame, const uint8_t *payload)
{
    struct tutti_error error;
    Wire__Control *message =
        frame->type == FRAME_CONTROL ? control_decode(payload, frame->length, &error) : NULL;
    if (!message)
        return;
    uint32_t generation = m->place->generation;
    if (message->body_case == WIRE__CONTROL__BODY_ABORT) {
        if (message->abort->instance == m->place->instance && message->abort->generation == generation)
            on_abort(m, message->abort);
    } else if (message->body_case == WIRE__CONTROL__BODY_ROLL_CALL) {
        if (message->roll_call->generation == generation)
            answer_roll_call(m);
    } else if (message->body_case == WIRE__CONTROL__BODY_MISSING) {
        if (message->missing->generation == generation)
            on_missing(m, message->missing);
    }
    wire__control__free_unpacked(message, NULL);
}

void membership_receive(struct membership *m, enum membership_side side, const struct frame *frame,
                        const uint8_t *payload, int64_t now_ms)
{
    if (side == SIDE_RENDEZVOUS)
        receive_from_rendezvous(m, frame, payload);
    else
        receive_from_neighbour(m, side, frame, payload, now_ms);
}

void membership_closed(struct membership *m, enum membership_side side, const struct tutti_error *why)
{
    m->open[side] = false;
    if (side == SIDE_RENDEZVOUS || m->goodbye_heard[side])
        return;
    char how[400];
    if (why->code == TUTTI_OK)
        snprintf(how, sizeof how,
                 "it closed its control connection without a goodbye: its process ended or was killed");
    else
        snprintf(how, sizeof how, "its control connection broke: %.300s", why->message);
    neighbour_is_lost(m, side, how);
}

/* ---- What time brings -------------------------------------------------------------------------- */

void membership_open(struct membership *m, const struct group_place *place,
                     const struct membership_output *output, int64_t heartbeat_ms, int64_t dead_after_ms,
                     int64_t grace_ms, bool rendezvous, int64_t now_ms)
{
    memset(m, 0, sizeof *m);
    m->place = place;
    m->output = *output;
    m->heartbeat_ms = heartbeat_ms;
    m->dead_after_ms = dead_after_ms;
    m->ticked_ms = m->sent_ms = now_ms;
    m->open[SIDE_RENDEZVOUS] = rendezvous;
    for (int side = 0; side < SIDE_NEIGHBOURS; side++) {
        m->open[side] = place->size > 1;
        m->heard_ms[side] = now_ms + grace_ms;
    }
    send_heartbeats(m);
}

static void judge_silence(struct membership *m, enum membership_side side, int64_t now_ms)
{
    int64_t silent_ms = now_ms - m->heard_ms[side];
    if (!m->open[side] || m->goodbye_heard[side] || silent_ms < m->dead_after_ms)
        return;
    char how[160];
    snprintf(how, sizeof how,
             "no heartbeat for %.1f s: its process is stopped, or its host or the network is down",
             (double)silent_ms / 1000.0);
    neighbour_is_lost(m, side, how);
}

void membership_tick(struct membership *m, int64_t now_ms)
{
    /* After a pause of our own (suspended, swapped out) what the peers sent meanwhile is still unread. */
    bool late = now_ms - m->ticked_ms > 2 * m->heartbeat_ms;
    m->ticked_ms = now_ms;
    /* A timer that is a little early must not put a heartbeat off to the next tick. */
    if (now_ms - m->sent_ms >= m->heartbeat_ms - m->heartbeat_ms / MEMBERSHIP_TICKS / 2) {
        m->sent_ms = now_ms;
        send_heartbeats(m);
    }
    for (int side = 0; side < SIDE_NEIGHBOURS; side++) {
        if (!late)
            judge_silence(m, (enum membership_side)side, now_ms);
        else if (m->heard_ms[side] < now_ms)
            m->heard_ms[side] = now_ms;
    }
}

/* ---- What this rank does ----------------------------------------------------------------------- */

void membership_announce(struct membership *m)
{
    send_heartbeats(m);
    for (int side = 0; side < SIDE_NEIGHBOURS; side++)
        compare_calls(m, (enum membership_side)side);
}

void membership_ask(struct membership *m, uint64_t sequence)
{
    Wire__Late body = WIRE__LATE__INIT;
    body.generation = m->place->generation;
    body.sequence = sequence;
    Wire__Control message = WIRE__CONTROL__INIT;
    message.body_case = WIRE__CONTROL__BODY_LATE;
    message.late = &body;
    send_message(m, SIDE_RENDEZVOUS, &message);
}

void membership_tell(struct membership *m, const struct tutti_error *failure)
{
    if (m->told)
        return;
    m->told = true;
    Wire__Abort body;
    control_from_error(failure, (uint32_t)m->place->rank, &body);
    body.instance = m->place->instance;
    body.generation = m->place->generation;
    Wire__Control message = WIRE__CONTROL__INIT;
    message.body_case = WIRE__CONTROL__BODY_ABORT;
    message.abort = &body;
    send_message_to_all(m, &message);
}

static void send_goodbye(struct membership *m, enum membership_side side)
{
    Wire__Goodbye body = WIRE__GOODBYE__INIT;
    Wire__Control message = WIRE__CONTROL__INIT;
    message.body_case = WIRE__CONTROL__BODY_GOODBYE;
    message.goodbye = &body;
    send_message(m, side, &message);
}

void membership_say_goodbye(struct membership *m)
{
    if (m->goodbye_said)
        return;
    m->goodbye_said = true;
    for (int side = 0; side < SIDE_NEIGHBOURS; side++)
        send_goodbye(m, (enum membership_side)side);
}

void membership_leave(struct membership *m)
{
    if (m->left)
        return;
    m->left = true;
    send_goodbye(m, SIDE_RENDEZVOUS);
}

bool membership_goodbyes_heard(const struct membership *m)
{
    return m->place->size == 1 || (m->goodbye_heard[SIDE_NEXT] && m->goodbye_heard[SIDE_PREVIOUS]);
}
