/* All-reduce on a ring: reduce-scatter, then all-gather.  In round k rank r receives chunk r - k, adds its
 * own share and passes it on; after n - 1 rounds it holds chunk r + 1 complete, and the complete chunks go
 * round once more.
 *
 * Cost: 2(n-1) messages and 2S(n-1)/n bytes sent by each rank, which is the least possible; 2(n-1) rounds, so
 * that small vectors fare better with ring_exchange.  Chunk c is reduced in the order c, c+1, ..., c-1.
 * Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009. */
#include "algorithm/algorithm.h"
#include "algorithm/ring.h"

void ring_all_reduce(struct schedule *s)
{
    int n = s->size, next = ring_next(s), previous = ring_previous(s);
    s->chunks = n;
    if (n == 1) {
        schedule_copy(s, 0, span_send(), span_recv());
        schedule_mark_finished(s);
        return;
    }
    schedule_send(s, next, s->rank, span_send());
    for (int k = 1; k <= n - 1; k++)
        schedule_recv_reduce_send(s, previous, next, ring_at(s, -k), span_send(), span_recv());
    schedule_mark_finished(s);
    for (int k = 0; k <= n - 3; k++)
        schedule_recv_send(s, previous, next, ring_at(s, -k), span_recv());
    schedule_recv(s, previous, ring_at(s, -(n - 2)), span_recv());
}
