/* Gather in one round: every rank sends its part to the root.
 *
 * Cost: one round; the root receives n-1 messages and S(n-1)/n bytes (S: the gathered vector), as with any
 * algorithm, and nobody else moves more than its own part.  Only the root and the owner need to know how long
 * a part is. */
#include "algorithm/count.h"
#include "algorithm/ring.h"
#include "algorithm/table.h"

void direct_gather(struct schedule *s)
{
    s->chunks = s->size;
    if (s->rank != s->root) {
        schedule_send(s, s->root, s->rank, 1, span_send());
        return;
    }
    schedule_copy(s, s->rank, 1, span_send(), span_recv());
    for (int k = 1; k <= s->size - 1; k++)
        schedule_recv(s, ring_at(s, -k), ring_at(s, -k), 1, span_recv());
}

void direct_gather_cost(const struct cost_case *c, struct cost *cost)
{
    double share = c->bytes / c->size;
    count_star(c, cost, share);
    cost->copied = share;
    cost->load = 1.0 / c->size;
}
