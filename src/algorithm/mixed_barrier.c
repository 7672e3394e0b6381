/* Barrier of hosts whose ranks share memory: the part between hosts (local/mixed.h has the others).  The
 * leaders, the first ranks of their hosts, hold a barrier by dissemination; the other ranks have no part.
 *
 * Cost, for h hosts: log2 h rounds, in each of which one message leaves a host. */
#include "algorithm/count.h"
#include "algorithm/hierarchy.h"
#include "algorithm/table.h"

void mixed_barrier(struct schedule *s)
{
    struct hierarchy h;
    s->chunks = s->size;
    if (!hierarchy_init(&h, s))
        return;
    if (s->rank == h.first[h.host])
        hierarchy_leaders_barrier(s, &h);
    hierarchy_clean_up(&h);
}

void mixed_barrier_cost(const struct cost_case *c, struct cost *cost)
{
    cost->rounds[COST_REMOTE] = cost->messages[COST_REMOTE] = log2_ceil(c->host_count);
    cost->load = 1.0 / c->local_max;
}
