/* Gather on a ring: every rank sends its share towards the root and passes on what comes from behind it, the
 * nearest first.
 *
 * Cost: a rank at distance d before the root sends n-d messages and S(n-d)/n bytes (S: the gathered vector),
 * the root none; n-1 rounds.  The root receives S(n-1)/n bytes as with any algorithm.  Scratch: two chunks,
 * so that one is received while the other is sent.  Needs no links but those of the ring. */
#include "algorithm/count.h"
#include "algorithm/ring.h"
#include "algorithm/table.h"

void ring_gather(struct schedule *s)
{
    int n = s->size, next = ring_next(s), previous = ring_previous(s);
    int distance = (s->root - s->rank + n) % n;
    s->chunks = n;
    if (distance == 0) {
        schedule_copy(s, s->rank, 1, span_send(), span_recv());
        for (int k = 1; k <= n - 1; k++)
            schedule_recv(s, previous, ring_at(s, -k), 1, span_recv());
        return;
    }
    schedule_send(s, next, s->rank, 1, span_send());
    for (int k = 1; k <= n - 1 - distance; k++) {
        int chunk = ring_at(s, -k);
        schedule_recv_send(s, previous, next, chunk, 1, span_scratch((k - 1) % 2, chunk));
    }
}

void ring_gather_cost(const struct cost_case *c, struct cost *cost)
{
    double hops = c->size - 1, share = c->bytes / c->size;
    count_ring(c, cost, hops, hops, hops * share);
    cost->copied = share;
    cost->load = 0.5;
}
