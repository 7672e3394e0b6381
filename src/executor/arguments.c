#include "executor/arguments.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/error.h"
#include "executor/call_memory.h"
#include "executor/overlap.h"
#include "tensor/type.h"

#define PLAIN_COUNT_MAX ((size_t)1 << 40)

/* ---- Uses -------------------------------------------------------------------------------------- */

struct use_list {
    struct memory_use *uses;
    size_t count;
};

static void add_use(struct use_list *list, const char *begin, size_t bytes, size_t owner, bool writes)
{
    if (bytes > 0)
        list->uses[list->count++] = (struct memory_use){begin, bytes, owner, writes};
}

/* `owners`: each part belongs to another owner, from `owner` on; else all to that one. */
static void add_buffer(struct use_list *list, const struct call_buffer *buffer, int size,
                       size_t element_bytes, size_t owner, bool owners, bool writes)
{
    if (!buffer->offsets) {
        add_use(list, buffer->begin, buffer->elements * element_bytes, owner, writes);
        return;
    }
    for (int r = 0; r < size && buffer->elements > 0; r++)
        add_use(list, buffer->begin + buffer->offsets[r] * element_bytes, buffer->counts[r] * element_bytes,
                owner + (owners ? (size_t)r : 0), writes);
}

/* Room for `count` uses and for sorting them; NULL when out of memory. */
static struct memory_use *uses_new(size_t count)
{
    return count > SIZE_MAX / 2 / sizeof(struct memory_use) ? NULL
                                                            : malloc(2 * count * sizeof(struct memory_use));
}

/* ---- Buffers ----------------------------------------------------------------------------------- */

static const char *how_in_place(int operation)
{
    bool has_counts = operation_has_counts(operation);
    if (operation == TUTTI_ALL_TO_ALL_V)
        return "for it cannot work in place";
    if (operation_gathers(operation))
        return has_counts ? "or send == recv + the offset of this rank's part"
                          : "or send == recv + rank * count";
    if (operation_scatters(operation))
        return has_counts ? "or recv == send + the offset of this rank's part"
                          : "or recv == send + rank * count";
    return "or send == recv";
}

static int report_overlap(const struct tutti_call *call, const char *send, size_t send_bytes,
                          const char *recv, size_t recv_bytes, struct tutti_error *error)
{
    return error_set(error, TUTTI_ERR_ARGUMENT,
                     "%s: send [%p, +%zu) and recv [%p, +%zu) overlap without being in place: use separate "
                     "buffers, %s",
                     operation_name(call->op), (const void *)send, send_bytes, (const void *)recv, recv_bytes,
                     how_in_place(call->op));
}

/* From the first byte of the first part to the end of the last. */
static size_t extent(const struct call_buffer *buffer, int size, size_t element_bytes, const char **begin)
{
    size_t first = 0, end = buffer->elements;
    if (buffer->offsets) {
        first = SIZE_MAX;
        end = 0;
        for (int r = 0; r < size; r++) {
            if (buffer->counts[r] == 0)
                continue;
            size_t part_end = buffer->offsets[r] + buffer->counts[r];
            first = buffer->offsets[r] < first ? buffer->offsets[r] : first;
            end = part_end > end ? part_end : end;
        }
    }
    *begin = buffer->begin;
    if (end == 0)
        return 0;
    *begin += first * element_bytes;
    return (end - first) * element_bytes;
}

/* Does each part begin where the one before ends, or later? */
static bool is_ascending(const struct call_buffer *buffer, int size)
{
    size_t end = 0;
    for (int r = 0; buffer->offsets && r < size; r++) {
        if (buffer->counts[r] == 0)
            continue;
        if (buffer->offsets[r] < end)
            return false;
        end = buffer->offsets[r] + buffer->counts[r];
    }
    return true;
}

