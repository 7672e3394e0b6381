/* Broadcast over hosts: the root sends its vector down a binomial tree of one leader of each host (itself,
 * and the first ranks of the others); each leader passes it along the chain of its host's ranks, slice by
 * slice.
 *
 * Cost, for h hosts of m ranks: log2 h rounds across hosts and m-1 within; a host sends at most log2 h times
 * S bytes to others, and receives them once. */
#include "algorithm/binomial.h"
#include "algorithm/count.h"
#include "algorithm/hierarchy.h"
#include "algorithm/relay.h"
#include "algorithm/table.h"

/* The leader of the host `distance` after this one. */
static int leader_at(const struct hierarchy *h, const struct schedule *s, int distance)
{
    int host = (h->host + distance + h->hosts) % h->hosts;
    bool of_root = s->root >= h->first[host] && s->root < h->first[host + 1];
    return of_root ? s->root : h->first[host];
}

static int host_of(const struct hierarchy *h, int rank)
{
    int host = 0;
    while (h->first[host + 1] <= rank)
        host++;
    return host;
}

void hierarchical_broadcast(struct schedule *s)
{
    struct hierarchy h;
    if (!hierarchy_init(&h, s))
        return;
    s->chunks = 1;
    struct team local = hierarchy_local(&h, s);
    int node = (h.host - host_of(&h, s->root) + h.hosts) % h.hosts, leader = leader_at(&h, s, 0);
    int next = team_rank(&local, 1);
    struct relay relay = relay_from(team_rank(&local, -1));
    if (s->rank == s->root)
        relay = relay_of(span_send());
    else if (s->rank == leader)
        relay = relay_from(leader_at(&h, s, binomial_parent(node) - node));
    if (s->rank == leader) {
        for (int step = binomial_top(node, h.hosts); step >= 1; step /= 2)
            relay_to(s, &relay, leader_at(&h, s, step));
    }
    if (next != leader)
        relay_to(s, &relay, next);
    relay_end(s, &relay);
    if (s->rank == s->root)
        schedule_copy(s, 0, 1, span_send(), span_recv());
    hierarchy_clean_up(&h);
}

void hierarchical_broadcast_cost(const struct cost_case *c, struct cost *cost)
{
    double hops = c->local_max - 1, sent = log2_ceil(c->host_count);
    cost->rounds[COST_REMOTE] = log2_floor(c->host_count);
    cost->messages[COST_REMOTE] = sent;
    cost->bytes[COST_REMOTE] = sent * c->bytes;
    if (hops > 0) {
        cost->rounds[COST_LOCAL] = hops;
        cost->messages[COST_LOCAL] = 1;
        /* The pipeline is full already when the last slice comes from another host. */
        cost->bytes[COST_LOCAL] = c->bytes + (hops - 1) * smaller_of(c->bytes, c->slice_bytes);
    }
    cost->copied = c->bytes;
}
