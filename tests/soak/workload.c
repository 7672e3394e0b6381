#include "workload.h"
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "../process/elements.h"
#include "observe.h"

#define SINGLE_BYTES_MAX (1u << 20)   /* of a call that is made alone */
#define JOINT_BYTES_MAX  (128u << 10) /* of one of several: some are fused, some are too long for it */
#define PARTS_MAX        6
#define GUARD_BYTES      64
#define POISON           0xa5
#define ARENA_BYTES      (SINGLE_BYTES_MAX + PARTS_MAX * 256)
#define PERIOD_BYTES_MAX (PATTERN_PERIOD(RANKS_MAX) * 8)
#define WAIT_MS          100

/* One call, and where its input and its result are; they may overlap where it is in place. */
struct part {
    struct tutti_call call;
    uint8_t *input, *output;
    size_t input_count, output_count; /* elements; 0: there is none on this rank */
    size_t shift;                     /* of the pattern: no two operations in a row have the same data */
    bool in_place;
};

enum issue {
    ISSUE_BLOCKING,
    ISSUE_RUN,
    ISSUE_RUN_AND_WAIT,
    ISSUE_START,
    ISSUE_POLL,
    ISSUE_SEPARATELY,
    ISSUES
};

static uint8_t sends[ARENA_BYTES], recvs[ARENA_BYTES];

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

uint64_t draw(uint64_t number, uint64_t what, uint64_t bound)
{
    return mix(mix(number + 0x9e3779b97f4a7c15u) + what) % bound;
}

/* ---- What a call is and what must come of it ----------------------------------------------------- */

static bool is_reduction(enum tutti_operation operation)
{
    return operation == TUTTI_ALL_REDUCE || operation == TUTTI_REDUCE_SCATTER;
}

static bool is_shared_out(enum tutti_operation operation)
{
    return operation == TUTTI_ALL_GATHER || operation == TUTTI_GATHER || operation == TUTTI_REDUCE_SCATTER;
}

/* Calls of the same `kind` in one operation have everything in common but the count. */
static void call_draw(struct tutti_call *call, uint64_t number, uint64_t kind, uint64_t part, int size,
                      size_t bytes_max)
{
    static const enum tutti_operation operations[] = {TUTTI_ALL_REDUCE,     TUTTI_BROADCAST,
                                                      TUTTI_ALL_GATHER,     TUTTI_GATHER,
                                                      TUTTI_REDUCE_SCATTER, TUTTI_BARRIER};
    uint64_t what = 100 + 10 * kind, length = 200 + 10 * part;
    *call = (struct tutti_call){.op = operations[draw(number, what, 6)],
                                .type = all_types[draw(number, what + 1, TYPES)],
                                .reduction = all_reductions[draw(number, what + 2, REDUCTIONS)],
                                .root = (int)draw(number, what + 3, (uint64_t)size)};
    if (!takes(call->type, call->reduction))
        call->reduction = TUTTI_SUM;
    /* As many of each order of magnitude. */
    size_t below = (size_t)1 << draw(number, length, 21);
    size_t bytes = draw(number, length + 1, (below < bytes_max ? below : bytes_max) + 1);
    call->count = bytes / tutti_type_size(call->type) / (is_shared_out(call->op) ? (size_t)size : 1);
    if (call->op == TUTTI_BARRIER)
        call->count = 0;
}

/* Gives the call its buffers, from `offset` of the arenas.  Returns the bytes that it takes of each. */
static size_t part_place(struct part *part, int rank, int size, size_t offset)
{
    struct tutti_call *call = &part->call;
    size_t element = tutti_type_size(call->type), own = (size_t)rank * call->count * element;
    bool root = rank == call->root;
    part->input = sends + offset;
    part->output = recvs + offset;
    part->input_count = part->output_count = call->count;
    if (call->op == TUTTI_BROADCAST && !root)
        part->input_count = 0;
    if (call->op == TUTTI_GATHER && !root) {
        part->output_count = 0;
        part->in_place = false; /* there is nothing to be inside of */
    } else if (call->op == TUTTI_GATHER || call->op == TUTTI_ALL_GATHER) {
        part->output_count *= (size_t)size;
        if (part->in_place)
            part->input = part->output + own;
    } else if (call->op == TUTTI_REDUCE_SCATTER) {
        part->input_count *= (size_t)size;
        if (part->in_place)
            part->output = part->input + own;
    } else if (part->in_place) {
        part->input = part->output;
    }
    call->send = part->input;
    call->recv = part->output;
    call->factor = pattern_factor(rank);
    size_t longest = part->input_count > part->output_count ? part->input_count : part->output_count;
    return (longest * element + GUARD_BYTES + 63) / 64 * 64;
}

static enum tutti_reduction pattern_of(const struct tutti_call *call)
{
    return is_reduction(call->op) ? call->reduction : TUTTI_SUM;
}

