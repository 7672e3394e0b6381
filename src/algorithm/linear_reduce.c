/* Reduce in one round: every rank sends its whole vector to the root, which reduces all of them in the order
 * of the ranks and with one rounding.
 *
 * Cost: one round; the root receives n-1 messages and S(n-1) bytes.  Scratch: n-1 vectors on the root. */
#include "algorithm/count.h"
#include "algorithm/rank_order.h"
#include "algorithm/ring.h"
#include "algorithm/table.h"

void linear_reduce(struct schedule *s)
{
    struct team all = team_all(s);
    struct range whole = {0, 1};
    struct inbox inbox = {0, 1, 0};
    s->chunks = 1;
    if (s->rank != s->root) {
        schedule_send(s, s->root, 0, 1, span_send());
        return;
    }
    if (s->size == 1) {
        schedule_copy(s, 0, 1, span_send(), span_recv());
        schedule_mark_finished(s);
        return;
    }
    for (int k = 1; k <= s->size - 1; k++)
        schedule_recv(s, ring_at(s, -k), 0, 1, inbox_slot(&inbox, k));
    rank_order_reduce(s, &all, whole, span_send(), &inbox, span_recv());
    schedule_mark_finished(s);
}

void linear_reduce_cost(const struct cost_case *c, struct cost *cost)
{
    count_star(c, cost, c->bytes);
    cost->reduced = (c->size - 1) * c->bytes;
    cost->load = 1.0 / c->size;
}
