/* The symmetric memory of this process. */
#include "local/symmetric.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/error.h"
#include "transport/descriptor.h"
#include "transport/shared_memory.h"

#define HUGE_PAGE_BYTES ((size_t)2 << 20)
#define HUGE_BYTES_MIN  (HUGE_PAGE_BYTES / 2) /* from here on an allocation is made of whole huge pages */

/* An allocation, or a part of the memfd that was one and waits to be used again. */
struct block {
    uint8_t *address;
    size_t bytes;  /* as mapped */
    size_t offset; /* in the memfd */
    enum {
        BLOCK_SHARED,
        BLOCK_ORDINARY, /* there is no memfd */
        BLOCK_INHERITED /* of the memfd of the parent, whose fork() made this process */
    } kind;
    struct block *next; /* spare */
};

/* Guards the heap.  Held for moments only, since collectives look into the heap. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    int fd;       /* -1: not made yet, or not to be had */
    bool refused; /* for ever, since others have been told that there is none */
    struct tutti_error refusal;
    size_t end;            /* of what blocks and spare ones have of the memfd */
    struct block **blocks; /* by address */
    size_t count, room;
    struct block *spare; /* they have no memory; the one that was freed last comes first */
} heap = {.fd = -1};
static atomic_size_t shared_blocks; /* of `blocks` */

static void lock_heap(void)
{
    pthread_mutex_lock(&lock);
}

static void unlock_heap(void)
{
    pthread_mutex_unlock(&lock);
}

/* The memory of the parent stays in place, shared with it, until this process gives it back; but it is not in
 * the memfd that this process will make. */
static void begin_as_child(void)
{
    heap.fd = -1; /* descriptor.h closes it */
    heap.refused = false;
    heap.end = 0;
    for (size_t i = 0; i < heap.count; i++)
        if (heap.blocks[i]->kind == BLOCK_SHARED)
            heap.blocks[i]->kind = BLOCK_INHERITED;
    while (heap.spare) {
        struct block *next = heap.spare->next;
        free(heap.spare);
        heap.spare = next;
    }
    atomic_store(&shared_blocks, 0);
    unlock_heap();
}

static void watch_forks(void)
{
    pthread_atfork(lock_heap, unlock_heap, begin_as_child);
}

int symmetric_heap_descriptor(struct tutti_error *error)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&lock);
    int fd = heap.fd;
    bool open = fd >= 0 || heap.refused;
    pthread_mutex_unlock(&lock);
    if (!open) {
        /* Another thread may do the same: the first has its way. */
        struct tutti_error refusal = TUTTI_ERROR_INIT;
        int made = shared_memory_create(0, true, &refusal);
        pthread_mutex_lock(&lock);
        if (heap.fd < 0 && !heap.refused) {
            heap.fd = made >= 0 ? made : -1;
            heap.refused = made < 0;
            heap.refusal = refusal;
            made = -1;
        }
        fd = heap.fd;
        pthread_mutex_unlock(&lock);
        if (made >= 0)
            descriptor_close(made);
    }
    if (fd < 0) {
        pthread_mutex_lock(&lock);
        error_set(error, heap.refusal.code, "%s", heap.refusal.message);
        pthread_mutex_unlock(&lock);
    }
    return fd;
}

