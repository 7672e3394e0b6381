/* Broadcast on a ring: the root's vector is passed from rank to rank, slice by slice, until the one before
 * the root has it.
 *
 * Cost: 1 message and S bytes sent by each rank but the last; n-1 rounds of one slice each, so the time is
 * that of S bytes and n-2 slices more: the best for large vectors, however many ranks.  The textbook's
 * pipelined chain. */
#include "algorithm/count.h"
#include "algorithm/relay.h"
#include "algorithm/ring.h"
#include "algorithm/table.h"

void ring_broadcast(struct schedule *s)
{
    bool root = s->rank == s->root;
    struct relay relay = root ? relay_of(span_send()) : relay_from(ring_previous(s));
    s->chunks = 1;
    if (ring_next(s) != s->root)
        relay_to(s, &relay, ring_next(s));
    relay_end(s, &relay);
    if (root)
        schedule_copy(s, 0, 1, span_send(), span_recv());
}

void ring_broadcast_cost(const struct cost_case *c, struct cost *cost)
{
    count_chain(c, cost);
    cost->copied = c->bytes;
}
