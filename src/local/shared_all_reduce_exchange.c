/* All-reduce in shared memory in one phase: each rank sends its vector to each other, and each reduces all of
 * them, in the order of the ranks.
 *
 * Cost, for n ranks and a vector of S bytes: one wait; each rank copies (n-1)S and reads n S bytes. */
#include "local/collective.h"

static void prepare(struct direct *d)
{
    d->piece_bytes = piece_bytes_max(d, 1);
    d->actions = 2;
}

static enum direct_result act(struct direct *d, uint32_t action, struct tutti_error *error)
{
    (void)error;
    int own = d->arena->index, ranks = d->arena->count;
    if (action == 0) {
        if (!direct_claim_slots(d))
            return DIRECT_BLOCKED;
        for (int i = 0; i < ranks; i++)
            if (i != own)
                memcpy(direct_slot(d, own, i, 0), d->send, d->count * d->element_bytes);
        return DIRECT_DONE;
    }
    if (!direct_await_others(d, 1))
        return DIRECT_BLOCKED;
    const void *sources[ARENA_RANKS_MAX];
    for (int i = 0; i < ranks; i++)
        sources[i] = i == own ? d->send : direct_slot(d, i, own, 0);
    direct_reduce(d, d->recv, sources, d->count);
    direct_turn_slots(d, 0);
    return DIRECT_SILENT;
}

const struct direct_collective shared_all_reduce_exchange = {prepare, act, true};
