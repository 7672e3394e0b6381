/* Calls: issued in order, moved in order, judged when they are late, as engine/issue.c and engine/progress.c
 * do it. */
#include <stdlib.h>
#include <string.h>
#include "base/error.h"
#include "tensor/type.h"
#include "tests/sim/fault/comm.h"
#include "tests/sim/fault/world.h"

#define GOODBYE_PATIENCE_MS (2 * LATENESS_PATIENCE_MS + 100)

/* ---- Issuing ------------------------------------------------------------------------------------- */

static const struct schedule *schedule_for(struct comm *comm, const struct fingerprint *call)
{
    size_t bytes = executor_total(call, comm->place.size) * tutti_type_size(call->type);
    const struct algorithm *algorithm = algorithm_select(call->operation, comm->place.size, bytes);
    struct schedule ***by_root = &comm->schedules[algorithm - algorithms];
    if (!*by_root)
        *by_root = calloc((size_t)comm->place.size, sizeof **by_root);
    if (!*by_root)
        return NULL;
    struct schedule **schedule = &(*by_root)[call->root];
    if (!*schedule)
        *schedule = schedule_new(call->operation, algorithm->name, algorithm->emit, comm->place.rank,
                                 comm->place.size, (int)call->root);
    return *schedule;
}

static bool prepare(struct comm *comm, struct call *call)
{
    const struct schedule *schedule = schedule_for(comm, &call->print);
    if (!schedule)
        return false;
    size_t bytes = (executor_scratch_bytes(schedule, &call->print) + 63) & ~(size_t)63;
    call->scratch = bytes > 0 ? aligned_alloc(64, bytes) : NULL;
    if (bytes > 0 && !call->scratch)
        return false;
    executor_init(&call->executor, &comm->group, schedule, &call->print, call->send, call->recv,
                  call->scratch);
    return true;
}

/* Calls complete in order, so those before this one must be done by its deadline as well. */
static void set_due(struct comm *comm, struct call *call)
{
    call->due_ns = call->executor.operation.deadline_ns;
    for (struct call *before = comm->head; before; before = before->next)
        if (before->due_ns > call->due_ns)
            before->due_ns = call->due_ns;
}

static void fill_group(struct comm *comm)
{
    comm->group = (struct executor_group){
        .in = comm->in,
        .out = comm->out,
        .instance = comm->place.instance,
        .generation = comm->place.generation,
        .slice_bytes = comm->sim->options.slice_bytes,
        .checksum = comm->sim->options.checksum,
        .kernels = reduce_table(),
    };
}

static int refuse_if_dead(const struct comm *comm)
{
    return comm->failed ? comm->failure.code : comm->phase != COMM_ACTIVE ? TUTTI_ERR_FINALIZED : TUTTI_OK;
}

static int issue(struct comm *comm, struct call *call)
{
    struct tutti_error error;
    int status = refuse_if_dead(comm);
    if (status < 0)
        return status;
    fill_group(comm);
    call->comm = comm;
    call->next = NULL;
    call->lateness = (struct lateness){0};
    bool no_memory = failpoint_hit(&comm->process->failpoints, FAILPOINT_request_made) == FAIL_no_memory;
    if (no_memory || !prepare(comm, call)) {
        /* The other ranks may have issued theirs, so lack of memory for it ends the group. */
        error_set(&error, TUTTI_ERR_MEMORY, "no memory to prepare the call");
        error.rank = comm->place.rank;
        comm_fail(comm, &error, true);
        return TUTTI_ERR_MEMORY;
    }
    int64_t now_ns = comm->sim->network.now_ns;
    executor_start(&call->executor, ++comm->sequence, now_ns, now_ns + call->timeout_ms * NS_PER_MS);
    comm->recent_calls[comm->sequence % COMM_RECENT_CALLS] = call->print;
    call->status = TUTTI_PENDING;
    set_due(comm, call);
    *comm->tail = call;
    comm->tail = &call->next;
    return TUTTI_PENDING;
}

/* ---- Moving -------------------------------------------------------------------------------------- */

static void complete_head(struct comm *comm, int status)
{
    struct call *call = comm->head;
    comm->head = call->next;
    if (!comm->head)
        comm->tail = &comm->head;
    call->status = status;
    free(call->scratch);
    call->scratch = NULL;
    if (status == TUTTI_OK) {
        comm->completed = call->executor.operation.sequence;
        failpoint_hit(&comm->process->failpoints, FAILPOINT_operation_done);
    }
    process_called(call);
}

void comm_fail_pending(struct comm *comm)
{
    while (comm->head)
        complete_head(comm, comm->failure.code);
}

static void judge_again(void *context)
{
    comm_drive(context);
}

