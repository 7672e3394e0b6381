/* Reduce-scatter on a ring: in round k rank r receives chunk r - k, adds its own share and passes it on; the
 * last chunk that comes is its own, complete but for its share.
 *
 * Cost: n-1 messages and S(n-1)/n bytes sent by each rank (S: the vector that is reduced), which is the least
 * possible, in n-1 rounds.  Chunk c is reduced in the order c+1, c+2, ..., c.  Scratch: two chunks, so that
 * one is received while the other is sent; with a single one, ranks on links without buffers would wait for
 * each other.  Source: the first half of Patarasuk and Yuan, 2009. */
#include "algorithm/count.h"
#include "algorithm/ring.h"
#include "algorithm/table.h"

void ring_reduce_scatter(struct schedule *s)
{
    int n = s->size, next = ring_next(s), previous = ring_previous(s);
    s->chunks = n;
    if (n == 1) {
        schedule_copy(s, 0, 1, span_send(), span_recv());
        schedule_mark_finished(s);
        return;
    }
    schedule_send(s, next, ring_at(s, -1), 1, span_send());
    for (int k = 2; k <= n - 1; k++) {
        int chunk = ring_at(s, -k);
        schedule_recv_reduce_send(s, previous, next, chunk, 1, span_send(), span_scratch(k % 2, chunk));
    }
    schedule_recv_reduce(s, previous, s->rank, 1, span_send(), span_recv());
    schedule_mark_finished(s);
}

void ring_reduce_scatter_cost(const struct cost_case *c, struct cost *cost)
{
    double hops = c->size - 1, share = c->bytes / c->size;
    count_ring(c, cost, hops, hops, hops * share);
    cost->reduced = hops * share;
}
