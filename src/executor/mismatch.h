/* The one sentence for ranks that made different calls. */
#ifndef TUTTI_EXECUTOR_MISMATCH_H
#define TUTTI_EXECUTOR_MISMATCH_H

#include "wire/frame.h"

struct mismatch_side {
    int rank;
    uint64_t sequence;
    const struct fingerprint *call;
};

/* TUTTI_ERR_MISMATCH with "rank 3 called broadcast(root 0, 1024 x float32) as operation 17, rank 2 called
 * ..."; the rank is theirs.  Where only their algorithms differ, "... by ring as operation 17, ... by tree".
 */
int mismatch_error(const struct mismatch_side *theirs, const struct mismatch_side *ours,
                   struct tutti_error *error);

#endif
