#include "engine/rendezvous_service.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/error.h"
#include "engine/connection.h"
#include "group/rendezvous.h"
#include "transport/descriptor.h"
#include "transport/socket.h"

#define ACCEPTS_MAX         64  /* in one turn of the loop */
#define ACCEPT_PAUSE_MS     100 /* while descriptors or places are used up */
#define WARNING_INTERVAL_MS 1000
#define TICK_LATE_MS        100
#define BUCKETS             1024 /* for looking up connections by number */

/* A connection, from accept until the last of it is gone. */
struct visitor {
    struct rendezvous_service *service;
    struct connection *connection;
    uint64_t id;
    int64_t since_ms;
    bool joined; /* it has sent a message to the machine */
    bool listed; /* in its bucket: neither closed nor closing */
    char peer[64];
    struct visitor *next_in_bucket;
    struct visitor *previous_idle, *next_idle; /* those that have not joined, oldest first */
};

struct listener {
    uv_poll_t poll;
    int fd;
    struct rendezvous_service *service;
};

struct rendezvous_service {
    uv_loop_t *loop;
    struct log log; /* a copy: the communicator that began to serve may go before the service does */
    struct rendezvous *machine;
    uint64_t last_id;
    int visitors; /* including those that are closing */
    struct visitor *buckets[BUCKETS];
    struct visitor *first_idle, *last_idle;

    uv_timer_t tick;
    int64_t tick_due_ms;
    uv_timer_t pause;     /* until accepting goes on */
    bool short_of_places; /* has been said */
    int64_t warned_ms;
    int unsaid; /* warnings left out since */

    int parts; /* handles and visitors that must go before the service can */
    bool closing;
    void (*closed)(void *context);
    void *closed_context;

    int listener_count;
    struct listener listeners[];
};

static int64_t now_ms(const struct rendezvous_service *service)
{
    return (int64_t)uv_now(service->loop);
}

/* ---- Warnings, at most one a second ------------------------------------------------------------- */

static void warn(struct rendezvous_service *service, const char *peer, const char *what)
{
    int64_t now = now_ms(service);
    if (service->warned_ms >= 0 && now - service->warned_ms < WARNING_INTERVAL_MS) {
        service->unsaid++;
        return;
    }
    if (service->unsaid > 0)
        log_warning(&service->log, "rendezvous: %d more connections were dropped", service->unsaid);
    service->warned_ms = now;
    service->unsaid = 0;
    log_warning(&service->log, "rendezvous: dropped the connection of %s: %s", peer, what);
}

/* ---- The end of parts --------------------------------------------------------------------------- */

static void part_gone(struct rendezvous_service *service)
{
    assert(service->parts > 0);
    if (--service->parts > 0)
        return;
    void (*closed)(void *) = service->closed;
    void *context = service->closed_context;
    free(service);
    if (closed)
        closed(context);
}

static void on_handle_closed(uv_handle_t *handle)
{
    part_gone(handle->data);
}

/* ---- Visitors ----------------------------------------------------------------------------------- */

static struct visitor **bucket_of(struct rendezvous_service *service, uint64_t id)
{
    return &service->buckets[id % BUCKETS];
}

static struct visitor *find(struct rendezvous_service *service, uint64_t id)
{
    struct visitor *visitor = *bucket_of(service, id);
    while (visitor && visitor->id != id)
        visitor = visitor->next_in_bucket;
    return visitor;
}

static void idle_append(struct visitor *visitor)
{
    struct rendezvous_service *service = visitor->service;
    visitor->previous_idle = service->last_idle;
    visitor->next_idle = NULL;
    *(service->last_idle ? &service->last_idle->next_idle : &service->first_idle) = visitor;
    service->last_idle = visitor;
}

static void idle_remove(struct visitor *visitor)
{
    struct rendezvous_service *service = visitor->service;
    *(visitor->previous_idle ? &visitor->previous_idle->next_idle : &service->first_idle) =
        visitor->next_idle;
    *(visitor->next_idle ? &visitor->next_idle->previous_idle : &service->last_idle) = visitor->previous_idle;
}

/* Forgets a visitor whose connection is closing; its memory goes with the connection. */
static void unlist(struct visitor *visitor)
{
    assert(visitor->listed);
    struct visitor **link = bucket_of(visitor->service, visitor->id);
    while (*link != visitor)
        link = &(*link)->next_in_bucket;
    *link = visitor->next_in_bucket;
    visitor->listed = false;
    if (!visitor->joined)
        idle_remove(visitor);
}

/* The machine's time may have changed: look soon, once for all that happens in this turn of the loop. */
static void on_tick(uv_timer_t *timer);
static void tick_in(struct rendezvous_service *service, int64_t in_ms)
{
    service->tick_due_ms = now_ms(service) + in_ms;
    uv_timer_start(&service->tick, on_tick, (uint64_t)in_ms, 0);
}

/* One that is overdue stays so: the event for which this is called may have been there before the process was
 * stopped, and others that came meanwhile are still unread. */
