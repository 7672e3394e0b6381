#include "executor/arguments.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include "base/error.h"
#include "tensor/type.h"

struct extent {
    const char *begin;
    size_t bytes;
};

static bool overlap(struct extent a, struct extent b)
{
    return a.bytes > 0 && b.bytes > 0 && a.begin < b.begin + b.bytes && b.begin < a.begin + a.bytes;
}

/* The parts of `send` and `recv` that this rank's part of the call uses; and where in place begins: the
 * address in one of the two that the other must have. */
static void call_extents(int rank, int size, const struct tutti_call *call, struct extent *send,
                         struct extent *recv, const char **in_place_send)
{
    size_t block = call->count * tutti_type_size(call->type), all = block * (size_t)size;
    size_t own = block * (size_t)rank;
    *send = (struct extent){call->send, block};
    *recv = (struct extent){call->recv, block};
    *in_place_send = call->recv;
    switch (call->op) {
    case TUTTI_BROADCAST:
        if (rank != call->root)
            *send = (struct extent){NULL, 0};
        break;
    case TUTTI_GATHER:
    case TUTTI_ALL_GATHER:
        recv->bytes = call->op == TUTTI_GATHER && rank != call->root ? 0 : all;
        *in_place_send = call->recv ? (const char *)call->recv + own : NULL;
        break;
    case TUTTI_REDUCE_SCATTER:
        send->bytes = all;
        *in_place_send = call->recv ? (const char *)call->recv - own : NULL;
        break;
    default:
        break;
    }
}

static int check_buffers(int rank, int size, const struct tutti_call *call, struct tutti_error *error)
{
    const char *name = operation_name(call->op), *in_place_send;
    struct extent send, recv;
    call_extents(rank, size, call, &send, &recv, &in_place_send);
    bool no_send = send.bytes > 0 && !send.begin, no_recv = recv.bytes > 0 && !recv.begin;
    if (no_send || no_recv)
        return error_set(error, TUTTI_ERR_ARGUMENT,
                         "%s: %s is NULL, but %zu bytes of it are needed on rank %d", name,
                         no_send ? "send" : "recv", no_send ? send.bytes : recv.bytes, rank);
    if (send.begin != in_place_send && overlap(send, recv))
        return error_set(
            error, TUTTI_ERR_ARGUMENT,
            "%s: send [%p, +%zu) and recv [%p, +%zu) overlap without being in place: use separate "
            "buffers, or %s",
            name, (const void *)send.begin, send.bytes, (const void *)recv.begin, recv.bytes,
            call->op == TUTTI_REDUCE_SCATTER ? "recv == send + rank * count"
            : send.bytes == recv.bytes       ? "send == recv"
                                             : "send == recv + rank * count");
    return TUTTI_OK;
}

static int check_call(int rank, int size, const struct tutti_call *call, struct tutti_error *error)
{
    if (!operation_is_valid(call->op))
        return error_set(error, TUTTI_ERR_ARGUMENT, "%d is no operation: use one of enum tutti_operation",
                         call->op);
    const char *name = operation_name(call->op);
    if (call->timeout_ms < 0)
        return error_set(error, TUTTI_ERR_ARGUMENT,
                         "%s: timeout_ms is %d: give milliseconds, or 0 for the default", name,
                         call->timeout_ms);
    if (call->op == TUTTI_BARRIER)
        return TUTTI_OK;
    if (!type_is_valid(call->type))
        return error_set(error, TUTTI_ERR_ARGUMENT, "%s: %d is no element type: use one of enum tutti_type",
                         name, call->type);
    if (operation_reduces(call->op) && !reduction_is_valid(call->reduction))
        return error_set(error, TUTTI_ERR_ARGUMENT, "%s: %d is no reduction: use one of enum tutti_reduction",
                         name, call->reduction);
    if (operation_has_root(call->op) && (call->root < 0 || call->root >= size))
        return error_set(error, TUTTI_ERR_ARGUMENT, "%s: root is %d, but the ranks are 0 to %d", name,
                         call->root, size - 1);
    if (call->count > (SIZE_MAX >> 1) / tutti_type_size(call->type) / (size_t)size)
        return error_set(error, TUTTI_ERR_ARGUMENT, "%s: a count of %zu elements does not fit in memory",
                         name, call->count);
    return check_buffers(rank, size, call, error);
}

