/* The control connections around the membership, and the failure rule, as engine/ring.c and engine/failure.c
 * have them.  What the engine posts to its loop is an event here. */
#include <stdio.h>
#include <string.h>
#include "base/error.h"
#include "tests/sim/fault/allocation.h"
#include "tests/sim/fault/comm.h"
#include "tests/sim/fault/world.h"

/* ---- What the membership wants ------------------------------------------------------------------- */

static void on_send(void *context, enum membership_side side, const struct frame *frame,
                    const Wire__Control *message)
{
    struct comm *comm = context;
    if (comm->connection[side])
        control_stream_send(comm->connection[side], frame, message);
}

static void on_fail(void *context, const struct tutti_error *cause, bool noticed_here)
{
    comm_fail(context, cause, noticed_here);
}

static void on_look(void *context, struct membership_calls *calls)
{
    const struct comm *comm = context;
    *calls = (struct membership_calls){.latest = comm->sequence};
    if (comm->sequence > 0)
        calls->latest_call = comm->recent_calls[comm->sequence % EXECUTOR_RECENT_CALLS];
    const struct operation *operation = comm_operation_under_way(comm);
    if (operation) {
        calls->under_way = operation->sequence;
        calls->under_way_call = operation->call;
    }
}

static bool on_recall(void *context, uint64_t sequence, struct fingerprint *call)
{
    const struct comm *comm = context;
    bool known =
        sequence > 0 && sequence <= comm->sequence && sequence + EXECUTOR_RECENT_CALLS > comm->sequence;
    if (known)
        *call = comm->recent_calls[sequence % EXECUTOR_RECENT_CALLS];
    return known;
}

/* Unless it has completed after all. */
static void on_missing(void *context, uint64_t sequence, int rank, const char *host, const char *text)
{
    struct comm *comm = context;
    struct tutti_error error;
    const struct operation *operation = comm_operation_under_way(comm);
    if (!operation || operation->sequence != sequence)
        return;
    struct lateness_view view = {
        .operation = operation, .due_ns = comm->head->due_ns, .membership = &comm->membership};
    lateness_expire_by_roll_call(&view, rank, host, text, &error);
    comm_fail(comm, &error, true);
}

static void on_goodbye(void *context)
{
    struct comm *comm = context;
    if (membership_goodbyes_heard(&comm->membership))
        comm_goodbyes_heard(comm);
}

/* ---- What happens on the connections ------------------------------------------------------------- */

static enum membership_side side_of(const struct comm *comm, const struct control_stream *stream)
{
    int side = 0;
    while (side < SIDES - 1 && comm->connection[side] != stream)
        side++;
    return (enum membership_side)side;
}

static void on_frame(void *context, struct control_stream *stream, const struct frame *frame,
                     const uint8_t *payload)
{
    struct comm *comm = context;
    membership_receive(&comm->membership, side_of(comm, stream), frame, payload, sim_now_ms(comm->sim));
}

static void on_closed(void *context, struct control_stream *stream, const struct tutti_error *why)
{
    struct comm *comm = context;
    enum membership_side side = side_of(comm, stream);
    comm->connection[side] = NULL;
    membership_closed(&comm->membership, side, why);
}

static void on_heartbeat(void *context)
{
    struct comm *comm = context;
    int64_t tick_ns = comm->sim->options.heartbeat_ms * NS_PER_MS / MEMBERSHIP_TICKS;
    membership_tick(&comm->membership, sim_now_ms(comm->sim));
    event_set(&comm->sim->network, &comm->heartbeat, comm->node, tick_ns, on_heartbeat, comm);
}

void ring_shell_open(struct comm *comm, struct end *const control[2], struct control_stream *rendezvous)
{
    static const struct control_events events = {on_frame, on_closed};
    const struct options *options = &comm->sim->options;
    struct network *network = &comm->sim->network;
    for (int side = 0; side < SIDE_NEIGHBOURS; side++)
        comm->connection[side] = control_stream_new(network, control[side], &events, comm);
    comm->connection[SIDE_RENDEZVOUS] = rendezvous;
    if (rendezvous)
        control_stream_hand_over(rendezvous, &events, comm);
    const struct membership_output output = {comm,      on_send,    on_fail,    on_look,
                                             on_recall, on_missing, on_goodbye, roll_shell_on_card};
    /* As long as a neighbour may go on wiring. */
    int64_t grace_ms = options->join_timeout_ms > WIRING_MIN_MS ? options->join_timeout_ms : WIRING_MIN_MS;
    comm->ring_open = true;
    membership_open(&comm->membership, &comm->place, &output, options->heartbeat_ms, options->dead_after_ms,
                    grace_ms, rendezvous != NULL, sim_now_ms(comm->sim));
    event_set(network, &comm->heartbeat, comm->node, options->heartbeat_ms * NS_PER_MS / MEMBERSHIP_TICKS,
              on_heartbeat, comm);
    roll_shell_open(comm);
    failpoint_hit(&comm->process->failpoints, FAILPOINT_ring_open);
}

/* ---- The failure rule ---------------------------------------------------------------------------- */

const struct operation *comm_operation_under_way(const struct comm *comm)
{
    return comm->head ? &comm->head->operation : NULL;
}

