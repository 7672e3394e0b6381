#include "algorithm/direct.h"
#include "algorithm/rank_order.h"

void direct_phase_reduce_scatter(struct schedule *s, struct span target)
{
    int n = s->size;
    struct team all = team_all(s);
    struct range own = {s->rank, 1};
    struct inbox inbox = {0, 1, s->rank};
    for (int k = 1; k <= n - 1; k++)
        schedule_send(s, ring_at(s, k), ring_at(s, k), 1, span_send());
    for (int k = 1; k <= n - 1; k++)
        schedule_recv(s, ring_at(s, -k), own.chunk, own.chunks, inbox_slot(&inbox, k));
    rank_order_reduce(s, &all, own, span_send(), &inbox, target);
    schedule_mark_finished(s);
}

void direct_phase_all_gather(struct schedule *s, struct span own)
{
    int n = s->size;
    for (int k = 1; k <= n - 1; k++)
        schedule_send(s, ring_at(s, k), s->rank, 1, own);
    for (int k = 1; k <= n - 1; k++)
        schedule_recv(s, ring_at(s, -k), ring_at(s, -k), 1, span_recv());
}
