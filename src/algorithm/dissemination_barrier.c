/* Barrier by dissemination: in the round of distance d every rank tells the one d after it that it is there,
 * and hears from the one d before it what that one has heard.  The frames are empty; each names the chunk of
 * its sender, so that what is sent and what is received never lie in the same place.
 *
 * Cost: ceil(log2 n) rounds with one message without payload sent by each rank.  Source: Hensgen, Finkel and
 * Manber, "Two algorithms for barrier synchronization", 1988. */
#include "algorithm/count.h"
#include "algorithm/ring.h"
#include "algorithm/table.h"

void dissemination_barrier(struct schedule *s)
{
    s->chunks = s->size;
    for (int distance = 1; distance < s->size; distance *= 2) {
        int from = ring_at(s, -distance);
        schedule_send(s, ring_at(s, distance), s->rank, 1, span_send());
        schedule_recv(s, from, from, 1, span_recv());
    }
}

void dissemination_barrier_cost(const struct cost_case *c, struct cost *cost)
{
    for (int distance = 1; distance < c->size; distance *= 2)
        count_distance(c, cost, COUNT_SHIFTED, distance, 1, 1, 0);
}
