/* All-reduce of a few bytes in shared memory: each rank's input travels in the cache line of its position,
 * and each rank reduces all of them, in the order of the ranks.
 *
 * Cost: one cache line from each rank to each other.  Source: the flag and its data in one line, as in the
 * one-shot kernels of inference engines. */
#include "local/collective.h"

static void prepare(struct direct *d)
{
    d->actions = 2;
}

static enum direct_result act(struct direct *d, uint32_t action, struct tutti_error *error)
{
    (void)error;
    struct arena *arena = d->arena;
    if (action == 0) {
        if (d->count > 0)
            memcpy(direct_payload(d, arena->index), d->send, d->count * d->element_bytes);
        return DIRECT_DONE;
    }
    if (!direct_await_others(d, 1))
        return DIRECT_BLOCKED;
    const void *sources[ARENA_RANKS_MAX];
    for (int i = 0; i < arena->count; i++)
        sources[i] = i == arena->index ? d->send : direct_payload(d, i);
    direct_reduce(d, d->recv, sources, d->count);
    return DIRECT_SILENT;
}

const struct direct_collective shared_all_reduce_small = {prepare, act, false};
