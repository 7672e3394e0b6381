/* Barrier in shared memory: each rank says that it is there, and waits until all have.
 *
 * Cost: one cache line from each rank to each other. */
#include "local/collective.h"

static void prepare(struct direct *d)
{
    d->actions = 2;
}

static enum direct_result act(struct direct *d, uint32_t action, struct tutti_error *error)
{
    (void)error;
    if (action == 0)
        return DIRECT_DONE;
    return direct_await_others(d, 1) ? DIRECT_SILENT : DIRECT_BLOCKED;
}

const struct direct_collective shared_barrier = {prepare, act, false};
