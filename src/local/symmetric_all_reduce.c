/* All-reduce in symmetric memory: each rank reduces one part of the vector from the buffers of all into its
 * own, and copies the other parts from the ranks that have reduced them; in blocks, so that what is copied is
 * still in a cache.
 *
 * Nobody overwrites what another still reads: part q of any buffer is read by rank q alone, which has read it
 * when it has reduced it, and the copies come after that.  All leave together, for the parts that a rank has
 * reduced are read by the others until they have copied them.
 *
 * Cost, for n ranks and a vector of S bytes: each rank reads S bytes to reduce its part, and copies (n-1)S/n.
 */
#include "local/collective.h"
#include "local/symmetric.h"

#define BLOCK_BYTES (1024u << 10)

enum { REDUCE, COPY, ACTIONS_PER_ROUND };

static void prepare(struct direct *d)
{
    size_t ranks = (size_t)d->arena->count, bytes = d->count * d->element_bytes;
    d->piece_bytes = BLOCK_BYTES;
    d->rounds = (uint32_t)((bytes + BLOCK_BYTES * ranks - 1) / (BLOCK_BYTES * ranks));
    d->actions = overlap_actions(ACTIONS_PER_ROUND, d->rounds) + 1;
}

static enum direct_result reduce(struct direct *d, uint32_t round, struct tutti_error *error)
{
    int own = d->arena->index;
    struct round_pieces r = direct_round(d, d->count, d->arena->count, round);
    size_t begin = r.begin + piece_begin(&r, own), count = piece_count(&r, own);
    const void *sources[ARENA_RANKS_MAX];
    for (int i = 0; i < d->arena->count; i++) {
        const uint8_t *send = direct_send_of(d, i, d->count, error);
        if (!send)
            return DIRECT_FAILED;
        sources[i] = send + begin * d->element_bytes;
    }
    direct_reduce(d, recv_at(d, begin), sources, count);
    return DIRECT_DONE;
}

static enum direct_result copy(struct direct *d, uint32_t round, struct tutti_error *error)
{
    int ranks = d->arena->count;
    struct round_pieces r = direct_round(d, d->count, ranks, round);
    for (int distance = 1; distance < ranks; distance++) {
        int i = (d->arena->index + distance) % ranks;
        size_t begin = r.begin + piece_begin(&r, i);
        const uint8_t *recv = direct_recv_of(d, i, d->count, error);
        if (!recv)
            return DIRECT_FAILED;
        if (!direct_await(d, i, overlap_done(ACTIONS_PER_ROUND, REDUCE, round)))
            return DIRECT_BLOCKED;
        memcpy(recv_at(d, begin), recv + begin * d->element_bytes, piece_count(&r, i) * d->element_bytes);
    }
    return DIRECT_DONE;
}

static enum direct_result act(struct direct *d, uint32_t action, struct tutti_error *error)
{
    uint32_t what = action % ACTIONS_PER_ROUND, round;
    if (action + 1 == d->actions)
        return direct_await_others(d, overlap_done(ACTIONS_PER_ROUND, COPY, d->rounds - 1)) ? DIRECT_SILENT
                                                                                            : DIRECT_BLOCKED;
    if (!overlap_round(d, ACTIONS_PER_ROUND, action, &round))
        return DIRECT_SILENT;
    return what == REDUCE ? reduce(d, round, error) : copy(d, round, error);
}

const struct direct_collective symmetric_all_reduce = {prepare, act, false};
