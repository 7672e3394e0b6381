/* Calls: issued in order, moved in order, judged when they are late, as engine/issue.c and engine/progress.c
 * do it. */
#include <stdlib.h>
#include <string.h>
#include "base/error.h"
#include "executor/call_print.h"
#include "tests/sim/fault/comm.h"
#include "tests/sim/fault/world.h"

#define GOODBYE_PATIENCE_MS (2 * LATENESS_PATIENCE_MS + 100)

static bool is_direct(const struct operation *operation)
{
    return operation->call.algorithm == ALGORITHM_SHARED_NUMBER;
}

static bool is_mixed(const struct operation *operation)
{
    return operation->call.algorithm >= ALGORITHM_MIXED_NUMBER;
}

/* ---- What calls need --------------------------------------------------------------------------- */

/* Ranks of each host for each of its cores, the most of all hosts. */
static double crowding_of(const struct comm *comm)
{
    const struct roster *roster = &comm->roster;
    double most = 1;
    for (int rank = 0; rank < roster->size; rank++) {
        int ranks = 0, cores = 0;
        for (int other = 0; other < roster->size; other++)
            if (roster->host_of[other] == roster->host_of[rank]) {
                int theirs = roster->members[other].cores;
                cores = cores == 0 || theirs < cores ? theirs : cores;
                ranks++;
            }
        double crowding = (double)ranks / cores;
        most = crowding > most ? crowding : most;
    }
    return most;
}

/* As engine/mixed_agreement.c: every host shares memory among equally many ranks. */
static bool may_be_mixed(const struct comm *comm)
{
    const struct select_group *group = &comm->select;
    for (int rank = 0; rank < comm->roster.size; rank++)
        if (!comm->roster.members[rank].shm)
            return false;
    return group->host_count > 1 && group->hosts_consecutive && group->local_min > 1 &&
           group->local_min == group->local_max;
}

void comm_prepare(struct comm *comm)
{
    const struct options *options = &comm->sim->options;
    const struct roster *roster = &comm->roster;
    for (int i = 0; i < CHANNELS; i++) {
        struct channel *channel = &comm->channels[i];
        channel->group = (struct executor_group){
            .in = channel->in,
            .out = channel->out,
            .channel = (uint16_t)i,
            .instance = comm->place.instance,
            .generation = comm->place.generation,
            .recent_calls = i == CHANNEL_COLLECTIVES ? comm->recent_calls : NULL,
            .slice_bytes = options->slice_bytes,
            .checksum = options->checksum,
            .kernels = reduce_table(),
        };
    }
    comm->select = (struct select_group){
        .size = roster->size,
        .local = LOCAL_SHM,
        .crowding = crowding_of(comm),
        .slice_bytes = options->slice_bytes,
        .channels_max = 1,
        .deterministic = options->deterministic,
        .tuning = tuning_default,
    };
    for (int rank = 0; rank < roster->size; rank++) {
        const struct roster_member *member = &roster->members[rank];
        enum local_transport local = local_transport_from(member->uds, member->shm);
        comm->select.local = local < comm->select.local ? local : comm->select.local;
    }
    arena_shell_open(comm);
    comm->select.shared = comm->arena && comm->arena->count == comm->place.size;
    select_count_hosts(&comm->select, &(struct host_map){roster->host_count, roster->host_of});
    comm->select.mixed = may_be_mixed(comm);
}

/* ---- Choosing ---------------------------------------------------------------------------------- */

static const struct algorithm *choose(struct comm *comm, const struct fingerprint *print, const char *name)
{
    struct tutti_error error;
    struct selection selection;
    size_t count =
        operation_has_counts(print->operation) ? print->count : executor_total(print, comm->place.size);
    const struct select_call call = {
        .operation = print->operation,
        .type = print->type,
        .reduction = print->reduction,
        .bytes = count * tutti_type_size(print->type),
        .name = name,
    };
    if (algorithm_select(&comm->select, &call, &selection, &error) < 0)
        sim_violated(comm->sim, "every call has an algorithm", "%s", error.message);
    return selection.algorithm;
}

static const struct schedule *schedule_for(struct comm *comm, const struct algorithm *algorithm, int root)
{
    struct schedule ***by_root = &comm->schedules[algorithm_place(algorithm)];
    if (!*by_root)
        *by_root = calloc((size_t)comm->place.size, sizeof **by_root);
    if (!*by_root)
        return NULL;
    struct schedule **schedule = &(*by_root)[root];
    if (!*schedule) {
        *schedule = schedule_new(algorithm->operation, algorithm->name, algorithm->emit, comm->place.rank,
                                 comm->place.size, root, &comm->hosts);
        if (*schedule)
            mesh_shell_want_for(comm, *schedule);
    }
    return *schedule;
}