/* Of buffers whose parts are scattered: may two of them overlap? */
static int check_parts(int size, const struct tutti_call *call, const struct call_memory *m,
                       struct tutti_error *error)
{
    struct use_list list = {uses_new(2 * (size_t)size), 0};
    struct memory_use conflict[2];
    if (!list.uses)
        return error_set(error, TUTTI_ERR_MEMORY, "%s: no memory to check its offsets",
                         operation_name(call->op));
    add_buffer(&list, &m->recv, size, m->element_bytes, 0, true, true);
    if (!m->in_place)
        add_buffer(&list, &m->send, size, m->element_bytes, (size_t)size, false, false);
    bool found = memory_uses_conflict(list.uses, list.count, conflict);
    free(list.uses);
    if (!found)
        return TUTTI_OK;
    if (conflict[0].writes && conflict[1].writes)
        return error_set(error, TUTTI_ERR_ARGUMENT,
                         "%s: the parts of ranks %zu and %zu overlap in recv: correct recv_offsets or "
                         "recv_counts",
                         operation_name(call->op), conflict[0].owner, conflict[1].owner);
    const struct memory_use *send = &conflict[conflict[0].writes ? 1 : 0];
    const struct memory_use *recv = &conflict[conflict[0].writes ? 0 : 1];
    return report_overlap(call, send->begin, send->bytes, recv->begin, recv->bytes, error);
}

static int check_buffers(int rank, int size, const struct tutti_call *call, const struct call_memory *m,
                         struct tutti_error *error)
{
    bool no_send = m->send.elements > 0 && !m->send.begin, no_recv = m->recv.elements > 0 && !m->recv.begin;
    if (no_send || no_recv)
        return error_set(error, TUTTI_ERR_ARGUMENT,
                         "%s: %s is NULL, but %zu bytes of it are needed on rank %d",
                         operation_name(call->op), no_send ? "send" : "recv",
                         (no_send ? m->send.elements : m->recv.elements) * m->element_bytes, rank);
    const char *send, *recv;
    size_t send_bytes = extent(&m->send, size, m->element_bytes, &send);
    size_t recv_bytes = extent(&m->recv, size, m->element_bytes, &recv);
    bool apart = m->in_place || !memory_overlaps(send, send_bytes, recv, recv_bytes);
    if (apart && is_ascending(&m->recv, size))
        return TUTTI_OK;
    if (m->send.offsets || m->recv.offsets)
        return check_parts(size, call, m, error);
    return report_overlap(call, send, send_bytes, recv, recv_bytes, error);
}

/* ---- Counts ------------------------------------------------------------------------------------ */

#define MEMORY_BYTES_MAX (SIZE_MAX >> 1)

static int check_array(const struct tutti_call *call, const char *side, const size_t *counts,
                       const size_t *offsets, int size, struct tutti_error *error)
{
    const char *name = operation_name(call->op);
    size_t most = MEMORY_BYTES_MAX / type_size(call->type), total = 0;
    if (!counts)
        return error_set(error, TUTTI_ERR_ARGUMENT,
                         "%s: %s_counts is NULL: give a count for each of the %d "
                         "ranks",
                         name, side, size);
    for (int r = 0; r < size; r++) {
        if (counts[r] > most - total)
            return error_set(error, TUTTI_ERR_ARGUMENT,
                             "%s: the %s_counts of ranks 0 to %d add up to more elements than fit in memory",
                             name, side, r);
        total += counts[r];
        if (offsets && offsets[r] > most - counts[r])
            return error_set(error, TUTTI_ERR_ARGUMENT,
                             "%s: %s_offsets[%d] is %zu: a part of a count of %zu elements there does not "
                             "fit in memory",
                             name, side, r, offsets[r], counts[r]);
    }
    return TUTTI_OK;
}

