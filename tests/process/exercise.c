#include "exercise.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define GUARD_BYTES 64 /* before and after each buffer; also keeps the alignment of malloc */
#define GUARD_VALUE 0xA5
#define REDUCED     (-1) /* as the source of a pattern: the reduction over all ranks */
#define GAP         2    /* elements between parts that are scattered */

static const char *const issue_names[ISSUES] = {"blocking", "start and wait", "run in slices",
                                                "start and poll", "by a plan"};

const struct operation_shape operations[OPERATIONS] = {
    {TUTTI_ALL_REDUCE, "all_reduce", true, false, false},
    {TUTTI_REDUCE, "reduce", true, true, false},
    {TUTTI_BROADCAST, "broadcast", false, true, false},
    {TUTTI_ALL_GATHER, "all_gather", false, false, false},
    {TUTTI_GATHER, "gather", false, true, false},
    {TUTTI_REDUCE_SCATTER, "reduce_scatter", true, false, false},
    {TUTTI_SCATTER, "scatter", false, true, false},
    {TUTTI_ALL_TO_ALL, "all_to_all", false, false, false},
    {TUTTI_ALL_GATHER_V, "all_gather_v", false, false, true},
    {TUTTI_GATHER_V, "gather_v", false, true, true},
    {TUTTI_REDUCE_SCATTER_V, "reduce_scatter_v", true, false, true},
    {TUTTI_SCATTER_V, "scatter_v", false, true, true},
    {TUTTI_ALL_TO_ALL_V, "all_to_all_v", false, false, true},
};

_Noreturn void fail(const struct job *job, const struct exercise *e, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "rank %d of %d: %s\n", job->rank, job->size, text);
    if (e != NULL) {
        const struct tutti_call *c = &e->call;
        fprintf(stderr,
                "  in operation %d, count %zu, type %d, reduction %d, root %d, %s, %s, algorithm %s\n",
                (int)c->op, e->measure, (int)c->type, (int)c->reduction, c->root,
                e->in_place ? "in place" : "out of place", issue_names[e->issue],
                c->algorithm ? c->algorithm : "as chosen");
    }
    struct tutti_error error = TUTTI_ERROR_INIT;
    if (tutti_get_error(job->comm, &error) == TUTTI_OK && error.code != TUTTI_OK)
        fprintf(stderr, "  tutti says: %s: %s\n", tutti_error_name(error.code), error.message);
    exit(1);
}

void expect(const struct job *job, const struct exercise *e, int status)
{
    if (status != TUTTI_OK)
        fail(job, e, "returned %s", tutti_error_name(status));
}

void job_init(struct job *job)
{
    *job = (struct job){.digest = 0xcbf29ce484222325u};
    expect(job, NULL, tutti_init(NULL, &job->comm));
    job->rank = tutti_rank(job->comm);
    job->size = tutti_size(job->comm);
    if (job->size > PATTERN_SIZE_MAX)
        fail(job, NULL, "this test is exact for at most %d ranks", PATTERN_SIZE_MAX);
}

/* ---- Shapes ------------------------------------------------------------------------------------ */

static bool gathers(enum tutti_operation op)
{
    return op == TUTTI_GATHER || op == TUTTI_ALL_GATHER || op == TUTTI_GATHER_V || op == TUTTI_ALL_GATHER_V;
}

static bool scatters(enum tutti_operation op)
{
    return op == TUTTI_SCATTER || op == TUTTI_REDUCE_SCATTER || op == TUTTI_SCATTER_V ||
           op == TUTTI_REDUCE_SCATTER_V;
}

static bool exchanges(enum tutti_operation op)
{
    return op == TUTTI_ALL_TO_ALL || op == TUTTI_ALL_TO_ALL_V;
}

static bool has_counts(enum tutti_operation op)
{
    return op >= TUTTI_ALL_GATHER_V && op <= TUTTI_ALL_TO_ALL_V;
}

static bool sends(const struct job *job, const struct tutti_call *c)
{
    bool root_only = c->op == TUTTI_BROADCAST || c->op == TUTTI_SCATTER || c->op == TUTTI_SCATTER_V;
    return !root_only || job->rank == c->root;
}

