/* Reduce on a ring: the vector of the rank behind the root is passed along the ring, each rank adding its own
 * to it slice by slice, until it reaches the root.
 *
 * Cost: 1 message and S bytes sent by each rank but the root; n-1 rounds of one slice each, so the time is
 * that of S bytes and n-2 slices more: the best for large vectors, however many ranks.  Reduced in the order
 * root+1, root+2, ..., root.  Scratch: one vector on the ranks between.  The textbook's pipelined chain. */
#include "algorithm/count.h"
#include "algorithm/ring.h"
#include "algorithm/table.h"

void ring_reduce(struct schedule *s)
{
    int next = ring_next(s), previous = ring_previous(s);
    s->chunks = 1;
    if (s->size == 1) {
        schedule_copy(s, 0, 1, span_send(), span_recv());
        schedule_mark_finished(s);
    } else if (s->rank == s->root) {
        schedule_recv_reduce(s, previous, 0, 1, span_send(), span_recv());
        schedule_mark_finished(s);
    } else if (previous == s->root) {
        schedule_send(s, next, 0, 1, span_send());
    } else {
        schedule_recv_reduce_send(s, previous, next, 0, 1, span_send(), span_scratch(0, 0));
    }
}

void ring_reduce_cost(const struct cost_case *c, struct cost *cost)
{
    count_chain(c, cost);
    cost->reduced = c->bytes;
}
