/* Liveness: the control connections to the two ring neighbours.  They belong to the worker loop, so they work
 * whatever the caller does: they carry heartbeats, pass a failure on around the ring, and say goodbye.
 *
 * A connection that closes without a goodbye is a lost peer.  So is one that is silent for `dead_after_ms`,
 * unless this process itself slept for that time: then it first reads what has arrived meanwhile. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/error.h"
#include "engine/clock.h"
#include "engine/comm.h"
#include "engine/serving.h"

static int side_of(const tutti_comm *comm, const struct connection *connection)
{
    return comm->ring.connection[0] == connection ? 0 : 1;
}

static void peer_is_lost(tutti_comm *comm, int side, const char *how)
{
    struct tutti_error error;
    error_set(&error, TUTTI_ERR_PEER_LOST, "rank %d lost %s: %s", comm->rank, comm->peers[side].text, how);
    error.rank = comm->peers[side].rank;
    comm_fail(comm, &error);
}

static struct frame frame_for(const tutti_comm *comm, enum frame_type type)
{
    return (struct frame){.type = (uint8_t)type, .generation = comm->generation, .instance = comm->instance};
}

static void send_control(tutti_comm *comm, int side, const Wire__Control *message)
{
    struct frame group = frame_for(comm, FRAME_CONTROL);
    connection_send_control(comm->ring.connection[side], &group, message);
}

/* ---- What arrives ------------------------------------------------------------------------------ */

static void on_control(tutti_comm *comm, int side, const struct frame *frame, const uint8_t *payload)
{
    struct tutti_error error;
    Wire__Control *message = control_decode(payload, frame->length, &error);
    if (!message) {
        error.rank = comm->peers[side].rank;
        comm_fail(comm, &error);
        return;
    }
    if (message->body_case == WIRE__CONTROL__BODY_ABORT) {
        control_to_error(message->abort, &error);
        comm_fail_as_told(comm, &error);
    } else if (message->body_case == WIRE__CONTROL__BODY_GOODBYE) {
        pthread_mutex_lock(&comm->lock);
        comm->ring.goodbye_heard[side] = true;
        pthread_cond_broadcast(&comm->changed);
        pthread_mutex_unlock(&comm->lock);
    }
    wire__control__free_unpacked(message, NULL);
}

static void on_frame(struct connection *connection, const struct frame *frame, const uint8_t *payload)
{
    tutti_comm *comm = connection_context(connection);
    int side = side_of(comm, connection);
    if (frame->instance != comm->instance || frame->generation != comm->generation) {
        peer_is_lost(comm, side, "it sent a control frame of another group");
        return;
    }
    comm->ring.heard_ms[side] = (int64_t)uv_now(worker_loop(comm->worker));
    if (frame->type == FRAME_HEARTBEAT)
        atomic_store_explicit(&comm->ring.heard_sequence[side], frame->sequence, memory_order_relaxed);
    if (frame->type == FRAME_CONTROL)
        on_control(comm, side, frame, payload);
}

static void on_closed(struct connection *connection, const struct tutti_error *why)
{
    tutti_comm *comm = connection_context(connection);
    int side = side_of(comm, connection);
    comm->ring.connection[side] = NULL;
    if (comm->ring.goodbye_heard[side])
        return;
    char how[400];
    if (why->code == TUTTI_OK)
        snprintf(how, sizeof how,
                 "it closed its control connection without a goodbye: its process ended or was killed");
    else
        snprintf(how, sizeof how, "its control connection broke: %.300s", why->message);
    peer_is_lost(comm, side, how);
}

static const struct connection_events ring_events = {.frame = on_frame, .closed = on_closed};

/* ---- Heartbeats -------------------------------------------------------------------------------- */

static void judge_silence(tutti_comm *comm, int side, int64_t now_ms)
{
    int64_t silent_ms = now_ms - comm->ring.heard_ms[side];
    if (!comm->ring.connection[side] || comm->ring.goodbye_heard[side] ||
        silent_ms < comm->settings.values.dead_after_ms)
        return;
    char how[160];
    snprintf(how, sizeof how,
             "no heartbeat for %.1f s: its process is stopped, or its host or the network is down",
             (double)silent_ms / 1000.0);
    peer_is_lost(comm, side, how);
}

/* It says which call this rank has made last: lateness.c. */
static void send_heartbeat(tutti_comm *comm, int side)
{
    struct frame frame = frame_for(comm, FRAME_HEARTBEAT);
    pthread_mutex_lock(&comm->lock);
    frame.sequence = comm->sequence;
    pthread_mutex_unlock(&comm->lock);
    connection_send(comm->ring.connection[side], &frame, NULL);
}

void ring_send_heartbeats(void *argument)
{
    tutti_comm *comm = argument;
    for (int side = 0; side < 2; side++)
        if (comm->ring.connection[side])
            send_heartbeat(comm, side);
}

