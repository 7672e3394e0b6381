#include "local/arena.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "base/error.h"

#define ARENA_MAGIC   UINT64_C(0x616e6572a7757474)
#define ARENA_VERSION 1u

static_assert(sizeof(struct arena_call_line) == ARENA_LINE_BYTES, "a call and its payload in one line");
static_assert(sizeof(struct arena_control) <= ARENA_PAGE_BYTES, "a control page holds it");
static_assert(sizeof(struct arena_head) <= ARENA_PAGE_BYTES, "likewise");
static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "shared between processes");

/* ---- The memory -------------------------------------------------------------------------------- */

size_t arena_bytes(int count)
{
    return ARENA_PAGE_BYTES + (size_t)count * (ARENA_PAGE_BYTES + ARENA_SLOT_BYTES);
}

void arena_format(void *memory, int count, uint64_t nonce)
{
    struct arena_head *head = memory;
    head->nonce = nonce;
    head->version = ARENA_VERSION;
    head->count = (uint32_t)count;
    head->magic = ARENA_MAGIC;
}

int arena_check(const void *memory, size_t bytes, int count, uint64_t nonce, struct tutti_error *error)
{
    const struct arena_head *head = memory;
    if (bytes < arena_bytes(count) || head->magic != ARENA_MAGIC || head->version != ARENA_VERSION ||
        head->count != (uint32_t)count)
        return error_set(error, TUTTI_ERR_PROTOCOL,
                         "the shared memory that was passed is no arena of version %u for %d ranks",
                         ARENA_VERSION, count);
    if (head->nonce != nonce)
        return error_set(error, TUTTI_ERR_PROTOCOL,
                         "the shared memory that was passed is not that of the rank that passed it");
    return TUTTI_OK;
}

/* ---- One rank's view ------------------------------------------------------------------------------ */

/* Tables by index, one behind the other. */
static bool make_tables(struct arena *arena, const struct arena_options *options)
{
    size_t count = (size_t)options->count;
    int *ranks = malloc(2 * count * sizeof *ranks);
    arena->controls = calloc(count, sizeof(struct arena_control *));
    arena->slots = calloc(count, sizeof *arena->slots);
    arena->begun = calloc(count, sizeof *arena->begun);
    arena->ranks = ranks;
    if (!ranks || !arena->controls || !arena->slots || !arena->begun)
        return false;
    memcpy(ranks, options->ranks, count * sizeof *ranks);
    memcpy(ranks + count, options->names, count * sizeof *ranks);
    arena->names = ranks + count;
    uint8_t *control = arena->memory + ARENA_PAGE_BYTES, *slots = control + count * ARENA_PAGE_BYTES;
    for (size_t i = 0; i < count; i++) {
        arena->controls[i] = (struct arena_control *)(control + i * ARENA_PAGE_BYTES);
        arena->slots[i] = slots + i * ARENA_SLOT_BYTES;
    }
    return true;
}

struct arena *arena_new(const struct arena_options *options)
{
    struct arena *arena = calloc(1, sizeof *arena);
    if (!arena)
        return NULL;
    arena->memory = options->memory;
    arena->head = options->memory;
    arena->count = options->count;
    arena->index = options->index;
    arena->kernels = options->kernels;
    arena->ring = options->ring;
    arena->ring_context = options->ring_context;
    if (make_tables(arena, options))
        return arena;
    arena_free(arena);
    return NULL;
}

void arena_free(struct arena *arena)
{
    if (!arena)
        return;
    free((void *)arena->ranks);
    free((void *)arena->controls);
    free(arena->slots);
    free(arena->begun);
    free(arena);
}

/* ---- Positions --------------------------------------------------------------------------------- */

/* Of all calls so far: that of those before, and this one.  Quick, and different for calls that differ; it
 * need not stand up to malice, for who shares memory can do worse. */
static uint64_t digest_add(uint64_t digest, const struct fingerprint *call)
{
    uint64_t hash = digest + call->count * UINT64_C(0x9e3779b97f4a7c15);
    hash ^= call->operation | (uint64_t)call->type << 8 | (uint64_t)call->reduction << 16 |
            (uint64_t)call->algorithm << 24 | (uint64_t)call->root << 32;
    hash *= UINT64_C(0xff51afd7ed558ccd);
    hash ^= hash >> 32 ^ call->fused ^ (uint64_t)call->fused_counts << 16;
    return hash;
}

