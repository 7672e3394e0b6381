/* Reduce-scatter over hosts: within each host every rank sends each carrier the chunks that are due for the
 * carrier's block of every host; the carrier reduces what comes and sends each other host's sums across to
 * its partner there; the partner reduces the sums of all hosts, keeps its own chunk and hands out the others
 * of its block.
 *
 * Cost, for h hosts of m ranks: one round within hosts and one across, and one after where hosts are not
 * alike; each rank sends S(m-1)/m bytes to others of its host (S: the vector that is reduced), each host
 * S(h-1)/h to other hosts, which is the least possible.  Reduced by hosts, each in the order of its ranks.
 * Scratch: up to S. */
#include "algorithm/count.h"
#include "algorithm/hierarchy.h"
#include "algorithm/rank_order.h"
#include "algorithm/table.h"

/* Scratch slots: the block of each host from each other local rank; the sums of this host of the block of
 * each host; what the other hosts send. */
static struct inbox local_inbox(const struct hierarchy *h, int host, int part)
{
    return (struct inbox){host, h->hosts, hierarchy_block(h, host, part).chunk};
}

static struct span sum_slot(const struct hierarchy *h, const struct team *local, int host, int part)
{
    return span_scratch((local->size - 1) * h->hosts + host, hierarchy_block(h, host, part).chunk);
}

static struct inbox across_inbox(const struct hierarchy *h, const struct team *local, int part)
{
    return (struct inbox){local->size * h->hosts, 1, hierarchy_block(h, h->host, part).chunk};
}

/* Every rank's vector to the carriers of its host. */
static void collect(struct schedule *s, const struct hierarchy *h, const struct team *local, int part)
{
    for (int k = 1; k <= local->size - 1; k++) {
        int to = team_rank(local, k), other = hierarchy_block_of(h, to);
        for (int host = 0; host < h->hosts && hierarchy_block(h, h->host, other).chunk == to; host++) {
            struct range block = hierarchy_block(h, host, other);
            schedule_send(s, to, block.chunk, block.chunks, span_send());
        }
    }
    if (hierarchy_block(h, h->host, part).chunk != s->rank)
        return;
    for (int k = 1; k <= local->size - 1; k++) {
        for (int host = 0; host < h->hosts; host++) {
            struct range block = hierarchy_block(h, host, part);
            struct inbox inbox = local_inbox(h, host, part);
            schedule_recv(s, team_rank(local, -k), block.chunk, block.chunks, inbox_slot(&inbox, k));
        }
    }
}

/* This host's sum of the block of `host`; returns where it lies. */
static struct span add_up(struct schedule *s, const struct hierarchy *h, const struct team *local, int part,
                          int host)
{
    struct inbox inbox = local_inbox(h, host, part);
    if (local->size == 1)
        return span_send();
    rank_order_reduce(s, local, hierarchy_block(h, host, part), span_send(), &inbox,
                      sum_slot(h, local, host, part));
    return sum_slot(h, local, host, part);
}

/* Sums to the carriers of the other hosts, and theirs from them. */
static void exchange(struct schedule *s, const struct hierarchy *h, const struct team *local, int part)
{
    struct range own = hierarchy_block(h, h->host, part);
    struct inbox inbox = across_inbox(h, local, part);
    for (int k = 1; k <= h->hosts - 1; k++) {
        int host = (h->host + k) % h->hosts;
        struct range block = hierarchy_block(h, host, part);
        schedule_send(s, block.chunk, block.chunk, block.chunks, add_up(s, h, local, part, host));
    }
    for (int k = 1; k <= h->hosts - 1; k++) {
        int from = hierarchy_block(h, (h->host - k + h->hosts) % h->hosts, part).chunk;
        schedule_recv(s, from, own.chunk, own.chunks, inbox_slot(&inbox, k));
    }
}

/* A carrier's last reduction: over the hosts, or the ranks where there is one host. */
static void finish(struct schedule *s, const struct hierarchy *h, const struct team *local, int part)
{
    struct range block = hierarchy_block(h, h->host, part);
    struct range own = {block.chunk, 1}, others = {block.chunk + 1, block.chunks - 1};
    struct team across = {NULL, 0, h->hosts, h->host};
    struct inbox inbox = h->hosts > 1 ? across_inbox(h, local, part) : local_inbox(h, 0, part);
    struct span have = h->hosts > 1 ? add_up(s, h, local, part, h->host) : span_send();
    struct span sum = sum_slot(h, local, h->host, part);
    rank_order_reduce(s, h->hosts > 1 ? &across : local, own, have, &inbox, span_recv());
    schedule_mark_finished(s);
    rank_order_reduce(s, h->hosts > 1 ? &across : local, others, have, &inbox, sum);
    schedule_mark_finished(s);
    for (int i = 0; i < others.chunks; i++)
        schedule_send(s, others.chunk + i, others.chunk + i, 1, sum);
}

void hierarchical_reduce_scatter(struct schedule *s)
{
    struct hierarchy h;
    s->chunks = s->size;
    if (s->size == 1) {
        schedule_copy(s, 0, 1, span_send(), span_recv());
        schedule_mark_finished(s);
        return;
    }
    if (!hierarchy_init(&h, s))
        return;
    struct team local = hierarchy_local(&h, s);
    int part = hierarchy_block_of(&h, s->rank), carrier = hierarchy_block(&h, h.host, part).chunk;
    collect(s, &h, &local, part);
    if (s->rank == carrier) {
        exchange(s, &h, &local, part);
        finish(s, &h, &local, part);
    } else {
        schedule_recv(s, carrier, s->rank, 1, span_recv());
    }
    hierarchy_clean_up(&h);
}

void hierarchical_reduce_scatter_cost(const struct cost_case *c, struct cost *cost)
{
    double hosts = c->host_count, share = c->bytes / c->size, block = hierarchy_block_max(c);
    /* A part is what a carrier reduces: a block of each host. */
    double part = c->size / (double)c->local_min, peers = c->local_max - 1;
    cost->rounds[COST_LOCAL] = (peers > 0) + (block > 1);
    cost->messages[COST_LOCAL] = peers * hosts;
    cost->bytes[COST_LOCAL] = peers * part * share;
    cost->rounds[COST_REMOTE] = 1;
    cost->messages[COST_REMOTE] = hosts - 1;
    cost->bytes[COST_REMOTE] = larger_of(c->size - c->local_min, (hosts - 1) * c->local_max) * share;
    cost->reduced = (peers * part + (hosts - 1) * block) * share;
}
