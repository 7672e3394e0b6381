/* All-reduce of hosts: within each host a reduce-scatter, after which as many ranks as the smallest host has
 * each hold the host's sum of one part; across hosts an all-reduce of each part among the ranks that hold it,
 * all of them at once; within each host an all-gather.  Each phase runs on rings, so slices flow on.
 *
 * Cost, for h hosts of m ranks: 2(m-1) rounds within hosts and 2(h-1) across; each rank sends 2S(m-1)/m bytes
 * to its neighbour, and each host 2S(h-1)/h to other hosts, which is the least possible.  The plain ring
 * sends as much between hosts from one rank of each host, and waits for 2h of them in turn.  Source:
 * composition of the ring; Ueno and Fukushima, "Exhaustive study of hierarchical all_reduce patterns for
 * large messages between GPUs", 2019. */
#include "algorithm/count.h"
#include "algorithm/hierarchy.h"
#include "algorithm/ring.h"
#include "algorithm/table.h"

void hierarchical_all_reduce(struct schedule *s)
{
    struct hierarchy h;
    if (!hierarchy_init(&h, s))
        return;
    s->chunks = h.parts * h.hosts;
    struct team local = hierarchy_local(&h, s);
    struct parts local_parts = {0, h.hosts, h.parts};
    if (s->size == 1) {
        schedule_copy(s, 0, 1, span_send(), span_recv());
        schedule_mark_finished(s);
    }
    ring_phase_reduce_scatter(s, &local, &local_parts, span_send(), h.hosts == 1);
    if (local.index < h.parts) {
        struct team across = hierarchy_across(&h, s);
        struct parts across_parts = {local.index * h.hosts, 1, h.hosts};
        ring_phase_all_reduce(s, &across, &across_parts, local.size == 1 ? span_send() : span_recv());
    }
    ring_phase_all_gather(s, &local, &local_parts);
    hierarchy_clean_up(&h);
}

void hierarchical_all_reduce_cost(const struct cost_case *c, struct cost *cost)
{
    double hosts = c->host_count, hops = c->local_max - 1, parts = c->local_min;
    /* On a host with more ranks than parts some rank passes on all of them. */
    double passed = hops < parts ? hops : parts;
    cost->rounds[COST_LOCAL] = 2 * hops;
    cost->messages[COST_LOCAL] = 2 * passed;
    cost->bytes[COST_LOCAL] = 2 * passed * c->bytes / parts;
    cost->rounds[COST_REMOTE] = cost->messages[COST_REMOTE] = 2 * (hosts - 1);
    cost->bytes[COST_REMOTE] = 2 * (hosts - 1) / hosts * c->bytes;
    cost->reduced = passed * c->bytes / parts + (hosts - 1) / hosts * c->bytes / parts;
}
