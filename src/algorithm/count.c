#include "algorithm/count.h"

#include <stdbool.h>

static void add(struct cost *cost, enum cost_link kind, double rounds, double messages, double bytes)
{
    cost->rounds[kind] += rounds;
    cost->messages[kind] += messages;
    cost->bytes[kind] += bytes;
}

void count_ring(const struct cost_case *c, struct cost *cost, double rounds, double messages, double bytes)
{
    if (c->host_count == 1) {
        add(cost, COST_LOCAL, rounds, messages, bytes);
        return;
    }
    /* The busiest rank is the last of a host: all that it sends leaves the host.  Of the hops of a lap as
     * many leave a host as there are hosts, if neighbours are together at all. */
    double senders = c->hosts_consecutive ? 1 : c->local_max;
    double far = c->hosts_consecutive ? rounds * c->host_count / c->size : rounds;
    add(cost, COST_REMOTE, far, messages, bytes * senders);
    add(cost, COST_LOCAL, rounds - far, 0, 0);
}

void count_chain(const struct cost_case *c, struct cost *cost)
{
    double hops = c->size - 1, waited = (hops - 1) * smaller_of(c->bytes, c->slice_bytes);
    count_ring(c, cost, hops, 1, c->bytes + waited);
    cost->load = hops / c->size * (c->bytes > 0 ? c->bytes / (c->bytes + waited) : 1);
}

void count_everybody(const struct cost_case *c, struct cost *cost, double bytes)
{
    double near = c->local_min - 1, far = c->size - c->local_min;
    if (c->host_count == 1) {
        add(cost, COST_LOCAL, 1, c->size - 1, bytes * (c->size - 1));
        return;
    }
    /* What leaves a host of L ranks is L * (size - L) messages: most where L is the largest. */
    add(cost, COST_LOCAL, 0, near, bytes * near);
    add(cost, COST_REMOTE, 1, far, bytes * c->local_max * (c->size - c->local_max));
}

void count_star(const struct cost_case *c, struct cost *cost, double bytes)
{
    bool one_host = c->host_count == 1;
    double far = one_host ? 0 : c->size - c->local_min, near = c->size - 1 - far;
    add(cost, COST_LOCAL, one_host, near, 0);
    add(cost, COST_REMOTE, !one_host, far, 0);
    count_star_bytes(c, cost, bytes);
}

void count_star_bytes(const struct cost_case *c, struct cost *cost, double bytes)
{
    double far = c->host_count == 1 ? 0 : c->size - c->local_min, near = c->size - 1 - far;
    add(cost, COST_LOCAL, 0, 0, near * bytes);
    add(cost, COST_REMOTE, 0, 0, far * bytes);
}

static bool is_power_of_two(int n)
{
    return (n & (n - 1)) == 0;
}

/* Do the hosts end where the pairs and trees of that many ranks do?  Folding renumbers the ranks. */
static bool are_hosts_aligned(const struct cost_case *c, enum count_reach reach)
{
    return c->local_min == c->local_max && is_power_of_two(c->local_max) &&
           (reach == COUNT_TREE || is_power_of_two(c->size));
}

/* The most ranks of a host that send to another host. */
static double senders_to_other_hosts(const struct cost_case *c, enum count_reach reach, int distance)
{
    int others = c->size - c->local_max, possible = c->local_max < others ? c->local_max : others;
    int senders = distance < possible ? distance : possible;
    if (c->host_count == 1)
        return 0;
    if (!c->hosts_consecutive)
        senders = possible;
    else if (reach == COUNT_SHIFTED)
        senders = senders < c->size - distance ? senders : c->size - distance;
    else if (distance < c->local_max && are_hosts_aligned(c, reach))
        senders = 0;
    return reach == COUNT_TREE && senders > 1 ? 1 : senders;
}

void count_distance(const struct cost_case *c, struct cost *cost, enum count_reach reach, int distance,
                    double rounds, double messages, double bytes)
{
    double senders = senders_to_other_hosts(c, reach, distance);
    if (senders > 0)
        add(cost, COST_REMOTE, rounds, messages, bytes * senders);
    else
        add(cost, COST_LOCAL, rounds, messages, bytes);
}
