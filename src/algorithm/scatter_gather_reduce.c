/* Reduce of large vectors: a direct reduce-scatter, in which rank r reduces chunk r of all vectors in the
 * order of the ranks and with one rounding, and a gather of these chunks to the root.
 *
 * Cost: 2 rounds; each rank sends n messages and S bytes, the root receives 2(n-1) messages and 2S(n-1)/n
 * bytes.  All ranks share the work of reducing.  Scratch: n chunks.  Source: Rabenseifner, "Optimization of
 * collective reduction operations", 2004, with a direct reduce-scatter instead of recursive halving. */
#include "algorithm/count.h"
#include "algorithm/direct.h"
#include "algorithm/table.h"

void scatter_gather_reduce(struct schedule *s)
{
    int n = s->size;
    struct span sum = s->rank == s->root ? span_recv() : span_scratch(n - 1, s->rank);
    s->chunks = n;
    if (n == 1) {
        schedule_copy(s, 0, 1, span_send(), span_recv());
        schedule_mark_finished(s);
        return;
    }
    direct_phase_reduce_scatter(s, sum);
    if (s->rank != s->root) {
        schedule_send(s, s->root, s->rank, 1, sum);
        return;
    }
    for (int k = 1; k <= n - 1; k++)
        schedule_recv(s, ring_at(s, -k), ring_at(s, -k), 1, span_recv());
}

void scatter_gather_reduce_cost(const struct cost_case *c, struct cost *cost)
{
    double share = c->bytes / c->size;
    count_everybody(c, cost, share);
    count_star(c, cost, share);
    cost->reduced = (c->size - 1) * share;
    cost->load = (1 + 1.0 / c->size) / 2;
}