static bool receives(const struct job *job, const struct tutti_call *c)
{
    bool root_only = c->op == TUTTI_REDUCE || c->op == TUTTI_GATHER || c->op == TUTTI_GATHER_V;
    return !root_only || job->rank == c->root;
}

/* The part of rank `r` in a _v: some have none, some are of other lengths; else all have the same. */
static size_t part_count(const struct exercise *e, int r)
{
    if (!has_counts(e->call.op) || e->measure == 0)
        return e->measure;
    return r % 3 == 2 ? e->measure / 3 : r % 3 == 1 ? e->measure + (size_t)r : r == 3 ? 0 : e->measure;
}

static size_t pair_count(const struct job *job, const struct exercise *e, int from, int to)
{
    return part_count(e, (from + 2 * to) % job->size);
}

/* Sets the offsets for the counts; how many elements the whole takes. */
static size_t lay_out(const struct job *job, const struct exercise *e, struct exercise_buffer *buffer)
{
    size_t at = 0;
    for (int i = 0; i < job->size; i++) {
        int r = e->scattered ? job->size - 1 - i : i;
        buffer->offsets[r] = at;
        at += buffer->counts[r] + (e->scattered ? GAP : 0);
    }
    return at;
}

static void lay_out_both(const struct job *job, struct exercise *e)
{
    const enum tutti_operation op = e->call.op;
    size_t own = part_count(e, job->rank);
    for (int r = 0; r < job->size; r++) {
        e->send.counts[r] = exchanges(op) ? pair_count(job, e, job->rank, r) : part_count(e, r);
        e->recv.counts[r] = exchanges(op) ? pair_count(job, e, r, job->rank) : part_count(e, r);
    }
    size_t send = lay_out(job, e, &e->send), recv = lay_out(job, e, &e->recv);
    e->send.elements = scatters(op) || exchanges(op) ? send : own;
    e->recv.elements = gathers(op) || exchanges(op) ? recv : own;
    if (op == TUTTI_BARRIER)
        e->send.elements = e->recv.elements = 0;
}

/* ---- Data -------------------------------------------------------------------------------------- */

/* Elements offset, offset + 1, ... of what `source` contributes, or of the reduction. */
static void fill(const struct job *job, const struct exercise *e, void *buffer, size_t count, size_t offset,
                 int source)
{
    enum tutti_reduction reduction = e->call.reduction;
    size_t period = PATTERN_PERIOD(job->size);
    for (size_t i = 0; i < count && i < period; i++) {
        size_t at = offset + i;
        number_set(buffer, i, e->call.type,
                   source == REDUCED ? pattern_reduced(job->size, at, e->call.type, reduction)
                                     : pattern(source, job->size, at, e->call.type, reduction));
    }
    elements_repeat(buffer, period, count, tutti_type_size(e->call.type));
}

static void verify(const struct job *job, const struct exercise *e, const void *got, size_t count,
                   size_t offset, int source, const char *what)
{
    uint64_t expected[PATTERN_PERIOD(PATTERN_SIZE_MAX)];
    size_t period = PATTERN_PERIOD(job->size), bytes = tutti_type_size(e->call.type);
    fill(job, e, expected, count < period ? count : period, offset, source);
    size_t at = elements_difference(got, expected, period, count, bytes);
    if (at == count)
        return;
    uint64_t g = 0, x = 0;
    memcpy(&g, (const char *)got + at * bytes, bytes);
    memcpy(&x, (const char *)expected + at % period * bytes, bytes);
    fail(job, e, "element %zu of %s is 0x%llx and should be 0x%llx", at, what, (unsigned long long)g,
         (unsigned long long)x);
}

/* Where part `r` begins in the vector of all parts without gaps. */
static size_t logical_begin(const struct exercise_buffer *buffer, int r)
{
    size_t begin = 0;
    for (int i = 0; i < r; i++)
        begin += buffer->counts[i];
    return begin;
}

