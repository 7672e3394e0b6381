/* Reduce-scatter by recursive halving: ranks exchange the half of the vector that they do not need with the
 * one whose number differs in the highest bit, then half of the rest with the next bit, until each has its
 * own chunk.  Other sizes are folded first (algorithm/fold.h); then the rank that stands for a pair ends with
 * two chunks, and hands over the one that is not its own.
 *
 * Cost: log2 n messages and S(n-1)/n bytes sent by each rank in log2 n rounds; other sizes fold S bytes
 * first, and take two rounds more than the power of two below.  Scratch: half the vector, or all of it after
 * folding.  Source: Thakur, Rabenseifner and Gropp, 2005. */
#include "algorithm/count.h"
#include "algorithm/fold.h"
#include "algorithm/table.h"
#include "algorithm/team.h"

/* The chunks of the ranks that the indices from `first` to `end` - 1 stand for. */
static struct range chunks_of(const struct fold *fold, int first, int end)
{
    int chunk = fold_rank(fold, first);
    return (struct range){chunk, fold_rank(fold, end) - chunk};
}

/* What is left are the chunks of the peer and this rank's: one for each rank that either stands for. */
static void last_round(struct schedule *s, const struct fold *fold, struct span have, struct span scratch)
{
    int other = fold->index ^ 1, peer = fold_rank(fold, other);
    struct range given = chunks_of(fold, other, other + 1),
                 kept = chunks_of(fold, fold->index, fold->index + 1);
    for (int i = 0; i < given.chunks; i++)
        schedule_send(s, peer, given.chunk + i, 1, have);
    for (int i = 0; i < kept.chunks; i++) {
        bool own = kept.chunk + i == s->rank;
        schedule_recv_reduce(s, peer, kept.chunk + i, 1, have, own ? span_recv() : scratch);
        if (s->rank < peer)
            schedule_mark_own_first(s);
        schedule_mark_finished(s);
    }
}

void halving_reduce_scatter(struct schedule *s)
{
    s->chunks = s->size;
    if (s->size == 1) {
        schedule_copy(s, 0, 1, span_send(), span_recv());
        schedule_mark_finished(s);
        return;
    }
    struct fold fold = fold_of(s);
    if (fold.index < 0) {
        schedule_send(s, s->rank - 1, 0, s->chunks, span_send());
        schedule_recv(s, s->rank - 1, s->rank, 1, span_recv());
        return;
    }
    /* Everything that is kept lies in one slot, which begins with the first chunk that is ever put there. */
    int half = fold.size / 2, low = fold.index & half;
    struct span have = span_send();
    struct span scratch = span_scratch(0, fold.is_pair ? 0 : chunks_of(&fold, low, low + half).chunk);
    if (fold.is_pair) {
        schedule_recv_reduce(s, s->rank + 1, 0, s->chunks, have, scratch);
        schedule_mark_own_first(s);
        have = scratch;
    }
    for (int bit = half; bit >= 2; bit /= 2) {
        int kept_first = fold.index & -bit, given_first = kept_first ^ bit;
        int peer = fold_rank(&fold, fold.index ^ bit);
        struct range given = chunks_of(&fold, given_first, given_first + bit);
        struct range kept = chunks_of(&fold, kept_first, kept_first + bit);
        schedule_send(s, peer, given.chunk, given.chunks, have);
        schedule_recv_reduce(s, peer, kept.chunk, kept.chunks, have, scratch);
        if (s->rank < peer)
            schedule_mark_own_first(s);
        have = scratch;
    }
    last_round(s, &fold, have, scratch);
    if (fold.is_pair)
        schedule_send(s, s->rank + 1, s->rank + 1, 1, scratch);
}

void halving_reduce_scatter_cost(const struct cost_case *c, struct cost *cost)
{
    int folded = 1 << log2_floor(c->size), pairs = c->size - folded;
    double share = c->bytes / c->size, given_all = 0;
    for (int bit = folded / 2; bit >= 1; bit /= 2) {
        /* The most that anybody gives away: where the partner's side has the most pairs. */
        double given = bit + smaller_of(bit, pairs);
        double messages = bit == 1 && pairs > 0 ? 2 : 1;
        count_distance(c, cost, COUNT_PAIRED, bit, 1, messages, given * share);
        given_all += given;
    }
    cost->reduced = given_all * share;
    if (pairs > 0) {
        count_distance(c, cost, COUNT_TREE, 1, count_fold_rounds(c), 1, c->bytes);
        cost->reduced += c->bytes;
        cost->load = (c->size - 1 + pairs / (double)c->size) / (c->size + given_all);
    }
}