static void send_abort(void *context)
{
    struct comm *comm = context;
    if (comm->ring_open)
        membership_tell(&comm->membership, &comm->failure);
    mesh_shell_stop(comm);
    comm->abort_sent = true;
    failpoint_hit(&comm->process->failpoints, FAILPOINT_abort_sent);
    process_failed(comm);
}

void comm_fail(struct comm *comm, const struct tutti_error *cause, bool noticed_here)
{
    char host_name[16];
    if (comm->failed || comm->phase == COMM_FINALIZED || comm->node->dead)
        return;
    snprintf(host_name, sizeof host_name, "h%d", comm->node->host);
    comm->failure = *cause;
    comm->failure.struct_size = sizeof comm->failure;
    cause_complete(&comm->failure, &comm->place, host_name, comm_operation_under_way(comm), noticed_here);
    comm->failed = true;
    event_cancel(&comm->sim->network, &comm->explanation);
    event_cancel(&comm->sim->network, &comm->goodbye_limit);
    SAY(comm->sim, comm->process, "fails: %s", comm->failure.message);
    world_failed(comm->sim->world, comm, noticed_here);
    if (comm->arena)
        arena_abort(comm->arena);
    comm_fail_pending(comm);
    event_set(&comm->sim->network, &comm->abort_task, comm->node, 0, send_abort, comm);
    if (comm->joining.state == JOIN_CARDS)
        join_finish(comm, &comm->failure);
}

static void drain(void *context)
{
    struct comm *comm = context;
    for (int side = 0; side < SIDES; side++)
        if (comm->ring_open && comm->connection[side])
            control_stream_drain(comm->connection[side]);
}

static void no_explanation(void *context)
{
    struct comm *comm = context;
    comm_fail(comm, &comm->link_error, true);
}

void comm_fail_from_link(struct comm *comm, const struct tutti_error *cause)
{
    struct network *network = &comm->sim->network;
    if (cause->code != TUTTI_ERR_PEER_LOST && cause->code != TUTTI_ERR_ABORTED) {
        comm_fail(comm, cause, true);
        return;
    }
    comm->explaining = true;
    comm->link_error = *cause;
    event_set(network, &comm->drain, comm->node, 0, drain, comm);
    event_set(network, &comm->explanation, comm->node, EXPLANATION_MS * NS_PER_MS, no_explanation, comm);
}

static void announce(void *context)
{
    struct comm *comm = context;
    membership_announce(&comm->membership);
}

void comm_announce(struct comm *comm)
{
    event_set(&comm->sim->network, &comm->announce_task, comm->node, 0, announce, comm);
}

static void ask(void *context)
{
    struct comm *comm = context;
    membership_ask(&comm->membership, comm->late_sequence);
}

void comm_ask(struct comm *comm, uint64_t sequence)
{
    comm->late_sequence = sequence;
    event_set(&comm->sim->network, &comm->ask_task, comm->node, 0, ask, comm);
}

void comm_abort(struct comm *comm, const char *reason)
{
    struct tutti_error error;
    error_set(&error, TUTTI_ERR_ABORTED, "aborted by rank %d: %s", comm->place.rank, reason);
    error.rank = comm->place.rank;
    comm_fail(comm, &error, true);
}

/* ---- The end ------------------------------------------------------------------------------------- */

static void cancel_events(struct comm *comm)
{
    struct network *network = &comm->sim->network;
    struct event *events[] = {
        &comm->heartbeat,          &comm->judge,         &comm->drain,         &comm->explanation,
        &comm->abort_task,         &comm->announce_task, &comm->ask_task,      &comm->goodbye_limit,
        &comm->mesh_task,          &comm->go_on,         &comm->joining.retry, &comm->joining.deadline,
        &comm->joining.dial.event, &comm->bell};
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++)
        event_cancel(network, events[i]);
    for (int role = 0; role < ROLES; role++)
        dialler_stop(&comm->joining.outgoing[role].dialler);
}

void comm_free(struct comm *comm)
{
    if (comm->freed)
        return;
    if (comm->place.size > 1 && comm->phase != COMM_FINALIZED && !comm->failed) {
        struct tutti_error error;
        error_set(&error, TUTTI_ERR_ABORTED, "rank %d freed its communicator without finalizing it",
                  comm->place.rank);
        error.rank = comm->place.rank;
        comm_fail(comm, &error, true);
    }
    if (comm->failed && !comm->abort_sent)
        send_abort(comm);
    comm->freed = true;
    if (comm->ring_open && !comm->node->dead)
        membership_leave(&comm->membership);
    for (int side = 0; side < SIDES; side++) {
        if (comm->connection[side] && !comm->node->dead)
            control_stream_close(comm->connection[side], true);
        comm->connection[side] = NULL;
    }
    cancel_events(comm);
    door_close(comm);
    mesh_shell_free(comm);
    calls_free(comm);
}

void comm_release(struct comm *comm)
{
    if (!comm->freed) { /* its process has ended */
        comm->freed = true;
        cancel_events(comm);
        door_close(comm);
        mesh_shell_free(comm);
        calls_free(comm);
    }
    roster_close(&comm->roster);
    world_free(comm);
}
