/* Gather and all-gather of a few bytes from each rank in shared memory: they travel in the cache line of the
 * rank's position.
 *
 * Cost: one cache line from each rank to the root, or to each other rank.  A rank that is not the root waits
 * for nobody, until it is ARENA_CALLS calls ahead. */
#include "local/collective.h"

static void prepare(struct direct *d)
{
    d->actions = 2;
}

static void send_own(struct direct *d)
{
    if (d->count > 0)
        memcpy(direct_payload(d, d->arena->index), d->send, d->count * d->element_bytes);
}

static bool receive_all(struct direct *d)
{
    size_t bytes = d->count * d->element_bytes;
    if (!direct_await_others(d, 1))
        return false;
    for (int i = 0; i < d->arena->count && bytes > 0; i++) {
        uint8_t *target = recv_at(d, (size_t)i * d->count);
        if (i != d->arena->index)
            memcpy(target, direct_payload(d, i), bytes);
        else if (target != d->send)
            memcpy(target, d->send, bytes);
    }
    return true;
}

static enum direct_result act_gather(struct direct *d, uint32_t action, struct tutti_error *error)
{
    (void)error;
    if (action == 0) {
        if (d->arena->index != d->root)
            send_own(d);
        return DIRECT_DONE;
    }
    return d->arena->index != d->root || receive_all(d) ? DIRECT_SILENT : DIRECT_BLOCKED;
}

static enum direct_result act_all_gather(struct direct *d, uint32_t action, struct tutti_error *error)
{
    (void)error;
    if (action == 0) {
        send_own(d);
        return DIRECT_DONE;
    }
    return receive_all(d) ? DIRECT_SILENT : DIRECT_BLOCKED;
}

const struct direct_collective shared_gather_small = {prepare, act_gather, false};
const struct direct_collective shared_all_gather_small = {prepare, act_all_gather, false};
