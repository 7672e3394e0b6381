/* All-to-all in rounds: in round k rank r sends to rank r + k and receives from rank r - k, and begins the
 * next round when it has received.
 *
 * Cost: n-1 rounds; n-1 messages and S(n-1)/n bytes sent by each rank (S: its input).  Never more than two
 * messages a rank are under way, so that large parts do not crowd a network that fewer would fill.  Source:
 * Thakur, Rabenseifner and Gropp, 2005. */
#include "algorithm/count.h"
#include "algorithm/ring.h"
#include "algorithm/table.h"

void pairwise_all_to_all(struct schedule *s)
{
    int n = s->size, r = s->rank;
    s->chunks = n * n;
    schedule_copy(s, r * n + r, 1, span_send(), span_recv());
    for (int k = 1; k <= n - 1; k++) {
        schedule_send(s, ring_at(s, k), r * n + ring_at(s, k), 1, span_send());
        schedule_recv(s, ring_at(s, -k), ring_at(s, -k) * n + r, 1, span_recv());
    }
}

void pairwise_all_to_all_cost(const struct cost_case *c, struct cost *cost)
{
    direct_all_to_all_cost(c, cost);
    cost->rounds[c->host_count > 1 ? COST_REMOTE : COST_LOCAL] = c->size - 1;
}
