#include "algorithm/ring.h"

void ring_phase_all_reduce(struct schedule *s, const struct team *team, const struct parts *parts,
                           struct span own)
{
    int n = team->size, next = team_rank(team, 1), previous = team_rank(team, -1);
    if (n == 1)
        return;
    struct range part = parts_at(parts, team, 0);
    schedule_send(s, next, part.chunk, part.chunks, own);
    for (int k = 1; k <= n - 1; k++) {
        part = parts_at(parts, team, -k);
        schedule_recv_reduce_send(s, previous, next, part.chunk, part.chunks, own, span_recv());
    }
    schedule_mark_finished(s);
    for (int k = 0; k <= n - 3; k++) {
        part = parts_at(parts, team, -k);
        schedule_recv_send(s, previous, next, part.chunk, part.chunks, span_recv());
    }
    part = parts_at(parts, team, -(n - 2));
    schedule_recv(s, previous, part.chunk, part.chunks, span_recv());
}

void ring_phase_reduce_scatter(struct schedule *s, const struct team *team, const struct parts *parts,
                               struct span own, bool finish)
{
    int n = team->size, next = team_rank(team, 1), previous = team_rank(team, -1);
    if (n == 1)
        return;
    struct range part = parts_at(parts, team, -1);
    schedule_send(s, next, part.chunk, part.chunks, own);
    for (int k = 2; k <= n - 1; k++) {
        part = parts_at(parts, team, -k);
        schedule_recv_reduce_send(s, previous, next, part.chunk, part.chunks, own, span_recv());
    }
    part = parts_at(parts, team, 0);
    schedule_recv_reduce(s, previous, part.chunk, part.chunks, own, span_recv());
    if (finish)
        schedule_mark_finished(s);
}

void ring_phase_all_gather(struct schedule *s, const struct team *team, const struct parts *parts)
{
    int n = team->size, next = team_rank(team, 1), previous = team_rank(team, -1);
    if (n == 1)
        return;
    struct range part = parts_at(parts, team, 0);
    schedule_send(s, next, part.chunk, part.chunks, span_recv());
    for (int k = 1; k <= n - 2; k++) {
        part = parts_at(parts, team, -k);
        schedule_recv_send(s, previous, next, part.chunk, part.chunks, span_recv());
    }
    part = parts_at(parts, team, 1);
    schedule_recv(s, previous, part.chunk, part.chunks, span_recv());
}
