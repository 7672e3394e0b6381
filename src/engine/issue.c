/* Issuing: calls become a request of prepared operations at the end of the queue.  Everything here is done
 * with the lock. */
#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "base/error.h"
#include "engine/clock.h"
#include "engine/comm.h"
#include "engine/mesh.h"
#include "engine/stripes.h"
#include "executor/call_print.h"
#include "tensor/type.h"

struct scratch_block {
    struct scratch_block *next;
    void *memory;
};

/* ---- Requests ---------------------------------------------------------------------------------- */

/* Of one call, which is what hot loops issue: kept for reuse. */
static bool is_spare_size(size_t operations, size_t parts)
{
    return operations <= 1 && parts <= 1;
}

/* Room for so many operations and, behind them, as many parts or mails as there are calls. */
static tutti_request *request_take(tutti_comm *comm, size_t operations, size_t calls)
{
    size_t part_bytes =
        sizeof(struct fusion_part) > sizeof(struct mail) ? sizeof(struct fusion_part) : sizeof(struct mail);
    tutti_request *request = comm->spare;
    bool spare = is_spare_size(operations, calls);
    if (spare && request) {
        comm->spare = request->next_taken;
    } else {
        operations = spare ? 1 : operations;
        request = malloc(sizeof *request + operations * sizeof request->operations[0] + calls * part_bytes);
        if (!request)
            return NULL;
        request->capacity = operations;
        request->is_spare_size = spare;
    }
    request->next = NULL;
    request->comm = comm;
    request->plan = NULL;
    request->status = TUTTI_PENDING;
    request->signals = false;
    request->lateness = (struct lateness){false};
    request->looked_ns = 0;
    request->count = request->pending = 0;
    request->mails = NULL;
    request->memory = NULL;
    request->stripes = NULL;
    atomic_init(&request->current, 0);
    request->next_taken = comm->taken;
    request->link_taken = &comm->taken;
    if (comm->taken)
        comm->taken->link_taken = &request->next_taken;
    comm->taken = request;
    return request;
}

tutti_request *issue_take_mails(tutti_comm *comm, size_t count)
{
    tutti_request *request = request_take(comm, 0, count);
    if (request)
        request->mails = (struct mail *)&request->operations[request->capacity];
    return request;
}

static void release(tutti_request *request)
{
    tutti_comm *comm = request->comm;
    *request->link_taken = request->next_taken;
    if (request->next_taken)
        request->next_taken->link_taken = request->link_taken;
    free(request->memory);
    stripes_free(request->stripes);
    request->memory = NULL;
    request->stripes = NULL;
    if (!request->is_spare_size) {
        free(request);
        return;
    }
    request->next_taken = comm->spare;
    comm->spare = request;
}

void issue_release(tutti_request *request)
{
    if (request->plan)
        request->plan->busy = false;
    else
        release(request);
}

/* ---- Choosing ---------------------------------------------------------------------------------- */

/* Bytes of the work vector, where every rank knows them. */
static size_t bytes_of(const tutti_comm *comm, const struct fingerprint *print)
{
    bool has_sum = operation_has_counts(print->operation); /* of the parts, or nothing */
    size_t count = has_sum ? print->count : executor_total(print, comm->place.size);
    return count * type_size(print->type);
}

static int choose(tutti_comm *comm, const struct fingerprint *print, const char *name,
                  struct selection *selection, struct tutti_error *error)
{
    const struct select_call call = {
        .operation = print->operation,
        .type = print->type,
        .reduction = print->reduction,
        .bytes = bytes_of(comm, print),
        .name = name,
    };
    if (name)
        return algorithm_select(&comm->select, &call, selection, error);
    size_t hash = call.bytes ^ (call.bytes >> 10) ^ (size_t)call.operation * 5 ^ (size_t)call.type;
    struct selection_memo *memo = &comm->memos[hash & (COMM_MEMOS - 1)];
    if (!memo->selection.algorithm || memo->call.operation != call.operation ||
        memo->call.type != call.type || memo->call.reduction != call.reduction ||
        memo->call.bytes != call.bytes) {
        int status = algorithm_select(&comm->select, &call, &memo->selection, error);
        if (status < 0)
            return status;
        memo->call = call;
    }
    *selection = memo->selection;
    return TUTTI_OK;
}