/* ---- Issuing ----------------------------------------------------------------------------------- */

static bool prepare(struct comm *comm, struct call *call)
{
    const struct tutti_call *args = &call->args;
    int rank = comm->place.rank, size = comm->place.size;
    struct fingerprint print = call_print(args, 1, comm->place.size, comm->finalizes);
    const struct algorithm *algorithm = choose(comm, &print, args->algorithm);
    const struct schedule *schedule = NULL; /* NULL: in shared memory */
    if (algorithm->number != ALGORITHM_SHARED_NUMBER) {
        schedule = schedule_for(comm, algorithm, operation_has_root(args->op) ? args->root : 0);
        if (!schedule)
            return false;
    }
    print.algorithm = algorithm->number;
    struct executor_buffers buffers = {.send = args->send,
                                       .recv = args->recv,
                                       .count = args->count,
                                       .send_counts = args->send_counts,
                                       .send_offsets = args->send_offsets,
                                       .recv_counts = args->recv_counts,
                                       .recv_offsets = args->recv_offsets};
    size_t own = schedule ? (executor_scratch_bytes(schedule, &print, &buffers) + 63) & ~(size_t)63 : 0;
    bool staged = staging_is_needed(args, size);
    size_t bytes = own + (staged ? (staging_bytes(args, rank, size) + 63) & ~(size_t)63 : 0);
    call->scratch = bytes > 0 ? aligned_alloc(64, bytes) : NULL;
    if (bytes > 0 && !call->scratch)
        return false;
    void *copy = staged ? staging_copy(args, rank, (uint8_t *)call->scratch + own) : NULL;
    if (staged)
        buffers.send = copy;
    const struct executor_group *group = &comm->channels[CHANNEL_COLLECTIVES].group;
    if (algorithm_is_mixed(algorithm))
        mixed_init(&call->mixed, comm->arena, group, schedule, &print, &buffers, call->scratch);
    else if (schedule)
        executor_init(&call->executor, group, schedule, &print, &buffers, call->scratch);
    else /* all ranks share the arena, so a rank's index there is its number */
        direct_init(&call->direct, comm->arena, &print, buffers.send, buffers.recv, args->root);
    if (staged)
        staging_wrap(&call->operation, group->kernels, size, &call->part, args, rank, copy);
    return true;
}

/* Calls complete in order, so those before this one must be done by its deadline as well. */
static void set_due(struct comm *comm, struct call *call)
{
    call->due_ns = call->operation.deadline_ns;
    for (struct call *before = comm->head; before; before = before->next)
        if (before->due_ns > call->due_ns)
            before->due_ns = call->due_ns;
}

int comm_refuse_if_dead(const struct comm *comm)
{
    return comm->failed ? comm->failure.code : comm->phase != COMM_ACTIVE ? TUTTI_ERR_FINALIZED : TUTTI_OK;
}

static int issue(struct comm *comm, struct call *call)
{
    struct tutti_error error;
    int status = comm_refuse_if_dead(comm);
    if (status < 0)
        return status;
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
    int64_t deadline_ns = now_ns + call->args.timeout_ms * NS_PER_MS;
    comm->sequence++;
    if (is_direct(&call->operation))
        direct_start(&call->direct, comm->sequence, now_ns, deadline_ns);
    else if (is_mixed(&call->operation))
        mixed_start(&call->mixed, comm->sequence, now_ns, deadline_ns);
    else
        executor_start(&call->executor, comm->sequence, now_ns, deadline_ns);
    comm->recent_calls[comm->sequence % EXECUTOR_RECENT_CALLS] = call->operation.call;
    call->status = TUTTI_PENDING;
    set_due(comm, call);
    *comm->tail = call;
    comm->tail = &call->next;
    return TUTTI_PENDING;
}

/* ---- Moving ------------------------------------------------------------------------------------ */

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
        comm->completed = call->operation.sequence;
        failpoint_hit(&comm->process->failpoints, FAILPOINT_operation_done);
    }
    process_called(call);
}

void comm_fail_pending(struct comm *comm)
{
    while (comm->head)
        complete_head(comm, comm->failure.code);
    messages_fail(comm);
}

static struct lateness_view view_of(const struct comm *comm)
{
    const struct operation *operation = &comm->head->operation;
    int peer = operation->wait.from >= 0 ? operation->wait.from : operation->wait.to;
    return (struct lateness_view){
        .operation = operation,
        .due_ns = comm->head->due_ns,
        .straggler_after_ns = comm->sim->options.straggler_after_ms * NS_PER_MS,
        .membership = comm->place.size > 1 ? &comm->membership : NULL,
        .peer = peer,
        .peer_text = peer >= 0 ? comm->roster.members[peer].text : "",
    };
}