bool arena_have_begun(struct arena *arena, uint64_t sequence, int *index)
{
    if (arena->all_begun >= sequence)
        return true;
    for (int i = 0; i < arena->count; i++) {
        if (i == arena->index || arena->begun[i] >= sequence)
            continue;
        if (!arena_is_at(arena, i, arena_position(sequence, 0))) {
            *index = i;
            return false;
        }
        arena->begun[i] = sequence;
    }
    arena->all_begun = sequence;
    return true;
}

bool arena_begin(struct arena *arena, uint64_t sequence, const struct fingerprint *call, bool publish,
                 int *index)
{
    /* The call before is most often known to have begun everywhere, which spares the next ones a look. */
    if (sequence >= ARENA_CALLS && arena->all_begun < sequence - ARENA_CALLS + 1 &&
        !arena_have_begun(arena, sequence - 1, index) &&
        !arena_have_begun(arena, sequence - ARENA_CALLS + 1, index))
        return false;
    struct arena_control *own = arena->controls[arena->index];
    struct arena_statement *statement = &own->statements[sequence % ARENA_STATEMENTS];
    statement->call = *call;
    statement->send.block_bytes = statement->recv.block_bytes = 0;
    own->calls[sequence % ARENA_CALLS].digest = arena->digest = digest_add(arena->digest, call);
    if (publish)
        arena_post(arena, arena_position(sequence, 0));
    return true;
}

void arena_ring_sleepers(struct arena *arena)
{
    for (int i = 0; i < arena->count; i++) {
        atomic_uint *asleep = &arena->controls[i]->asleep;
        if (i != arena->index && atomic_load(asleep) != 0 && atomic_exchange(asleep, 0) != 0)
            arena->ring(arena->ring_context, i);
    }
}

/* The number of the first call, of the latest ones up to `sequence`, that rank `index` made otherwise than
 * this one.  It may be ARENA_CALLS - 1 calls ahead, and have overwritten what is older than that allows. */
static uint64_t first_difference(const struct arena *arena, int index, uint64_t sequence)
{
    const struct arena_statement *own = arena->controls[arena->index]->statements,
                                 *its = arena->controls[index]->statements;
    uint64_t first = sequence > ARENA_CALLS ? sequence - ARENA_CALLS : 1;
    while (first < sequence &&
           fingerprint_equal(&own[first % ARENA_STATEMENTS].call, &its[first % ARENA_STATEMENTS].call))
        first++;
    return first;
}

int arena_check_call(struct arena *arena, uint64_t sequence, struct tutti_error *error)
{
    const struct arena_control *own = arena->controls[arena->index];
    for (int i = 0; i < arena->count; i++) {
        const struct arena_control *control = arena->controls[i];
        if (i == arena->index || !arena_is_at(arena, i, arena_position(sequence, 0)) ||
            control->calls[sequence % ARENA_CALLS].digest == arena->digest)
            continue;
        uint64_t first = first_difference(arena, i, sequence);
        const struct fingerprint theirs = control->statements[first % ARENA_STATEMENTS].call;
        const struct mismatch_side their_side = {arena->names[i], first, &theirs};
        const struct mismatch_side our_side = {arena->names[arena->index], first,
                                               &own->statements[first % ARENA_STATEMENTS].call};
        return mismatch_error(&their_side, &our_side, error);
    }
    return TUTTI_OK;
}

/* ---- Waiting -----------------------------------------------------------------------------------*/

bool arena_holds_up(const struct arena *arena, uint64_t position)
{
    int own = atomic_load_explicit(&arena->controls[arena->index]->core, memory_order_relaxed);
    for (int i = 0; i < arena->count; i++)
        if (i != arena->index && !arena_is_at(arena, i, position) &&
            atomic_load_explicit(&arena->controls[i]->core, memory_order_relaxed) == own)
            return true;
    return false;
}

/* ---- Sleeping ---------------------------------------------------------------------------------- */

void arena_fall_asleep(struct arena *arena)
{
    atomic_store(&arena->controls[arena->index]->asleep, 1);
}

void arena_wake(struct arena *arena)
{
    atomic_uint *asleep = &arena->controls[arena->index]->asleep;
    if (atomic_load_explicit(asleep, memory_order_relaxed) != 0) /* else leave the line with its readers */
        atomic_store_explicit(asleep, 0, memory_order_relaxed);
}

void arena_abort(struct arena *arena)
{
    atomic_store(&arena->head->aborted, 1);
    for (int i = 0; i < arena->count; i++)
        if (i != arena->index)
            arena->ring(arena->ring_context, i);
}
