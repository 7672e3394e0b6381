/* Scatter in one round: the root sends each rank its part.
 *
 * Cost: one round; the root sends n-1 messages and S(n-1)/n bytes (S: the scattered vector), as with any
 * algorithm, and nobody else moves more than its own part.  Only the root and the owner need to know how long
 * a part is. */
#include "algorithm/count.h"
#include "algorithm/ring.h"
#include "algorithm/table.h"

void direct_scatter(struct schedule *s)
{
    s->chunks = s->size;
    if (s->rank != s->root) {
        schedule_recv(s, s->root, s->rank, 1, span_recv());
        return;
    }
    for (int k = 1; k <= s->size - 1; k++)
        schedule_send(s, ring_at(s, k), ring_at(s, k), 1, span_send());
    schedule_copy(s, s->rank, 1, span_send(), span_recv());
}

void direct_scatter_cost(const struct cost_case *c, struct cost *cost)
{
    direct_gather_cost(c, cost);
}
