/* All-reduce of small vectors on a ring: every rank's whole vector goes round, and each rank reduces all of
 * them by itself, in the order of the ranks.
 *
 * Cost: n-1 messages and S(n-1) bytes sent by each rank, in n-1 rounds where the bandwidth-optimal ring takes
 * 2(n-1): the better choice while a message costs more than its bytes.  Scratch: n-1 vectors.  It is
 * the ring all-gather followed by a local reduction. */
#include "algorithm/algorithm.h"
#include "algorithm/ring.h"

/* Where the vector of `rank` lies once all have come: the one received in round k is from rank r - 1 - k. */
static struct span vector_of(const struct schedule *s, int rank)
{
    return rank == s->rank ? span_send() : span_scratch((s->rank - 1 - rank + s->size) % s->size);
}

void ring_exchange_all_reduce(struct schedule *s)
{
    int n = s->size, next = ring_next(s), previous = ring_previous(s);
    s->chunks = 1;
    if (n == 1) {
        schedule_copy(s, 0, span_send(), span_recv());
        schedule_mark_finished(s);
        return;
    }
    schedule_send(s, next, 0, span_send());
    for (int k = 0; k <= n - 3; k++)
        schedule_recv_send(s, previous, next, 0, span_scratch(k));
    schedule_recv(s, previous, 0, span_scratch(n - 2));

    struct span sum = vector_of(s, 0);
    for (int rank = 1; rank < n; rank++) {
        /* In place, `recv` is this rank's own vector until that has been added; till then the sum grows
         * where the vector of rank 0 was. */
        struct span target = rank >= s->rank ? span_recv() : sum;
        schedule_reduce(s, 0, sum, vector_of(s, rank), target);
        sum = target;
    }
    schedule_mark_finished(s);
}