/* ---- Calls that are issued together ------------------------------------------------------------ */

struct use {
    struct extent extent;
    size_t call; /* index */
    bool writes;
};

static int compare_begins(const void *a, const void *b)
{
    const struct use *x = a, *y = b;
    return (x->extent.begin > y->extent.begin) - (x->extent.begin < y->extent.begin);
}

static int report_dependence(const struct use *a, const struct use *b, struct tutti_error *error)
{
    size_t first = a->call < b->call ? a->call : b->call, second = a->call < b->call ? b->call : a->call;
    return error_set(
        error, TUTTI_ERR_ARGUMENT,
        "calls %zu and %zu of those issued together use the same memory, and one of them writes it: "
        "issue them one after the other, or give them separate buffers",
        first, second);
}

/* The uses of one kind that reach furthest so far, of two different calls: the next use can belong to one. */
struct furthest {
    const struct use *use[2];
};

static bool reaches_further(const struct use *use, const struct use *than)
{
    return !than || use->extent.begin + use->extent.bytes > than->extent.begin + than->extent.bytes;
}

static void remember(struct furthest *furthest, const struct use *use)
{
    const struct use **first = &furthest->use[0], **second = &furthest->use[1];
    if (*first && (*first)->call == use->call) {
        if (reaches_further(use, *first))
            *first = use;
    } else if (reaches_further(use, *first)) {
        *second = *first;
        *first = use;
    } else if (reaches_further(use, *second)) {
        *second = use;
    }
}

static const struct use *find_conflict(const struct furthest *furthest, const struct use *use)
{
    for (int i = 0; i < 2; i++)
        if (furthest->use[i] && furthest->use[i]->call != use->call &&
            overlap(furthest->use[i]->extent, use->extent))
            return furthest->use[i];
    return NULL;
}

/* Goes through the uses in the order of their begins. */
static int check_sorted(const struct use *uses, size_t count, struct tutti_error *error)
{
    struct furthest written = {{NULL, NULL}}, read = {{NULL, NULL}};
    for (size_t i = 0; i < count; i++) {
        const struct use *use = &uses[i], *conflict = find_conflict(&written, use);
        if (!conflict && use->writes)
            conflict = find_conflict(&read, use);
        if (conflict)
            return report_dependence(conflict, use, error);
        remember(use->writes ? &written : &read, use);
    }
    return TUTTI_OK;
}

static int check_independence(int rank, int size, const struct tutti_call *calls, size_t count,
                              struct tutti_error *error)
{
    struct use *uses = malloc(2 * count * sizeof *uses);
    size_t used = 0;
    if (!uses)
        return error_set(error, TUTTI_ERR_MEMORY, "no memory to check %zu calls", count);
    for (size_t i = 0; i < count; i++) {
        struct extent send, recv;
        const char *in_place_send;
        call_extents(rank, size, &calls[i], &send, &recv, &in_place_send);
        if (calls[i].op == TUTTI_BARRIER)
            continue;
        if (send.bytes > 0)
            uses[used++] = (struct use){send, i, false};
        if (recv.bytes > 0)
            uses[used++] = (struct use){recv, i, true};
    }
    qsort(uses, used, sizeof *uses, compare_begins);
    int status = check_sorted(uses, used, error);
    free(uses);
    return status;
}

int arguments_check(int rank, int size, const struct tutti_call *calls, size_t count,
                    struct tutti_error *error)
{
    for (size_t i = 0; i < count; i++)
        if (check_call(rank, size, &calls[i], error) < 0)
            return error->code;
    return count > 1 ? check_independence(rank, size, calls, count, error) : TUTTI_OK;
}
