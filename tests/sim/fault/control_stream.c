#include "tests/sim/fault/control_stream.h"

#include <stdlib.h>
#include <string.h>
#include "base/crc32c.h"
#include "base/error.h"
#include "tests/sim/fault/allocation.h"

#define FLUSH_NS   (2000 * NS_PER_MS)
#define LINGER_NS  (200 * NS_PER_MS)
#define QUEUE_MAX  (256u << 10)
#define READ_BYTES 4096

enum state { OPEN, FLUSHING, LINGERING, CLOSED };

struct control_stream {
    struct network *network;
    struct end *end;
    struct node *node;
    enum state state;
    const struct control_events *events;
    void *context;
    bool delivering;
    struct tutti_error failure; /* of a send, not reported yet */
    struct event timer;
    uint8_t *queue;
    uint32_t head, tail, capacity; /* of the bytes that wait */
    LIST_ENTRY(control_stream) entry;
    struct frame_reader reader; /* last: its buffer is not touched without need */
};

static const struct tutti_error no_error = TUTTI_ERROR_INIT;

/* ---- The end ------------------------------------------------------------------------------------- */

static void release(void *context)
{
    struct control_stream *s = context;
    event_cancel(s->network, &s->timer);
    LIST_REMOVE(s, entry);
    world_free(s->queue);
    world_free(s);
}

/* What is on the stack may still look at it. */
static void begin_close(struct control_stream *s)
{
    s->state = CLOSED;
    end_close(s->end);
    event_set(s->network, &s->timer, NULL, 0, release, s);
}

static void report_closed(struct control_stream *s, const struct tutti_error *why)
{
    begin_close(s);
    s->events->closed(s->context, s, why);
}

static void on_limit(void *context)
{
    begin_close(context);
}

/* Waits for the end of what the peer sends: closing with unread bytes could take what was sent from it. */
static void linger(struct control_stream *s)
{
    end_shut_write(s->end);
    s->state = LINGERING;
    event_set(s->network, &s->timer, s->node, LINGER_NS, on_limit, s);
    end_attach(s->end, s->end->ready, s);
}

/* ---- Sending ------------------------------------------------------------------------------------- */

static void read_all(struct control_stream *s);

/* Reported from the loop, after what the peer said before it went has been read: that may be the cause. */
static void on_failed(void *context)
{
    struct control_stream *s = context;
    read_all(s);
    if (s->state == OPEN)
        report_closed(s, &s->failure);
}

static void fail_later(struct control_stream *s)
{
    s->head = s->tail = 0;
    event_set(s->network, &s->timer, s->node, 0, on_failed, s);
}

static bool send_some(struct control_stream *s)
{
    while (s->head < s->tail) {
        int n = end_write(s->end, s->queue + s->head, s->tail - s->head);
        if (n == READ_RESET) {
            error_set(&s->failure, TUTTI_ERR_PEER_LOST, "the connection was lost while sending: %s",
                      "Connection reset by peer");
            return false;
        }
        if (n == 0)
            return true;
        s->head += (uint32_t)n;
    }
    s->head = s->tail = 0;
    return true;
}

static void reserve(struct control_stream *s, uint32_t size)
{
    uint32_t used = s->tail - s->head;
    if (s->head > 0)
        memmove(s->queue, s->queue + s->head, used);
    s->head = 0;
    s->tail = used;
    if (used + size <= s->capacity)
        return;
    s->capacity = 2 * (used + size);
    s->queue = world_resize(s->queue, s->capacity);
}

static void enqueue(struct control_stream *s, const struct frame *frame, const void *payload)
{
    uint32_t size = FRAME_HEADER_BYTES + frame->length;
    if (s->tail - s->head + size > QUEUE_MAX) {
        error_set(&s->failure, TUTTI_ERR_PEER_LOST, "the peer does not read what it is sent");
        fail_later(s);
        return;
    }
    bool was_empty = s->head == s->tail;
    if (s->tail + size > s->capacity)
        reserve(s, size);
    frame_encode(frame, s->queue + s->tail);
    if (frame->length > 0)
        memcpy(s->queue + s->tail + FRAME_HEADER_BYTES, payload, frame->length);
    s->tail += size;
    if (was_empty && !send_some(s))
        fail_later(s);
}

