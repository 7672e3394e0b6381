/* Symmetric memory: buffers that the other ranks of the host can read where they are, so that a collective on
 * them copies nothing into slots.  A process has one memfd for them, which only grows, whatever its
 * communicators; allocation is local.  A rank tells the others in a call where its buffers lie (struct
 * arena_extent), and they map the allocation when they first meet it, for reading only. */
#ifndef TUTTI_LOCAL_SYMMETRIC_H
#define TUTTI_LOCAL_SYMMETRIC_H

#include "local/arena.h"

/* ---- Of this process; any thread --------------------------------------------------------------- */

/* A child of fork() shares the memory that its parent had, finds none of it here, and gives back only its own
 * view of it; what it allocates is in a memfd of its own. */

/* The memfd, made on first use; -1 with a sentence where there is none, and then never will be.  Stays the
 * heap's. */
int symmetric_heap_descriptor(struct tutti_error *error);

/* At least `bytes` bytes, all zero, aligned to a page at least, from half a huge page on to huge pages.  From
 * ordinary memory where the heap cannot be made: then it works like any other.  NULL with a sentence:
 * TUTTI_ERR_MEMORY. */
void *symmetric_heap_alloc(size_t bytes, struct tutti_error *error);

/* false: `memory` was not allocated so, or has been freed. */
bool symmetric_heap_free(void *memory);

/* Where these bytes lie, if all of them lie in one allocation of the heap; quick, also when there is none. */
bool symmetric_heap_find(const void *buffer, size_t bytes, struct arena_extent *extent);

/* ---- Of the other ranks, in one communicator; with the token ------------------------------------ */

/* `fds`: the memfd of each rank of the host, by index, -1 where it has none (and of `index`, this one).
 * Takes them over, also when it fails: NULL, out of memory. */
struct symmetric *symmetric_new(const int *fds, int count, int index);
void symmetric_free(struct symmetric *symmetric); /* unmaps; NULL is accepted */

/* Where rank `index` has those `bytes` bytes, as this process sees them; their allocation is mapped on first
 * use, and stays mapped at least for what one call needs: for the next SYMMETRIC_KEPT(count) calls of this
 * function.  NULL with a sentence.  Never trusts the extent: one that is not within the memfd, or a buffer
 * that is not within the extent, is TUTTI_ERR_PROTOCOL. */
#define SYMMETRIC_KEPT(count) (4 * (count))
const void *symmetric_map(struct symmetric *symmetric, int index, const struct arena_extent *extent,
                          size_t bytes, struct tutti_error *error);

#endif
