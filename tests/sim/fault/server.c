#include "tests/sim/fault/server.h"

#include "base/error.h"
#include "group/rendezvous.h"
#include "tests/sim/fault/allocation.h"
#include "tests/sim/fault/control_stream.h"

#define ACCEPT_PAUSE_NS (100 * NS_PER_MS)
#define TICK_LATE_NS    (100 * NS_PER_MS)

struct visitor {
    struct server *server;
    struct control_stream *stream;
    uint64_t id;
    LIST_ENTRY(visitor) entry;
};

struct server {
    struct process *process;
    struct network *network;
    struct listener listener;
    struct rendezvous *machine;
    struct event tick;
    int64_t tick_due_ns;
    uint64_t last_id;
    LIST_HEAD(visitor_list, visitor) visitors;
};

static int64_t now_ms(const struct server *server)
{
    return server->network->now_ns / NS_PER_MS;
}

static void on_tick(void *context);

static void tick_in(struct server *server, int64_t in_ns)
{
    server->tick_due_ns = server->network->now_ns + in_ns;
    event_set(server->network, &server->tick, server->process->node, in_ns, on_tick, server);
}

static void tick_soon(struct server *server)
{
    tick_in(server, 0);
}

static void on_tick(void *context)
{
    struct server *server = context;
    if (server->network->now_ns - server->tick_due_ns > TICK_LATE_NS) {
        tick_soon(server); /* it was stopped: what has come meanwhile is read first */
        return;
    }
    int64_t next_ms = rendezvous_tick(server->machine, now_ms(server));
    if (next_ms >= 0)
        tick_in(server, next_ms > now_ms(server) ? next_ms * NS_PER_MS - server->network->now_ns : 0);
}

/* ---- Visitors ------------------------------------------------------------------------------------ */

static void forget(struct visitor *visitor)
{
    LIST_REMOVE(visitor, entry);
    world_free(visitor);
}

static void drop(struct visitor *visitor)
{
    struct server *server = visitor->server;
    uint64_t id = visitor->id;
    control_stream_close(visitor->stream, false);
    forget(visitor);
    rendezvous_disconnected(server->machine, id, now_ms(server));
    tick_soon(server);
}

static void on_frame(void *context, struct control_stream *stream, const struct frame *frame,
                     const uint8_t *payload)
{
    struct visitor *visitor = context;
    struct server *server = visitor->server;
    struct tutti_error error;
    (void)stream;
    Wire__Control *message =
        frame->type == FRAME_CONTROL ? control_decode(payload, frame->length, &error) : NULL;
    if (!message) {
        drop(visitor);
        return;
    }
    SAY(server->process->sim, server->process, "receives message %d on connection %llu",
        (int)message->body_case, (unsigned long long)visitor->id);
    rendezvous_receive(server->machine, visitor->id, message, now_ms(server));
    wire__control__free_unpacked(message, NULL);
    tick_soon(server);
}

static void on_closed(void *context, struct control_stream *stream, const struct tutti_error *why)
{
    struct visitor *visitor = context;
    struct server *server = visitor->server;
    uint64_t id = visitor->id;
    (void)stream, (void)why;
    forget(visitor);
    rendezvous_disconnected(server->machine, id, now_ms(server));
    tick_soon(server);
}

static void on_accept(void *context, struct end *end)
{
    static const struct control_events events = {on_frame, on_closed};
    struct server *server = context;
    if (failpoint_hit(&server->process->failpoints, FAILPOINT_accept) == FAIL_no_descriptors) {
        end_postpone_accept(end, &server->listener, ACCEPT_PAUSE_NS);
        return;
    }
    struct visitor *visitor = world_alloc(sizeof *visitor);
    visitor->server = server;
    visitor->id = ++server->last_id;
    visitor->stream = control_stream_new(server->network, end, &events, visitor);
    LIST_INSERT_HEAD(&server->visitors, visitor, entry);
}

/* ---- What the machine wants ---------------------------------------------------------------------- */

static struct visitor *find(const struct server *server, uint64_t id)
{
    struct visitor *visitor;
    LIST_FOREACH(visitor, &server->visitors, entry)
    if (visitor->id == id)
        return visitor;
    return NULL;
}

static void machine_send(void *context, uint64_t id, const Wire__Control *message)
{
    struct visitor *visitor = find(context, id);
    if (visitor)
        SAY(visitor->server->process->sim, visitor->server->process, "sends message %d on connection %llu",
            (int)message->body_case, (unsigned long long)id);
    if (visitor)
        control_stream_send(visitor->stream, NULL, message);
}

static void machine_close(void *context, uint64_t id)
{
    struct visitor *visitor = find(context, id);
    if (!visitor)
        return;
    control_stream_close(visitor->stream, true);
    forget(visitor);
}

static uint64_t machine_random(void *context)
{
    struct server *server = context;
    return random_next(&server->process->random);
}

/* ---- The service --------------------------------------------------------------------------------- */

void server_try_to_serve(struct process *process)
{
    struct simulation *sim = process->sim;
    if (network_find_listener(&sim->network, RENDEZVOUS_ADDRESS))
        return;
    struct server *server = world_alloc(sizeof *server);
    const struct rendezvous_output output = {server, machine_send, machine_close, machine_random};
    server->process = process;
    server->network = &sim->network;
    LIST_INIT(&server->visitors);
    server->machine = rendezvous_new(&output, sim->options.embedded);
    if (!server->machine) { /* no memory: tried again with the next attempt to join */
        world_free(server);
        return;
    }
    network_listen(&sim->network, &server->listener, process->node, RENDEZVOUS_ADDRESS, on_accept, server);
    process->server = server;
    SAY(sim, process, "serves the rendezvous");
}

void server_free(struct server *server)
{
    struct visitor *visitor;
    if (!server)
        return;
    server->process->server = NULL;
    while ((visitor = LIST_FIRST(&server->visitors))) {
        if (!server->process->node->dead)
            control_stream_close(visitor->stream, true);
        forget(visitor);
    }
    event_cancel(server->network, &server->tick);
    network_unlisten(&server->listener);
    rendezvous_free(server->machine);
    world_free(server);
}
