/* Gather in shared memory, in rounds: each rank but the root copies a piece of its part to a slot, from which
 * the root copies it.
 *
 * Cost, for n ranks with parts of S bytes: each copies S bytes to slots, the root (n-1)S from slots. */
#include "local/collective.h"

#define DEPTH           4 /* rounds for which there are slots */
#define PIECE_BYTES_MAX (16u << 10)

static void prepare(struct direct *d)
{
    size_t most = piece_bytes_max(d, DEPTH);
    d->piece_bytes = most < PIECE_BYTES_MAX ? most : PIECE_BYTES_MAX;
    d->rounds = (uint32_t)((d->count * d->element_bytes + d->piece_bytes - 1) / d->piece_bytes);
    d->actions = d->rounds;
}

static enum direct_result send(struct direct *d, uint32_t round)
{
    if (!direct_claim_slots(d) || (round >= DEPTH && !direct_await(d, d->root, round - DEPTH + 1)))
        return DIRECT_BLOCKED;
    struct round_pieces r = direct_round(d, d->count, 1, round);
    memcpy(direct_slot(d, d->arena->index, d->root, round % DEPTH), send_at(d, r.begin),
           r.count * d->element_bytes);
    return DIRECT_DONE;
}

static enum direct_result receive(struct direct *d, uint32_t round)
{
    if (!direct_await_others(d, round + 1))
        return DIRECT_BLOCKED;
    struct round_pieces r = direct_round(d, d->count, 1, round);
    size_t bytes = r.count * d->element_bytes, total = d->count * d->element_bytes * (size_t)d->arena->count;
    for (int i = 0; i < d->arena->count; i++) {
        uint8_t *target = recv_at(d, (size_t)i * d->count + r.begin);
        if (i != d->root) {
            uint8_t *slot = direct_slot(d, i, d->root, round % DEPTH);
            copy_to_output(target, slot, bytes, total);
            hand_back_lines(slot, bytes);
        } else if (target != send_at(d, r.begin)) {
            copy_to_output(target, send_at(d, r.begin), bytes, total);
        }
    }
    return DIRECT_DONE;
}

static enum direct_result act(struct direct *d, uint32_t action, struct tutti_error *error)
{
    (void)error;
    return d->arena->index == d->root ? receive(d, action) : send(d, action);
}

const struct direct_collective shared_gather = {prepare, act, true};
