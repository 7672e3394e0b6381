/* Broadcast of large vectors after van de Geijn: the root scatters the n chunks of its vector down a binomial
 * tree, then an all-gather on the ring completes them.  Ranks are numbered from the root on, and node v's own
 * chunk is chunk v; ranks high in the tree get those of the ranks below them too, and are not sent these
 * again.
 *
 * Cost: the root sends n-1 + ceil(log2 n) messages and 2S(n-1)/n bytes, no rank more; log2 n + n-1 rounds.
 * Source: Barnett, Gupta, Payne, Shuler, van de Geijn and Watts, "Interprocessor collective communication
 * library", 1994. */
#include "algorithm/binomial.h"
#include "algorithm/count.h"
#include "algorithm/ring.h"
#include "algorithm/table.h"

/* Does node v have that chunk when the scatter is over? */
static bool has_chunk(int v, int chunk, int n)
{
    return chunk >= v && chunk < v + binomial_nodes(v, n);
}

static void scatter(struct schedule *s, int node)
{
    int n = s->size;
    if (node > 0)
        schedule_recv(s, (s->root + binomial_parent(node)) % n, node, binomial_nodes(node, n), span_recv());
    for (int step = binomial_top(node, n); step >= 1; step /= 2)
        schedule_send(s, ring_at(s, step), node + step, binomial_nodes(node + step, n),
                      node == 0 ? span_send() : span_recv());
}

/* In round k node v sends chunk v - k to node v + 1, and receives chunk v - k - 1 from node v - 1. */
static void gather_round(struct schedule *s, int node, int k)
{
    int n = s->size, sent = (node - k + n) % n, received = (sent - 1 + n) % n;
    if (!has_chunk((node + 1) % n, sent, n) && has_chunk(node, sent, n))
        schedule_send(s, ring_next(s), sent, 1, node == 0 ? span_send() : span_recv());
    if (has_chunk(node, received, n))
        return;
    if (!has_chunk((node + 1) % n, received, n))
        schedule_recv_send(s, ring_previous(s), ring_next(s), received, 1, span_recv());
    else
        schedule_recv(s, ring_previous(s), received, 1, span_recv());
}

void scatter_gather_broadcast(struct schedule *s)
{
    int n = s->size, node = (s->rank - s->root + n) % n;
    s->chunks = n;
    scatter(s, node);
    for (int k = 0; k <= n - 2; k++)
        gather_round(s, node, k);
    if (node == 0)
        schedule_copy(s, 0, n, span_send(), span_recv());
}

void scatter_gather_broadcast_cost(const struct cost_case *c, struct cost *cost)
{
    int n = c->size;
    double share = c->bytes / n;
    /* The scatter adds no rounds: who gets its chunks late has them from far up the tree. */
    for (int step = 1; step < n; step *= 2)
        count_distance(c, cost, COUNT_TREE, step, 0, 1, share * smaller_of(step, n - step));
    count_ring(c, cost, n - 1, n - 1, (n - 1) * share);
    cost->copied = c->bytes;
    cost->load = 0.5;
}
