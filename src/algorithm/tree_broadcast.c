/* Broadcast on a binomial tree: the root sends its vector to its children, those with the most ranks below
 * them first, and each rank that has it does the same.
 *
 * Cost: floor(log2 n) rounds; the root sends ceil(log2 n) messages of S bytes, the average rank one.  The
 * best for small vectors.  Source: any textbook; Thakur, Rabenseifner and Gropp, 2005. */
#include "algorithm/binomial.h"
#include "algorithm/count.h"
#include "algorithm/relay.h"
#include "algorithm/ring.h"
#include "algorithm/table.h"

void tree_broadcast(struct schedule *s)
{
    int n = s->size, node = (s->rank - s->root + n) % n;
    struct relay relay =
        node == 0 ? relay_of(span_send()) : relay_from((s->root + binomial_parent(node)) % n);
    s->chunks = 1;
    for (int step = binomial_top(node, n); step >= 1; step /= 2)
        relay_to(s, &relay, ring_at(s, step));
    relay_end(s, &relay);
    if (node == 0)
        schedule_copy(s, 0, 1, span_send(), span_recv());
}

void tree_broadcast_cost(const struct cost_case *c, struct cost *cost)
{
    int depth = log2_floor(c->size), children = log2_ceil(c->size);
    for (int i = 0; i < children; i++)
        count_distance(c, cost, COUNT_TREE, 1 << i, i < depth, 1, c->bytes);
    cost->copied += c->bytes;
    cost->load = (c->size - 1.0) / c->size / children;
}
