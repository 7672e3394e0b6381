/* Reduce-scatter in symmetric memory: each rank reduces its part from the buffers of all; none leaves before
 * all have read.
 *
 * Cost, for n ranks with parts of S bytes: each rank reads n S bytes. */
#include "local/collective.h"
#include "local/symmetric.h"

#define BLOCK_BYTES (256u << 10)

static void prepare(struct direct *d)
{
    d->piece_bytes = BLOCK_BYTES;
    d->rounds = (uint32_t)((d->count * d->element_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES);
    d->actions = d->rounds + 1;
}

static enum direct_result act(struct direct *d, uint32_t action, struct tutti_error *error)
{
    int ranks = d->arena->count;
    if (action == d->rounds)
        return direct_await_others(d, d->rounds) ? DIRECT_SILENT : DIRECT_BLOCKED;
    struct round_pieces r = direct_round(d, d->count, 1, action);
    size_t begin = (size_t)d->arena->index * d->count + r.begin;
    const void *sources[ARENA_RANKS_MAX];
    for (int i = 0; i < ranks; i++) {
        const uint8_t *send = direct_send_of(d, i, d->count * (size_t)ranks, error);
        if (!send)
            return DIRECT_FAILED;
        sources[i] = send + begin * d->element_bytes;
    }
    direct_reduce(d, recv_at(d, r.begin), sources, r.count);
    return action + 1 == d->rounds ? DIRECT_DONE : DIRECT_SILENT;
}

const struct direct_collective symmetric_reduce_scatter = {prepare, act, false};
