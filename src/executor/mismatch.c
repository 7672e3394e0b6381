#include "executor/mismatch.h"

#include "base/error.h"

int mismatch_error(const struct mismatch_side *theirs, const struct mismatch_side *ours,
                   struct tutti_error *error)
{
    char their_call[192], our_call[192];
    error_set(
        error, TUTTI_ERR_MISMATCH,
        "rank %d called %s as operation %llu, rank %d called %s as operation %llu: every rank must make "
        "the same calls in the same order",
        theirs->rank, fingerprint_print(theirs->call, their_call, sizeof their_call),
        (unsigned long long)theirs->sequence, ours->rank,
        fingerprint_print(ours->call, our_call, sizeof our_call), (unsigned long long)ours->sequence);
    error->rank = theirs->rank;
    return TUTTI_ERR_MISMATCH;
}
