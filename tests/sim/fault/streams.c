/* Listeners, connections and streams of bytes: what a kernel and the wires between hosts do. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "tests/sim/fault/allocation.h"
#include "tests/sim/fault/network.h"

static int64_t draw_delay(struct network *n)
{
    uint64_t width = (uint64_t)(n->delay_max_ns - n->delay_min_ns);
    return n->delay_min_ns + (int64_t)(width > 0 ? random_below(&n->random, width) : 0);
}

static bool is_cut(const struct network *n, const struct node *from, const struct node *to)
{
    return n->cut[from->host][to->host];
}

struct end *end_other(const struct end *end)
{
    return &end->stream->ends[1 - end->side];
}

static struct pipe *pipe_in(const struct end *end)
{
    return &end->stream->pipes[1 - end->side];
}

static struct pipe *pipe_out(const struct end *end)
{
    return &end->stream->pipes[end->side];
}

/* ---- Notices ------------------------------------------------------------------------------------- */

static void on_notify(void *context)
{
    struct end *end = context;
    struct listener *listener = end->accepting;
    if (listener) {
        end->accepting = NULL;
        listener->accept(listener->context, end);
    } else if (end->ready) {
        end->ready(end->context);
    }
}

static void notify(struct end *end, int64_t delay_ns)
{
    if (end->open && (end->ready || end->accepting) && !event_is_set(&end->notify))
        event_set(end->stream->network, &end->notify, end->node, delay_ns, on_notify, end);
}

/* From the event of an arrival: without another event where that makes no difference. */
static void notify_now(struct end *end)
{
    if (!end->open || !end->ready || end->accepting || end->node->frozen || end->node->dead) {
        notify(end, 0);
        return;
    }
    struct network *n = end->stream->network;
    event_cancel(n, &end->notify);
    network_enter(n, end->node);
    end->ready(end->context);
}

/* ---- The end of streams -------------------------------------------------------------------------- */

static void on_broken(void *context)
{
    struct end *end = context;
    if (is_cut(end->stream->network, end_other(end)->node, end->node))
        return; /* tried again when the network is healed */
    struct pipe *in = pipe_in(end);
    end->reset = true;
    in->used = in->visible; /* what is under way is lost */
    event_cancel(end->stream->network, &in->arrival);
    notify_now(end);
}

/* Tells the end that the other is gone. */
static void send_reset(struct end *end)
{
    struct network *n = end->stream->network;
    if (end->open && !end->reset && !event_is_set(&end->broken))
        event_set(n, &end->broken, NULL, draw_delay(n), on_broken, end);
}

static void stream_free(struct stream *stream)
{
    struct network *n = stream->network;
    for (int side = 0; side < 2; side++) {
        event_cancel(n, &stream->pipes[side].arrival);
        event_cancel(n, &stream->ends[side].notify);
        event_cancel(n, &stream->ends[side].broken);
        world_free(stream->pipes[side].bytes);
    }
    LIST_REMOVE(stream, entry);
    world_free(stream);
}

/* Takes the end from its process.  The other end's process still has the stream. */
static void end_detach(struct end *end)
{
    struct network *n = end->stream->network;
    event_cancel(n, &end->notify);
    event_cancel(n, &end->broken);
    TAILQ_REMOVE(&end->node->ends, end, entry);
    end->open = false;
    end->ready = NULL;
    end->accepting = NULL;
    n->open_ends--;
    if (!end_other(end)->open)
        stream_free(end->stream);
}

/* ---- Arrival ------------------------------------------------------------------------------------- */

static void on_arrival(void *context);

static void schedule_arrival(struct end *writer)
{
    struct network *n = writer->stream->network;
    struct pipe *pipe = pipe_out(writer);
    if (!event_is_set(&pipe->arrival) && (pipe->used > pipe->visible || pipe->finished))
        event_set(n, &pipe->arrival, NULL, draw_delay(n) + writer->stream->extra_ns, on_arrival, writer);
}

static void on_arrival(void *context)
{
    struct end *writer = context, *reader = end_other(writer);
    struct network *n = writer->stream->network;
    struct pipe *pipe = pipe_out(writer);
    if (is_cut(n, writer->node, reader->node) || reader->node->unplugged)
        return; /* the first is tried again when the network is healed */
    if (!reader->open || reader->reset) {
        pipe->head = (pipe->head + pipe->used) & (pipe->capacity - 1);
        pipe->used = pipe->visible = 0;
        if (!pipe->finished)
            send_reset(writer);
        return;
    }
    uint32_t under_way = pipe->used - pipe->visible, piece = under_way;
    if (under_way > 1 && random_chance(&n->random, n->stutter_percent))
        piece = 1 + (uint32_t)random_below(&n->random, under_way - 1);
    pipe->visible += piece;
    if (piece < under_way)
        schedule_arrival(writer);
    notify_now(reader);
}