static void on_heartbeat(uv_timer_t *timer)
{
    tutti_comm *comm = timer->data;
    int64_t now_ms = (int64_t)uv_now(timer->loop);
    /* After a pause of our own (suspended, swapped out) what the peers sent meanwhile is still unread. */
    bool late = now_ms - comm->ring.ticked_ms > 2 * comm->settings.values.heartbeat_ms;
    comm->ring.ticked_ms = now_ms;
    for (int side = 0; side < 2; side++) {
        if (!comm->ring.connection[side])
            continue;
        send_heartbeat(comm, side);
        if (!late)
            judge_silence(comm, side, now_ms);
        else if (comm->ring.heard_ms[side] < now_ms)
            comm->ring.heard_ms[side] = now_ms;
    }
}

/* ---- Failure and goodbye ----------------------------------------------------------------------- */

void ring_send_abort(void *argument)
{
    tutti_comm *comm = argument;
    pthread_mutex_lock(&comm->lock);
    struct tutti_error failure = comm->failure;
    pthread_mutex_unlock(&comm->lock);
    Wire__Abort body;
    control_from_error(&failure, (uint32_t)comm->rank, &body);
    Wire__Control message = WIRE__CONTROL__INIT;
    message.body_case = WIRE__CONTROL__BODY_ABORT;
    message.abort = &body;
    for (int side = 0; side < 2; side++)
        if (comm->ring.connection[side])
            send_control(comm, side, &message);
    pthread_mutex_lock(&comm->lock);
    comm->abort_sent = true;
    pthread_cond_broadcast(&comm->changed);
    pthread_mutex_unlock(&comm->lock);
}

void ring_drain(void *argument)
{
    tutti_comm *comm = argument;
    for (int side = 0; side < 2; side++)
        if (comm->ring.connection[side])
            connection_drain(comm->ring.connection[side]);
}

void ring_send_goodbye(void *argument)
{
    tutti_comm *comm = argument;
    Wire__Goodbye body = WIRE__GOODBYE__INIT;
    Wire__Control message = WIRE__CONTROL__INIT;
    message.body_case = WIRE__CONTROL__BODY_GOODBYE;
    message.goodbye = &body;
    for (int side = 0; side < 2; side++)
        if (comm->ring.connection[side])
            send_control(comm, side, &message);
}

bool ring_goodbyes_heard(const tutti_comm *comm)
{
    return comm->ring.goodbye_heard[0] && comm->ring.goodbye_heard[1];
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

int ring_open(tutti_comm *comm, const int control_fds[2], struct tutti_error *error)
{
    uv_loop_t *loop = worker_loop(comm->worker);
    struct comm_ring *ring = &comm->ring;
    int out = comm->out[comm->peers[0].rank]->ops->descriptor(comm->out[comm->peers[0].rank]);
    int in = comm->in[comm->peers[1].rank]->ops->descriptor(comm->in[comm->peers[1].rank]);
    uv_timer_init(loop, &ring->heartbeat);
    uv_timer_init(loop, &ring->deadline);
    ring->handles += 2;
    int status = uv_poll_init(loop, &ring->readable, in);
    if (status == 0) {
        ring->handles++;
        status = uv_poll_init(loop, &ring->writable, out);
        if (status == 0)
            ring->handles++;
        else
            uv_close((uv_handle_t *)&ring->readable, on_handle_closed);
    }
    ring->polls_made = status == 0;
    ring->heartbeat.data = ring->deadline.data = ring->readable.data = ring->writable.data = comm;
    for (int side = 0; side < 2; side++) {
        if (status < 0) {
            close(control_fds[side]);
            continue;
        }
        ring->connection[side] = connection_new(loop, control_fds[side], &ring_events, comm, error);
        /* It may still be wiring with its other neighbour, and then says its first word. */
        ring->heard_ms[side] = (int64_t)uv_now(loop) + comm->settings.values.join_timeout_ms;
    }
    if (status < 0)
        return error_set(error, TUTTI_ERR_SYSTEM, "cannot watch the data links: %s", uv_strerror(status));
    for (int side = 0; side < 2; side++)
        if (!ring->connection[side])
            return error->code;
    ring_send_heartbeats(comm);
    ring->ticked_ms = (int64_t)uv_now(loop);
    uint64_t interval_ms = (uint64_t)comm->settings.values.heartbeat_ms;
    uv_timer_start(&ring->heartbeat, on_heartbeat, interval_ms, interval_ms);
    log_debug(&comm->log, "ring is open: next %s, previous %s", comm->peers[0].text, comm->peers[1].text);
    return TUTTI_OK;
}

void ring_close(void *argument)
{
    tutti_comm *comm = argument;
    struct comm_ring *ring = &comm->ring;
    for (int side = 0; side < 2; side++) {
        if (ring->connection[side])
            connection_close(ring->connection[side], true);
        ring->connection[side] = NULL;
    }
    if (ring->heartbeat.data) {
        close_handle((uv_handle_t *)&ring->heartbeat);
        close_handle((uv_handle_t *)&ring->deadline);
    }
    if (ring->polls_made) {
        close_handle((uv_handle_t *)&ring->readable);
        close_handle((uv_handle_t *)&ring->writable);
    }
    serving_remove_path(comm);
    if (ring->service) {
        pthread_mutex_lock(&comm->lock);
        ring->handles++;
        pthread_mutex_unlock(&comm->lock);
        rendezvous_service_close(ring->service, on_service_closed, comm);
        ring->service = NULL;
    }
}