/* One period of what `rank` contributes. */
static void period_of_input(uint8_t *period, const struct part *part, int rank, int size)
{
    for (size_t i = 0; i < PATTERN_PERIOD(size); i++)
        number_set(period, i, part->call.type,
                   pattern(rank, size, i + part->shift, part->call.type, pattern_of(&part->call)));
}

/* One period of the reduction, from element `begin` of the vectors that are reduced. */
static void period_of_reduction(uint8_t *period, const struct part *part, int size, size_t begin)
{
    begin %= PATTERN_PERIOD(size);
    for (size_t i = 0; i < PATTERN_PERIOD(size); i++)
        number_set(period, i, part->call.type,
                   pattern_reduced(size, begin + i + part->shift, part->call.type, part->call.reduction));
}

static void part_fill(const struct part *part, int rank, int size)
{
    uint8_t period[PERIOD_BYTES_MAX];
    size_t element = tutti_type_size(part->call.type);
    memset(part->output, POISON, part->output_count * element + GUARD_BYTES);
    if (part->input_count == 0)
        return;
    period_of_input(period, part, rank, size);
    size_t periodic = PATTERN_PERIOD(size) < part->input_count ? PATTERN_PERIOD(size) : part->input_count;
    memcpy(part->input, period, periodic * element);
    elements_repeat(part->input, PATTERN_PERIOD(size), part->input_count, element);
}

/* The first element from `begin` on that differs from the period, or SIZE_MAX. */
static size_t difference(const struct part *part, const uint8_t *buffer, const uint8_t *period, int size,
                         size_t begin, size_t count)
{
    size_t element = tutti_type_size(part->call.type);
    size_t at = elements_difference(buffer + begin * element, period, PATTERN_PERIOD(size), count, element);
    return at < count ? begin + at : SIZE_MAX;
}

static size_t output_difference(const struct part *part, int rank, int size)
{
    uint8_t period[PERIOD_BYTES_MAX];
    const struct tutti_call *call = &part->call;
    if (is_reduction(call->op)) {
        period_of_reduction(period, part, size,
                            call->op == TUTTI_REDUCE_SCATTER ? (size_t)rank * call->count : 0);
    } else if (call->op == TUTTI_BROADCAST) {
        period_of_input(period, part, call->root, size);
    } else {
        for (int from = 0; from < size && part->output_count > 0; from++) {
            period_of_input(period, part, from, size);
            size_t at = difference(part, part->output, period, size, (size_t)from * call->count, call->count);
            if (at != SIZE_MAX)
                return at;
        }
        return SIZE_MAX;
    }
    return difference(part, part->output, period, size, 0, part->output_count);
}

static const char *guard_difference(const struct part *part)
{
    const uint8_t *guard = part->output + part->output_count * tutti_type_size(part->call.type);
    for (int i = 0; i < GUARD_BYTES && !part->in_place; i++)
        if (guard[i] != POISON)
            return "memory behind the result has been written to";
    return NULL;
}

static void part_check(const struct part *part, uint64_t number, int rank, int size, struct tally *tally)
{
    uint8_t period[PERIOD_BYTES_MAX];
    const char *what = guard_difference(part);
    size_t at = output_difference(part, rank, size);
    if (at != SIZE_MAX) {
        what = "a wrong result";
    } else if (!part->in_place && part->input_count > 0) {
        period_of_input(period, part, rank, size);
        at = difference(part, part->input, period, size, 0, part->input_count);
        if (at != SIZE_MAX)
            what = "the input has been changed";
    }
    tally->operations++;
    if (!what)
        return;
    if (tally->wrong++ == 0)
        snprintf(
            tally->first_wrong, sizeof tally->first_wrong,
            "%s in operation %llu on rank %d of %d, element %zd: op %d, count %zu, type %d, reduction %d, "
            "root %d%s",
            what, (unsigned long long)number, rank, size, (ssize_t)at, part->call.op, part->call.count,
            part->call.type, part->call.reduction, part->call.root, part->in_place ? ", in place" : "");
}

/* ---- How calls are made -------------------------------------------------------------------------- */

static int call_blocking(tutti_comm *comm, const struct tutti_call *c)
{
    tutti_request *request;
    if (is_reduction(c->op) && c->reduction == TUTTI_PREMULTIPLIED_SUM) /* no function takes the factor */
        return tutti_run(comm, c, 1, -1, &request);
    switch (c->op) {
    case TUTTI_ALL_REDUCE:
        return tutti_all_reduce(comm, c->send, c->recv, c->count, c->type, c->reduction);
    case TUTTI_BROADCAST:
        return tutti_broadcast(comm, c->send, c->recv, c->count, c->type, c->root);
    case TUTTI_ALL_GATHER:
        return tutti_all_gather(comm, c->send, c->recv, c->count, c->type);
    case TUTTI_GATHER:
        return tutti_gather(comm, c->send, c->recv, c->count, c->type, c->root);
    case TUTTI_REDUCE_SCATTER:
        return tutti_reduce_scatter(comm, c->send, c->recv, c->count, c->type, c->reduction);
    case TUTTI_BARRIER:
        return tutti_barrier(comm);
    default:
        return TUTTI_ERR_ARGUMENT;
    }
}