static void fill_input(const struct job *job, const struct exercise *e, char *send)
{
    const enum tutti_operation op = e->call.op;
    size_t bytes = tutti_type_size(e->call.type);
    if (!scatters(op) && !exchanges(op)) {
        fill(job, e, send, e->send.elements, 0, job->rank);
        return;
    }
    for (int r = 0; r < job->size; r++)
        fill(job, e, send + e->send.offsets[r] * bytes, e->send.counts[r], logical_begin(&e->send, r),
             job->rank);
}

static bool is_symmetric(const struct job *job, size_t measure)
{
    size_t turn = measure + (size_t)job->checked; /* the same on all ranks */
    switch (job->where) {
    case WHERE_SYMMETRIC:
        return true;
    case WHERE_MIXED: /* a third of the calls on all ranks, a third on all but one, a third on none */
        return turn % 3 == 0 || (turn % 3 == 1 && job->rank != job->size / 2);
    default:
        return false;
    }
}

/* Memory for the elements of the buffer, between two guards. */
static void take_memory(const struct job *job, struct exercise_buffer *buffer, size_t element_bytes,
                        size_t measure)
{
    size_t bytes = buffer->elements * element_bytes + 2 * GUARD_BYTES;
    void *memory = NULL;
    buffer->symmetric = is_symmetric(job, measure);
    if (buffer->symmetric)
        expect(job, NULL, tutti_alloc(job->comm, bytes, &memory));
    else if ((memory = malloc(bytes)) == NULL)
        fail(job, NULL, "no memory for %zu bytes", bytes);
    memset(memory, GUARD_VALUE, bytes);
    buffer->memory = memory;
}

static void give_memory_back(const struct job *job, struct exercise_buffer *buffer)
{
    if (buffer->symmetric)
        expect(job, NULL, tutti_dealloc(buffer->memory));
    else
        free(buffer->memory);
    *buffer = (struct exercise_buffer){0};
}

static void set_arrays(const struct job *job, struct exercise *e)
{
    struct tutti_call *c = &e->call;
    const size_t *send_offsets = e->scattered ? e->send.offsets : NULL;
    const size_t *recv_offsets = e->scattered ? e->recv.offsets : NULL;
    if (!has_counts(c->op))
        return;
    c->count = part_count(e, job->rank);
    if (!gathers(c->op) && sends(job, c)) {
        c->send_counts = e->send.counts;
        c->send_offsets = send_offsets;
    }
    if (!scatters(c->op) && receives(job, c)) {
        c->recv_counts = e->recv.counts;
        c->recv_offsets = recv_offsets;
    }
}

void exercise_prepare(const struct job *job, struct exercise *e)
{
    struct tutti_call *c = &e->call;
    size_t bytes = tutti_type_size(c->type);
    e->measure = c->count;
    e->scattered = e->scattered && has_counts(c->op) && c->op != TUTTI_REDUCE_SCATTER_V;
    e->in_place = e->in_place && sends(job, c) && receives(job, c) && c->op != TUTTI_ALL_TO_ALL_V;
    e->send = e->recv = (struct exercise_buffer){0};
    c->send = c->recv = NULL;
    c->factor = pattern_factor(job->rank);
    lay_out_both(job, e);
    if (c->op == TUTTI_BARRIER)
        return;
    if (e->in_place ? scatters(c->op) : sends(job, c)) {
        take_memory(job, &e->send, bytes, e->measure);
        c->send = e->send.memory + GUARD_BYTES;
    }
    if (e->in_place ? !scatters(c->op) : receives(job, c)) {
        take_memory(job, &e->recv, bytes, e->measure);
        c->recv = e->recv.memory + GUARD_BYTES;
    }
    if (e->in_place && scatters(c->op))
        c->recv = (char *)c->send + e->send.offsets[job->rank] * bytes;
    else if (e->in_place)
        c->send = (char *)c->recv + (gathers(c->op) ? e->recv.offsets[job->rank] * bytes : 0);
    set_arrays(job, e);
    exercise_refill(job, e);
}

void exercise_refill(const struct job *job, const struct exercise *e)
{
    if (e->call.send != NULL)
        fill_input(job, e, (char *)(uintptr_t)e->call.send);
}

/* ---- Checking ---------------------------------------------------------------------------------- */

