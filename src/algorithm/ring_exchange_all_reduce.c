/* All-reduce of small vectors on a ring: every rank's whole vector goes round, and each rank reduces all of
 * them by itself, in the order of the ranks and with one rounding.
 *
 * Cost: n-1 messages and S(n-1) bytes sent by each rank, in n-1 rounds where the bandwidth-optimal ring takes
 * 2(n-1).  Scratch: n-1 vectors.  It is the ring all-gather followed by a local reduction; `exchange` is the
 * same in one round, with links to everybody instead of two neighbours. */
#include "algorithm/count.h"
#include "algorithm/rank_order.h"
#include "algorithm/ring.h"
#include "algorithm/table.h"

void ring_exchange_all_reduce(struct schedule *s)
{
    int n = s->size, next = ring_next(s), previous = ring_previous(s);
    struct team all = team_all(s);
    struct range whole = {0, 1};
    struct inbox inbox = {0, 1, 0};
    s->chunks = 1;
    if (n == 1) {
        schedule_copy(s, 0, 1, span_send(), span_recv());
        schedule_mark_finished(s);
        return;
    }
    schedule_send(s, next, 0, 1, span_send());
    for (int k = 1; k <= n - 2; k++)
        schedule_recv_send(s, previous, next, 0, 1, inbox_slot(&inbox, k));
    schedule_recv(s, previous, 0, 1, inbox_slot(&inbox, n - 1));
    rank_order_reduce(s, &all, whole, span_send(), &inbox, span_recv());
    schedule_mark_finished(s);
}

void ring_exchange_all_reduce_cost(const struct cost_case *c, struct cost *cost)
{
    double hops = c->size - 1;
    count_ring(c, cost, hops, hops, hops * c->bytes);
    cost->reduced = hops * c->bytes;
}
