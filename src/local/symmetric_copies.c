/* Broadcast, gather and all-gather in symmetric memory: who wants the data copies it from where it lies;
 * whose data it is leaves when all have.
 *
 * Cost, for buffers of S bytes: each copy is made once, by its receiver. */
#include "local/collective.h"
#include "local/symmetric.h"

#define BLOCK_BYTES (1u << 20) /* in one action */

static void prepare(struct direct *d)
{
    d->piece_bytes = BLOCK_BYTES;
    d->rounds = (uint32_t)((d->count * d->element_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES);
    d->actions = d->rounds + 1;
}

static enum direct_result last_is_done(const struct direct *d, uint32_t round)
{
    return round + 1 == d->rounds ? DIRECT_DONE : DIRECT_SILENT;
}

/* The buffer of rank `index`, to part `part` of the own output; false: *error says why. */
static bool copy(struct direct *d, uint32_t round, int index, int part, struct tutti_error *error)
{
    struct round_pieces r = direct_round(d, d->count, 1, round);
    uint8_t *target = recv_at(d, (size_t)part * d->count + r.begin);
    const uint8_t *source =
        index == d->arena->index ? (const uint8_t *)d->send : direct_send_of(d, index, d->count, error);
    if (!source)
        return false;
    source += r.begin * d->element_bytes;
    if (target != source)
        memcpy(target, source, r.count * d->element_bytes);
    return true;
}

static bool copy_all(struct direct *d, uint32_t round, struct tutti_error *error)
{
    bool good = true;
    for (int distance = 0; distance < d->arena->count && good; distance++) {
        int i = (d->arena->index + distance) % d->arena->count;
        good = copy(d, round, i, i, error);
    }
    return good;
}

static enum direct_result act_all_gather(struct direct *d, uint32_t action, struct tutti_error *error)
{
    if (action == d->rounds)
        return direct_await_others(d, d->rounds) ? DIRECT_SILENT : DIRECT_BLOCKED;
    return copy_all(d, action, error) ? last_is_done(d, action) : DIRECT_FAILED;
}

static enum direct_result act_gather(struct direct *d, uint32_t action, struct tutti_error *error)
{
    bool is_root = d->arena->index == d->root;
    if (action == d->rounds)
        return is_root || direct_await(d, d->root, d->rounds) ? DIRECT_SILENT : DIRECT_BLOCKED;
    return !is_root || copy_all(d, action, error) ? last_is_done(d, action) : DIRECT_FAILED;
}

static enum direct_result act_broadcast(struct direct *d, uint32_t action, struct tutti_error *error)
{
    bool is_root = d->arena->index == d->root;
    if (action == d->rounds)
        return !is_root || direct_await_others(d, d->rounds) ? DIRECT_SILENT : DIRECT_BLOCKED;
    return copy(d, action, d->root, 0, error) ? last_is_done(d, action) : DIRECT_FAILED;
}

const struct direct_collective symmetric_all_gather = {prepare, act_all_gather, false};
const struct direct_collective symmetric_gather = {prepare, act_gather, false};
const struct direct_collective symmetric_broadcast = {prepare, act_broadcast, false};