/* How many blocks begin at or before `address`: it can lie in the last of these only. */
static size_t heap_place(uintptr_t address)
{
    size_t low = 0, high = heap.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if ((uintptr_t)heap.blocks[middle]->address <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool heap_insert(struct block *block)
{
    pthread_mutex_lock(&lock);
    if (heap.count == heap.room) {
        size_t room = heap.room > 0 ? 2 * heap.room : 16;
        struct block **larger = realloc(heap.blocks, room * sizeof *larger);
        if (!larger) {
            pthread_mutex_unlock(&lock);
            return false;
        }
        heap.blocks = larger;
        heap.room = room;
    }
    size_t place = heap_place((uintptr_t)block->address);
    memmove(heap.blocks + place + 1, heap.blocks + place, (heap.count - place) * sizeof *heap.blocks);
    heap.blocks[place] = block;
    heap.count++;
    if (block->kind == BLOCK_SHARED)
        atomic_fetch_add_explicit(&shared_blocks, 1, memory_order_relaxed);
    pthread_mutex_unlock(&lock);
    return true;
}

/* The allocation that begins at `address`, no longer in the table; NULL: there is none. */
static struct block *heap_remove(const void *address)
{
    struct block *block = NULL;
    pthread_mutex_lock(&lock);
    size_t place = heap_place((uintptr_t)address);
    if (place > 0 && heap.blocks[place - 1]->address == address) {
        block = heap.blocks[place - 1];
        heap.count--;
        memmove(heap.blocks + place - 1, heap.blocks + place, (heap.count - place + 1) * sizeof *heap.blocks);
        if (block->kind == BLOCK_SHARED)
            atomic_fetch_sub_explicit(&shared_blocks, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&lock);
    return block;
}

static void keep_spare(struct block *block)
{
    pthread_mutex_lock(&lock);
    block->next = heap.spare;
    heap.spare = block;
    pthread_mutex_unlock(&lock);
}

/* A part of the memfd, not mapped; NULL when out of memory.  A spare one has exactly that length: parts keep
 * their lengths, so what a peer has mapped stays right when they are used again. */
static struct block *take_part(size_t bytes)
{
    struct block *fresh = calloc(1, sizeof *fresh);
    pthread_mutex_lock(&lock);
    struct block **from = &heap.spare;
    while (*from && (*from)->bytes != bytes)
        from = &(*from)->next;
    struct block *block = *from;
    if (block) {
        *from = block->next;
    } else if (fresh) {
        /* Huge pages begin at multiples of their size. */
        size_t unit = bytes % HUGE_PAGE_BYTES == 0 ? HUGE_PAGE_BYTES : 1;
        block = fresh;
        block->bytes = bytes;
        block->offset = (heap.end + unit - 1) / unit * unit;
        heap.end = block->offset + bytes;
        fresh = NULL;
    }
    pthread_mutex_unlock(&lock);
    free(fresh);
    return block;
}

static void *alloc_shared(int fd, size_t bytes, struct tutti_error *error)
{
    struct tutti_error reason = {.message = "nothing is left to note it in"};
    uint8_t *address = NULL;
    struct block *block = take_part(bytes);
    if (!block)
        goto refuse;
    if (shared_memory_reserve(fd, block->offset, bytes, &reason) < 0)
        goto keep;
    address = shared_memory_map(fd, block->offset, bytes, true, &reason);
    if (!address)
        goto release;
    block->address = address;
    if (heap_insert(block))
        return address;
    shared_memory_unmap(address, bytes);
release:
    shared_memory_release(fd, block->offset, bytes);
keep:
    keep_spare(block);
refuse:
    error_set(error, TUTTI_ERR_MEMORY, "no symmetric memory of %zu bytes: %s", bytes, reason.message);
    return NULL;
}

static void *alloc_ordinary(size_t bytes, size_t page_bytes, struct tutti_error *error)
{
    struct block *block = calloc(1, sizeof *block);
    uint8_t *address = aligned_alloc(page_bytes, bytes);
    if (block && address) {
        memset(address, 0, bytes);
        *block = (struct block){.address = address, .bytes = bytes, .kind = BLOCK_ORDINARY};
        if (heap_insert(block))
            return address;
    }
    free(address);
    free(block);
    error_set(error, TUTTI_ERR_MEMORY, "no memory for %zu bytes", bytes);
    return NULL;
}

void *symmetric_heap_alloc(size_t bytes, struct tutti_error *error)
{
    const size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    const size_t pages = (size_t)sysconf(_SC_PHYS_PAGES);
    /* The memory is taken at once, and the kernel would end processes to find what there is not. */
    if (bytes / page_bytes >= pages) {
        error_set(error, TUTTI_ERR_MEMORY, "no memory for %zu bytes: this machine has %zu", bytes,
                  pages * page_bytes);
        return NULL;
    }
    size_t unit = bytes >= HUGE_BYTES_MIN ? HUGE_PAGE_BYTES : page_bytes;
    size_t rounded = bytes > 0 ? (bytes + unit - 1) / unit * unit : unit;
    int fd = symmetric_heap_descriptor(NULL);
    return fd >= 0 ? alloc_shared(fd, rounded, error) : alloc_ordinary(rounded, page_bytes, error);
}

bool symmetric_heap_free(void *memory)
{
    struct block *block = heap_remove(memory);
    if (!block)
        return false;
    switch (block->kind) {
    case BLOCK_SHARED:
        shared_memory_unmap(block->address, block->bytes);
        shared_memory_release(symmetric_heap_descriptor(NULL), block->offset, block->bytes);
        keep_spare(block);
        return true;
    case BLOCK_INHERITED:
        shared_memory_unmap(block->address, block->bytes);
        break;
    case BLOCK_ORDINARY:
        free(block->address);
        break;
    }
    free(block);
    return true;
}

bool symmetric_heap_find(const void *buffer, size_t bytes, struct arena_extent *extent)
{
    if (atomic_load_explicit(&shared_blocks, memory_order_relaxed) == 0)
        return false;
    bool found = false;
    pthread_mutex_lock(&lock);
    size_t place = heap_place((uintptr_t)buffer);
    const struct block *block = place > 0 ? heap.blocks[place - 1] : NULL;
    size_t offset = block ? (uintptr_t)buffer - (uintptr_t)block->address : 0;
    if (block && block->kind == BLOCK_SHARED && offset < block->bytes && bytes <= block->bytes - offset) {
        *extent = (struct arena_extent){block->offset, block->bytes, offset};
        found = true;
    }
    pthread_mutex_unlock(&lock);
    return found;
}
