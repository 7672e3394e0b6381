#include "local/direct.h"

#include "base/error.h"
#include "local/collective.h"
#include "local/symmetric.h"
#include "tensor/type.h"

/* In one progress(): a deadline, an abort and other work must get through. */
#define ACTIONS_MAX 64
#define SHARE_BYTES (4u << 20)
/* Bytes from which on buffers in symmetric memory are read where they lie.  Below the first, copying is
 * cheaper than asking.  An all-reduce that fits the second-level caches is faster through slots, for there
 * each rank would write to lines that others have just read (collective.h). */
#define SYMMETRIC_MIN            (8u << 10)
#define SYMMETRIC_ALL_REDUCE_MIN (2u << 20)
#define EXCHANGE_MAX             (96u << 10) /* bytes that one rank reads of others in the exchange */

/* ---- Which collective ---------------------------------------------------------------------------- */

static bool is_small(size_t bytes)
{
    return bytes <= ARENA_PAYLOAD_BYTES;
}

static void choose_all_reduce(struct direct *d, size_t bytes)
{
    size_t others = (size_t)d->arena->count - 1;
    d->symmetric = &symmetric_all_reduce;
    if (is_small(bytes))
        d->staged = &shared_all_reduce_small;
    else if (bytes * others <= EXCHANGE_MAX)
        d->staged = &shared_all_reduce_exchange;
    else
        d->staged = &shared_all_reduce;
}

/* Sets `staged` and `symmetric`; returns whether to ask for the latter. */
static bool choose(struct direct *d)
{
    size_t bytes = d->count * d->element_bytes;
    switch (d->operation.call.operation) {
    case TUTTI_ALL_REDUCE:
        choose_all_reduce(d, bytes);
        return bytes >= SYMMETRIC_ALL_REDUCE_MIN;
    case TUTTI_REDUCE_SCATTER:
        d->staged = &shared_reduce_scatter;
        d->symmetric = &symmetric_reduce_scatter;
        return bytes * (size_t)d->arena->count >= SYMMETRIC_MIN;
    case TUTTI_ALL_GATHER:
        d->staged = is_small(bytes) ? &shared_all_gather_small : &shared_all_gather;
        d->symmetric = &symmetric_all_gather;
        return bytes >= SYMMETRIC_MIN;
    case TUTTI_GATHER:
        d->staged = is_small(bytes) ? &shared_gather_small : &shared_gather;
        d->symmetric = &symmetric_gather;
        return bytes >= SYMMETRIC_MIN;
    case TUTTI_BROADCAST:
        d->staged = is_small(bytes) ? &shared_broadcast_small : &shared_broadcast;
        d->symmetric = &symmetric_broadcast;
        return bytes >= SYMMETRIC_MIN;
    default:
        d->staged = &shared_barrier;
        d->symmetric = NULL;
        return false;
    }
}

static void take_collective(struct direct *d, const struct direct_collective *collective, uint32_t first)
{
    d->collective = collective;
    d->first = first;
    d->action = 0;
    d->piece_bytes = 0;
    collective->prepare(d);
}

/* ---- Symmetric memory ---------------------------------------------------------------------------- */

/* Whose buffers would the others read? */
static bool send_is_read(const struct direct *d, int index)
{
    switch (d->operation.call.operation) {
    case TUTTI_BROADCAST:
        return index == d->root;
    case TUTTI_GATHER:
        return index != d->root;
    default:
        return true;
    }
}

static bool recv_is_read(const struct direct *d)
{
    return d->operation.call.operation == TUTTI_ALL_REDUCE;
}

static bool find_own(const struct direct *d, struct arena_statement *statement)
{
    size_t bytes = d->count * d->element_bytes;
    if (d->operation.call.operation == TUTTI_REDUCE_SCATTER)
        bytes *= (size_t)d->arena->count;
    if (send_is_read(d, d->arena->index) && !symmetric_heap_find(d->send, bytes, &statement->send))
        return false;
    return !recv_is_read(d) || symmetric_heap_find(d->recv, bytes, &statement->recv);
}

static bool is_symmetric(const struct direct *d, int index)
{
    const struct arena_statement *statement = direct_statement(d, index);
    return (!send_is_read(d, index) || statement->send.block_bytes > 0) &&
           (!recv_is_read(d) || statement->recv.block_bytes > 0);
}

/* The first action of a call for which symmetric memory pays: says where the own buffers lie and, unless that
 * decides it, waits for what the others say. */
