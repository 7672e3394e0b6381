/* All-reduce of the smallest vectors: every rank sends its whole vector to every other, and each rank reduces
 * all of them by itself, in the order of the ranks and with one rounding.
 *
 * Cost: n-1 messages and S(n-1) bytes sent by each rank, all in one round.  Scratch: n-1 vectors.  A
 * dissemination (Bruck) of the vectors would need ceil(log2 n) rounds, and as many messages as this, since a
 * message carries a range of one vector: nothing would be gained by waiting. */
#include "algorithm/count.h"
#include "algorithm/rank_order.h"
#include "algorithm/ring.h"
#include "algorithm/table.h"

void exchange_all_reduce(struct schedule *s)
{
    int n = s->size;
    struct team all = team_all(s);
    struct range whole = {0, 1};
    struct inbox inbox = {0, 1, 0};
    s->chunks = 1;
    if (n == 1) {
        schedule_copy(s, 0, 1, span_send(), span_recv());
        schedule_mark_finished(s);
        return;
    }
    for (int k = 1; k <= n - 1; k++)
        schedule_send(s, ring_at(s, k), 0, 1, span_send());
    for (int k = 1; k <= n - 1; k++)
        schedule_recv(s, ring_at(s, -k), 0, 1, inbox_slot(&inbox, k));
    rank_order_reduce(s, &all, whole, span_send(), &inbox, span_recv());
    schedule_mark_finished(s);
}

void exchange_all_reduce_cost(const struct cost_case *c, struct cost *cost)
{
    count_everybody(c, cost, c->bytes);
    cost->reduced = (c->size - 1) * c->bytes;
}
