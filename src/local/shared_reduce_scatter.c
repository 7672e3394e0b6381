/* Reduce-scatter in shared memory, in rounds: each rank copies the piece of each other rank to a slot, and
 * reduces its own piece from what the others sent it.
 *
 * Cost, for n ranks with parts of S bytes: each rank copies (n-1)S bytes to slots and reads n S. */
#include "local/collective.h"

#define DEPTH           2 /* rounds for which there are slots: `in` is one ahead of `reduce` */
#define PIECE_BYTES_MAX (64u << 10)

enum { IN, REDUCE, ACTIONS_PER_ROUND };

static void prepare(struct direct *d)
{
    size_t most = piece_bytes_max(d, DEPTH), bytes = d->count * d->element_bytes;
    d->piece_bytes = most < PIECE_BYTES_MAX ? most : PIECE_BYTES_MAX;
    d->rounds = bytes > 0 ? (uint32_t)((bytes + d->piece_bytes - 1) / d->piece_bytes) : 1;
    d->actions = (d->rounds + 1) * ACTIONS_PER_ROUND;
}

static uint32_t done(int what, uint32_t round)
{
    return (round + (uint32_t)what) * ACTIONS_PER_ROUND + (uint32_t)what + 1;
}

static enum direct_result copy_in(struct direct *d, uint32_t round)
{
    int own = d->arena->index;
    if (!direct_claim_slots(d))
        return DIRECT_BLOCKED;
    struct round_pieces r = direct_round(d, d->count, 1, round);
    for (int i = 0; i < d->arena->count; i++)
        if (i != own && r.count > 0)
            copy_to_shared(direct_slot(d, own, i, round % DEPTH), send_at(d, (size_t)i * d->count + r.begin),
                           r.count * d->element_bytes);
    return DIRECT_DONE;
}

static enum direct_result reduce(struct direct *d, uint32_t round)
{
    int own = d->arena->index;
    if (!direct_await_others(d, done(IN, round)))
        return DIRECT_BLOCKED;
    struct round_pieces r = direct_round(d, d->count, 1, round);
    const void *sources[ARENA_RANKS_MAX];
    for (int i = 0; i < d->arena->count; i++)
        sources[i] = i == own ? (const void *)send_at(d, (size_t)own * d->count + r.begin)
                              : direct_slot(d, i, own, round % DEPTH);
    direct_reduce(d, recv_at(d, r.begin), sources, r.count);
    direct_turn_slots(d, round % DEPTH);
    return DIRECT_SILENT;
}

static enum direct_result act(struct direct *d, uint32_t action, struct tutti_error *error)
{
    (void)error;
    uint32_t what = action % ACTIONS_PER_ROUND, turn = action / ACTIONS_PER_ROUND, round = turn - what;
    if (turn < what || round >= d->rounds)
        return DIRECT_SILENT;
    return what == IN ? copy_in(d, round) : reduce(d, round);
}

const struct direct_collective shared_reduce_scatter = {prepare, act, true};