/* The head of the queue is blocked: when to judge again. */
static int64_t judge_head(struct comm *comm)
{
    struct network *network = &comm->sim->network;
    struct tutti_error error;
    struct lateness *lateness = &comm->head->lateness;
    const struct lateness_view view = view_of(comm);
    for (;;) {
        switch (lateness_judge(lateness, &view, network->now_ns, &error)) {
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
            return INT64_MAX;
        case LATENESS_NONE:
            return lateness_next_ns(lateness, &view, network->now_ns);
        }
    }
}

/* Has another rank of this host made another call?  In shared memory an operation finds that out by itself.
 */
static bool meets_stray(const struct comm *comm, struct tutti_error *error)
{
    const struct operation *operation = comm->head ? &comm->head->operation : NULL;
    return operation && comm->arena && operation->begun && !is_direct(operation) &&
           arena_check_call(comm->arena, operation->sequence, error) < 0;
}

/* What has not been moved is blocked. */
static void judge(struct comm *comm)
{
    struct network *network = &comm->sim->network;
    struct tutti_error error;
    if (meets_stray(comm, &error)) {
        comm_fail(comm, &error, true);
        return;
    }
    int64_t next_ns = comm->head ? judge_head(comm) : INT64_MAX;
    if (comm->letters && messages_judge(comm, &error))
        comm_fail(comm, &error, true);
    if (comm->failed)
        return;
    int64_t message_ns = messages_due_ns(comm);
    next_ns = message_ns < next_ns ? message_ns : next_ns;
    if (next_ns == INT64_MAX) {
        event_cancel(network, &comm->judge);
        return;
    }
    int64_t wait_ns = next_ns - network->now_ns;
    event_set(network, &comm->judge, comm->node, wait_ns > 0 ? wait_ns : NS_PER_MS, comm_drive, comm);
}

static bool is_stopped(const struct comm *comm)
{
    return comm->explaining || comm->failed || comm->node->dead;
}

/* As engine/motion.c: the other ranks of the host see that a call over links begins. */
static bool begin(struct comm *comm, struct operation *operation)
{
    int index;
    if (operation->begun || !comm->arena || is_direct(operation))
        return true;
    operation->begun = arena_begin(comm->arena, operation->sequence, &operation->call, true, &index);
    if (!operation->begun)
        operation->wait =
            (struct operation_wait){.from = comm->arena->ranks[index], .to = -1, .shared = true};
    return operation->begun;
}

static void move_collectives(struct comm *comm)
{
    struct tutti_error error; /* too large to clear each time */
    bool sleeps = false;      /* has said so, and looks once more */
    if (comm->arena)
        arena_wake(comm->arena);
    while (comm->head && !is_stopped(comm)) {
        struct operation *operation = &comm->head->operation;
        int status = begin(comm, operation) ? operation->progress(operation, &error) : TUTTI_PENDING;
        bool blocked = operation->wait.from >= 0 || operation->wait.to >= 0; /* else it had its share */
        if (status == TUTTI_PENDING && blocked && (sleeps || !operation->wait.shared))
            return;
        sleeps = status == TUTTI_PENDING && blocked;
        if (sleeps)
            arena_fall_asleep(comm->arena);
        if (status == TUTTI_OK)
            complete_head(comm, TUTTI_OK);
        else if (status < 0)
            comm_fail_from_link(comm, &error);
    }
}

static void move_messages(struct comm *comm)
{
    struct tutti_error error;
    bool moved = true;
    while (moved && comm->letters && !is_stopped(comm)) {
        moved = false;
        if (messages_move(comm, &moved, &error) < 0)
            comm_fail_from_link(comm, &error);
    }
}

void comm_drive(void *context)
{
    struct comm *comm = context;
    if (comm->driving || is_stopped(comm) || comm->phase == COMM_JOINING)
        return;
    comm->driving = true;
    move_collectives(comm);
    move_messages(comm);
    if (!is_stopped(comm))
        judge(comm);
    comm->driving = false;
}

int comm_call(struct comm *comm, struct call *call)
{
    int status = issue(comm, call);
    if (status == TUTTI_PENDING)
        comm_drive(comm);
    return status;
}

/* ---- Finalizing -------------------------------------------------------------------------------- */

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
    comm->finalizes = true;
    barrier->args.algorithm = "ring"; /* who still waits when a rank dies in it is beside one that knows */
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

/* ---- The end ----------------------------------------------------------------------------------- */

void calls_free(struct comm *comm)
{
    for (int i = 0; i < COMM_ALGORITHMS; i++) {
        for (int root = 0; comm->schedules[i] && root < comm->place.size; root++)
            schedule_free(comm->schedules[i][root]);
        free(comm->schedules[i]);
        comm->schedules[i] = NULL;
    }
    mailbox_free(comm->mailbox);
    comm->mailbox = NULL;
    arena_shell_close(comm);
}
