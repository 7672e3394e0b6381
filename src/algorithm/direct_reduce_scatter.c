/* Reduce-scatter in one round: every rank sends chunk r of its vector straight to rank r, which reduces the n
 * contributions in the order of the ranks and with one rounding.
 *
 * Cost: one round; n-1 messages and S(n-1)/n bytes sent by each rank (S: the vector that is reduced), as on
 * the ring.  Scratch: n-1 chunks. */
#include "algorithm/count.h"
#include "algorithm/direct.h"
#include "algorithm/table.h"

void direct_reduce_scatter(struct schedule *s)
{
    s->chunks = s->size;
    if (s->size == 1) {
        schedule_copy(s, 0, 1, span_send(), span_recv());
        schedule_mark_finished(s);
        return;
    }
    direct_phase_reduce_scatter(s, span_recv());
}

void direct_reduce_scatter_cost(const struct cost_case *c, struct cost *cost)
{
    double share = c->bytes / c->size;
    count_everybody(c, cost, share);
    cost->reduced = (c->size - 1) * share;
}
