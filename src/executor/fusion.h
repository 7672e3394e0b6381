/* Fusion: several small calls of one kind run as one operation, so that they pay the latency of one: over a
 * packed copy of their buffers, or over the buffers themselves where these lie one behind the other.
 * Staging: a call that runs alone reads a prepared copy of its input. */
#ifndef TUTTI_EXECUTOR_FUSION_H
#define TUTTI_EXECUTOR_FUSION_H

#include "executor/operation.h"
#include "tensor/reduce.h"

#define FUSION_CALL_BYTES_MAX  (64u << 10) /* a longer call gains less than the copies cost */
#define FUSION_TOTAL_BYTES_MAX (4u << 20)
#define FUSION_CALLS_MAX       65535 /* as the frame header can say */

/* One of the calls that were packed. */
struct fusion_part {
    const void *send; /* NULL: nothing is packed from here (not the root) */
    void *recv;       /* NULL: nothing is unpacked to here (not the root) */
    size_t bytes;
    double factor; /* of TUTTI_PREMULTIPLIED_SUM, read of no other reduction */
};

/* How many of the first of `calls` run as one operation: at least 1.  A function of what is the same on every
 * rank. */
size_t fusion_run_length(const struct tutti_call *calls, size_t count);

/* Makes `print`, the fingerprint of the first of `count` calls, that of all of them run as one. */
void fusion_fingerprint(struct fingerprint *print, const struct tutti_call *calls, size_t count);

/* Do the buffers of `count` calls that run as one lie one behind the other on this rank, so that nothing
 * needs to be packed?  Each rank may find it otherwise. */
bool fusion_is_one_buffer(const struct tutti_call *calls, size_t count, int rank);

/* Fills in `count` parts for as many calls that run as one. */
void fusion_parts(struct fusion_part *parts, const struct tutti_call *calls, size_t count, int rank);

/* Makes the operation of a group of `size`, which was initialised with `packed` as both its buffers, fill it
 * from the parts when it first moves after its start and empty it into them when it is done.  Borrows all. */
void fusion_wrap(struct operation *operation, const struct reduce_table *kernels, int size,
                 const struct fusion_part *parts, size_t count, void *packed);

/* ---- Staging ----------------------------------------------------------------------------------- */

/* Must the call read a copy of its input: multiplied by its factor; or because its output overwrites it
 * (all_to_all in place); or because nothing else would make it 0 or 1 (truth values in a group of one)?  For
 * a call that runs alone; fusion does it by itself. */
bool staging_is_needed(const struct tutti_call *call, int size);

/* Then: bytes of scratch memory for the copy; 0 where it is made in the call's own `recv`. */
size_t staging_bytes(const struct tutti_call *call, int rank, int size);

/* Then: where the copy is, which the operation must be given as its `send`; `scratch` has staging_bytes(). */
void *staging_copy(const struct tutti_call *call, int rank, void *scratch);

/* Makes the operation, which was initialised with the copy as its input, make it when it first moves after
 * its start.  Fills *part, and borrows it and the rest. */
void staging_wrap(struct operation *operation, const struct reduce_table *kernels, int size,
                  struct fusion_part *part, const struct tutti_call *call, int rank, void *copy);

#endif