/* By the descriptor, as a server does, or by waits that time out. */
static int wait_for(tutti_comm *comm, tutti_request **request, bool by_descriptor)
{
    int status;
    do {
        if (by_descriptor) {
            struct pollfd readable = {.fd = tutti_fd(comm), .events = POLLIN};
            poll(&readable, 1, WAIT_MS);
        }
        status = tutti_wait(request, by_descriptor ? 0 : WAIT_MS);
    } while (status == TUTTI_PENDING);
    return status;
}

/* Each call is a request of its own; they are waited for from either end. */
static int make_separately(tutti_comm *comm, const struct tutti_call *calls, size_t count, bool reverse)
{
    tutti_request *requests[PARTS_MAX] = {NULL};
    int result = TUTTI_OK;
    for (size_t i = 0; i < count && result == TUTTI_OK; i++)
        result = tutti_start(comm, &calls[i], 1, &requests[i]);
    for (size_t i = 0; i < count; i++) {
        int status = wait_for(comm, &requests[reverse ? count - 1 - i : i], false);
        if (result == TUTTI_OK)
            result = status;
    }
    return result;
}

static int make(tutti_comm *comm, enum issue issue, const struct tutti_call *calls, size_t count,
                bool reverse)
{
    tutti_request *request = NULL;
    int status;
    switch (issue) {
    case ISSUE_BLOCKING:
        return call_blocking(comm, calls);
    case ISSUE_RUN:
        return tutti_run(comm, calls, count, -1, &request);
    case ISSUE_RUN_AND_WAIT:
        status = tutti_run(comm, calls, count, 0, &request);
        return status == TUTTI_PENDING ? wait_for(comm, &request, false) : status;
    case ISSUE_START:
    case ISSUE_POLL:
        status = tutti_start(comm, calls, count, &request);
        return status == TUTTI_OK ? wait_for(comm, &request, issue == ISSUE_POLL) : status;
    case ISSUE_SEPARATELY:
    case ISSUES:
        break;
    }
    return make_separately(comm, calls, count, reverse);
}

static int make_and_check(tutti_comm *comm, uint64_t number, enum issue issue, struct part *parts,
                          size_t count, struct tally *tally)
{
    int rank = tutti_rank(comm), size = tutti_size(comm);
    struct tutti_call calls[PARTS_MAX];
    size_t offset = 0;
    for (size_t i = 0; i < count; i++) {
        parts[i].shift = draw(number, i, PATTERN_PERIOD(size));
        offset += part_place(&parts[i], rank, size, offset);
        part_fill(&parts[i], rank, size);
        calls[i] = parts[i].call;
    }
    tally->entered_us = now_us();
    int status = make(comm, issue, calls, count, draw(number, 6, 2));
    for (size_t i = 0; i < count && status == TUTTI_OK; i++)
        part_check(&parts[i], number, rank, size, tally);
    return status;
}

void workload_prepare(void)
{
    memset(sends, POISON, sizeof sends);
    memset(recvs, POISON, sizeof recvs);
}

int workload_mixed(tutti_comm *comm, uint64_t number, struct tally *tally)
{
    struct part parts[PARTS_MAX] = {0};
    int size = tutti_size(comm);
    enum issue issue = (enum issue)draw(number, 7, ISSUES);
    bool alone = issue == ISSUE_BLOCKING || draw(number, 8, 3) == 0;
    bool alike = draw(number, 9, 2); /* what is of one kind is fused */
    size_t count = alone ? 1 : 2 + draw(number, 10, PARTS_MAX - 1);
    for (size_t i = 0; i < count; i++) {
        call_draw(&parts[i].call, number, alike ? 0 : i, i, size, alone ? SINGLE_BYTES_MAX : JOINT_BYTES_MAX);
        parts[i].in_place = draw(number, 11, 2);
    }
    return make_and_check(comm, number, issue, parts, count, tally);
}

int workload_all_reduce(tutti_comm *comm, uint64_t number, struct tally *tally)
{
    struct part part = {
        .call = {.op = TUTTI_ALL_REDUCE, .count = 64 << 10, .type = TUTTI_FLOAT32, .reduction = TUTTI_SUM},
        .in_place = true};
    return make_and_check(comm, number, ISSUE_BLOCKING, &part, 1, tally);
}
