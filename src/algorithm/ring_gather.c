/* Gather on a ring: every rank sends its share towards the root and passes on what comes from behind it, the
 * nearest first.
 *
 * Cost: a rank at distance d before the root sends n-d messages and S(n-d)/n bytes (S: the gathered vector),
 * the root none; n-1 rounds.  The root receives S(n-1)/n bytes as with any algorithm.  Scratch: two chunks,
 * so that one is received while the other is sent. */
#include "algorithm/algorithm.h"
#include "algorithm/ring.h"

void ring_gather(struct schedule *s)
{
    int n = s->size, next = ring_next(s), previous = ring_previous(s);
    int distance = (s->root - s->rank + n) % n;
    s->chunks = n;
    if (distance == 0) {
        schedule_copy(s, s->rank, span_send(), span_recv());
        for (int k = 1; k <= n - 1; k++)
            schedule_recv(s, previous, ring_at(s, -k), span_recv());
        return;
    }
    schedule_send(s, next, s->rank, span_send());
    for (int k = 1; k <= n - 1 - distance; k++)
        schedule_recv_send(s, previous, next, ring_at(s, -k), span_scratch((k - 1) % 2));
}
