/* All-gather over hosts: the carriers of each host collect the parts of their block; across hosts they
 * exchange these blocks; within each host they hand out all that they have then.
 *
 * Cost, for h hosts of m ranks: one round across hosts and one within, and one before where hosts are not
 * alike; each rank receives S(n-1)/n bytes (S: the gathered vector), each host no part twice.  Source:
 * composition of direct exchanges. */
#include "algorithm/count.h"
#include "algorithm/hierarchy.h"
#include "algorithm/table.h"

/* The parts of a block to its carrier. */
static void collect(struct schedule *s, struct range block)
{
    if (s->rank != block.chunk) {
        schedule_send(s, block.chunk, s->rank, 1, span_send());
        return;
    }
    /* The others get their own part back with the rest of the block. */
    schedule_copy(s, s->rank, 1, span_send(), span_recv());
    for (int rank = block.chunk + 1; rank < block.chunk + block.chunks; rank++)
        schedule_recv(s, rank, rank, 1, span_recv());
}

/* Blocks from host to host, among carriers. */
static void exchange(struct schedule *s, const struct hierarchy *h, int part)
{
    struct range own = hierarchy_block(h, h->host, part);
    for (int k = 1; k <= h->hosts - 1; k++) {
        int to = hierarchy_block(h, (h->host + k) % h->hosts, part).chunk;
        schedule_send(s, to, own.chunk, own.chunks, span_recv());
    }
    for (int k = 1; k <= h->hosts - 1; k++) {
        struct range other = hierarchy_block(h, (h->host - k + h->hosts) % h->hosts, part);
        schedule_recv(s, other.chunk, other.chunk, other.chunks, span_recv());
    }
}

/* What the carriers have, to all ranks of the host. */
static void hand_out(struct schedule *s, const struct hierarchy *h, int part)
{
    struct team local = hierarchy_local(h, s);
    bool carries = hierarchy_block(h, h->host, part).chunk == s->rank;
    for (int k = 1; k <= local.size - 1 && carries; k++) {
        for (int host = 0; host < h->hosts; host++) {
            struct range block = hierarchy_block(h, host, part);
            schedule_send(s, team_rank(&local, k), block.chunk, block.chunks, span_recv());
        }
    }
    for (int k = 1; k <= local.size - 1; k++) {
        int from = team_rank(&local, -k), other = hierarchy_block_of(h, from);
        for (int host = 0; host < h->hosts && hierarchy_block(h, h->host, other).chunk == from; host++) {
            struct range block = hierarchy_block(h, host, other);
            schedule_recv(s, from, block.chunk, block.chunks, span_recv());
        }
    }
}

void hierarchical_all_gather(struct schedule *s)
{
    struct hierarchy h;
    s->chunks = s->size;
    if (!hierarchy_init(&h, s))
        return;
    int part = hierarchy_block_of(&h, s->rank);
    struct range block = hierarchy_block(&h, h.host, part);
    collect(s, block);
    if (s->rank == block.chunk)
        exchange(s, &h, part);
    hand_out(s, &h, part);
    hierarchy_clean_up(&h);
}

void hierarchical_all_gather_cost(const struct cost_case *c, struct cost *cost)
{
    double share = c->bytes / c->size, peers = c->local_max - 1, block = hierarchy_block_max(c);
    double part = c->size / (double)c->local_min;
    cost->rounds[COST_LOCAL] = (peers > 0) + (block > 1);
    cost->messages[COST_LOCAL] = peers * c->host_count;
    cost->bytes[COST_LOCAL] = peers * part * share;
    cost->rounds[COST_REMOTE] = 1;
    cost->messages[COST_REMOTE] = c->host_count - 1;
    cost->bytes[COST_REMOTE] = larger_of((c->host_count - 1) * c->local_max, c->size - c->local_min) * share;
    cost->copied = share;
    if (block > 1)
        cost->load = c->local_min / (double)c->local_max;
}
