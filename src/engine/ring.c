/* The control connections to the ring neighbours and to the rendezvous, around group/membership.h.  They
 * belong to the worker loop, so they work whatever the caller does: liveness, failures and goodbyes never
 * depend on it. */
#include <stdio.h>
#include <string.h>
#include "base/error.h"
#include "engine/clock.h"
#include "engine/comm.h"
#include "engine/mesh.h"
#include "engine/polls.h"
#include "engine/roll.h"
#include "engine/serving.h"
#include "transport/descriptor.h"

static int64_t now_ms(const tutti_comm *comm)
{
    return (int64_t)uv_now(worker_loop(comm->worker));
}

/* ---- What the membership wants ------------------------------------------------------------------- */

static void on_send(void *context, enum membership_side side, const struct frame *frame,
                    const Wire__Control *message)
{
    tutti_comm *comm = context;
    struct connection *connection = comm->ring.connection[side];
    if (connection && message)
        connection_send_control(connection, frame, message);
    else if (connection)
        connection_send(connection, frame, NULL);
}

static void on_fail(void *context, const struct tutti_error *cause, bool noticed_here)
{
    tutti_comm *comm = context;
    if (noticed_here)
        comm_fail(comm, cause);
    else
        comm_fail_as_told(comm, cause);
}

static void on_look(void *context, struct membership_calls *calls)
{
    tutti_comm *comm = context;
    *calls = (struct membership_calls){0};
    pthread_mutex_lock(&comm->lock);
    calls->latest = comm->sequence;
    if (comm->sequence > 0)
        calls->latest_call = comm->recent_calls[comm->sequence % EXECUTOR_RECENT_CALLS];
    const struct operation *operation = comm_operation_under_way(comm);
    if (operation) {
        calls->under_way = operation->sequence;
        calls->under_way_call = operation->call;
    }
    pthread_mutex_unlock(&comm->lock);
}

static bool on_recall(void *context, uint64_t sequence, struct fingerprint *call)
{
    tutti_comm *comm = context;
    pthread_mutex_lock(&comm->lock);
    bool known =
        sequence > 0 && sequence <= comm->sequence && sequence + EXECUTOR_RECENT_CALLS > comm->sequence;
    if (known)
        *call = comm->recent_calls[sequence % EXECUTOR_RECENT_CALLS];
    pthread_mutex_unlock(&comm->lock);
    return known;
}

/* Unless it has completed after all. */
static void on_missing(void *context, uint64_t sequence, int rank, const char *host, const char *text)
{
    tutti_comm *comm = context;
    struct tutti_error error;
    pthread_mutex_lock(&comm->lock);
    const struct operation *operation = comm_operation_under_way(comm);
    bool late = operation && operation->sequence == sequence;
    if (late) {
        struct lateness_view view = {
            .operation = operation,
            .due_ns = atomic_load_explicit(&comm->head->due_ns, memory_order_relaxed),
            .membership = &comm->ring.membership,
        };
        lateness_expire_by_roll_call(&view, rank, host, text, &error);
    }
    pthread_mutex_unlock(&comm->lock);
    if (late)
        comm_fail(comm, &error);
}

static void on_goodbye(void *context)
{
    tutti_comm *comm = context;
    pthread_mutex_lock(&comm->lock);
    comm->goodbyes_heard = membership_goodbyes_heard(&comm->ring.membership);
    pthread_cond_broadcast(&comm->changed);
    pthread_mutex_unlock(&comm->lock);
}

/* ---- What happens on the connections -------------------------------------------------------------- */

static enum membership_side side_of(const tutti_comm *comm, const struct connection *connection)
{
    int side = 0;
    while (side < SIDES - 1 && comm->ring.connection[side] != connection)
        side++;
    return (enum membership_side)side;
}

static void on_frame(struct connection *connection, const struct frame *frame, const uint8_t *payload)
{
    tutti_comm *comm = connection_context(connection);
    membership_receive(&comm->ring.membership, side_of(comm, connection), frame, payload, now_ms(comm));
}

static void on_closed(struct connection *connection, const struct tutti_error *why)
{
    tutti_comm *comm = connection_context(connection);
    enum membership_side side = side_of(comm, connection);
    comm->ring.connection[side] = NULL;
    membership_closed(&comm->ring.membership, side, why);
}

static const struct connection_events ring_events = {.frame = on_frame, .closed = on_closed};

static void on_heartbeat(uv_timer_t *timer)
{
    tutti_comm *comm = timer->data;
    membership_tick(&comm->ring.membership, now_ms(comm));
}

/* ---- Tasks --------------------------------------------------------------------------------------- */

void ring_send_abort(void *argument)
{
    tutti_comm *comm = argument;
    pthread_mutex_lock(&comm->lock);
    struct tutti_error failure = comm->failure;
    pthread_mutex_unlock(&comm->lock);
    if (comm->ring.is_open)
        membership_tell(&comm->ring.membership, &failure);
    mesh_stop(comm);
    pthread_mutex_lock(&comm->family->lock);
    comm->family->abort_sent = true;
    pthread_cond_broadcast(&comm->family->changed);
    pthread_mutex_unlock(&comm->family->lock);
    failpoint_hit(&comm->failpoints, FAILPOINT_abort_sent);
}