int issue_choose(tutti_comm *comm, const struct tutti_call *call, struct selection *selection,
                 struct tutti_error *error)
{
    struct fingerprint print = call_print(call, 1, comm->place.size, false);
    int status = choose(comm, &print, call->algorithm, selection, error);
    if (status == TUTTI_OK && staging_is_needed(call, comm->place.size))
        selection->channels = 1; /* as prepare_request() does it */
    return status;
}

static const struct schedule *schedule_for(tutti_comm *comm, const struct algorithm *algorithm, int root)
{
    assert(algorithm_places <= COMM_ALGORITHMS_MAX);
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
            mesh_want_for(comm, CHANNEL_COLLECTIVES, *schedule);
    }
    return *schedule;
}

/* ---- Memory ------------------------------------------------------------------------------------ */

static void free_retired(tutti_comm *comm)
{
    while (comm->retired) {
        struct scratch_block *block = comm->retired;
        comm->retired = block->next;
        free(block->memory);
        free(block);
    }
}

/* Scratch memory only grows.  Operations that are prepared already go on with the old block, which is kept
 * aside until the queue is empty. */
static bool reserve_scratch(tutti_comm *comm, size_t bytes)
{
    if (bytes <= comm->scratch_bytes)
        return true;
    bytes = (bytes + 4095) & ~(size_t)4095;
    void *memory = aligned_alloc(4096, bytes);
    struct scratch_block *block = malloc(sizeof *block);
    if (!memory || !block) {
        free(memory);
        free(block);
        return false;
    }
    *block = (struct scratch_block){comm->retired, comm->scratch};
    comm->retired = block;
    comm->scratch = memory;
    comm->scratch_bytes = bytes;
    return true;
}

/* Bytes for the copies of counts and offsets that the calls of a request need: up to four arrays each. */
static size_t counts_bytes(const tutti_comm *comm, const struct tutti_call *calls, size_t count)
{
    size_t arrays = 0;
    for (size_t i = 0; i < count; i++)
        arrays += operation_has_counts(calls[i].op) ? 4 : 0;
    return arrays * (size_t)comm->place.size * sizeof(size_t);
}

static const size_t *copy_array(size_t **memory, const size_t *from, int size)
{
    size_t *copy = *memory;
    memcpy(copy, from, (size_t)size * sizeof *copy);
    *memory += size;
    return copy;
}

/* Those that are given, else one part after the other. */
static const size_t *copy_offsets(size_t **memory, const size_t *offsets, const size_t *counts, int size)
{
    if (offsets)
        return copy_array(memory, offsets, size);
    size_t *copy = *memory, at = 0;
    for (int rank = 0; rank < size; rank++) {
        copy[rank] = at;
        at += counts[rank];
    }
    *memory += size;
    return copy;
}

static struct executor_buffers buffers_of(const tutti_comm *comm, const struct tutti_call *call,
                                          size_t **memory)
{
    struct executor_buffers buffers = {.send = call->send, .recv = call->recv, .count = call->count};
    if (!operation_has_counts(call->op))
        return buffers;
    int size = comm->place.size;
    bool is_root = call->root == comm->place.rank, all_to_all = call->op == TUTTI_ALL_TO_ALL_V;
    if (all_to_all || call->op == TUTTI_REDUCE_SCATTER_V || (call->op == TUTTI_SCATTER_V && is_root)) {
        const size_t *offsets = call->op == TUTTI_REDUCE_SCATTER_V ? NULL : call->send_offsets;
        buffers.send_counts = copy_array(memory, call->send_counts, size);
        buffers.send_offsets = copy_offsets(memory, offsets, buffers.send_counts, size);
    }
    if (all_to_all || call->op == TUTTI_ALL_GATHER_V || (call->op == TUTTI_GATHER_V && is_root)) {
        buffers.recv_counts = copy_array(memory, call->recv_counts, size);
        buffers.recv_offsets = copy_offsets(memory, call->recv_offsets, buffers.recv_counts, size);
    }
    return buffers;
}

/* ---- Preparing --------------------------------------------------------------------------------- */

