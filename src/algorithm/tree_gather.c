/* Gather on a binomial tree: every rank collects the parts of the ranks below it, the nearest child first,
 * and sends them to its parent with its own.
 *
 * Cost: floor(log2 n) rounds; the root receives S(n-1)/n bytes in ceil(log2 n) messages (S: the gathered
 * vector), one more where the ranks go round the end of the group.  Large parts travel log2 n times, so it is
 * for small ones.  Scratch: the parts of the ranks below.  Source: any textbook. */
#include "algorithm/count.h"
#include "algorithm/ring.h"
#include "algorithm/subtree.h"
#include "algorithm/table.h"

void tree_gather(struct schedule *s)
{
    int n = s->size, node = (s->rank - s->root + n) % n, top = binomial_top(node, n);
    int parent = (s->root + binomial_parent(node)) % n;
    s->chunks = n;
    if (node > 0 && top == 0) {
        schedule_send(s, parent, s->rank, 1, span_send());
        return;
    }
    schedule_copy(s, s->rank, 1, span_send(), node == 0 ? span_recv() : subtree_place(s, s->rank));
    for (int step = 1; step <= top; step *= 2) {
        struct wrapped below = subtree_chunks(s, step);
        for (int i = 0; i < 2; i++)
            schedule_recv(s, ring_at(s, step), below.range[i].chunk, below.range[i].chunks,
                          node == 0 ? span_recv() : subtree_place(s, below.range[i].chunk));
    }
    struct wrapped all = subtree_chunks(s, 0);
    for (int i = 0; i < 2 && node > 0; i++)
        schedule_send(s, parent, all.range[i].chunk, all.range[i].chunks,
                      subtree_place(s, all.range[i].chunk));
}

/* Of tree_scatter too, which is the same backwards. */
void tree_gather_cost(const struct cost_case *c, struct cost *cost)
{
    int n = c->size, depth = log2_floor(n);
    double share = c->bytes / n, moved = 0;
    for (int step = 1; step < n; step *= 2)
        count_distance(c, cost, COUNT_TREE, step, step < 1 << depth, 1, 0);
    count_star_bytes(c, cost, share);
    /* All that the nodes with a parent `step` before them send: `step` parts each, the last perhaps fewer. */
    for (int step = 1; step < n; step *= 2)
        moved += share * (n / (2 * step) * step + (n % (2 * step) > step ? n % (2 * step) - step : 0));
    cost->copied = share;
    cost->load = c->bytes > 0 ? moved / n / ((n - 1) * share) : 1;
}
