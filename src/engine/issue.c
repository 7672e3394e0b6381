/* Issuing: calls become a request of prepared operations at the end of the queue.  Everything here is done
 * with the lock. */
#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include "base/error.h"
#include "engine/clock.h"
#include "engine/comm.h"
#include "executor/fusion.h"
#include "tensor/type.h"

#define SPARE_CALLS_MAX 1 /* requests of at most so many calls are kept for reuse */

struct scratch_block {
    struct scratch_block *next;
    void *memory;
};

/* ---- Requests ---------------------------------------------------------------------------------- */

static tutti_request *request_take(tutti_comm *comm, size_t count)
{
    tutti_request *request = comm->spare;
    if (count <= SPARE_CALLS_MAX && request) {
        comm->spare = request->next_taken;
    } else {
        size_t capacity = count > SPARE_CALLS_MAX ? count : SPARE_CALLS_MAX;
        request =
            malloc(sizeof *request + capacity * (sizeof request->executors[0] + sizeof(struct fusion_part)));
        if (!request)
            return NULL;
        request->capacity = capacity;
    }
    request->next = NULL;
    request->comm = comm;
    request->status = TUTTI_PENDING;
    request->signals = false;
    request->lateness = (struct lateness){false};
    request->count = 0;
    atomic_init(&request->current, 0);
    request->next_taken = comm->taken;
    request->link_taken = &comm->taken;
    if (comm->taken)
        comm->taken->link_taken = &request->next_taken;
    comm->taken = request;
    return request;
}

void issue_release(tutti_request *request)
{
    tutti_comm *comm = request->comm;
    *request->link_taken = request->next_taken;
    if (request->next_taken)
        request->next_taken->link_taken = request->link_taken;
    if (request->capacity > SPARE_CALLS_MAX) {
        free(request);
        return;
    }
    request->next_taken = comm->spare;
    comm->spare = request;
}

/* ---- Issuing ----------------------------------------------------------------------------------- */

