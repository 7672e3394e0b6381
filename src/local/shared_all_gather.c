/* All-gather in shared memory, in rounds: each rank copies a piece of its part to a slot for each other rank,
 * and the pieces of the others from what they sent it.
 *
 * Cost, for n ranks with parts of S bytes: each rank copies (n-1)S bytes to slots and (n-1)S from slots. */
#include "local/collective.h"

#define DEPTH           2 /* rounds for which there are slots: `in` is one ahead of `out` */
#define PIECE_BYTES_MAX (64u << 10)

enum { IN, OUT, ACTIONS_PER_ROUND };

static void prepare(struct direct *d)
{
    size_t most = piece_bytes_max(d, DEPTH);
    d->piece_bytes = most < PIECE_BYTES_MAX ? most : PIECE_BYTES_MAX;
    d->rounds = (uint32_t)((d->count * d->element_bytes + d->piece_bytes - 1) / d->piece_bytes);
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
        if (i != own)
            copy_to_shared(direct_slot(d, own, i, round % DEPTH), send_at(d, r.begin),
                           r.count * d->element_bytes);
    return DIRECT_DONE;
}

static enum direct_result copy_out(struct direct *d, uint32_t round)
{
    int own = d->arena->index;
    if (!direct_await_others(d, done(IN, round)))
        return DIRECT_BLOCKED;
    struct round_pieces r = direct_round(d, d->count, 1, round);
    size_t bytes = r.count * d->element_bytes;
    for (int i = 0; i < d->arena->count; i++) {
        uint8_t *target = recv_at(d, (size_t)i * d->count + r.begin);
        if (i != own)
            memcpy(target, direct_slot(d, i, own, round % DEPTH), bytes);
        else if (target != send_at(d, r.begin))
            memcpy(target, send_at(d, r.begin), bytes);
    }
    direct_turn_slots(d, round % DEPTH);
    return DIRECT_SILENT;
}

static enum direct_result act(struct direct *d, uint32_t action, struct tutti_error *error)
{
    (void)error;
    uint32_t what = action % ACTIONS_PER_ROUND, turn = action / ACTIONS_PER_ROUND, round = turn - what;
    if (turn < what || round >= d->rounds)
        return DIRECT_SILENT;
    return what == IN ? copy_in(d, round) : copy_out(d, round);
}

const struct direct_collective shared_all_gather = {prepare, act, true};
