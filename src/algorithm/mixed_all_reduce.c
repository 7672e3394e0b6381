/* All-reduce of hosts whose ranks share memory: the part between hosts (local/mixed.h has the others).  In
 * PLACE_RECV each rank already holds its host's sum of its own part, and there it leaves the sum of all.  The
 * ranks with the same place on their hosts work on one part, all places at once: around a ring, or, where
 * that waits for too many rounds, by sending each other all of it.
 *
 * Cost, for h hosts: 2(h-1) rounds, in which each host sends 2S(h-1)/h bytes; or one round of S(h-1) bytes.
 * The order of reduction is that of the ranks within hosts and the same on every rank. */
#include "algorithm/count.h"
#include "algorithm/hierarchy.h"
#include "algorithm/rank_order.h"
#include "algorithm/ring.h"
#include "algorithm/table.h"

void mixed_all_reduce(struct schedule *s)
{
    struct hierarchy h;
    if (!hierarchy_init(&h, s))
        return;
    s->chunks = h.parts * h.hosts;
    struct team across = hierarchy_across(&h, s);
    struct parts parts = {hierarchy_local(&h, s).index * h.hosts, 1, h.hosts};
    ring_phase_all_reduce(s, &across, &parts, span_recv());
    hierarchy_clean_up(&h);
}

void mixed_all_reduce_cost(const struct cost_case *c, struct cost *cost)
{
    double hosts = c->host_count;
    cost->rounds[COST_REMOTE] = cost->messages[COST_REMOTE] = 2 * (hosts - 1);
    cost->bytes[COST_REMOTE] = 2 * (hosts - 1) / hosts * c->bytes;
    cost->reduced = (hosts - 1) / hosts * c->bytes / c->local_min;
}

void mixed_exchange_all_reduce(struct schedule *s)
{
    struct hierarchy h;
    if (!hierarchy_init(&h, s))
        return;
    s->chunks = h.parts;
    struct team across = hierarchy_across(&h, s);
    struct range part = {hierarchy_local(&h, s).index, 1};
    struct inbox inbox = {0, 1, part.chunk};
    for (int k = 1; k <= across.size - 1; k++)
        schedule_send(s, team_rank(&across, k), part.chunk, part.chunks, span_recv());
    for (int k = 1; k <= across.size - 1; k++)
        schedule_recv(s, team_rank(&across, -k), part.chunk, part.chunks, inbox_slot(&inbox, k));
    if (across.size > 1) {
        rank_order_reduce(s, &across, part, span_recv(), &inbox, span_recv());
        schedule_mark_finished(s);
    }
    hierarchy_clean_up(&h);
}

void mixed_exchange_all_reduce_cost(const struct cost_case *c, struct cost *cost)
{
    double others = c->host_count - 1;
    cost->rounds[COST_REMOTE] = others > 0;
    cost->messages[COST_REMOTE] = others;
    cost->bytes[COST_REMOTE] = others * c->bytes;
    cost->reduced = others * c->bytes / c->local_min;
    cost->copied = cost->reduced; /* as cost.h says of such reductions */
}
