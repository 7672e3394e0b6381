/* All-reduce on a ring: reduce-scatter, then all-gather.  In round k rank r receives chunk r - k, adds its
 * own share and passes it on; after n - 1 rounds it holds chunk r + 1 complete, and the complete chunks go
 * round once more.
 *
 * Cost: 2(n-1) messages and 2S(n-1)/n bytes sent by each rank, which is the least possible; 2(n-1) rounds.
 * Chunk c is reduced in the order c, c+1, ..., c-1.  Patarasuk and Yuan, "Bandwidth optimal all-reduce
 * algorithms for clusters of workstations", 2009. */
#include "algorithm/count.h"
#include "algorithm/ring.h"
#include "algorithm/table.h"

void ring_all_reduce(struct schedule *s)
{
    struct team all = team_all(s);
    struct parts parts = parts_all(s);
    s->chunks = s->size;
    if (s->size == 1) {
        schedule_copy(s, 0, 1, span_send(), span_recv());
        schedule_mark_finished(s);
    }
    ring_phase_all_reduce(s, &all, &parts, span_send());
}

void ring_all_reduce_cost(const struct cost_case *c, struct cost *cost)
{
    double hops = c->size - 1, share = c->bytes / c->size;
    count_ring(c, cost, 2 * hops, 2 * hops, 2 * hops * share);
    cost->reduced = hops * share;
}
