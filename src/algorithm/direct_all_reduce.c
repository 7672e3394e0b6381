/* All-reduce in two rounds: every rank sends chunk r of its vector straight to rank r, which reduces the n
 * contributions in the order of the ranks and with one rounding, and sends the result to every other.
 *
 * Cost: 2(n-1) messages and 2S(n-1)/n bytes sent by each rank, as on the ring, but in 2 rounds.  Scratch: n-1
 * chunks.  What a ring does to 16-bit floats (n-1 roundings) it does not; and the bits of the result depend
 * neither on the number of hosts nor on where a chunk begins. */
#include "algorithm/count.h"
#include "algorithm/direct.h"
#include "algorithm/table.h"

void direct_all_reduce(struct schedule *s)
{
    s->chunks = s->size;
    if (s->size == 1) {
        schedule_copy(s, 0, 1, span_send(), span_recv());
        schedule_mark_finished(s);
        return;
    }
    direct_phase_reduce_scatter(s, span_recv());
    direct_phase_all_gather(s, span_recv());
}

void direct_all_reduce_cost(const struct cost_case *c, struct cost *cost)
{
    double share = c->bytes / c->size;
    count_everybody(c, cost, share);
    count_everybody(c, cost, share);
    cost->reduced = (c->size - 1) * share;
}