static enum direct_result choose_by_memory(struct direct *d)
{
    struct arena *arena = d->arena;
    if (d->action == 0) {
        struct arena_statement own = {.send.block_bytes = 0}, *statement = direct_statement(d, arena->index);
        if (!arena->symmetric || !find_own(d, &own)) {
            take_collective(d, d->staged, 1);
            d->chosen = true;
            return DIRECT_SILENT;
        }
        statement->send = own.send;
        statement->recv = own.recv;
        d->action = 1;
        arena_post(arena, d->base + 1);
    }
    bool all = true;
    for (int i = 0; i < arena->count; i++)
        if (i != arena->index && (send_is_read(d, i) || recv_is_read(d))) {
            if (!direct_await(d, i, 1))
                return DIRECT_BLOCKED;
            all = all && is_symmetric(d, i);
        }
    take_collective(d, all ? d->symmetric : d->staged, 1);
    d->chosen = true;
    return DIRECT_SILENT;
}

/* ---- The operation -------------------------------------------------------------------------------- */

/* Of the bytes of the call, as large a part as that of the actions. */
static void note_moved(struct direct *d, uint32_t actions)
{
    atomic_uint_fast64_t *moved_bytes = &d->operation.moved_bytes;
    uint64_t each = d->count * d->element_bytes / (d->actions > 0 ? d->actions : 1);
    if (actions > 0)
        atomic_store_explicit(moved_bytes,
                              atomic_load_explicit(moved_bytes, memory_order_relaxed) +
                                  actions * (each > 0 ? each : 1),
                              memory_order_relaxed);
}

/* Why is known elsewhere; `index` is a rank that is missed, -1: none. */
static int left(const struct direct *d, int index, struct tutti_error *error)
{
    error_set(error, TUTTI_ERR_ABORTED, "another rank of this host has left the group");
    error->rank = index >= 0 ? d->arena->names[index] : -1;
    return error->code;
}

static int blocked(struct direct *d, uint32_t moved, struct tutti_error *error)
{
    struct arena *arena = d->arena;
    struct operation *operation = &d->operation;
    if (d->operation.begun) {
        if (!arena_is_at(arena, arena->index, d->base)) /* so that one that makes another call sees it */
            arena_post(arena, d->base);
        int status = arena_check_call(arena, operation->sequence, error);
        if (status < 0)
            return status;
    }
    if (arena_is_aborted(arena))
        return left(d, d->waits_for, error);
    operation->wait = (struct operation_wait){.from = arena->ranks[d->waits_for], .to = -1, .shared = true};
    note_moved(d, moved);
    return TUTTI_PENDING;
}

/* All ranks do, also those that will not write there. */
static void take_slots(struct direct *d)
{
    uint64_t *used = &d->arena->slots_used[d->half];
    if (!d->collective->uses_slots || *used == d->operation.sequence)
        return;
    d->claim = *used;
    *used = d->operation.sequence;
}

static int direct_progress(struct operation *operation, struct tutti_error *error)
{
    struct direct *d = (struct direct *)operation;
    struct arena *arena = d->arena;
    uint32_t moved = 0;
    size_t share = 0;
    d->spins = arena->spins;
    d->further_spins = arena->further_spins;
    if (!d->operation.begun) {
        d->operation.begun = arena_begin(arena, operation->sequence, &operation->call, false, &d->waits_for);
        if (!d->operation.begun)
            return blocked(d, moved, error);
    }
    if (!d->chosen && choose_by_memory(d) == DIRECT_BLOCKED)
        return blocked(d, moved, error);
    if (d->action == 0)
        take_slots(d);
    while (d->action < d->actions) {
        enum direct_result result = d->collective->act(d, d->action, error);
        if (result == DIRECT_BLOCKED)
            return blocked(d, moved, error);
        if (result == DIRECT_FAILED)
            return error->code;
        d->action++;
        if (result == DIRECT_DONE)
            arena_post(arena, d->base + d->first + d->action);
        share += d->piece_bytes * (size_t)arena->count;
        if ((++moved == ACTIONS_MAX || share >= SHARE_BYTES) && d->action < d->actions) {
            note_moved(d, moved);
            operation->wait = (struct operation_wait){.from = -1, .to = -1};
            return TUTTI_PENDING;
        }
    }
    /* A rank that failed may have changed its buffers since, which were read here. */
    if (d->collective == d->symmetric && arena_is_aborted(arena))
        return left(d, -1, error);
    return TUTTI_OK;
}

/* What a call is, however it will be carried out. */
static void describe(struct direct *d, struct arena *arena, const struct fingerprint *call, const void *send,
                     void *recv)
{
    d->operation.progress = direct_progress;
    d->operation.call = *call;
    d->arena = arena;
    d->send = send;
    d->recv = recv;
    d->count = call->count;
    d->element_bytes = call->operation == TUTTI_BARRIER ? 1 : type_size(call->type);
    d->reduce =
        operation_reduces(call->operation) ? arena->kernels->reduce[call->type][call->reduction] : NULL;
    d->claim = 0;
}

