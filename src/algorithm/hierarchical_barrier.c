/* Barrier over hosts: the ranks of a host tell its leader, the first of them, on a binomial tree that they
 * are there; the leaders hold a barrier by dissemination; each leader lets its host's ranks go down the same
 * tree. The frames are empty; each names the chunk of its sender.
 *
 * Cost, for h hosts of m ranks: 2 log2 m rounds within hosts and log2 h across; one message for each host and
 * round leaves it. */
#include "algorithm/binomial.h"
#include "algorithm/count.h"
#include "algorithm/hierarchy.h"
#include "algorithm/table.h"

void hierarchical_barrier(struct schedule *s)
{
    struct hierarchy h;
    s->chunks = s->size;
    if (!hierarchy_init(&h, s))
        return;
    struct team local = hierarchy_local(&h, s);
    int node = local.index, top = binomial_top(node, local.size);
    int parent = local.first + binomial_parent(node);
    for (int step = 1; step <= top; step *= 2)
        schedule_recv(s, s->rank + step, s->rank + step, 1, span_recv());
    if (node == 0) {
        hierarchy_leaders_barrier(s, &h);
    } else {
        schedule_send(s, parent, s->rank, 1, span_send());
        schedule_recv(s, parent, parent, 1, span_recv());
    }
    for (int step = top; step >= 1; step /= 2)
        schedule_send(s, s->rank + step, s->rank, 1, span_send());
    hierarchy_clean_up(&h);
}

void hierarchical_barrier_cost(const struct cost_case *c, struct cost *cost)
{
    cost->rounds[COST_LOCAL] = 2 * log2_floor(c->local_max);
    cost->messages[COST_LOCAL] = 2 * log2_ceil(c->local_max);
    cost->rounds[COST_REMOTE] = cost->messages[COST_REMOTE] = log2_ceil(c->host_count);
    cost->load = c->local_max > 1 ? 0.5 : 1;
}