/* What this rank gives and takes itself it knows twice. */
static int check_own_counts(int rank, const struct tutti_call *call, struct tutti_error *error)
{
    const char *name = operation_name(call->op);
    if (call->op == TUTTI_ALL_TO_ALL_V && call->send_counts[rank] != call->recv_counts[rank])
        return error_set(error, TUTTI_ERR_ARGUMENT,
                         "%s: send_counts[%d] is %zu and recv_counts[%d] is %zu, but what rank %d sends to "
                         "itself is what it receives: give the same count",
                         name, rank, call->send_counts[rank], rank, call->recv_counts[rank], rank);
    if (call->op != TUTTI_GATHER_V && call->op != TUTTI_SCATTER_V)
        return TUTTI_OK;
    bool gathers = call->op == TUTTI_GATHER_V;
    size_t own = gathers ? call->recv_counts[rank] : call->send_counts[rank];
    if (rank == call->root && own != call->count)
        return error_set(error, TUTTI_ERR_ARGUMENT,
                         "%s: count is %zu and %s_counts[%d] is %zu, but both say what the root itself %s: "
                         "give the same count",
                         name, call->count, gathers ? "recv" : "send", rank, own,
                         gathers ? "sends" : "receives");
    return TUTTI_OK;
}

/* Of a _v, whose counts are arrays. */
static int check_arrays(int rank, int size, const struct tutti_call *call, struct tutti_error *error)
{
    int status = TUTTI_OK;
    if (operation_has_root(call->op) && rank != call->root)
        return TUTTI_OK;
    if (operation_scatters(call->op) || call->op == TUTTI_ALL_TO_ALL_V)
        status = check_array(call, "send", call->send_counts,
                             call->op == TUTTI_REDUCE_SCATTER_V ? NULL : call->send_offsets, size, error);
    if (status == TUTTI_OK && !operation_scatters(call->op))
        status = check_array(call, "recv", call->recv_counts, call->recv_offsets, size, error);
    return status == TUTTI_OK ? check_own_counts(rank, call, error) : status;
}

/* `most`: elements of the longest `count` that the operation and the type take. */
static int check_counts(int rank, int size, const struct tutti_call *call, bool has_counts, size_t most,
                        struct tutti_error *error)
{
    if (call->count > most)
        return error_set(error, TUTTI_ERR_ARGUMENT, "%s: a count of %zu elements does not fit in memory",
                         operation_name(call->op), call->count);
    return has_counts ? check_arrays(rank, size, call, error) : TUTTI_OK;
}

static size_t count_max(const struct tutti_call *call, int size)
{
    if (call->op == TUTTI_BARRIER)
        return SIZE_MAX; /* it is ignored */
    size_t elements = MEMORY_BYTES_MAX / type_size(call->type);
    if (operation_is_message(call->op) || call->op == TUTTI_GATHER_V || call->op == TUTTI_SCATTER_V)
        return elements;
    return operation_has_counts(call->op) ? SIZE_MAX : elements / (size_t)size;
}

/* ---- Kinds ------------------------------------------------------------------------------------- */

static int check_reduction(const struct tutti_call *call, struct tutti_error *error)
{
    char names[256] = "";
    size_t used = 0;
    if (!reduction_is_valid(call->reduction))
        return error_set(error, TUTTI_ERR_ARGUMENT, "%s: %d is no reduction: use one of enum tutti_reduction",
                         operation_name(call->op), call->reduction);
    if (call->reduction == TUTTI_PREMULTIPLIED_SUM && isnan(call->factor))
        return error_set(error, TUTTI_ERR_ARGUMENT,
                         "%s: TUTTI_PREMULTIPLIED_SUM needs a factor that is a number: set it in a struct "
                         "tutti_call, for tutti_run() or tutti_start()",
                         operation_name(call->op));
    if (type_takes(call->type, call->reduction))
        return TUTTI_OK;
    for (int type = 1; type < TYPE_COUNT; type++)
        if (type_takes(type, call->reduction) && used < sizeof names)
            used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", used > 0 ? ", " : "",
                                     type_name(type));
    return error_set(error, TUTTI_ERR_ARGUMENT,
                     "%s: the reduction %s does not take the type %s: use another reduction, or one of the "
                     "types %s",
                     operation_name(call->op), reduction_name(call->reduction), type_name(call->type), names);
}