static void verify_guards(const struct job *job, const struct exercise *e,
                          const struct exercise_buffer *buffer, bool has_parts)
{
    const unsigned char *memory = buffer->memory;
    size_t element = e->call.op == TUTTI_BARRIER ? 0 : tutti_type_size(e->call.type);
    size_t bytes = buffer->elements * element;
    for (size_t i = 0; memory != NULL && i < GUARD_BYTES; i++)
        if (memory[i] != GUARD_VALUE || memory[GUARD_BYTES + bytes + i] != GUARD_VALUE)
            fail(job, e, "bytes outside of the buffer were written");
    for (int r = 0; memory != NULL && has_parts && e->scattered && r < job->size; r++) {
        const unsigned char *gap = memory + GUARD_BYTES + (buffer->offsets[r] + buffer->counts[r]) * element;
        for (size_t i = 0; i < GAP * element; i++)
            if (gap[i] != GUARD_VALUE)
                fail(job, e, "bytes between the parts were written");
    }
}

/* The parts that come from all ranks. */
static void verify_parts(const struct job *job, const struct exercise *e)
{
    size_t bytes = tutti_type_size(e->call.type);
    for (int r = 0; r < job->size; r++) {
        size_t begin = 0; /* in what rank r sends */
        for (int to = 0; exchanges(e->call.op) && to < job->rank; to++)
            begin += pair_count(job, e, r, to);
        verify(job, e, (char *)e->call.recv + e->recv.offsets[r] * bytes, e->recv.counts[r], begin, r,
               "a rank's part of the result");
    }
}

static void verify_output(const struct job *job, const struct exercise *e)
{
    const struct tutti_call *c = &e->call;
    if (c->recv == NULL || c->op == TUTTI_BARRIER)
        return;
    if (gathers(c->op) || exchanges(c->op)) {
        verify_parts(job, e);
        return;
    }
    bool reduces = c->op != TUTTI_BROADCAST && c->op != TUTTI_SCATTER && c->op != TUTTI_SCATTER_V;
    size_t begin = scatters(c->op) ? logical_begin(&e->send, job->rank) : 0;
    verify(job, e, c->recv, e->recv.elements, begin, reduces ? REDUCED : c->root, "the result");
}

/* `send` must be as it was, but for the part of it that was received into. */
static void verify_input(const struct job *job, const struct exercise *e)
{
    const enum tutti_operation op = e->call.op;
    const char *send = (const char *)e->send.memory + GUARD_BYTES;
    size_t bytes = tutti_type_size(e->call.type);
    if (e->send.memory == NULL)
        return;
    if (!scatters(op) && !exchanges(op)) {
        verify(job, e, send, e->send.elements, 0, job->rank, "the input afterwards");
        return;
    }
    for (int r = 0; r < job->size; r++)
        if (!e->in_place || r != job->rank)
            verify(job, e, send + e->send.offsets[r] * bytes, e->send.counts[r], logical_begin(&e->send, r),
                   job->rank, "a part of the input afterwards");
}

void exercise_verify(const struct job *job, const struct exercise *e)
{
    const enum tutti_operation op = e->call.op;
    verify_output(job, e);
    verify_input(job, e);
    verify_guards(job, e, &e->send, scatters(op) || exchanges(op));
    verify_guards(job, e, &e->recv, gathers(op) || exchanges(op));
}

void exercise_finish(struct job *job, struct exercise *e)
{
    exercise_verify(job, e);
    give_memory_back(job, &e->send);
    give_memory_back(job, &e->recv);
    job->checked++;
}

/* ---- Ways to call ------------------------------------------------------------------------------ */

