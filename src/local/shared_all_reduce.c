/* All-reduce of a long vector in shared memory: a reduce-scatter and an all-gather, in rounds.  In each round
 * every rank has one piece: it copies the piece of each other rank to a slot, reduces its own piece from what
 * the others sent it into the caller's memory, answers with the result in the same slots, and copies the
 * pieces of the others from their answers.  The rounds overlap, so that a rank finds something to do while
 * others are behind:
 *
 *     in 0,  in 1, reduce 0,  in 2, reduce 1, out 0,  in 3, reduce 2, out 1,  ...
 *
 * Cost, for n ranks and a vector of S bytes: each rank copies (n-1)S/n bytes to slots, reads S to reduce its
 * piece, copies (n-1)S/n to slots again and (n-1)S/n from slots.  All slots stay in the second-level cache.
 */
#include "local/collective.h"

#define DEPTH           3 /* rounds that are under way at a time: `in` is two ahead of `out` */
#define PIECE_BYTES_MAX (32u << 10)
#define BLOCK_BYTES     (8u << 10) /* reduced, and copied while it is in the first cache */

enum { IN, REDUCE, OUT, ACTIONS_PER_ROUND };

static void prepare(struct direct *d)
{
    size_t most = piece_bytes_max(d, DEPTH), bytes = d->count * d->element_bytes;
    d->piece_bytes = most < PIECE_BYTES_MAX ? most : PIECE_BYTES_MAX;
    size_t round_bytes = d->piece_bytes * (size_t)d->arena->count;
    d->rounds = (uint32_t)((bytes + round_bytes - 1) / round_bytes);
    d->actions = overlap_actions(ACTIONS_PER_ROUND, d->rounds);
}

static enum direct_result copy_in(struct direct *d, uint32_t round)
{
    int own = d->arena->index;
    if (!direct_claim_slots(d))
        return DIRECT_BLOCKED;
    struct round_pieces r = direct_round(d, d->count, d->arena->count, round);
    for (int i = 0; i < d->arena->count; i++)
        if (i != own)
            memcpy(direct_slot(d, own, i, round % DEPTH), send_at(d, r.begin + piece_begin(&r, i)),
                   piece_count(&r, i) * d->element_bytes);
    return DIRECT_DONE;
}

/* The block of the own piece that begins with element `begin`, `offset` bytes into the slots. */
static void reduce_block(struct direct *d, uint32_t number, size_t begin, size_t count, size_t offset)
{
    int own = d->arena->index, ranks = d->arena->count;
    const void *sources[ARENA_RANKS_MAX];
    sources[0] = NULL; /* for compilers that do not see that there are ranks */
    for (int i = 0; i < ranks; i++)
        sources[i] = i == own ? (const void *)send_at(d, begin) : direct_slot(d, i, own, number) + offset;
    direct_reduce(d, recv_at(d, begin), sources, count);
    for (int i = 0; i < ranks; i++)
        if (i != own)
            memcpy(direct_slot(d, i, own, number) + offset, recv_at(d, begin), count * d->element_bytes);
}

static enum direct_result reduce(struct direct *d, uint32_t round)
{
    if (!direct_await_others(d, overlap_done(ACTIONS_PER_ROUND, IN, round)))
        return DIRECT_BLOCKED;
    struct round_pieces r = direct_round(d, d->count, d->arena->count, round);
    size_t begin = r.begin + piece_begin(&r, d->arena->index), count = piece_count(&r, d->arena->index);
    size_t block = BLOCK_BYTES / d->element_bytes;
    for (size_t at = 0; at < count; at += block)
        reduce_block(d, round % DEPTH, begin + at, count - at < block ? count - at : block,
                     at * d->element_bytes);
    return DIRECT_DONE;
}

static enum direct_result copy_out(struct direct *d, uint32_t round)
{
    struct round_pieces r = direct_round(d, d->count, d->arena->count, round);
    if (!direct_await_others(d, overlap_done(ACTIONS_PER_ROUND, REDUCE, round)))
        return DIRECT_BLOCKED;
    for (int i = 0; i < d->arena->count; i++)
        if (i != d->arena->index)
            memcpy(recv_at(d, r.begin + piece_begin(&r, i)),
                   direct_slot(d, d->arena->index, i, round % DEPTH), piece_count(&r, i) * d->element_bytes);
    return DIRECT_SILENT; /* the slots are this rank's own again */
}

static enum direct_result act(struct direct *d, uint32_t action, struct tutti_error *error)
{
    (void)error;
    uint32_t what = action % ACTIONS_PER_ROUND, round;
    if (!overlap_round(d, ACTIONS_PER_ROUND, action, &round))
        return DIRECT_SILENT;
    return what == IN ? copy_in(d, round) : what == REDUCE ? reduce(d, round) : copy_out(d, round);
}

const struct direct_collective shared_all_reduce = {prepare, act, true};
