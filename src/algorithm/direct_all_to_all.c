/* All-to-all in one round: every rank sends each other its part at once.
 *
 * Cost: one round; n-1 messages and S(n-1)/n bytes sent by each rank (S: its input), which is the least
 * possible without passing parts through others. */
#include "algorithm/count.h"
#include "algorithm/ring.h"
#include "algorithm/table.h"

void direct_all_to_all(struct schedule *s)
{
    int n = s->size, r = s->rank;
    s->chunks = n * n;
    for (int k = 1; k <= n - 1; k++)
        schedule_send(s, ring_at(s, k), r * n + ring_at(s, k), 1, span_send());
    schedule_copy(s, r * n + r, 1, span_send(), span_recv());
    for (int k = 1; k <= n - 1; k++)
        schedule_recv(s, ring_at(s, -k), ring_at(s, -k) * n + r, 1, span_recv());
}

void direct_all_to_all_cost(const struct cost_case *c, struct cost *cost)
{
    double share = c->bytes / c->size;
    count_everybody(c, cost, share);
    cost->copied = share;
}