/* The head of the queue is blocked. */
static void judge_lateness(struct comm *comm, struct call *head)
{
    struct network *network = &comm->sim->network;
    struct tutti_error error;
    struct lateness_view view = {
        .operation = &head->executor.operation,
        .due_ns = head->due_ns,
        .straggler_after_ns = comm->sim->options.straggler_after_ms * NS_PER_MS,
        .membership = comm->place.size > 1 ? &comm->membership : NULL,
    };
    for (;;) {
        switch (lateness_judge(&head->lateness, &view, network->now_ns, &error)) {
        case LATENESS_ANNOUNCE:
            comm_announce(comm);
            break;
        case LATENESS_WARN:
            SAY(comm->sim, comm->process, "warns: %s", error.message);
            break;
        case LATENESS_ASK:
            comm_ask(comm, view.operation->sequence);
            break;
        case LATENESS_EXPIRE:
            comm_fail(comm, &error, true);
            return;
        case LATENESS_NONE: {
            int64_t wait_ns = lateness_next_ns(&head->lateness, &view, network->now_ns) - network->now_ns;
            event_set(network, &comm->judge, comm->node, wait_ns > 0 ? wait_ns : NS_PER_MS, judge_again,
                      comm);
            return;
        }
        }
    }
}

void comm_drive(void *context)
{
    struct comm *comm = context;
    struct tutti_error error; /* too large to clear each time */
    if (comm->driving || comm->explaining || comm->failed)
        return;
    comm->driving = true;
    while (comm->head && !comm->failed && !comm->node->dead) {
        struct call *head = comm->head;
        struct operation *operation = &head->executor.operation;
        int status = operation->progress(operation, &error);
        if (status == TUTTI_PENDING && !operation->wait.receive && !operation->wait.send)
            continue; /* it has only had its share of turns */
        if (status == TUTTI_PENDING)
            judge_lateness(comm, head);
        else if (status == TUTTI_OK)
            complete_head(comm, TUTTI_OK);
        else
            comm_fail_from_link(comm, &error);
        if (status != TUTTI_OK)
            break;
    }
    if (!comm->head)
        event_cancel(&comm->sim->network, &comm->judge);
    comm->driving = false;
}

int comm_call(struct comm *comm, struct call *call)
{
    int status = issue(comm, call);
    if (status == TUTTI_PENDING)
        comm_drive(comm);
    return status;
}

/* ---- Finalizing ---------------------------------------------------------------------------------- */

static void finalized(struct comm *comm)
{
    comm->phase = COMM_FINALIZED;
    if (comm->ring_open)
        membership_leave(&comm->membership);
    event_cancel(&comm->sim->network, &comm->goodbye_limit);
    process_finalized(comm);
}

static void no_goodbye(void *context)
{
    struct comm *comm = context;
    struct tutti_error error;
    const struct neighbour *silent =
        comm->membership.goodbye_heard[SIDE_NEXT] ? &comm->place.previous : &comm->place.next;
    error_set(&error, TUTTI_ERR_TIMEOUT, "finalize: %s did not say goodbye in time", silent->text);
    error.rank = silent->rank;
    comm_fail(comm, &error, true);
}

int comm_finalize(struct comm *comm, struct call *barrier)
{
    int status = issue(comm, barrier);
    if (status != TUTTI_PENDING)
        return status;
    comm->phase = COMM_FINALIZING;
    comm_drive(comm);
    return status;
}

void comm_say_goodbye(struct comm *comm, int64_t until_ns)
{
    struct network *network = &comm->sim->network;
    /* Who is still in the barrier may know whom it waits for, and speaks first. */
    int64_t left_ns = until_ns - network->now_ns + GOODBYE_PATIENCE_MS * NS_PER_MS;
    failpoint_hit(&comm->process->failpoints, FAILPOINT_barrier_done);
    if (comm->place.size == 1) {
        finalized(comm);
        return;
    }
    membership_say_goodbye(&comm->membership);
    failpoint_hit(&comm->process->failpoints, FAILPOINT_goodbye_sent);
    if (membership_goodbyes_heard(&comm->membership))
        finalized(comm);
    else
        event_set(network, &comm->goodbye_limit, comm->node, left_ns > 0 ? left_ns : 0, no_goodbye, comm);
}

void comm_goodbyes_heard(struct comm *comm)
{
    if (comm->membership.goodbye_said && !comm->failed && comm->phase == COMM_FINALIZING)
        finalized(comm);
}

/* ---- The end ------------------------------------------------------------------------------------- */

void calls_free(struct comm *comm)
{
    for (int rank = 0; rank < RANKS_MAX; rank++) {
        if (comm->in[rank])
            comm->in[rank]->ops->free(comm->in[rank]);
        if (comm->out[rank])
            comm->out[rank]->ops->free(comm->out[rank]);
        comm->in[rank] = comm->out[rank] = NULL;
    }
    for (int i = 0; i < COMM_ALGORITHMS; i++) {
        for (int root = 0; comm->schedules[i] && root < comm->place.size; root++)
            schedule_free(comm->schedules[i][root]);
        free(comm->schedules[i]);
        comm->schedules[i] = NULL;
    }
}
