/* All-gather on a ring: in round k every rank passes on what it received in round k - 1.
 *
 * Cost: n-1 messages and S(n-1)/n bytes sent by each rank (S: the gathered vector), which is the least
 * possible, in n-1 rounds.  Source: Thakur, Rabenseifner and Gropp, "Optimization of collective communication
 * operations in MPICH", 2005. */
#include "algorithm/count.h"
#include "algorithm/ring.h"
#include "algorithm/table.h"

void ring_all_gather(struct schedule *s)
{
    int n = s->size, next = ring_next(s), previous = ring_previous(s);
    s->chunks = n;
    if (n > 1)
        schedule_send(s, next, s->rank, 1, span_send());
    schedule_copy(s, s->rank, 1, span_send(), span_recv());
    for (int k = 1; k <= n - 2; k++)
        schedule_recv_send(s, previous, next, ring_at(s, -k), 1, span_recv());
    if (n > 1)
        schedule_recv(s, previous, ring_at(s, 1), 1, span_recv());
}

void ring_all_gather_cost(const struct cost_case *c, struct cost *cost)
{
    double hops = c->size - 1, share = c->bytes / c->size;
    count_ring(c, cost, hops, hops, hops * share);
    cost->copied = share;
}