void control_stream_send(struct control_stream *s, const struct frame *group, const Wire__Control *message)
{
    if (s->state != OPEN || s->failure.code != TUTTI_OK)
        return;
    if (!message) {
        enqueue(s, group, NULL);
        return;
    }
    size_t size = 0;
    uint8_t *bytes = control_encode(message, &size);
    if (!bytes) {
        error_set(&s->failure, TUTTI_ERR_MEMORY, "a control message cannot be encoded: out of memory");
        fail_later(s);
        return;
    }
    struct frame frame = {.type = FRAME_CONTROL, .flags = FRAME_HAS_PAYLOAD_CRC, .length = (uint32_t)size};
    frame.instance = group ? group->instance : 0;
    frame.generation = group ? group->generation : 0;
    frame.payload_crc = crc32c(0, bytes, size);
    enqueue(s, &frame, bytes);
    free(bytes);
}

/* ---- Receiving ----------------------------------------------------------------------------------- */

static void deliver(struct control_stream *s, const uint8_t *bytes, size_t size)
{
    while (s->state == OPEN) {
        struct tutti_error error; /* too large to clear each time */
        const uint8_t *payload = NULL;
        int result = frame_reader_next(&s->reader, &bytes, &size, &payload, &error);
        if (result < 0)
            report_closed(s, &error);
        if (result <= 0)
            return;
        s->events->frame(s->context, s, &s->reader.frame, payload);
    }
}

static void end_of_stream(struct control_stream *s, int how)
{
    struct tutti_error why = no_error;
    const struct frame_reader *reader = &s->reader;
    uint32_t whole = FRAME_HEADER_BYTES + (reader->header_done ? reader->frame.length : 0);
    if (s->state != OPEN) {
        begin_close(s);
        return;
    }
    if (how == READ_RESET)
        error_set(&why, TUTTI_ERR_PEER_LOST, "the connection was lost: Connection reset by peer");
    else if (reader->have > 0 && reader->have < whole)
        error_set(&why, TUTTI_ERR_PEER_LOST, "the connection ended in the middle of a message");
    report_closed(s, &why);
}

static void read_all(struct control_stream *s)
{
    uint8_t bytes[READ_BYTES];
    s->delivering = true;
    while (s->state == OPEN || s->state == LINGERING) {
        int n = end_read(s->end, bytes, sizeof bytes);
        if (n == READ_NOTHING)
            break;
        if (n < 0)
            end_of_stream(s, n);
        else
            deliver(s, bytes, (size_t)n);
    }
    s->delivering = false;
}

void control_stream_drain(struct control_stream *s)
{
    if (s->state == OPEN && !s->delivering)
        read_all(s);
}

static void on_ready(void *context)
{
    struct control_stream *s = context;
    if (s->state == OPEN || s->state == LINGERING)
        read_all(s);
    if (s->state == FLUSHING) {
        if (!send_some(s))
            begin_close(s);
        else if (s->head == s->tail)
            linger(s);
    } else if (s->state == OPEN && s->failure.code == TUTTI_OK && !send_some(s)) {
        fail_later(s);
    }
}

/* ---- Opening and closing ------------------------------------------------------------------------- */

struct control_stream *control_stream_new(struct network *network, struct end *end,
                                          const struct control_events *events, void *context)
{
    struct control_stream *s = world_alloc_raw(sizeof *s);
    memset(s, 0, offsetof(struct control_stream, reader));
    frame_reader_init(&s->reader, FRAME_CONTROL_BYTES_MAX);
    s->network = network;
    s->end = end;
    s->node = end->node;
    s->events = events;
    s->context = context;
    LIST_INSERT_HEAD(&network->controls, s, entry);
    end_attach(end, on_ready, s);
    return s;
}

void control_stream_hand_over(struct control_stream *s, const struct control_events *events, void *context)
{
    s->events = events;
    s->context = context;
}

void control_stream_close(struct control_stream *s, bool flush)
{
    if (!flush || s->failure.code != TUTTI_OK) {
        begin_close(s);
        return;
    }
    s->state = FLUSHING;
    event_set(s->network, &s->timer, s->node, FLUSH_NS, on_limit, s);
    if (s->head == s->tail)
        linger(s);
}

void control_streams_free(struct network *network)
{
    struct control_stream *s;
    while ((s = LIST_FIRST(&network->controls)))
        release(s);
}