void ring_drain(void *argument)
{
    tutti_comm *comm = argument;
    for (int side = 0; side < SIDES; side++)
        if (comm->ring.connection[side])
            connection_drain(comm->ring.connection[side]);
}

void ring_announce(void *argument)
{
    tutti_comm *comm = argument;
    membership_announce(&comm->ring.membership);
}

void ring_ask(void *argument)
{
    tutti_comm *comm = argument;
    membership_ask(&comm->ring.membership, atomic_load(&comm->late_sequence));
}

void ring_say_goodbye(void *argument)
{
    tutti_comm *comm = argument;
    membership_say_goodbye(&comm->ring.membership);
    failpoint_hit(&comm->failpoints, FAILPOINT_goodbye_sent);
}

void ring_leave(void *argument)
{
    tutti_comm *comm = argument;
    membership_leave(&comm->ring.membership);
}

/* ---- Opening and closing ----------------------------------------------------------------------- */

static void on_handle_closed(uv_handle_t *handle)
{
    tutti_comm *comm = handle->data;
    pthread_mutex_lock(&comm->lock);
    comm->ring.handles--;
    pthread_cond_broadcast(&comm->changed);
    pthread_mutex_unlock(&comm->lock);
}

static void close_handle(uv_handle_t *handle)
{
    if (!uv_is_closing(handle))
        uv_close(handle, on_handle_closed);
}

static void on_service_closed(void *context)
{
    uv_handle_t as_handle = {.data = context};
    on_handle_closed(&as_handle);
}

static int connect_control(tutti_comm *comm, enum membership_side side, int fd, struct tutti_error *error)
{
    struct connection *connection = connection_new(worker_loop(comm->worker), fd, &ring_events, comm, error);
    if (!connection)
        return error->code;
    connection_set_dead_after(connection, comm->settings.values.dead_after_ms);
    comm->ring.connection[side] = connection;
    return TUTTI_OK;
}

void ring_make_timers(void *argument)
{
    tutti_comm *comm = argument;
    struct comm_ring *ring = &comm->ring;
    uv_timer_init(worker_loop(comm->worker), &ring->heartbeat);
    uv_timer_init(worker_loop(comm->worker), &ring->deadline);
    ring->heartbeat.data = ring->deadline.data = comm;
    ring->timers_made = true;
    ring->handles += 2;
}

static void open_membership(tutti_comm *comm, bool rendezvous, int grace_ms)
{
    struct comm_ring *ring = &comm->ring;
    const struct tutti_config *values = &comm->settings.values;
    const struct membership_output output = {comm,      on_send,    on_fail,    on_look,
                                             on_recall, on_missing, on_goodbye, roll_on_card};
    membership_open(&ring->membership, &comm->place, &output, values->heartbeat_ms, values->dead_after_ms,
                    grace_ms, rendezvous, now_ms(comm));
    ring->is_open = true;
    uint64_t tick_ms = (uint64_t)(values->heartbeat_ms / MEMBERSHIP_TICKS);
    uv_timer_start(&ring->heartbeat, on_heartbeat, tick_ms, tick_ms);
}

/* Also where one part fails the rest is made, so that the others can be told why. */
int ring_open(tutti_comm *comm, const int control_fds[2], struct connection *rendezvous, int grace_ms,
              struct tutti_error *error)
{
    ring_make_timers(comm);
    if (rendezvous)
        connection_hand_over(rendezvous, &ring_events, comm);
    comm->ring.connection[SIDE_RENDEZVOUS] = rendezvous;
    struct tutti_error later;
    int status = TUTTI_OK;
    for (int side = 0; side < SIDE_NEIGHBOURS; side++) {
        int connected =
            connect_control(comm, (enum membership_side)side, control_fds[side], status < 0 ? &later : error);
        status = status < 0 ? status : connected;
    }
    open_membership(comm, rendezvous != NULL, grace_ms);
    if (status < 0 || roll_open(comm, error) < 0)
        return error->code;
    log_debug(&comm->log, "ring is open: next %s, previous %s", comm->place.next.text,
              comm->place.previous.text);
    failpoint_hit(&comm->failpoints, FAILPOINT_ring_open);
    return TUTTI_OK;
}

void ring_close(void *argument)
{
    tutti_comm *comm = argument;
    struct comm_ring *ring = &comm->ring;
    if (ring->is_open)
        membership_leave(&ring->membership);
    for (int side = 0; side < SIDES; side++) {
        if (ring->connection[side])
            connection_close(ring->connection[side], true);
        ring->connection[side] = NULL;
    }
    if (ring->timers_made) {
        close_handle((uv_handle_t *)&ring->heartbeat);
        close_handle((uv_handle_t *)&ring->deadline);
    }
    polls_close(comm);
    mesh_stop(comm);
    door_close(comm->door);
    comm->door = NULL;
    listeners_close(&comm->listeners);
    serving_remove_path(comm);
    if (ring->service) {
        pthread_mutex_lock(&comm->lock);
        ring->handles++;
        pthread_mutex_unlock(&comm->lock);
        rendezvous_service_close(ring->service, on_service_closed, comm);
        ring->service = NULL;
    }
}