/* Calls that run as one operation, with all that is decided about it. */
struct prepared {
    const struct tutti_call *calls;
    size_t count;
    struct fingerprint print;
    struct selection selection;
    const struct schedule *schedule; /* NULL: in shared memory alone */
    struct executor_buffers buffers;
    size_t schedule_bytes, bytes; /* of scratch memory: for the schedule, and with that copy */
    bool packed, staged;          /* the input is copied: that of several calls, or of one */
};

static int prepare(tutti_comm *comm, const struct tutti_call *calls, size_t count, size_t **memory,
                   struct prepared *p)
{
    *p = (struct prepared){.calls = calls, .count = count};
    p->packed = count > 1 && (comm->place.size == 1 || !fusion_is_one_buffer(calls, count, comm->place.rank));
    p->print = call_print(calls, count, comm->place.size, comm->finalizes);
    int status = choose(comm, &p->print, calls[0].algorithm, &p->selection, &comm->local_error);
    if (status < 0)
        return status;
    p->print.algorithm = p->selection.algorithm->number;
    p->buffers = buffers_of(comm, calls, memory);
    if (!algorithm_is_shared(p->selection.algorithm)) {
        p->schedule =
            schedule_for(comm, p->selection.algorithm, operation_has_root(calls[0].op) ? calls[0].root : 0);
        if (!p->schedule)
            return TUTTI_ERR_MEMORY;
        p->schedule_bytes = (executor_scratch_bytes(p->schedule, &p->print, &p->buffers) + 63) & ~(size_t)63;
    }
    p->staged = count == 1 && staging_is_needed(calls, comm->place.size);
    p->bytes = p->schedule_bytes;
    if (p->packed)
        p->bytes += bytes_of(comm, &p->print);
    else if (p->staged)
        p->bytes += staging_bytes(calls, comm->place.rank, comm->place.size);
    return TUTTI_OK;
}

/* `parts`: one for each call. */
static void make_operation(tutti_comm *comm, struct prepared *p, uint8_t *scratch,
                           union any_operation *result, struct fusion_part *parts)
{
    uint8_t *copy = scratch + p->schedule_bytes;
    const struct executor_group *group = &comm->channels[CHANNEL_COLLECTIVES].group;
    int rank = comm->place.rank, size = comm->place.size;
    if (p->packed) {
        p->buffers.send = p->buffers.recv = copy;
    } else if (p->staged) {
        copy = staging_copy(p->calls, rank, copy);
        p->buffers.send = copy;
    }
    if (algorithm_is_mixed(p->selection.algorithm))
        mixed_init(&result->mixed, comm->arena, group, p->schedule, &p->print, &p->buffers, scratch);
    else if (p->schedule)
        executor_init(&result->executor, group, p->schedule, &p->print, &p->buffers, scratch);
    else /* all ranks share the arena, so a rank's index there is its number */
        direct_init(&result->direct, comm->arena, &p->print, p->buffers.send, p->buffers.recv,
                    p->calls[0].root);
    if (p->packed) {
        fusion_parts(parts, p->calls, p->count, rank);
        fusion_wrap(&result->operation, group->kernels, size, parts, p->count, copy);
    } else if (p->staged) {
        staging_wrap(&result->operation, group->kernels, size, parts, p->calls, rank, copy);
    }
}

static size_t count_runs(const struct tutti_call *calls, size_t count)
{
    size_t runs = 0;
    for (size_t i = 0; i < count; i += fusion_run_length(&calls[i], count - i))
        runs++;
    return runs;
}

/* Makes the operations of a request, fused where that pays.  They follow one another, so one piece of scratch
 * memory serves all: that of the communicator or, for a plan, its own. */
