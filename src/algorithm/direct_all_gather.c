/* All-gather in one round: every rank sends its part to every other.
 *
 * Cost: one round; n-1 messages and S(n-1)/n bytes sent by each rank (S: the gathered vector), as on the
 * ring. */
#include "algorithm/count.h"
#include "algorithm/direct.h"
#include "algorithm/table.h"

void direct_all_gather(struct schedule *s)
{
    s->chunks = s->size;
    schedule_copy(s, s->rank, 1, span_send(), span_recv());
    direct_phase_all_gather(s, span_send());
}

void direct_all_gather_cost(const struct cost_case *c, struct cost *cost)
{
    double share = c->bytes / c->size;
    count_everybody(c, cost, share);
    cost->copied = share;
}
