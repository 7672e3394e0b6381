/* All-reduce by recursive halving and doubling: a reduce-scatter in which ranks exchange half of what they
 * still have with the one whose number differs in bit 0, then a quarter with bit 1, and so on; then the same
 * exchanges in reverse, as an all-gather.  Other sizes are folded first (algorithm/fold.h).
 *
 * Cost: 2 log2 n messages and 2S(n-1)/n bytes sent by each rank in 2 log2 n rounds; other sizes two rounds
 * and S bytes more than the power of two below.  The bytes of the ring in far fewer rounds.  The large
 * exchanges come first and are those between neighbours, so that little leaves a host.  Source: Rabenseifner,
 * "A new optimized MPI reduce algorithm", 1997; Thakur, Rabenseifner and Gropp, 2005. */
#include "algorithm/count.h"
#include "algorithm/fold.h"
#include "algorithm/table.h"
#include "algorithm/team.h"

/* What this rank keeps of `range` in the round of `bit`; the other half goes to its partner. */
static struct range half_of(struct range range, int index, int bit, bool kept)
{
    int half = range.chunks / 2;
    bool upper = ((index & bit) != 0) == kept;
    return (struct range){range.chunk + (upper ? half : 0), half};
}

void halving_doubling_all_reduce(struct schedule *s)
{
    struct fold fold = fold_of(s);
    s->chunks = fold.size;
    if (s->size == 1) {
        schedule_copy(s, 0, 1, span_send(), span_recv());
        schedule_mark_finished(s);
        return;
    }
    if (fold.index < 0) {
        schedule_send(s, s->rank - 1, 0, s->chunks, span_send());
        schedule_recv(s, s->rank - 1, 0, s->chunks, span_recv());
        return;
    }
    struct span have = span_send();
    if (fold.is_pair) {
        schedule_recv_reduce(s, s->rank + 1, 0, s->chunks, have, span_recv());
        schedule_mark_own_first(s);
        have = span_recv();
    }
    struct range range = {0, s->chunks};
    for (int bit = 1; bit < fold.size; bit *= 2) {
        int peer = fold_rank(&fold, fold.index ^ bit);
        struct range given = half_of(range, fold.index, bit, false);
        range = half_of(range, fold.index, bit, true);
        schedule_send(s, peer, given.chunk, given.chunks, have);
        schedule_recv_reduce(s, peer, range.chunk, range.chunks, have, span_recv());
        if (s->rank < peer)
            schedule_mark_own_first(s);
        have = span_recv();
    }
    schedule_mark_finished(s);
    for (int bit = fold.size / 2; bit >= 1; bit /= 2) {
        int peer = fold_rank(&fold, fold.index ^ bit);
        bool upper = (fold.index & bit) != 0;
        int other = upper ? range.chunk - range.chunks : range.chunk + range.chunks;
        schedule_send(s, peer, range.chunk, range.chunks, span_recv());
        schedule_recv(s, peer, other, range.chunks, span_recv());
        range = (struct range){upper ? other : range.chunk, 2 * range.chunks};
    }
    if (fold.is_pair)
        schedule_send(s, s->rank + 1, 0, s->chunks, span_recv());
}

void halving_doubling_all_reduce_cost(const struct cost_case *c, struct cost *cost)
{
    int folded = 1 << log2_floor(c->size), pairs = c->size - folded;
    double kept = c->bytes * (folded - 1) / folded;
    for (int bit = 1; bit < folded; bit *= 2)
        count_distance(c, cost, COUNT_PAIRED, bit, 2, 2, c->bytes / bit);
    cost->reduced = kept;
    if (pairs > 0) {
        count_distance(c, cost, COUNT_TREE, 1, 2, 1, c->bytes);
        cost->reduced += c->bytes;
        cost->load = (folded * 2 * kept + 2 * pairs * c->bytes) / (c->size * (2 * kept + c->bytes));
        if (c->bytes <= 0)
            cost->load = 1;
    }
}