static void tick_soon(struct rendezvous_service *service)
{
    int64_t due_ms = service->tick_due_ms;
    bool overdue = uv_is_active((uv_handle_t *)&service->tick) && due_ms < now_ms(service);
    tick_in(service, 0);
    if (overdue)
        service->tick_due_ms = due_ms;
}

static void drop(struct visitor *visitor, const char *why)
{
    struct rendezvous_service *service = visitor->service;
    warn(service, visitor->peer, why);
    bool joined = visitor->joined;
    uint64_t id = visitor->id;
    unlist(visitor);
    connection_close(visitor->connection, false);
    if (joined)
        rendezvous_disconnected(service->machine, id, now_ms(service));
    tick_soon(service);
}

static void on_frame(struct connection *connection, const struct frame *frame, const uint8_t *payload)
{
    struct visitor *visitor = connection_context(connection);
    struct rendezvous_service *service = visitor->service;
    struct tutti_error error = TUTTI_ERROR_INIT;
    if (frame->type != FRAME_CONTROL) {
        drop(visitor, "it sent a frame that is no control message");
        return;
    }
    Wire__Control *message = control_decode(payload, frame->length, &error);
    if (!message) {
        drop(visitor, error.message);
        return;
    }
    if (!visitor->joined) {
        visitor->joined = true;
        idle_remove(visitor);
    }
    rendezvous_receive(service->machine, visitor->id, message, now_ms(service));
    wire__control__free_unpacked(message, NULL);
    tick_soon(service);
}

static void on_closed(struct connection *connection, const struct tutti_error *why)
{
    struct visitor *visitor = connection_context(connection);
    struct rendezvous_service *service = visitor->service;
    if (why->code == TUTTI_ERR_PROTOCOL || why->code == TUTTI_ERR_VERSION)
        warn(service, visitor->peer, why->message);
    else if (!visitor->joined && why->code != TUTTI_OK)
        warn(service, visitor->peer, why->message);
    unlist(visitor);
    if (visitor->joined)
        rendezvous_disconnected(service->machine, visitor->id, now_ms(service));
    tick_soon(service);
}

static void on_freed(void *context)
{
    struct visitor *visitor = context;
    struct rendezvous_service *service = visitor->service;
    service->visitors--;
    free(visitor);
    part_gone(service);
}

static const struct connection_events visitor_events = {
    .frame = on_frame, .closed = on_closed, .freed = on_freed};

static void admit(struct rendezvous_service *service, int fd)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    char peer[sizeof((struct visitor *)NULL)->peer];
    socket_print_peer(fd, peer, sizeof peer);
    struct visitor *visitor = calloc(1, sizeof *visitor);
    if (!visitor) {
        descriptor_close(fd);
        warn(service, peer, "out of memory");
        return;
    }
    visitor->service = service;
    visitor->connection = connection_new(service->loop, fd, &visitor_events, visitor, &error);
    if (!visitor->connection) {
        free(visitor);
        warn(service, peer, error.message);
        return;
    }
    connection_set_dead_after(visitor->connection, RENDEZVOUS_DEAD_MS);
    visitor->id = ++service->last_id;
    visitor->since_ms = now_ms(service);
    visitor->listed = true;
    memcpy(visitor->peer, peer, sizeof peer);
    visitor->next_in_bucket = *bucket_of(service, visitor->id);
    *bucket_of(service, visitor->id) = visitor;
    idle_append(visitor);
    service->visitors++;
    service->parts++;
    if (service->first_idle == visitor)
        tick_soon(service);
}

/* ---- What the machine wants --------------------------------------------------------------------- */

static void machine_send(void *context, uint64_t id, const Wire__Control *message)
{
    struct visitor *visitor = find(context, id);
    if (visitor)
        connection_send_control(visitor->connection, NULL, message);
}

static void machine_close(void *context, uint64_t id)
{
    struct visitor *visitor = find(context, id);
    if (!visitor)
        return;
    unlist(visitor);
    connection_close(visitor->connection, true);
}

static uint64_t machine_random(void *context)
{
    (void)context;
    uint64_t value = 0;
    while (value == 0)
        if (uv_random(NULL, NULL, &value, sizeof value, 0, NULL) < 0)
            value = uv_hrtime() ^ ((uint64_t)getpid() << 48);
    return value;
}

/* ---- Time --------------------------------------------------------------------------------------- */

static void drop_idle(struct rendezvous_service *service, int64_t now)
{
    while (service->first_idle && now - service->first_idle->since_ms >= RENDEZVOUS_IDLE_MS)
        drop(service->first_idle, "it has not asked to join any group");
}

static void on_tick(uv_timer_t *timer)
{
    struct rendezvous_service *service = timer->data;
    int64_t now = now_ms(service);
    /* This process was stopped: who has come or gone meanwhile is still unread.  The loop reads before it
     * comes here again, but not where the time is 0: it would run such a timer in the same pass. */
    if (now - service->tick_due_ms > TICK_LATE_MS) {
        tick_in(service, 1);
        return;
    }
    drop_idle(service, now);
    int64_t next = rendezvous_tick(service->machine, now);
    if (service->first_idle) {
        int64_t idle = service->first_idle->since_ms + RENDEZVOUS_IDLE_MS;
        next = next < 0 || idle < next ? idle : next;
    }
    uv_timer_stop(timer); /* what was just done may have asked for another look */
    if (next >= 0)
        tick_in(service, next > now ? next - now : 0);
}