/* By the function of the operation, unless the call asks for what only struct tutti_call can say. */
static int call_blocking(tutti_comm *comm, const struct tutti_call *c)
{
    tutti_request *request;
    if (c->algorithm != NULL || c->reduction == TUTTI_PREMULTIPLIED_SUM)
        return tutti_run(comm, c, 1, -1, &request);
    switch (c->op) {
    case TUTTI_ALL_REDUCE:
        return tutti_all_reduce(comm, c->send, c->recv, c->count, c->type, c->reduction);
    case TUTTI_REDUCE:
        return tutti_reduce(comm, c->send, c->recv, c->count, c->type, c->reduction, c->root);
    case TUTTI_BROADCAST:
        return tutti_broadcast(comm, c->send, c->recv, c->count, c->type, c->root);
    case TUTTI_ALL_GATHER:
        return tutti_all_gather(comm, c->send, c->recv, c->count, c->type);
    case TUTTI_GATHER:
        return tutti_gather(comm, c->send, c->recv, c->count, c->type, c->root);
    case TUTTI_REDUCE_SCATTER:
        return tutti_reduce_scatter(comm, c->send, c->recv, c->count, c->type, c->reduction);
    case TUTTI_SCATTER:
        return tutti_scatter(comm, c->send, c->recv, c->count, c->type, c->root);
    case TUTTI_ALL_TO_ALL:
        return tutti_all_to_all(comm, c->send, c->recv, c->count, c->type);
    case TUTTI_ALL_GATHER_V:
        return tutti_all_gather_v(comm, c->send, c->recv, c->recv_counts, c->recv_offsets, c->type);
    case TUTTI_GATHER_V:
        return tutti_gather_v(comm, c->send, c->count, c->recv, c->recv_counts, c->recv_offsets, c->type,
                              c->root);
    case TUTTI_SCATTER_V:
        return tutti_scatter_v(comm, c->send, c->send_counts, c->send_offsets, c->recv, c->count, c->type,
                               c->root);
    case TUTTI_REDUCE_SCATTER_V:
        return tutti_reduce_scatter_v(comm, c->send, c->recv, c->send_counts, c->type, c->reduction);
    case TUTTI_ALL_TO_ALL_V:
        return tutti_all_to_all_v(comm, c->send, c->send_counts, c->send_offsets, c->recv, c->recv_counts,
                                  c->recv_offsets, c->type);
    case TUTTI_BARRIER:
        return tutti_barrier(comm);
    default:
        return TUTTI_ERR_ARGUMENT;
    }
}

/* As a server does that has an event loop of its own. */
static void wait_by_poll(const struct job *job, const struct exercise *e, tutti_request **request)
{
    struct pollfd poller = {.fd = tutti_fd(job->comm), .events = POLLIN};
    if (poller.fd < 0)
        fail(job, e, "tutti_fd returned %s", tutti_error_name(poller.fd));
    if (poll(&poller, 1, -1) != 1)
        fail(job, e, "poll failed");
    expect(job, e, tutti_wait(request, 0));
    if (poll(&poller, 1, 0) != 0)
        fail(job, e, "tutti_fd is still readable though nothing is left to wait for");
}

void exercise_issue(const struct job *job, const struct exercise *e, const struct tutti_call *calls,
                    size_t count, enum issue how)
{
    tutti_request *request = NULL;
    tutti_plan *plan = NULL;
    int status;
    switch (how) {
    case ISSUE_BLOCKING:
        expect(job, e, call_blocking(job->comm, calls));
        return;
    case ISSUE_START:
        expect(job, e, tutti_start(job->comm, calls, count, &request));
        expect(job, e, tutti_wait(&request, -1));
        break;
    case ISSUE_RUN:
        status = tutti_run(job->comm, calls, count, 1, &request);
        while (status == TUTTI_PENDING)
            status = tutti_wait(&request, 1);
        expect(job, e, status);
        break;
    case ISSUE_POLL:
        expect(job, e, tutti_start(job->comm, calls, count, &request));
        wait_by_poll(job, e, &request);
        break;
    default:
        expect(job, e, tutti_plan_new(job->comm, calls, count, &plan));
        expect(job, e, tutti_plan_start(plan, &request));
        expect(job, e, tutti_wait(&request, -1));
        tutti_plan_free(plan);
        break;
    }
    if (request != NULL)
        fail(job, e, "the request is not NULL after it completed");
}

void exercise_run(struct job *job, struct exercise e, enum issue how)
{
    e.issue = how;
    exercise_prepare(job, &e);
    exercise_issue(job, &e, &e.call, 1, how);
    exercise_finish(job, &e);
}
