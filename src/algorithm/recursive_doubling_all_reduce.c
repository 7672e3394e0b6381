/* All-reduce by recursive doubling: in round i ranks exchange what they have with the one whose number
 * differs in bit i, and both reduce the two, the lower rank's on the left; after log2 n rounds all have
 * everything. Other sizes are folded first (algorithm/fold.h).
 *
 * Cost: log2 n messages of S bytes sent by each rank, in log2 n rounds; for other sizes two rounds more than
 * for the power of two below.  The least rounds with the least messages, so the best for small vectors that
 * may be reduced in any order.  Scratch: two vectors, because the one that is being sent cannot be written.
 * Source: Thakur, Rabenseifner and Gropp, "Optimization of collective communication operations in MPICH",
 * 2005. */
#include "algorithm/count.h"
#include "algorithm/fold.h"
#include "algorithm/table.h"

/* The vector at `from` reduced with what `peer` sends. */
static void reduce_with(struct schedule *s, int peer, struct span from, struct span to)
{
    schedule_recv_reduce(s, peer, 0, 1, from, to);
    if (s->rank < peer)
        schedule_mark_own_first(s);
}

/* One round is all there is: the target may be the very memory that is being sent, so the vector of the peer
 * waits in scratch memory.  Were it reduced as it comes, both would wait for the other to take theirs. */
static void exchange_once(struct schedule *s, int peer)
{
    struct span received = span_scratch(0, 0);
    struct span operands[] = {s->rank < peer ? span_send() : received,
                              s->rank < peer ? received : span_send()};
    schedule_send(s, peer, 0, 1, span_send());
    schedule_recv(s, peer, 0, 1, received);
    schedule_reduce(s, 0, 1, operands, 2, span_recv());
}

void recursive_doubling_all_reduce(struct schedule *s)
{
    s->chunks = 1;
    if (s->size == 1) {
        schedule_copy(s, 0, 1, span_send(), span_recv());
        schedule_mark_finished(s);
        return;
    }
    struct fold fold = fold_of(s);
    if (fold.index < 0) {
        schedule_send(s, s->rank - 1, 0, 1, span_send());
        schedule_recv(s, s->rank - 1, 0, 1, span_recv());
        return;
    }
    struct span have = span_send();
    int slot = 0;
    if (fold.is_pair) {
        have = span_scratch(slot++, 0);
        reduce_with(s, s->rank + 1, span_send(), have);
    }
    for (int bit = 1; bit < fold.size; bit *= 2) {
        int peer = fold_rank(&fold, fold.index ^ bit);
        if (fold.size == 2 && !fold.is_pair) {
            exchange_once(s, peer);
            break;
        }
        struct span target = 2 * bit == fold.size ? span_recv() : span_scratch(slot, 0);
        slot = 1 - slot;
        schedule_send(s, peer, 0, 1, have);
        reduce_with(s, peer, have, target);
        have = target;
    }
    schedule_mark_finished(s);
    if (fold.is_pair)
        schedule_send(s, s->rank + 1, 0, 1, span_recv());
}

void recursive_doubling_all_reduce_cost(const struct cost_case *c, struct cost *cost)
{
    int log = log2_floor(c->size), folded = 1 << log, pairs = c->size - folded;
    for (int bit = 1; bit < folded; bit *= 2)
        count_distance(c, cost, COUNT_PAIRED, bit, 1, 1, c->bytes);
    cost->reduced = log * c->bytes;
    if (pairs > 0) {
        count_distance(c, cost, COUNT_TREE, 1, count_fold_rounds(c), 1, c->bytes);
        cost->reduced += c->bytes;
        cost->load = (folded * log + 2.0 * pairs) / (c->size * (log + 1.0));
    }
}
