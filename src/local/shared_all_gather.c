/* All-gather in shared memory, in rounds: each rank copies a piece of its part to a slot for each other rank,
 * and the pieces of the others from what they sent it.
 *
 * Cost, for n ranks with parts of S bytes: each rank copies (n-1)S bytes to slots and (n-1)S from slots. */
#include "local/collective.h"

enum { IN, OUT, ACTIONS_PER_ROUND }; /* `in` is one round ahead */

static void prepare(struct direct *d)
{
    part_prepare(d);
    d->actions = overlap_actions(ACTIONS_PER_ROUND, d->rounds);
}

static enum direct_result copy_in(struct direct *d, uint32_t round)
{
    int own = d->arena->index;
    if (!direct_claim_slots(d))
        return DIRECT_BLOCKED;
    struct round_pieces r = part_round(d, own, round);
    for (int i = 0; i < d->arena->count; i++)
        if (i != own)
            memcpy(direct_slot(d, own, i, round % PART_DEPTH), send_at(d, r.begin),
                   r.count * d->element_bytes);
    return DIRECT_DONE;
}

static enum direct_result copy_out(struct direct *d, uint32_t round)
{
    int own = d->arena->index;
    if (!direct_await_others(d, overlap_done(ACTIONS_PER_ROUND, IN, round)))
        return DIRECT_BLOCKED;
    size_t total = part_begin(d, d->arena->count) * d->element_bytes;
    for (int i = 0; i < d->arena->count; i++) {
        struct round_pieces r = part_round(d, i, round);
        size_t bytes = r.count * d->element_bytes;
        uint8_t *target = recv_at(d, part_begin(d, i) + r.begin);
        if (i != own)
            copy_to_output(target, direct_slot(d, i, own, round % PART_DEPTH), bytes, total);
        else if (target != send_at(d, r.begin))
            copy_to_output(target, send_at(d, r.begin), bytes, total);
    }
    direct_turn_slots(d, round % PART_DEPTH);
    return DIRECT_SILENT;
}

static enum direct_result act(struct direct *d, uint32_t action, struct tutti_error *error)
{
    (void)error;
    uint32_t what = action % ACTIONS_PER_ROUND, round;
    if (!overlap_round(d, ACTIONS_PER_ROUND, action, &round))
        return DIRECT_SILENT;
    return what == IN ? copy_in(d, round) : copy_out(d, round);
}

const struct direct_collective shared_all_gather = {prepare, act, true};