void direct_init(struct direct *d, struct arena *arena, const struct fingerprint *call, const void *send,
                 void *recv, int root)
{
    bool averages = operation_reduces(call->operation) && call->reduction == TUTTI_AVG;
    describe(d, arena, call, send, recv);
    d->cuts = 0;
    d->root = root;
    d->first = 0;
    d->divide = averages ? arena->kernels->divide[call->type] : NULL;
    d->chosen = !choose(d);
    if (d->chosen)
        take_collective(d, d->staged, 0);
    else
        d->actions = d->action = 0;
}

/* Numbers it and goes to the beginning. */
static void reset(struct direct *d, uint64_t sequence, int64_t now_ns, int64_t deadline_ns)
{
    struct operation *operation = &d->operation;
    operation->sequence = sequence;
    operation->started_ns = now_ns;
    operation->deadline_ns = deadline_ns;
    operation->wait = (struct operation_wait){.from = -1, .to = -1};
    atomic_store_explicit(&operation->moved_bytes, 0, memory_order_relaxed);
    operation->begun = false;
    operation->input.is_packed = false;
    d->base = arena_position(sequence, 0);
    d->half = (uint8_t)(sequence & 1);
    d->action = 0;
}

void direct_start(struct direct *d, uint64_t sequence, int64_t now_ns, int64_t deadline_ns)
{
    reset(d, sequence, now_ns, deadline_ns);
    if (d->first > 0) { /* a plan runs it again: its memory is looked at anew */
        d->chosen = false;
        d->first = 0;
    }
}

void direct_start_phase(struct direct *d, struct arena *arena, const struct operation *whole,
                        const struct direct_phase *phase)
{
    describe(d, arena, &whole->call, phase->send, phase->recv);
    d->cuts = phase->cuts;
    d->root = 0;
    d->divide = NULL;
    d->staged = phase->collective;
    d->symmetric = NULL;
    d->chosen = true;
    reset(d, whole->sequence, whole->started_ns, whole->deadline_ns);
    d->operation.begun = true;
    take_collective(d, d->staged, phase->first);
}

#define FURTHER_SPINS_EACH 20

bool direct_looks_on(struct direct *d, uint64_t position)
{
    if (d->further_spins <= 0 || arena_holds_up(d->arena, position))
        return false;
    d->further_spins -= FURTHER_SPINS_EACH;
    d->spins = FURTHER_SPINS_EACH;
    return true;
}

/* ---- What the collectives share ------------------------------------------------------------------- */

void direct_reduce(const struct direct *d, void *target, const void *const *sources, size_t count)
{
    if (count == 0)
        return;
    if (d->arena->count == 2)
        d->reduce(target, sources[0], sources[1], count);
    else
        reduce_many(d->arena->kernels, d->operation.call.type, d->operation.call.reduction, target, sources,
                    d->arena->count, count);
    if (d->divide)
        d->divide(target, count, d->arena->count);
}

static const uint8_t *where(const struct direct *d, int index, const struct arena_extent *extent,
                            size_t count, struct tutti_error *error)
{
    const void *buffer = symmetric_map(d->arena->symmetric, index, extent, count * d->element_bytes, error);
    if (!buffer)
        error->rank = d->arena->names[index];
    return buffer;
}

const uint8_t *direct_send_of(const struct direct *d, int index, size_t count, struct tutti_error *error)
{
    return index == d->arena->index ? d->send
                                    : where(d, index, &direct_statement(d, index)->send, count, error);
}

const uint8_t *direct_recv_of(const struct direct *d, int index, size_t count, struct tutti_error *error)
{
    return index == d->arena->index ? d->recv
                                    : where(d, index, &direct_statement(d, index)->recv, count, error);
}

struct round_pieces direct_round(const struct direct *d, size_t total, int pieces, uint32_t round)
{
    size_t most = piece_elements(d), line = ARENA_LINE_BYTES / d->element_bytes;
    size_t begin = round * most * (size_t)pieces, rest = total - begin;
    struct round_pieces result = {begin, rest < most * (size_t)pieces ? rest : most * (size_t)pieces, most};
    if (result.count < most * (size_t)pieces) { /* the last one: equal pieces of whole cache lines */
        size_t each = (result.count + (size_t)pieces - 1) / (size_t)pieces;
        result.each = (each + line - 1) / line * line;
    }
    return result;
}
