#include "group/topology.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOBODY (-1)

static int compare_hosts(const void *left, const void *right, void *context)
{
    const struct place *places = context;
    int l = *(const int *)left, r = *(const int *)right;
    int order = strcmp(places[l].host, places[r].host);
    return order ? order : (l > r) - (l < r);
}

int topology_number_hosts(struct place *places, int count, int *scratch)
{
    int *order = scratch, *number = scratch + count;
    for (int i = 0; i < count; i++)
        order[i] = i;
    qsort_r(order, (size_t)count, sizeof *order, compare_hosts, places);

    /* The first of each run of equal hosts is the earliest of them: let it stand for the host... */
    for (int i = 0; i < count; i++) {
        int first = order[i];
        if (i > 0 && strcmp(places[order[i - 1]].host, places[first].host) == 0)
            first = places[order[i - 1]].host_index;
        places[order[i]].host_index = first;
    }
    /* ...and number those in the order of arrival. */
    int hosts = 0;
    for (int i = 0; i < count; i++) {
        if (places[i].host_index == i)
            number[i] = hosts++;
        places[i].host_index = number[places[i].host_index];
    }
    return hosts;
}

static int compare_host_numbers(const void *left, const void *right, void *context)
{
    const struct place *places = context;
    int l = *(const int *)left, r = *(const int *)right;
    int lh = places[l].host_index, rh = places[r].host_index;
    return lh != rh ? (lh > rh) - (lh < rh) : (l > r) - (l < r);
}

static void take(struct place *places, int *holder, int place, int rank)
{
    assert(holder[rank] == NOBODY);
    places[place].rank = rank;
    holder[rank] = place;
}

int topology_assign(struct place *places, int size, int *scratch)
{
    int hosts = topology_number_hosts(places, size, scratch);
    int *holder = scratch, *order = scratch + size;

    for (int i = 0; i < size; i++) {
        holder[i] = NOBODY;
        places[i].rank = NOBODY;
    }
    for (int i = 0; i < size; i++) {
        if (places[i].wanted != TUTTI_RANK_ANY)
            take(places, holder, i, places[i].wanted);
    }
    for (int i = 0; i < size; i++) {
        int rank = places[i].remembered;
        if (places[i].rank == NOBODY && rank != TUTTI_RANK_ANY && holder[rank] == NOBODY)
            take(places, holder, i, rank);
    }
    for (int i = 0; i < size; i++)
        order[i] = i;
    qsort_r(order, (size_t)size, sizeof *order, compare_host_numbers, places);
    for (int i = 0, rank = 0; i < size; i++) {
        if (places[order[i]].rank != NOBODY)
            continue;
        while (holder[rank] != NOBODY)
            rank++;
        take(places, holder, order[i], rank);
    }

    int *local_size = order; /* by host; the order is not needed any more */
    memset(local_size, 0, (size_t)hosts * sizeof *local_size);
    for (int rank = 0; rank < size; rank++) {
        struct place *place = &places[holder[rank]];
        place->local_rank = local_size[place->host_index]++;
    }
    for (int i = 0; i < size; i++)
        places[i].local_size = local_size[places[i].host_index];
    return hosts;
}

const char *topology_print_ranks(const int *ranks, int count, char *text, size_t text_size)
{
    const size_t longest = sizeof ", 2147483647-2147483647, ...";
    size_t used = (size_t)snprintf(text, text_size, count == 1 ? "rank " : "ranks ");
    for (int i = 0; i < count;) {
        int last = i;
        while (last + 1 < count && ranks[last + 1] == ranks[last] + 1)
            last++;
        const char *comma = i > 0 ? ", " : "";
        if (used + longest > text_size) {
            if (used < text_size)
                snprintf(text + used, text_size - used, "%s...", comma);
            break;
        }
        char *end = text + used;
        size_t room = text_size - used;
        if (last == i)
            used += (size_t)snprintf(end, room, "%s%d", comma, ranks[i]);
        else
            used += (size_t)snprintf(end, room, "%s%d-%d", comma, ranks[i], ranks[last]);
        i = last + 1;
    }
    return text;
}