static int check_message(int size, const struct tutti_call *call, struct tutti_error *error)
{
    const char *name = operation_name(call->op);
    bool any = call->op == TUTTI_RECV;
    if ((call->peer < 0 || call->peer >= size) && !(any && call->peer == TUTTI_ANY_SOURCE))
        return error_set(error, TUTTI_ERR_ARGUMENT, "%s: the peer is %d, but the ranks are 0 to %d%s", name,
                         call->peer, size - 1, any ? ", or TUTTI_ANY_SOURCE" : "");
    if (call->tag < 0 && !(any && call->tag == TUTTI_ANY_TAG))
        return error_set(error, TUTTI_ERR_ARGUMENT, "%s: the tag is %d, but tags are numbers from 0%s", name,
                         call->tag, any ? ", or TUTTI_ANY_TAG" : "");
    return TUTTI_OK;
}

/* All of a call but its counts and buffers. */
static int check_kind(int size, const struct tutti_call *call, struct tutti_error *error)
{
    if (!operation_is_valid(call->op))
        return error_set(error, TUTTI_ERR_ARGUMENT, "%d is no operation: use one of enum tutti_operation",
                         call->op);
    const char *name = operation_name(call->op);
    int status = TUTTI_OK;
    if (call->timeout_ms < 0)
        return error_set(error, TUTTI_ERR_ARGUMENT,
                         "%s: timeout_ms is %d: give milliseconds, or 0 for the default", name,
                         call->timeout_ms);
    if (call->op == TUTTI_BARRIER)
        return TUTTI_OK;
    if (!type_is_valid(call->type))
        return error_set(error, TUTTI_ERR_ARGUMENT, "%s: %d is no element type: use one of enum tutti_type",
                         name, call->type);
    if (operation_reduces(call->op))
        status = check_reduction(call, error);
    if (status == TUTTI_OK && operation_has_root(call->op) && (call->root < 0 || call->root >= size))
        status = error_set(error, TUTTI_ERR_ARGUMENT, "%s: root is %d, but the ranks are 0 to %d", name,
                           call->root, size - 1);
    if (status == TUTTI_OK && operation_is_message(call->op))
        status = check_message(size, call, error);
    return status;
}

static bool is_same_kind(const struct tutti_call *a, const struct tutti_call *b)
{
    return a->op == b->op && a->type == b->type && a->reduction == b->reduction && a->root == b->root &&
           a->timeout_ms == b->timeout_ms && a->peer == b->peer && a->tag == b->tag && a->factor == b->factor;
}

/* ---- Calls that are issued together ------------------------------------------------------------ */

static int check_together(const struct tutti_call *calls, size_t index, struct tutti_error *error)
{
    if (operation_is_message(calls[index].op) == operation_is_message(calls[0].op))
        return TUTTI_OK;
    return error_set(
        error, TUTTI_ERR_ARGUMENT,
        "calls 0 and %zu of those issued together are %s and %s: messages and collectives cannot "
        "be issued together, start them one after the other",
        index, operation_name(calls[0].op), operation_name(calls[index].op));
}

static size_t uses_max(int size, const struct tutti_call *calls, size_t count)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += operation_has_counts(calls[i].op) ? 2 * (size_t)size : 2; /* at most */
    return total;
}

/* What calls that are issued together use: reads at the front, and writes in the half behind it.  The inputs
 * of a model often lie in order, and so do its outputs, and each is then one run to the sort. */
struct together {
    struct use_list reads, writes;
};

static void add_call(struct together *t, int size, const struct tutti_call *call, const struct call_memory *m,
                     size_t owner)
{
    bool covered = m->in_place && !operation_scatters(call->op); /* it lies within recv */
    if (!covered)
        add_buffer(&t->reads, &m->send, size, m->element_bytes, owner, false, false);
    add_buffer(&t->writes, &m->recv, size, m->element_bytes, owner, false, true);
    if (call->op == TUTTI_RECV && call->received)
        add_use(&t->writes, (const char *)call->received, sizeof *call->received, owner, true);
}

static int check_independence(struct together *t, struct tutti_error *error)
{
    struct memory_use *uses = t->reads.uses, conflict[2];
    memmove(uses + t->reads.count, t->writes.uses, t->writes.count * sizeof *uses);
    if (!memory_uses_conflict(uses, t->reads.count + t->writes.count, conflict))
        return TUTTI_OK;
    size_t a = conflict[0].owner, b = conflict[1].owner;
    return error_set(
        error, TUTTI_ERR_ARGUMENT,
        "calls %zu and %zu of those issued together use the same memory, and one of them writes it: "
        "issue them one after the other, or give them separate buffers",
        a < b ? a : b, a < b ? b : a);
}

