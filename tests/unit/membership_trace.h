/* For tests of the membership: a rank of a group, a pretended shell around it, and what that was told. */
#ifndef TUTTI_TESTS_MEMBERSHIP_TRACE_H
#define TUTTI_TESTS_MEMBERSHIP_TRACE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/error.h"
#include "group/membership.h"

#define INSTANCE      0x1122334455667788u
#define GENERATION    3
#define HEARTBEAT_MS  1000
#define DEAD_AFTER_MS 5000
#define GRACE_MS      60000
#define CALLS_MAX     32

/* Rank 2 of 4, a pretended shell around it, and what that was told since the last look, one line for each. */
struct trace {
    struct membership membership;
    struct group_place place;
    int64_t now_ms;
    struct fingerprint calls[CALLS_MAX]; /* of this rank, by number */
    uint64_t latest, under_way;
    bool tells; /* fail() answers with membership_tell() at once */
    char heard[8192];
    size_t used;
};

static inline void hear(struct trace *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

static inline void hear(struct trace *t, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    t->used += (size_t)vsnprintf(t->heard + t->used, sizeof t->heard - t->used, format, arguments);
    va_end(arguments);
    assert_true(t->used < sizeof t->heard);
}

#define assert_heard(t, expected)                                                                            \
    do {                                                                                                     \
        assert_string_equal((t)->heard, expected);                                                           \
        (t)->used = 0;                                                                                       \
        (t)->heard[0] = '\0';                                                                                \
    } while (0)

/* ---- The shell --------------------------------------------------------------------------------- */

static inline void hear_abort(struct trace *t, const char *to, const Wire__Abort *abort)
{
    assert_true(abort->instance == INSTANCE && abort->generation == GENERATION);
    assert_int_equal(abort->from, t->place.rank);
    hear(t, "%s abort %s rank %d in %s %d, %d bytes: %s\n", to, tutti_error_name(abort->status), abort->rank,
         abort->operation, (int)abort->sequence, (int)abort->moved_bytes, abort->message);
}

static inline void hear_message(struct trace *t, const char *to, const Wire__Control *message)
{
    switch ((int)message->body_case) {
    case WIRE__CONTROL__BODY_ABORT:
        hear_abort(t, to, message->abort);
        break;
    case WIRE__CONTROL__BODY_GOODBYE:
        hear(t, "%s goodbye\n", to);
        break;
    case WIRE__CONTROL__BODY_LATE:
        hear(t, "%s late in %d of generation %u\n", to, (int)message->late->sequence,
             (unsigned)message->late->generation);
        break;
    case WIRE__CONTROL__BODY_PRESENT:
        hear(t, "%s present in %d of generation %u: \"%s\"\n", to, (int)message->present->sequence,
             (unsigned)message->present->generation, message->present->call);
        break;
    case WIRE__CONTROL__BODY_CARD:
        hear(t, "%s card of rank %u in generation %u, tuning \"%s\"\n", to, message->card->peer->rank,
             message->card->generation, message->card->tuning);
        break;
    default:
        fail_msg("the membership sent a message of kind %d", (int)message->body_case);
    }
}

static inline void on_send(void *context, enum membership_side side, const struct frame *frame,
                           const Wire__Control *message)
{
    static const char *const names[SIDES] = {"next", "previous", "rendezvous"};
    struct trace *t = context;
    struct frame sent;
    uint8_t bytes[FRAME_HEADER_BYTES];
    char text[128];
    frame_encode(frame, bytes); /* asserts that it can travel */
    assert_int_equal(frame_decode(bytes, &sent, NULL), TUTTI_OK);
    bool neighbour = side != SIDE_RENDEZVOUS;
    assert_true(sent.instance == (neighbour ? INSTANCE : 0) &&
                sent.generation == (neighbour ? GENERATION : 0));
    assert_int_equal(sent.type, message ? FRAME_CONTROL : FRAME_HEARTBEAT);
    assert_int_equal(sent.length, 0);
    if (message)
        hear_message(t, names[side], message);
    else if (sent.call.operation == 0)
        hear(t, "%s heartbeat, latest %d\n", names[side], (int)sent.sequence);
    else
        hear(t, "%s heartbeat, latest %d, in %s as %d\n", names[side], (int)sent.sequence,
             fingerprint_print(&sent.call, text, sizeof text), (int)(sent.sequence - sent.step));
}

static inline void on_fail(void *context, const struct tutti_error *cause, bool noticed_here)
{
    struct trace *t = context;
    hear(t, "%s %s rank %d: %s\n", noticed_here ? "noticed" : "told", tutti_error_name(cause->code),
         cause->rank, cause->message);
    if (t->tells)
        membership_tell(&t->membership, cause);
}

static inline void on_look(void *context, struct membership_calls *calls)
{
    struct trace *t = context;
    *calls = (struct membership_calls){
        .latest = t->latest,
        .latest_call = t->calls[t->latest],
        .under_way = t->under_way,
        .under_way_call = t->calls[t->under_way],
    };
}

static inline bool on_recall(void *context, uint64_t sequence, struct fingerprint *call)
{
    struct trace *t = context;
    if (sequence == 0 || sequence > t->latest)
        return false;
    *call = t->calls[sequence];
    return true;
}

static inline void on_missing(void *context, uint64_t sequence, int rank, const char *host, const char *text)
{
    hear(context, "missing in %d: first rank %d on '%s': %s\n", (int)sequence, rank, host, text);
}

static inline void on_goodbye(void *context)
{
    hear(context, "a neighbour said goodbye\n");
}

static inline void on_card(void *context, const Wire__Card *card)
{
    hear(context, "a card of rank %u, tuning \"%s\"\n", card->peer->rank, card->tuning);
}

/* ---- Set-up ------------------------------------------------------------------------------------ */

static inline struct neighbour neighbour(int rank)
{
    struct neighbour neighbour = {.rank = rank};
    snprintf(neighbour.text, sizeof neighbour.text, "rank %d (host b, pid %d)", rank, 100 + rank);
    return neighbour;
}

/* Opens the membership of rank 2 of `size` and forgets the first heartbeats. */
static inline void open_in(struct trace *t, int size, bool rendezvous)
{
    t->place = (struct group_place){.rank = size == 1 ? 0 : 2,
                                    .size = size,
                                    .instance = INSTANCE,
                                    .generation = GENERATION,
                                    .next = neighbour(size == 1 ? -1 : 3),
                                    .previous = neighbour(size == 1 ? -1 : 1)};
    const struct membership_output output = {t,         on_send,    on_fail,    on_look,
                                             on_recall, on_missing, on_goodbye, on_card};
    membership_open(&t->membership, &t->place, &output, HEARTBEAT_MS, DEAD_AFTER_MS, GRACE_MS, rendezvous,
                    t->now_ms);
    t->used = 0;
    t->heard[0] = '\0';
}

static inline int set_up(void **state)
{
    static struct trace trace;
    memset(&trace, 0, sizeof trace);
    trace.now_ms = 1000000;
    open_in(&trace, 4, true);
    *state = &trace;
    return 0;
}

/* This rank calls `call`, and waits in it. */
static inline void call_and_wait(struct trace *t, struct fingerprint call)
{
    t->calls[++t->latest] = call;
    t->under_way = t->latest;
}

/* Ticks every second, `count` times, and forgets the heartbeats. */
static inline void tick_quietly(struct trace *t, int count)
{
    for (int i = 0; i < count; i++) {
        t->now_ms += HEARTBEAT_MS;
        membership_tick(&t->membership, t->now_ms);
    }
    t->used = 0;
    t->heard[0] = '\0';
}

/* ---- What the others say ----------------------------------------------------------------------- */

static inline void say_frame(struct trace *t, enum membership_side side, const struct frame *frame,
                             const uint8_t *payload)
{
    membership_receive(&t->membership, side, frame, payload, t->now_ms);
}

static inline struct frame of_our_group(enum frame_type type)
{
    return (struct frame){.type = (uint8_t)type, .instance = INSTANCE, .generation = GENERATION};
}

/* `under_way` 0: it is in no call. */
static inline void say_heartbeat(struct trace *t, enum membership_side side, uint64_t latest,
                                 uint64_t under_way, struct fingerprint call)
{
    struct frame frame = of_our_group(FRAME_HEARTBEAT);
    frame.sequence = latest;
    if (under_way > 0) {
        frame.call = call;
        frame.step = (uint32_t)(latest - under_way);
    }
    say_frame(t, side, &frame, NULL);
}

static inline void say_alive(struct trace *t, enum membership_side side)
{
    say_heartbeat(t, side, 0, 0, (struct fingerprint){0});
}

/* The rendezvous sends frames without a group. */
static inline void say(struct trace *t, enum membership_side side, const Wire__Control *message)
{
    size_t size = 0;
    uint8_t *bytes = control_encode(message, &size);
    assert_non_null(bytes);
    struct frame frame =
        side == SIDE_RENDEZVOUS ? (struct frame){.type = FRAME_CONTROL} : of_our_group(FRAME_CONTROL);
    frame.length = (uint32_t)size;
    say_frame(t, side, &frame, bytes);
    free(bytes);
}

static inline void say_goodbye(struct trace *t, enum membership_side side)
{
    Wire__Goodbye body = WIRE__GOODBYE__INIT;
    Wire__Control message = WIRE__CONTROL__INIT;
    message.body_case = WIRE__CONTROL__BODY_GOODBYE;
    message.goodbye = &body;
    say(t, side, &message);
}

static inline void say_abort_of(struct trace *t, enum membership_side side, uint64_t instance,
                                uint32_t generation, int code, int rank, const char *text)
{
    struct tutti_error cause;
    Wire__Abort body;
    Wire__Control message = WIRE__CONTROL__INIT;
    error_set(&cause, code, "%s", text);
    cause.rank = rank;
    control_from_error(&cause, 0, &body);
    body.instance = instance;
    body.generation = generation;
    message.body_case = WIRE__CONTROL__BODY_ABORT;
    message.abort = &body;
    say(t, side, &message);
}

static inline void say_abort(struct trace *t, enum membership_side side, int code, int rank, const char *text)
{
    say_abort_of(t, side, INSTANCE, GENERATION, code, rank, text);
}

static inline void say_roll_call(struct trace *t, uint32_t generation)
{
    Wire__RollCall body = WIRE__ROLL_CALL__INIT;
    Wire__Control message = WIRE__CONTROL__INIT;
    body.generation = generation;
    message.body_case = WIRE__CONTROL__BODY_ROLL_CALL;
    message.roll_call = &body;
    say(t, SIDE_RENDEZVOUS, &message);
}

static inline void say_missing(struct trace *t, uint32_t generation, uint64_t sequence, uint32_t *ranks,
                               size_t count, const char *text)
{
    Wire__Missing body = WIRE__MISSING__INIT;
    Wire__Control message = WIRE__CONTROL__INIT;
    body.generation = generation;
    body.sequence = sequence;
    body.ranks = ranks;
    body.n_ranks = count;
    body.text = (char *)text;
    message.body_case = WIRE__CONTROL__BODY_MISSING;
    message.missing = &body;
    say(t, SIDE_RENDEZVOUS, &message);
}

/* The card of a rank; `id` is its memory, and the texts are constants. */
static inline void card_of(Wire__Card *card, Wire__Peer *peer, uint8_t id[MEMBER_ID_BYTES], uint32_t rank)
{
    wire__card__init(card);
    wire__peer__init(peer);
    memset(id, (int)('A' + rank), MEMBER_ID_BYTES);
    peer->rank = rank;
    peer->member_id = (ProtobufCBinaryData){MEMBER_ID_BYTES, id};
    peer->host = (char *)"h";
    peer->host_name = (char *)"h.name";
    card->generation = GENERATION;
    card->peer = peer;
    card->cores = 4;
    card->tuning = (char *)"a line of constants";
}

static inline void say_card(struct trace *t, enum membership_side side, uint32_t rank)
{
    uint8_t id[MEMBER_ID_BYTES];
    Wire__Peer peer;
    Wire__Card card;
    Wire__Control message = WIRE__CONTROL__INIT;
    card_of(&card, &peer, id, rank);
    message.body_case = WIRE__CONTROL__BODY_CARD;
    message.card = &card;
    say(t, side, &message);
}

static inline void close_side(struct trace *t, enum membership_side side)
{
    const struct tutti_error closed = TUTTI_ERROR_INIT;
    membership_closed(&t->membership, side, &closed);
}

#define TRACE(name) cmocka_unit_test_setup(name, set_up)

#endif
