/* The symmetric memory of the other ranks, as far as this process has mapped it. */
#include "local/symmetric.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/error.h"
#include "transport/descriptor.h"
#include "transport/shared_memory.h"

#define MAPPED_MAX 1024 /* of one rank; more while a call may still need them */

struct mapped {
    uint64_t block, bytes; /* as in struct arena_extent */
    uint8_t *address;
    uint64_t used; /* the latest call of symmetric_map() that found it */
};

struct symmetric {
    int count;
    uint64_t calls;
    struct peer {
        int fd;
        struct mapped *mapped; /* by block */
        size_t mapped_count, room, last;
    } peers[]; /* by index */
};

struct symmetric *symmetric_new(const int *fds, int count, int index)
{
    struct symmetric *symmetric = calloc(1, sizeof *symmetric + (size_t)count * sizeof *symmetric->peers);
    for (int i = 0; i < count; i++) {
        if (symmetric)
            symmetric->peers[i].fd = i == index ? -1 : fds[i];
        if (fds[i] >= 0 && (!symmetric || i == index))
            descriptor_close(fds[i]);
    }
    if (symmetric)
        symmetric->count = count;
    return symmetric;
}

static void unmap(struct peer *peer, size_t place)
{
    shared_memory_unmap(peer->mapped[place].address, (size_t)peer->mapped[place].bytes);
    peer->mapped_count--;
    memmove(peer->mapped + place, peer->mapped + place + 1,
            (peer->mapped_count - place) * sizeof *peer->mapped);
}

void symmetric_free(struct symmetric *symmetric)
{
    if (!symmetric)
        return;
    for (int i = 0; i < symmetric->count; i++) {
        struct peer *peer = &symmetric->peers[i];
        while (peer->mapped_count > 0)
            unmap(peer, peer->mapped_count - 1);
        free(peer->mapped);
        if (peer->fd >= 0)
            descriptor_close(peer->fd);
    }
    free(symmetric);
}

/* Where `block` is in the table, or belongs. */
static size_t mapped_place(const struct peer *peer, uint64_t block)
{
    size_t low = 0, high = peer->mapped_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (peer->mapped[middle].block < block)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* May the call that is under way still use it? */
static bool is_kept(const struct symmetric *symmetric, const struct mapped *mapped)
{
    return symmetric->calls - mapped->used <= (uint64_t)SYMMETRIC_KEPT(symmetric->count);
}

/* Unmaps the block that has not been used for the longest time, if no call needs it. */
static void unmap_oldest(const struct symmetric *symmetric, struct peer *peer)
{
    size_t oldest = 0;
    for (size_t i = 1; i < peer->mapped_count; i++)
        if (peer->mapped[i].used < peer->mapped[oldest].used)
            oldest = i;
    if (!is_kept(symmetric, &peer->mapped[oldest]))
        unmap(peer, oldest);
}

/* Unmaps all that no call needs; false: there was none. */
static bool unmap_old(struct symmetric *symmetric)
{
    bool some = false;
    for (int i = 0; i < symmetric->count; i++)
        for (size_t place = symmetric->peers[i].mapped_count; place-- > 0;)
            if (!is_kept(symmetric, &symmetric->peers[i].mapped[place])) {
                unmap(&symmetric->peers[i], place);
                some = true;
            }
    return some;
}

static bool make_room(struct peer *peer)
{
    if (peer->mapped_count < peer->room)
        return true;
    size_t room = peer->room > 0 ? 2 * peer->room : 4;
    struct mapped *larger = realloc(peer->mapped, room * sizeof *larger);
    if (!larger)
        return false;
    peer->mapped = larger;
    peer->room = room;
    return true;
}

/* Maps it into the table, and has `last` say where. */
static bool map_block(struct symmetric *symmetric, struct peer *peer, const struct arena_extent *extent,
                      struct tutti_error *error)
{
    if (peer->mapped_count >= MAPPED_MAX)
        unmap_oldest(symmetric, peer);
    if (!make_room(peer)) {
        error_set(error, TUTTI_ERR_MEMORY, "no memory to map the symmetric memory of another rank");
        return false;
    }
    struct tutti_error reason = TUTTI_ERROR_INIT;
    uint8_t *address;
    do {
        address = shared_memory_map(peer->fd, extent->block, extent->block_bytes, false, &reason);
        /* A process can have so many mappings and no more. */
    } while (!address && reason.code != TUTTI_ERR_PROTOCOL && unmap_old(symmetric));
    if (!address) {
        error_set(error, reason.code, "the symmetric memory of another rank of this host: %s",
                  reason.message);
        return false;
    }
    size_t place = mapped_place(peer, extent->block);
    memmove(peer->mapped + place + 1, peer->mapped + place,
            (peer->mapped_count - place) * sizeof *peer->mapped);
    peer->mapped[place] = (struct mapped){extent->block, extent->block_bytes, address, 0};
    peer->mapped_count++;
    peer->last = place;
    return true;
}

/* Does `last` say where it is mapped?  What is mapped there with another length no longer is. */
static bool find_mapped(struct peer *peer, const struct arena_extent *extent)
{
    if (peer->last >= peer->mapped_count || peer->mapped[peer->last].block != extent->block)
        peer->last = mapped_place(peer, extent->block);
    if (peer->last >= peer->mapped_count || peer->mapped[peer->last].block != extent->block)
        return false;
    if (peer->mapped[peer->last].bytes == extent->block_bytes)
        return true;
    unmap(peer, peer->last);
    return false;
}

static int check_extent(const struct peer *peer, const struct arena_extent *extent, size_t bytes,
                        struct tutti_error *error)
{
    const uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    if (peer->fd >= 0 && extent->block % page_bytes == 0 && extent->block_bytes % page_bytes == 0 &&
        extent->block_bytes > 0 && extent->block <= PTRDIFF_MAX && extent->block_bytes <= PTRDIFF_MAX &&
        extent->offset <= extent->block_bytes && bytes <= extent->block_bytes - extent->offset)
        return TUTTI_OK;
    return error_set(
        error, TUTTI_ERR_PROTOCOL,
        "another rank of this host says that %zu bytes lie at %llu of the %llu bytes from %llu on "
        "of its symmetric memory%s, which cannot be",
        bytes, (unsigned long long)extent->offset, (unsigned long long)extent->block_bytes,
        (unsigned long long)extent->block, peer->fd < 0 ? ", of which it has none" : "");
}

/* Each word once: it may lie in memory that the other rank goes on writing to. */
static struct arena_extent read_extent(const volatile struct arena_extent *extent)
{
    return (struct arena_extent){extent->block, extent->block_bytes, extent->offset};
}

const void *symmetric_map(struct symmetric *symmetric, int index, const struct arena_extent *extent,
                          size_t bytes, struct tutti_error *error)
{
    struct peer *peer = &symmetric->peers[index];
    const struct arena_extent seen = read_extent(extent);
    if (check_extent(peer, &seen, bytes, error) < 0)
        return NULL;
    symmetric->calls++;
    if (!find_mapped(peer, &seen) && !map_block(symmetric, peer, &seen, error))
        return NULL;
    struct mapped *mapped = &peer->mapped[peer->last];
    mapped->used = symmetric->calls;
    return mapped->address + seen.offset;
}
