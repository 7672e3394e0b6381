/* All-gather by dissemination: before the round of distance d every rank has the chunks of the d ranks from
 * itself on; it sends them to the rank d before it and receives as many from the rank d after it.
 *
 * Cost: ceil(log2 n) rounds, S(n-1)/n bytes sent by each rank; at most two messages a round, for where the
 * chunks go round the end of the vector they are two ranges.  The best for small vectors.  Source: Bruck, Ho,
 * Kipnis, Upfal and Weathersby, "Efficient algorithms for all-to-all communications in multiport
 * message-passing systems", 1997, here straight into place. */
#include "algorithm/count.h"
#include "algorithm/ring.h"
#include "algorithm/table.h"
#include "algorithm/wrapped.h"

void bruck_all_gather(struct schedule *s)
{
    int n = s->size;
    s->chunks = n;
    schedule_copy(s, s->rank, 1, span_send(), span_recv());
    for (int distance = 1; distance < n; distance *= 2) {
        int count = distance < n - distance ? distance : n - distance;
        int to = ring_at(s, -distance), from = ring_at(s, distance);
        struct wrapped have = wrapped_of(s->rank, count, n), missing = wrapped_of(from, count, n);
        for (int i = 0; i < 2; i++)
            schedule_send(s, to, have.range[i].chunk, have.range[i].chunks, span_recv());
        for (int i = 0; i < 2; i++)
            schedule_recv(s, from, missing.range[i].chunk, missing.range[i].chunks, span_recv());
    }
}

void bruck_all_gather_cost(const struct cost_case *c, struct cost *cost)
{
    double share = c->bytes / c->size;
    for (int distance = 1; distance < c->size; distance *= 2) {
        double count = smaller_of(distance, c->size - distance);
        count_distance(c, cost, COUNT_SHIFTED, distance, 1, count > 1 ? 2 : 1, count * share);
    }
    cost->copied = share;
}
