#include "algorithm/hierarchy.h"

#include <assert.h>
#include <stdlib.h>
#include "tensor/chunk.h"

bool hierarchy_init(struct hierarchy *h, struct schedule *s)
{
    const struct host_map *map = s->hosts;
    *h = (struct hierarchy){.hosts = map ? map->host_count : 1, .parts = s->size};
    h->host = map ? map->host_of[s->rank] : 0;
    h->first = malloc(((size_t)h->hosts * 2 + 1) * sizeof *h->first);
    if (!h->first) {
        s->failed = true;
        return false;
    }
    h->across = h->first + h->hosts + 1;
    h->first[0] = 0;
    for (int rank = 1; rank < s->size && map; rank++) {
        assert(map->host_of[rank] == map->host_of[rank - 1] ||
               map->host_of[rank] == map->host_of[rank - 1] + 1);
        if (map->host_of[rank] != map->host_of[rank - 1])
            h->first[map->host_of[rank]] = rank;
    }
    h->first[h->hosts] = s->size;
    for (int host = 0; host < h->hosts; host++) {
        int ranks = h->first[host + 1] - h->first[host];
        h->parts = ranks < h->parts ? ranks : h->parts;
    }
    return true;
}

void hierarchy_clean_up(struct hierarchy *h)
{
    free(h->first);
}

struct team hierarchy_local(const struct hierarchy *h, const struct schedule *s)
{
    int first = h->first[h->host];
    return (struct team){NULL, first, h->first[h->host + 1] - first, s->rank - first};
}

struct team hierarchy_across(struct hierarchy *h, const struct schedule *s)
{
    int place = s->rank - h->first[h->host];
    assert(place < h->parts);
    for (int host = 0; host < h->hosts; host++)
        h->across[host] = h->first[host] + place;
    return (struct team){h->across, 0, h->hosts, h->host};
}

void hierarchy_leaders_barrier(struct schedule *s, const struct hierarchy *h)
{
    for (int distance = 1; distance < h->hosts; distance *= 2) {
        int from = h->first[(h->host - distance + h->hosts) % h->hosts];
        schedule_send(s, h->first[(h->host + distance) % h->hosts], s->rank, 1, span_send());
        schedule_recv(s, from, from, 1, span_recv());
    }
}

struct range hierarchy_block(const struct hierarchy *h, int host, int part)
{
    size_t ranks = (size_t)(h->first[host + 1] - h->first[host]), parts = (size_t)h->parts;
    return (struct range){h->first[host] + (int)chunk_begin(ranks, parts, (size_t)part),
                          (int)chunk_count(ranks, parts, (size_t)part)};
}

int hierarchy_block_of(const struct hierarchy *h, int rank)
{
    int part = 0;
    while (part + 1 < h->parts && hierarchy_block(h, h->host, part + 1).chunk <= rank)
        part++;
    return part;
}
