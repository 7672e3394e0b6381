#include "executor/call_memory.h"

#include <stdint.h>
#include "tensor/type.h"

static size_t sum(const size_t *counts, int count)
{
    size_t total = 0;
    for (int i = 0; i < count; i++)
        total += counts[i];
    return total;
}

static struct call_buffer whole(const void *begin, size_t elements)
{
    return (struct call_buffer){begin, elements, NULL, NULL};
}

static struct call_buffer parts(const void *begin, const size_t *counts, const size_t *offsets, int size)
{
    return (struct call_buffer){begin, sum(counts, size), offsets ? counts : NULL, offsets};
}

static bool sends_here(int rank, const struct tutti_call *call)
{
    switch (call->op) {
    case TUTTI_BROADCAST:
    case TUTTI_SCATTER:
    case TUTTI_SCATTER_V:
        return rank == call->root;
    case TUTTI_RECV:
        return false;
    default:
        return true;
    }
}

static bool receives_here(int rank, const struct tutti_call *call)
{
    switch (call->op) {
    case TUTTI_REDUCE:
    case TUTTI_GATHER:
    case TUTTI_GATHER_V:
        return rank == call->root;
    case TUTTI_SEND:
        return false;
    default:
        return true;
    }
}

/* The element at which the part of rank `rank` begins. */
static size_t part_begin(int rank, size_t count, const size_t *counts, const size_t *offsets)
{
    if (!counts)
        return (size_t)rank * count;
    return offsets ? offsets[rank] : sum(counts, rank);
}

/* Does this rank's part lie at the same place in both buffers, as the operation wants it? */
static bool is_in_place(int rank, const struct tutti_call *call, size_t element_bytes)
{
    /* Numbers, because a buffer may be NULL where it has no elements. */
    uintptr_t send = (uintptr_t)call->send, recv = (uintptr_t)call->recv;
    bool has_counts = operation_has_counts(call->op);
    if (operation_gathers(call->op))
        return send == recv + element_bytes * part_begin(rank, call->count,
                                                         has_counts ? call->recv_counts : NULL,
                                                         call->recv_offsets);
    if (operation_scatters(call->op))
        return recv ==
               send + element_bytes * part_begin(rank, call->count, has_counts ? call->send_counts : NULL,
                                                 call->op == TUTTI_SCATTER_V ? call->send_offsets : NULL);
    return call->op != TUTTI_ALL_TO_ALL_V && send == recv;
}

/* Of a call whose type, root and counts are good. */
struct call_memory call_memory_of(int rank, int size, const struct tutti_call *c)
{
    struct call_memory m = {.element_bytes = type_size(c->type)};
    const size_t all = c->count * (size_t)size;
    bool sends = sends_here(rank, c), receives = receives_here(rank, c);
    if (c->op == TUTTI_BARRIER)
        return m;
    if (sends)
        m.send = whole(c->send, c->count);
    if (receives)
        m.recv = whole(c->recv, c->count);
    switch (c->op) {
    case TUTTI_ALL_REDUCE: /* these come by the thousand */
    case TUTTI_REDUCE:
    case TUTTI_BROADCAST:
        m.in_place = sends && receives && c->send == c->recv;
        return m;
    case TUTTI_ALL_GATHER:
    case TUTTI_GATHER:
        m.recv.elements = receives ? all : 0;
        break;
    case TUTTI_REDUCE_SCATTER:
    case TUTTI_SCATTER:
        m.send.elements = sends ? all : 0;
        break;
    case TUTTI_ALL_TO_ALL:
        m.send.elements = m.recv.elements = all;
        break;
    case TUTTI_ALL_GATHER_V:
        m.send.elements = c->recv_counts[rank];
        m.recv = parts(c->recv, c->recv_counts, c->recv_offsets, size);
        break;
    case TUTTI_GATHER_V:
        if (receives)
            m.recv = parts(c->recv, c->recv_counts, c->recv_offsets, size);
        break;
    case TUTTI_SCATTER_V:
        if (sends)
            m.send = parts(c->send, c->send_counts, c->send_offsets, size);
        break;
    case TUTTI_REDUCE_SCATTER_V:
        m.send = parts(c->send, c->send_counts, NULL, size);
        m.recv.elements = c->send_counts[rank];
        break;
    case TUTTI_ALL_TO_ALL_V:
        m.send = parts(c->send, c->send_counts, c->send_offsets, size);
        m.recv = parts(c->recv, c->recv_counts, c->recv_offsets, size);
        break;
    default:
        break;
    }
    m.in_place = sends && receives && is_in_place(rank, c, m.element_bytes);
    return m;
}