/* Those that come by the thousand: one whole buffer each way. */
static bool is_vector_operation(int operation)
{
    return operation == TUTTI_ALL_REDUCE || operation == TUTTI_REDUCE || operation == TUTTI_BROADCAST;
}

/* Adds the buffers of such a call where nothing is wrong with them; false: look closer. */
static bool add_vector(struct together *t, int rank, const struct tutti_call *call, size_t element_bytes,
                       size_t owner)
{
    bool sends = call->op != TUTTI_BROADCAST || rank == call->root;
    bool receives = call->op != TUTTI_REDUCE || rank == call->root;
    bool in_place = sends && receives && call->send == call->recv;
    size_t bytes = call->count * element_bytes;
    if ((sends && !call->send) || (receives && !call->recv) ||
        (sends && receives && !in_place && memory_overlaps(call->send, bytes, call->recv, bytes)))
        return false;
    if (sends && !in_place)
        add_use(&t->reads, call->send, bytes, owner, false);
    if (receives)
        add_use(&t->writes, call->recv, bytes, owner, true);
    return true;
}

/* `t` is NULL for a single call.  What is the same for a thousand calls in a row is looked at once. */
static int check_each(int rank, int size, const struct tutti_call *calls, size_t count, struct together *t,
                      struct tutti_error *error)
{
    bool has_counts = false, vector = false;
    size_t most = 0, element_bytes = 0;
    int status = TUTTI_OK;
    for (size_t i = 0; i < count; i++) {
        const struct tutti_call *call = &calls[i];
        if (i == 0 || !is_same_kind(call, &calls[i - 1])) {
            status = check_kind(size, call, error);
            if (status == TUTTI_OK)
                status = check_together(calls, i, error);
            if (status < 0)
                return status;
            has_counts = operation_has_counts(call->op);
            vector = t && is_vector_operation(call->op);
            element_bytes = type_size(call->type);
            most = count_max(call, size);
        }
        status = check_counts(rank, size, call, has_counts, most, error);
        if (status < 0)
            return status;
        if (vector && add_vector(t, rank, call, element_bytes, i))
            continue;
        const struct call_memory m = call_memory_of(rank, size, call);
        status = check_buffers(rank, size, call, &m, error);
        if (status < 0)
            return status;
        if (t)
            add_call(t, size, call, &m, i);
    }
    return TUTTI_OK;
}

/* The call that comes by the thousand, with nothing to complain about. */
static bool is_plain(const struct tutti_call *call)
{
    if (call->op != TUTTI_ALL_REDUCE || !type_is_valid(call->type) || !reduction_is_valid(call->reduction) ||
        !type_takes(call->type, call->reduction) || call->reduction == TUTTI_PREMULTIPLIED_SUM ||
        call->timeout_ms != 0 || !call->send || !call->recv || call->count > PLAIN_COUNT_MAX)
        return false;
    const char *send = call->send, *recv = call->recv;
    size_t bytes = call->count * type_sizes[call->type];
    return send == recv || send + bytes <= recv || recv + bytes <= send;
}

int arguments_check(int rank, int size, const struct tutti_call *calls, size_t count,
                    struct tutti_error *error)
{
    if (count == 1 && is_plain(calls))
        return TUTTI_OK;
    if (count == 1)
        return check_each(rank, size, calls, count, NULL, error);
    size_t most = uses_max(size, calls, count);
    struct memory_use *uses = uses_new(most);
    if (!uses)
        return error_set(error, TUTTI_ERR_MEMORY, "no memory to check %zu calls", count);
    struct together together = {{uses, 0}, {uses + most, 0}};
    int status = check_each(rank, size, calls, count, &together, error);
    if (status == TUTTI_OK)
        status = check_independence(&together, error);
    free(uses);
    return status;
}
