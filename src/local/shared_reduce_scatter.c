/* Reduce-scatter in shared memory, in rounds: each rank copies the piece of each other rank to a slot, and
 * reduces its own piece from what the others sent it.
 *
 * Cost, for n ranks with parts of S bytes: each rank copies (n-1)S bytes to slots and reads n S. */
#include "local/collective.h"

enum { IN, REDUCE, ACTIONS_PER_ROUND }; /* `in` is one round ahead */

static void prepare(struct direct *d)
{
    part_prepare(d);
    d->rounds = d->rounds > 0 ? d->rounds : 1;
    d->actions = overlap_actions(ACTIONS_PER_ROUND, d->rounds);
}

static enum direct_result copy_in(struct direct *d, uint32_t round)
{
    int own = d->arena->index;
    if (!direct_claim_slots(d))
        return DIRECT_BLOCKED;
    for (int i = 0; i < d->arena->count; i++) {
        struct round_pieces r = part_round(d, i, round);
        if (i != own && r.count > 0)
            memcpy(direct_slot(d, own, i, round % PART_DEPTH), send_at(d, part_begin(d, i) + r.begin),
                   r.count * d->element_bytes);
    }
    return DIRECT_DONE;
}

static enum direct_result reduce(struct direct *d, uint32_t round)
{
    int own = d->arena->index;
    if (!direct_await_others(d, overlap_done(ACTIONS_PER_ROUND, IN, round)))
        return DIRECT_BLOCKED;
    struct round_pieces r = part_round(d, own, round);
    const void *sources[ARENA_RANKS_MAX];
    for (int i = 0; i < d->arena->count; i++)
        sources[i] = i == own ? (const void *)send_at(d, part_begin(d, own) + r.begin)
                              : direct_slot(d, i, own, round % PART_DEPTH);
    direct_reduce(d, recv_at(d, r.begin), sources, r.count);
    direct_turn_slots(d, round % PART_DEPTH);
    return DIRECT_SILENT;
}

static enum direct_result act(struct direct *d, uint32_t action, struct tutti_error *error)
{
    (void)error;
    uint32_t what = action % ACTIONS_PER_ROUND, round;
    if (!overlap_round(d, ACTIONS_PER_ROUND, action, &round))
        return DIRECT_SILENT;
    return what == IN ? copy_in(d, round) : reduce(d, round);
}

const struct direct_collective shared_reduce_scatter = {prepare, act, true};