static int prepare_request(tutti_comm *comm, const struct tutti_call *calls, size_t count,
                           struct tutti_plan *plan, tutti_request **result)
{
    size_t runs = count == 1 ? 1 : count_runs(calls, count), most = 0,
           array_bytes = counts_bytes(comm, calls, count);
    tutti_request *request = *result = request_take(comm, runs, count);
    struct prepared prepared;
    if (!request)
        return TUTTI_ERR_MEMORY;
    if (array_bytes > 0 && !(request->memory = malloc(array_bytes)))
        return TUTTI_ERR_MEMORY;
    size_t *memory = request->memory;
    for (size_t i = 0, run; i < count; i += run) {
        run = runs == 1 ? count : fusion_run_length(&calls[i], count - i);
        int status = prepare(comm, &calls[i], run, &memory, &prepared);
        if (status < 0)
            return status;
        most = prepared.bytes > most ? prepared.bytes : most;
    }
    uint8_t *scratch;
    if (plan) {
        scratch = plan->scratch = aligned_alloc(64, (most + 64) & ~(size_t)63);
        if (!scratch)
            return TUTTI_ERR_MEMORY;
    } else {
        if (!reserve_scratch(comm, most))
            return TUTTI_ERR_MEMORY;
        scratch = comm->scratch;
    }
    memory = request->memory;
    struct fusion_part *parts = (struct fusion_part *)&request->operations[request->capacity];
    /* One call, so that the parts of a request on the lanes cannot get in each other's way. */
    bool striped = count == 1 && prepared.selection.channels > 1 && !prepared.staged;
    for (size_t i = 0, run; i < count; i += run) {
        run = runs == 1 ? count : fusion_run_length(&calls[i], count - i);
        if (runs > 1)
            prepare(comm, &calls[i], run, &memory, &prepared); /* has succeeded before */
        make_operation(comm, &prepared, scratch, &request->operations[request->count++], &parts[i]);
    }
    if (striped)
        request->stripes = stripes_wrap(&request->operations[0].executor, comm, calls,
                                        prepared.selection.algorithm->name, prepared.selection.channels);
    return striped && !request->stripes ? TUTTI_ERR_MEMORY : TUTTI_OK;
}

int issue_shortest_timeout_ms(const tutti_comm *comm, const struct tutti_call *calls, size_t count)
{
    int shortest_ms = INT_MAX;
    for (size_t i = 0; i < count; i++) {
        int timeout_ms =
            calls[i].timeout_ms > 0 ? calls[i].timeout_ms : comm->settings.values.call_timeout_ms;
        shortest_ms = timeout_ms < shortest_ms ? timeout_ms : shortest_ms;
    }
    return shortest_ms;
}

/* Calls complete in order, so those before this one must be done by its deadline as well. */
static void set_due(tutti_comm *comm, tutti_request *request)
{
    int64_t due_ns = INT64_MAX;
    for (size_t i = 0; i < request->count; i++)
        if (request->operations[i].operation.deadline_ns < due_ns)
            due_ns = request->operations[i].operation.deadline_ns;
    atomic_store_explicit(&request->due_ns, due_ns, memory_order_relaxed);
    if (comm->head && comm->last_due_ns > due_ns) /* of the last; those before are due no later */
        for (tutti_request *before = comm->head; before; before = before->next)
            if (atomic_load_explicit(&before->due_ns, memory_order_relaxed) > due_ns)
                atomic_store_explicit(&before->due_ns, due_ns, memory_order_relaxed);
    comm->last_due_ns = due_ns;
}

static void start(tutti_comm *comm, union any_operation *any, int64_t now_ns, int64_t due_ns)
{
    uint64_t sequence = comm->is_uncounted ? 0 : ++comm->sequence;
    if (operation_is_direct(&any->operation))
        direct_start(&any->direct, sequence, now_ns, due_ns);
    else if (operation_is_mixed(&any->operation))
        mixed_start(&any->mixed, sequence, now_ns, due_ns);
    else
        executor_start(&any->executor, sequence, now_ns, due_ns);
    comm->recent_calls[sequence % EXECUTOR_RECENT_CALLS] = any->operation.call;
}

/* Numbers a prepared request, unless its one operation has `begun`, and puts it at the end of the queue. */
static void enqueue(tutti_comm *comm, tutti_request *request, int timeout_ms, bool begun)
{
    int64_t now_ns = clock_now_ns();
    if (!comm->head)
        free_retired(comm);
    request->next = NULL;
    request->status = TUTTI_PENDING;
    request->lateness = (struct lateness){false};
    request->looked_ns = 0;
    atomic_store_explicit(&request->current, 0, memory_order_relaxed);
    for (size_t i = 0; i < request->count && !begun; i++)
        start(comm, &request->operations[i], now_ns, now_ns + timeout_ms * NS_PER_MS);
    if (begun) {
        request->operations[0].operation.started_ns = now_ns;
        request->operations[0].operation.deadline_ns = now_ns + timeout_ms * NS_PER_MS;
    }
    set_due(comm, request);
    *comm->tail = request;
    comm->tail = &request->next;
    atomic_fetch_add_explicit(&comm->queue_count, 1, memory_order_relaxed);
    comm->watches_head = false; /* what the loop is armed for is no longer all */
    comm_nudge(comm);
}

