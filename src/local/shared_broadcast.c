/* Broadcast in shared memory: the root copies its vector to a slot for each other rank, from which that
 * copies it; in rounds where it is long, in the cache line of the root's position where it is a few bytes.
 *
 * Cost, for n ranks and a vector of S bytes: the root copies (n-1)S bytes to slots, each other rank S from
 * slots. */
#include "local/collective.h"

#define DEPTH           4 /* rounds for which there are slots */
#define PIECE_BYTES_MAX (32u << 10)

static bool is_root(const struct direct *d)
{
    return d->arena->index == d->root;
}

static void prepare(struct direct *d)
{
    size_t most = piece_bytes_max(d, DEPTH);
    d->piece_bytes = most < PIECE_BYTES_MAX ? most : PIECE_BYTES_MAX;
    d->rounds = (uint32_t)((d->count * d->element_bytes + d->piece_bytes - 1) / d->piece_bytes);
    d->actions = d->rounds;
}

static void prepare_small(struct direct *d)
{
    d->actions = 1;
}

/* A rank's own output, which is no news. */
static void keep(const struct direct *d, size_t begin, size_t bytes)
{
    if (recv_at(d, begin) != send_at(d, begin) && bytes > 0)
        copy_to_output(recv_at(d, begin), send_at(d, begin), bytes, d->count * d->element_bytes);
}

static enum direct_result send(struct direct *d, uint32_t round)
{
    if (!direct_claim_slots(d) || (round >= DEPTH && !direct_await_others(d, round - DEPTH + 1)))
        return DIRECT_BLOCKED;
    struct round_pieces r = direct_round(d, d->count, 1, round);
    size_t bytes = r.count * d->element_bytes;
    for (int i = 0; i < d->arena->count; i++)
        if (i != d->root)
            memcpy(direct_slot(d, d->root, i, round % DEPTH), send_at(d, r.begin), bytes);
    keep(d, r.begin, bytes);
    return DIRECT_DONE;
}

static enum direct_result receive(struct direct *d, uint32_t round)
{
    if (!direct_await(d, d->root, round + 1))
        return DIRECT_BLOCKED;
    struct round_pieces r = direct_round(d, d->count, 1, round);
    uint8_t *slot = direct_slot(d, d->root, d->arena->index, round % DEPTH);
    copy_to_output(recv_at(d, r.begin), slot, r.count * d->element_bytes, d->count * d->element_bytes);
    hand_back_lines(slot, r.count * d->element_bytes);
    return DIRECT_DONE;
}

static enum direct_result act(struct direct *d, uint32_t action, struct tutti_error *error)
{
    (void)error;
    return is_root(d) ? send(d, action) : receive(d, action);
}

static enum direct_result act_small(struct direct *d, uint32_t action, struct tutti_error *error)
{
    (void)action, (void)error;
    size_t bytes = d->count * d->element_bytes;
    if (!is_root(d) && !direct_await(d, d->root, 1))
        return DIRECT_BLOCKED;
    if (bytes > 0 && is_root(d))
        memcpy(direct_payload(d, d->root), d->send, bytes);
    else if (bytes > 0)
        memcpy(d->recv, direct_payload(d, d->root), bytes);
    if (is_root(d))
        keep(d, 0, bytes);
    return DIRECT_DONE;
}

const struct direct_collective shared_broadcast = {prepare, act, true};
const struct direct_collective shared_broadcast_small = {prepare_small, act_small, false};
