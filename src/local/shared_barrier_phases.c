/* The two halves of a barrier in shared memory, for one that has something to do between them: the first
 * rank of the host waits until the others have begun the call, which is published when they do; and later
 * the others wait until it lets them go.
 *
 * Cost: one cache line from each rank to the first, and one from the first to all. */
#include "local/collective.h"

#define LEADER 0

static void prepare_arrival(struct direct *d)
{
    d->actions = 1;
}

static enum direct_result arrive(struct direct *d, uint32_t action, struct tutti_error *error)
{
    (void)action, (void)error;
    bool done = d->arena->index != LEADER || direct_await_others(d, 0);
    return done ? DIRECT_SILENT : DIRECT_BLOCKED;
}

const struct direct_collective shared_arrival = {prepare_arrival, arrive, false};

static void prepare_release(struct direct *d)
{
    d->actions = 1;
}

static enum direct_result release(struct direct *d, uint32_t action, struct tutti_error *error)
{
    (void)action, (void)error;
    if (d->arena->index == LEADER)
        return DIRECT_DONE;
    return direct_await(d, LEADER, 1) ? DIRECT_SILENT : DIRECT_BLOCKED;
}

const struct direct_collective shared_release = {prepare_release, release, false};