static int not_prepared(tutti_comm *comm, int status, const struct tutti_call *call)
{
    if (status == TUTTI_ERR_MEMORY)
        error_set(&comm->local_error, TUTTI_ERR_MEMORY, "no memory to prepare %s of %zu elements",
                  operation_name(call->op), call->count);
    return status;
}

int issue_calls(tutti_comm *comm, const struct tutti_call *calls, size_t count, tutti_request **result)
{
    int status = comm_refuse_if_dead(comm);
    if (status < 0)
        return status;
    if (failpoint_hit(&comm->failpoints, FAILPOINT_request_made) == FAIL_no_memory)
        return error_set(&comm->local_error, TUTTI_ERR_MEMORY, "no memory to prepare %s (a failpoint)",
                         operation_name(calls[0].op));
    tutti_request *request;
    status = prepare_request(comm, calls, count, NULL, &request);
    if (status < 0) {
        if (request)
            release(request);
        return not_prepared(comm, status, &calls[0]);
    }
    enqueue(comm, request, issue_shortest_timeout_ms(comm, calls, count), false);
    *result = request;
    return TUTTI_OK;
}

tutti_request *issue_begun(tutti_comm *comm, const struct tutti_call *call)
{
    tutti_request *request = request_take(comm, 1, 1); /* the spare one, whose operation it leaves alone */
    request->count = 1;
    enqueue(comm, request, issue_shortest_timeout_ms(comm, call, 1), true);
    return request;
}

/* ---- Plans ------------------------------------------------------------------------------------- */

int issue_plan(tutti_comm *comm, const struct tutti_call *calls, size_t count, struct tutti_plan *plan)
{
    int status = comm_refuse_if_dead(comm);
    if (status < 0)
        return status;
    tutti_request *request;
    status = prepare_request(comm, calls, count, plan, &request);
    if (status < 0) {
        if (request)
            release(request);
        free(plan->scratch);
        plan->scratch = NULL;
        return not_prepared(comm, status, &calls[0]);
    }
    request->plan = plan;
    plan->comm = comm;
    plan->request = request;
    plan->timeout_ms = issue_shortest_timeout_ms(comm, calls, count);
    return TUTTI_OK;
}

int issue_planned(struct tutti_plan *plan, tutti_request **request)
{
    tutti_comm *comm = plan->comm;
    int status = comm_refuse_if_dead(comm);
    if (status < 0)
        return status;
    if (plan->busy)
        return error_set(&comm->local_error, TUTTI_ERR_ARGUMENT,
                         "this plan is under way: wait for its request before it is started again");
    plan->busy = true;
    plan->request->signals = false;
    enqueue(comm, plan->request, plan->timeout_ms, false);
    *request = plan->request;
    return TUTTI_OK;
}

void issue_unplan(struct tutti_plan *plan)
{
    plan->request->plan = NULL;
    release(plan->request);
    free(plan->scratch);
}

/* ---- The end ----------------------------------------------------------------------------------- */

static void free_requests(tutti_request *request)
{
    while (request) {
        tutti_request *next = request->next_taken;
        free(request->memory);
        stripes_free(request->stripes);
        free(request);
        request = next;
    }
}

void issue_free(tutti_comm *comm)
{
    free_requests(comm->taken); /* pending ones, and those that nobody waited for */
    free_requests(comm->spare);
    for (int i = 0; i < COMM_ALGORITHMS_MAX; i++) {
        for (int root = 0; comm->schedules[i] && root < comm->place.size; root++)
            schedule_free(comm->schedules[i][root]);
        free(comm->schedules[i]);
    }
    free_retired(comm);
    free(comm->scratch);
}