static const struct schedule *schedule_for(tutti_comm *comm, const struct fingerprint *call, size_t bytes)
{
    assert(algorithm_count <= COMM_ALGORITHMS_MAX);
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

/* The barrier of finalize has a count, so that it does not pass for one that another rank calls. */
static struct fingerprint fingerprint_of(const tutti_comm *comm, const struct tutti_call *call)
{
    bool empty = call->op == TUTTI_BARRIER;
    return (struct fingerprint){
        .operation = (uint8_t)call->op,
        .type = empty ? 0 : (uint8_t)call->type,
        .reduction = operation_reduces(call->op) ? (uint8_t)call->reduction : 0,
        .root = operation_has_root(call->op) ? (uint32_t)call->root : 0,
        .count = !empty            ? call->count
                 : comm->finalizes ? 1
                                   : 0,
    };
}

/* Prepares `count` calls that run as one operation.  With the lock. */
static bool prepare(tutti_comm *comm, const struct tutti_call *calls, size_t count, struct executor *executor,
                    struct fusion_part *parts)
{
    struct fingerprint print = fingerprint_of(comm, &calls[0]);
    if (count > 1)
        fusion_fingerprint(&print, calls, count);
    size_t bytes = executor_total(&print, comm->place.size) * tutti_type_size(calls[0].type);
    const struct schedule *schedule = schedule_for(comm, &print, bytes);
    if (!schedule)
        return false;
    size_t scratch_bytes = executor_scratch_bytes(schedule, &print);
    if (!reserve_scratch(comm, scratch_bytes + (count > 1 ? bytes : 0)))
        return false;
    if (count == 1) {
        executor_init(executor, &comm->group, schedule, &print, calls[0].send, calls[0].recv, comm->scratch);
        return true;
    }
    uint8_t *packed = comm->scratch + scratch_bytes;
    executor_init(executor, &comm->group, schedule, &print, packed, packed, comm->scratch);
    bool sends = calls[0].op != TUTTI_BROADCAST || calls[0].root == comm->place.rank;
    for (size_t i = 0; i < count; i++)
        parts[i] = (struct fusion_part){sends ? calls[i].send : NULL, calls[i].recv,
                                        calls[i].count * tutti_type_size(calls[i].type)};
    fusion_wrap(executor, parts, count, packed);
    return true;
}

static int shortest_timeout(const tutti_comm *comm, const struct tutti_call *calls, size_t count)
{
    int shortest_ms = INT_MAX;
    for (size_t i = 0; i < count; i++) {
        int timeout_ms =
            calls[i].timeout_ms > 0 ? calls[i].timeout_ms : comm->settings.values.call_timeout_ms;
        shortest_ms = timeout_ms < shortest_ms ? timeout_ms : shortest_ms;
    }
    return shortest_ms;
}

/* Makes the executors of a request, fused where that pays. */
static bool prepare_all(tutti_comm *comm, const struct tutti_call *calls, size_t count,
                        tutti_request *request)
{
    struct fusion_part *parts = (struct fusion_part *)&request->executors[request->capacity];
    int64_t now_ns = clock_now_ns();
    request->count = 0;
    for (size_t i = 0, run; i < count; i += run) {
        run = fusion_run_length(&calls[i], count - i);
        struct executor *executor = &request->executors[request->count++];
        if (!prepare(comm, &calls[i], run, executor, &parts[i]))
            return false;
        int timeout_ms = shortest_timeout(comm, &calls[i], run);
        executor_start(executor, comm->sequence + request->count, now_ns, now_ns + timeout_ms * NS_PER_MS);
    }
    return true;
}

/* Calls complete in order, so those before this one must be done by its deadline as well. */
static void set_due(tutti_comm *comm, tutti_request *request)
{
    int64_t due_ns = INT64_MAX;
    for (size_t i = 0; i < request->count; i++)
        if (request->executors[i].operation.deadline_ns < due_ns)
            due_ns = request->executors[i].operation.deadline_ns;
    atomic_store_explicit(&request->due_ns, due_ns, memory_order_relaxed);
    if (comm->head && comm->last_due_ns > due_ns) /* of the last; those before are due no later */
        for (tutti_request *before = comm->head; before; before = before->next)
            if (atomic_load_explicit(&before->due_ns, memory_order_relaxed) > due_ns)
                atomic_store_explicit(&before->due_ns, due_ns, memory_order_relaxed);
    comm->last_due_ns = due_ns;
}

int issue_calls(tutti_comm *comm, const struct tutti_call *calls, size_t count, tutti_request **result)
{
    int status = comm_refuse_if_dead(comm);
    if (status < 0)
        return status;
    if (failpoint_hit(&comm->failpoints, FAILPOINT_request_made) == FAIL_no_memory)
        return error_set(&comm->local_error, TUTTI_ERR_MEMORY, "no memory to prepare %s (a failpoint)",
                         operation_name(calls[0].op));
    if (!comm->head)
        free_retired(comm);
    tutti_request *request = request_take(comm, count);
    if (!request || !prepare_all(comm, calls, count, request)) {
        if (request)
            issue_release(request);
        return error_set(&comm->local_error, TUTTI_ERR_MEMORY, "no memory to prepare %s of %zu elements",
                         operation_name(calls[0].op), calls[0].count);
    }
    for (size_t i = 0; i < request->count; i++)
        comm->recent_calls[++comm->sequence % EXECUTOR_RECENT_CALLS] = request->executors[i].operation.call;
    set_due(comm, request);
    *comm->tail = request;
    comm->tail = &request->next;
    *result = request;
    return TUTTI_OK;
}

/* ---- The end ----------------------------------------------------------------------------------- */

static void free_requests(tutti_request *request)
{
    while (request) {
        tutti_request *next = request->next_taken;
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