void network_cut(struct network *n, int from, int to)
{
    n->cut[from][to] = from != to;
}

void network_heal(struct network *n, int from, int to)
{
    struct stream *stream;
    n->cut[from][to] = false;
    LIST_FOREACH(stream, &n->streams, entry)
    {
        for (int side = 0; side < 2; side++) {
            struct end *end = &stream->ends[side], *other = &stream->ends[1 - side];
            if (end->node->host != from || other->node->host != to)
                continue;
            schedule_arrival(end);
            if (!end->open && !end->node->unplugged && !pipe_out(end)->finished)
                send_reset(other);
            if (other->open && other->wants_room)
                notify(other, draw_delay(n));
        }
    }
}

/* ---- Reading and writing ------------------------------------------------------------------------- */

static void copy_in(struct pipe *pipe, const uint8_t *bytes, uint32_t size)
{
    uint32_t at = (pipe->head + pipe->used) & (pipe->capacity - 1);
    uint32_t first = pipe->capacity - at < size ? pipe->capacity - at : size;
    memcpy(pipe->bytes + at, bytes, first);
    memcpy(pipe->bytes, bytes + first, size - first);
    pipe->used += size;
}

static void copy_out(struct pipe *pipe, uint8_t *bytes, uint32_t size)
{
    uint32_t first = pipe->capacity - pipe->head < size ? pipe->capacity - pipe->head : size;
    memcpy(bytes, pipe->bytes + pipe->head, first);
    memcpy(bytes + first, pipe->bytes, size - first);
    pipe->head = (pipe->head + size) & (pipe->capacity - 1);
    pipe->used -= size;
    pipe->visible -= size;
}

int end_read(struct end *end, void *bytes, uint32_t most)
{
    struct network *n = end->stream->network;
    struct pipe *pipe = pipe_in(end);
    struct end *writer = end_other(end);
    uint32_t size = pipe->visible < most ? pipe->visible : most;
    if (end->node->dead)
        return READ_NOTHING;
    if (size > 0) {
        copy_out(pipe, bytes, size);
        if (writer->wants_room && !is_cut(n, end->node, writer->node))
            notify(writer, draw_delay(n));
        return (int)size;
    }
    if (end->reset)
        return READ_RESET;
    /* The news that nothing follows comes with an arrival. */
    bool told = pipe->finished && pipe->used == 0 && !event_is_set(&pipe->arrival);
    return told && !is_cut(n, writer->node, end->node) ? READ_END : READ_NOTHING;
}

int end_write(struct end *end, const void *bytes, uint32_t size)
{
    struct network *n = end->stream->network;
    struct pipe *pipe = pipe_out(end);
    if (end->node->dead)
        return 0;
    if (end->reset || end->write_shut)
        return READ_RESET;
    uint32_t room = pipe->capacity - pipe->used, piece = size < room ? size : room;
    if (piece > 1 && random_chance(&n->random, n->stutter_percent)) {
        piece = (uint32_t)random_below(&n->random, piece);
        notify(end, draw_delay(n)); /* there is room */
    }
    end->wants_room = piece < size;
    if (piece > 0) {
        copy_in(pipe, bytes, piece);
        schedule_arrival(end);
    }
    return (int)piece;
}

void end_attach(struct end *end, void (*ready)(void *context), void *context)
{
    end->ready = ready;
    end->context = context;
    notify(end, 0);
}

void end_postpone_accept(struct end *end, struct listener *listener, int64_t delay_ns)
{
    end->accepting = listener;
    notify(end, delay_ns);
}

/* ---- Closing ------------------------------------------------------------------------------------- */

static void shut_write(struct end *end)
{
    struct pipe *pipe = pipe_out(end);
    if (end->write_shut || end->reset)
        return;
    end->write_shut = true;
    pipe->finished = true;
    schedule_arrival(end);
}

void end_shut_write(struct end *end)
{
    if (!end->node->dead)
        shut_write(end);
}

static void close_for_good(struct end *end)
{
    if (!end->node->unplugged && pipe_in(end)->visible > 0)
        send_reset(end_other(end));
    else if (!end->node->unplugged)
        shut_write(end);
    end_detach(end);
}

void end_close(struct end *end)
{
    if (!end->node->dead) /* else the kernel closes it */
        close_for_good(end);
}

