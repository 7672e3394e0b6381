#include "executor/mismatch.h"

#include <stdio.h>
#include <string.h>
#include "algorithm/algorithm.h"
#include "base/error.h"

#define CALL_BYTES 192

static void append_algorithm(const struct fingerprint *call, char text[CALL_BYTES])
{
    const struct algorithm *algorithm =
        operation_is_valid(call->operation)
            ? algorithm_by_number(algorithm_operation(call->operation), call->algorithm)
            : NULL;
    size_t used = strlen(text);
    if (algorithm)
        snprintf(text + used, CALL_BYTES - used, " by %s", algorithm->name);
    else
        snprintf(text + used, CALL_BYTES - used, " by algorithm %d", call->algorithm);
}

int mismatch_error(const struct mismatch_side *theirs, const struct mismatch_side *ours,
                   struct tutti_error *error)
{
    char their_call[CALL_BYTES], our_call[CALL_BYTES];
    fingerprint_print(theirs->call, their_call, sizeof their_call);
    fingerprint_print(ours->call, our_call, sizeof our_call);
    const char *mend = "every rank must make the same calls in the same order";
    /* The algorithm is of interest only where nothing else differs. */
    if (theirs->call->algorithm != ours->call->algorithm && theirs->sequence == ours->sequence &&
        strcmp(their_call, our_call) == 0) {
        append_algorithm(theirs->call, their_call);
        append_algorithm(ours->call, our_call);
        mend = "where a call names its algorithm, every rank must name the same";
    }
    error_set(error, TUTTI_ERR_MISMATCH,
              "rank %d called %s as operation %llu, rank %d called %s as operation %llu: %s", theirs->rank,
              their_call, (unsigned long long)theirs->sequence, ours->rank, our_call,
              (unsigned long long)ours->sequence, mend);
    error->rank = theirs->rank;
    return TUTTI_ERR_MISMATCH;
}
