/* All-reduce on a binomial tree: every rank adds what its children send to its own vector and sends the sum
 * to its parent; the total goes back down the same tree.
 *
 * Cost: floor(log2 n) rounds up and as many down; rank 0 receives and sends ceil(log2 n) vectors, the average
 * rank two.  The fewest messages in all, 2(n-1), which counts where many ranks share a core.  Sums of
 * neighbours come first, the lower ranks on the left.  Source: any textbook; Thakur, Rabenseifner and Gropp,
 * 2005. */
#include "algorithm/binomial.h"
#include "algorithm/count.h"
#include "algorithm/relay.h"
#include "algorithm/table.h"

void tree_all_reduce(struct schedule *s)
{
    int n = s->size, rank = s->rank, top = binomial_top(rank, n), parent = binomial_parent(rank);
    struct span have = span_send();
    s->chunks = 1;
    for (int step = 1; step <= top; step *= 2) {
        if (rank > 0 && step == top)
            schedule_recv_reduce_send(s, rank + step, parent, 0, 1, have, span_recv());
        else
            schedule_recv_reduce(s, rank + step, 0, 1, have, span_recv());
        schedule_mark_own_first(s);
        have = span_recv();
    }
    struct relay relay = relay_from(parent);
    if (rank == 0) {
        if (n == 1)
            schedule_copy(s, 0, 1, span_send(), span_recv());
        schedule_mark_finished(s);
        relay = relay_of(span_recv());
    } else if (top == 0) {
        schedule_send(s, parent, 0, 1, span_send());
    }
    for (int step = top; step >= 1; step /= 2)
        relay_to(s, &relay, rank + step);
    relay_end(s, &relay);
}

void tree_all_reduce_cost(const struct cost_case *c, struct cost *cost)
{
    tree_reduce_cost(c, cost);
    tree_broadcast_cost(c, cost);
    cost->copied = 0;
}