void node_close_ends(struct node *node)
{
    struct end *end;
    while ((end = TAILQ_FIRST(&node->ends)))
        close_for_good(end);
}

void end_abort(struct end *end)
{
    if (end->node->dead)
        return;
    send_reset(end_other(end));
    end_forget(end);
}

void end_forget(struct end *end)
{
    struct pipe *in = pipe_in(end);
    end->reset = true;
    in->used = in->visible;
    event_cancel(end->stream->network, &in->arrival);
    notify(end, 0);
}

bool end_corrupt(struct end *end)
{
    struct pipe *pipe = pipe_in(end);
    if (pipe->used == 0)
        return false;
    uint32_t which = (uint32_t)random_below(&end->stream->network->random, pipe->used);
    pipe->bytes[(pipe->head + which) & (pipe->capacity - 1)] ^= 0x10;
    return true;
}

/* ---- Connecting ---------------------------------------------------------------------------------- */

void network_listen(struct network *n, struct listener *listener, struct node *node, int address,
                    void (*accept)(void *context, struct end *end), void *context)
{
    assert(!listener->node);
    *listener = (struct listener){.node = node, .accept = accept, .context = context};
    listener->address = address > 0 ? address : ++n->last_address;
    LIST_INSERT_HEAD(&n->listeners, listener, entry);
}

void network_unlisten(struct listener *listener)
{
    struct end *end, *next;
    if (!listener->node)
        return;
    LIST_REMOVE(listener, entry);
    for (end = TAILQ_FIRST(&listener->node->ends); end; end = next) {
        next = TAILQ_NEXT(end, entry);
        if (end->accepting == listener)
            close_for_good(end);
    }
    listener->node = NULL;
}

struct listener *network_find_listener(struct network *n, int address)
{
    struct listener *listener;
    LIST_FOREACH(listener, &n->listeners, entry)
    if (listener->address == address)
        return listener;
    return NULL;
}

static void end_init(struct end *end, struct stream *stream, int side, struct node *node)
{
    *end = (struct end){.stream = stream, .node = node, .side = side, .open = true};
    TAILQ_INSERT_TAIL(&node->ends, end, entry);
    stream->network->open_ends++;
}

static struct stream *stream_new(struct network *n, struct node *from, struct node *to)
{
    struct stream *stream = world_alloc(sizeof *stream);
    stream->network = n;
    for (int side = 0; side < 2; side++) {
        stream->pipes[side].capacity = n->capacity;
        stream->pipes[side].bytes = world_alloc_raw(n->capacity);
        end_init(&stream->ends[side], stream, side, side == 0 ? from : to);
    }
    LIST_INSERT_HEAD(&n->streams, stream, entry);
    return stream;
}

static void on_dial_done(void *context)
{
    struct dial *dial = context;
    struct end *end = dial->end;
    dial->end = NULL;
    dial->done(dial->context, end);
}

/* The request has arrived where it goes. */
static void on_dial_arrived(void *context)
{
    struct dial *dial = context;
    struct network *n = dial->network;
    struct listener *listener = network_find_listener(n, dial->address);
    if (listener && !dial->node->dead && !listener->node->refuses) {
        struct stream *stream = stream_new(n, dial->node, listener->node);
        dial->end = &stream->ends[0];
        stream->ends[1].accepting = listener;
        notify(&stream->ends[1], 0);
    }
    event_set(n, &dial->event, dial->node, draw_delay(n), on_dial_done, dial);
}

void network_dial(struct network *n, struct dial *dial, struct node *node, int address, int64_t timeout_ns,
                  void (*done)(void *context, struct end *end), void *context)
{
    *dial = (struct dial){.network = n, .node = node, .address = address, .done = done, .context = context};
    const struct listener *listener = network_find_listener(n, address);
    bool unheard = listener && (is_cut(n, node, listener->node) || is_cut(n, listener->node, node));
    int64_t spread_ns = n->dial_max_ns > 0 ? (int64_t)random_below(&n->random, (uint64_t)n->dial_max_ns) : 0;
    if (unheard)
        event_set(n, &dial->event, node, timeout_ns, on_dial_done, dial);
    else
        event_set(n, &dial->event, NULL, draw_delay(n) + spread_ns, on_dial_arrived, dial);
}

void network_hang_up(struct dial *dial)
{
    if (!dial->network)
        return;
    event_cancel(dial->network, &dial->event);
    if (dial->end && !dial->node->dead)
        end_close(dial->end);
    dial->end = NULL;
}
