/* Broadcast on a ring: the root's vector is passed from rank to rank, slice by slice, until the one before
 * the root has it.
 *
 * Cost: 1 message and S bytes sent by each rank but the last; n-1 rounds of one slice each, so the time is
 * that of S bytes and n-2 slices more.  The textbook's pipelined chain. */
#include "algorithm/algorithm.h"
#include "algorithm/ring.h"

void ring_broadcast(struct schedule *s)
{
    int next = ring_next(s), previous = ring_previous(s);
    s->chunks = 1;
    if (s->rank == s->root) {
        if (s->size > 1)
            schedule_send(s, next, 0, span_send());
        schedule_copy(s, 0, span_send(), span_recv());
    } else if (next == s->root) {
        schedule_recv(s, previous, 0, span_recv());
    } else {
        schedule_recv_send(s, previous, next, 0, span_recv());
    }
}
