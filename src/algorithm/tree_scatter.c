/* Scatter on a binomial tree: every rank receives the parts of the ranks below it with its own, and sends
 * each child those of the child's tree, the largest first.
 *
 * Cost: floor(log2 n) rounds; the root sends S(n-1)/n bytes in ceil(log2 n) messages (S: the scattered
 * vector), one more where the ranks go round the end of the group.  Large parts travel log2 n times, so it is
 * for small ones.  Scratch: the parts of the ranks below.  Source: any textbook. */
#include "algorithm/count.h"
#include "algorithm/ring.h"
#include "algorithm/subtree.h"
#include "algorithm/table.h"

void tree_scatter(struct schedule *s)
{
    int n = s->size, node = (s->rank - s->root + n) % n, top = binomial_top(node, n);
    int parent = (s->root + binomial_parent(node)) % n;
    s->chunks = n;
    if (node > 0 && top == 0) {
        schedule_recv(s, parent, s->rank, 1, span_recv());
        return;
    }
    struct wrapped all = subtree_chunks(s, 0);
    for (int i = 0; i < 2 && node > 0; i++)
        schedule_recv(s, parent, all.range[i].chunk, all.range[i].chunks,
                      subtree_place(s, all.range[i].chunk));
    for (int step = top; step >= 1; step /= 2) {
        struct wrapped below = subtree_chunks(s, step);
        for (int i = 0; i < 2; i++)
            schedule_send(s, ring_at(s, step), below.range[i].chunk, below.range[i].chunks,
                          node == 0 ? span_send() : subtree_place(s, below.range[i].chunk));
    }
    schedule_copy(s, s->rank, 1, node == 0 ? span_send() : subtree_place(s, s->rank), span_recv());
}

void tree_scatter_cost(const struct cost_case *c, struct cost *cost)
{
    tree_gather_cost(c, cost);
}