/* ---- Accepting ---------------------------------------------------------------------------------- */

static void on_acceptable(uv_poll_t *poll, int status, int events);

static void on_pause_over(uv_timer_t *timer)
{
    struct rendezvous_service *service = timer->data;
    for (int i = 0; i < service->listener_count; i++)
        uv_poll_start(&service->listeners[i].poll, UV_READABLE, on_acceptable);
}

/* What cannot be accepted keeps the listener readable: without a pause the loop would spin. */
static void pause_accepting(struct rendezvous_service *service, const char *why)
{
    for (int i = 0; i < service->listener_count; i++)
        uv_poll_stop(&service->listeners[i].poll);
    uv_timer_start(&service->pause, on_pause_over, ACCEPT_PAUSE_MS, 0);
    if (!service->short_of_places)
        log_warning(&service->log, "rendezvous: cannot accept more connections now, new members wait: %s",
                    why);
    service->short_of_places = true;
}

static void on_acceptable(uv_poll_t *poll, int status, int events)
{
    (void)status, (void)events;
    struct listener *listener = poll->data;
    struct rendezvous_service *service = listener->service;
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        if (service->visitors >= RENDEZVOUS_CONNECTIONS_MAX) {
            pause_accepting(service, "as many are open as this service takes");
            return;
        }
        int fd = socket_accept(listener->fd);
        if (fd == -EAGAIN) {
            service->short_of_places = false;
            return;
        }
        if (fd == -EPERM) {
            warn(service, "a process of another user", "only this user's processes may join");
        } else if (fd < 0) {
            pause_accepting(service, strerror(-fd));
            return;
        } else {
            admit(service, fd);
        }
    }
}

/* ---- Opening and closing ------------------------------------------------------------------------ */

static void add_handle(struct rendezvous_service *service, uv_handle_t *handle, void *data)
{
    handle->data = data;
    service->parts++;
}

/* False and *error when a listener cannot be watched; those before it are in the service. */
static bool add_listeners(struct rendezvous_service *service, const int *fds, int count,
                          struct tutti_error *error)
{
    for (int i = 0; i < count; i++) {
        struct listener *listener = &service->listeners[i];
        int status = uv_poll_init(service->loop, &listener->poll, fds[i]);
        if (status < 0) {
            error_set(error, TUTTI_ERR_SYSTEM, "the rendezvous cannot watch its listening socket: %s",
                      uv_strerror(status));
            return false;
        }
        listener->fd = fds[i];
        listener->service = service;
        service->listener_count++;
        add_handle(service, (uv_handle_t *)&listener->poll, listener);
        uv_poll_start(&listener->poll, UV_READABLE, on_acceptable);
    }
    return true;
}

struct rendezvous_service *rendezvous_service_new(uv_loop_t *loop, const int *listen_fds, int listen_count,
                                                  bool embedded, const struct log *log,
                                                  struct tutti_error *error)
{
    struct rendezvous_service *service =
        calloc(1, sizeof *service + (size_t)listen_count * sizeof *service->listeners);
    struct rendezvous_output output = {service, machine_send, machine_close, machine_random};
    struct rendezvous *machine = service ? rendezvous_new(&output, embedded) : NULL;
    int taken = 0;
    if (machine) {
        service->loop = loop;
        service->log = *log;
        service->machine = machine;
        service->warned_ms = -1;
        uv_timer_init(loop, &service->tick);
        uv_timer_init(loop, &service->pause);
        add_handle(service, (uv_handle_t *)&service->tick, service);
        add_handle(service, (uv_handle_t *)&service->pause, service);
        if (add_listeners(service, listen_fds, listen_count, error))
            return service;
        taken = service->listener_count;
        rendezvous_service_close(service, NULL, NULL);
    } else {
        error_set(error, TUTTI_ERR_MEMORY, "out of memory for a rendezvous");
        free(service);
    }
    for (int i = taken; i < listen_count; i++)
        descriptor_close(listen_fds[i]);
    return NULL;
}

static void on_listener_closed(uv_handle_t *handle)
{
    struct listener *listener = handle->data;
    part_gone(listener->service);
}

void rendezvous_service_close(struct rendezvous_service *service, void (*closed)(void *context),
                              void *context)
{
    assert(!service->closing);
    service->closing = true;
    service->closed = closed;
    service->closed_context = context;
    for (int i = 0; i < service->listener_count; i++) {
        uv_close((uv_handle_t *)&service->listeners[i].poll, on_listener_closed);
        descriptor_close(service->listeners[i].fd);
    }
    uv_close((uv_handle_t *)&service->tick, on_handle_closed);
    uv_close((uv_handle_t *)&service->pause, on_handle_closed);
    for (size_t i = 0; i < BUCKETS; i++)
        while (service->buckets[i]) {
            struct visitor *visitor = service->buckets[i];
            unlist(visitor);
            connection_close(visitor->connection, true);
        }
    rendezvous_free(service->machine);
    service->machine = NULL;
}
