/* Barrier on a ring: an all-gather with nothing to carry.  The work vector has no elements, so every step is
 * an empty frame; after n-1 rounds news of every rank has reached every other.
 *
 * Cost: n-1 messages without payload sent by each rank, n-1 rounds. */
#include "algorithm/count.h"
#include "algorithm/ring.h"
#include "algorithm/table.h"

void ring_barrier(struct schedule *s)
{
    int n = s->size, next = ring_next(s), previous = ring_previous(s);
    s->chunks = n;
    if (n == 1)
        return;
    schedule_send(s, next, s->rank, 1, span_send());
    for (int k = 1; k <= n - 2; k++)
        schedule_recv_send(s, previous, next, ring_at(s, -k), 1, span_recv());
    schedule_recv(s, previous, ring_at(s, 1), 1, span_recv());
}

void ring_barrier_cost(const struct cost_case *c, struct cost *cost)
{
    count_ring(c, cost, c->size - 1, c->size - 1, 0);
}
