/* Reduce on a binomial tree: every rank adds what its children send to its own vector, and sends the sum to
 * its parent.
 *
 * Cost: floor(log2 n) rounds; the root receives ceil(log2 n) messages of S bytes, every other rank sends one.
 * Scratch: one vector on the ranks between.  Reduced in the order root, root+1, ..., root-1, neighbours
 * first. Source: any textbook; Thakur, Rabenseifner and Gropp, 2005. */
#include "algorithm/binomial.h"
#include "algorithm/count.h"
#include "algorithm/ring.h"
#include "algorithm/table.h"

void tree_reduce(struct schedule *s)
{
    int n = s->size, node = (s->rank - s->root + n) % n, top = binomial_top(node, n);
    int parent = (s->root + binomial_parent(node)) % n;
    struct span have = span_send(), sum = node == 0 ? span_recv() : span_scratch(0, 0);
    s->chunks = 1;
    for (int step = 1; step <= top; step *= 2) {
        if (node > 0 && step == top)
            schedule_recv_reduce_send(s, ring_at(s, step), parent, 0, 1, have, sum);
        else
            schedule_recv_reduce(s, ring_at(s, step), 0, 1, have, sum);
        schedule_mark_own_first(s);
        have = sum;
    }
    if (node == 0) {
        if (n == 1)
            schedule_copy(s, 0, 1, span_send(), span_recv());
        schedule_mark_finished(s);
    } else if (top == 0) {
        schedule_send(s, parent, 0, 1, span_send());
    }
}

void tree_reduce_cost(const struct cost_case *c, struct cost *cost)
{
    int depth = log2_floor(c->size), children = log2_ceil(c->size);
    for (int i = 0; i < children; i++)
        count_distance(c, cost, COUNT_TREE, 1 << i, i < depth, 1, c->bytes);
    cost->reduced += children * c->bytes;
    cost->load = (c->size - 1.0) / c->size / children;
}
