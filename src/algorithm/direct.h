/* What the direct algorithms share: everybody sends to everybody, in one round.  All sends come before the
 * first receive, for a send waits for the receives before it; and in the k-th of each, rank r sends to r + k
 * while it receives from r - k, so that nobody is the target of all at once. */
#ifndef TUTTI_ALGORITHM_DIRECT_H
#define TUTTI_ALGORITHM_DIRECT_H

#include "algorithm/ring.h"
#include "schedule/schedule.h"

/* Chunk r of every rank's input is reduced on rank r into `target`, finished, in the order of the ranks.
 * Uses the scratch slots 0 to size - 2, one chunk each.  Size at least 2. */
void direct_phase_reduce_scatter(struct schedule *s, struct span target);

/* Chunk r, which rank r has in `own`, ends on every other rank in PLACE_RECV. */
void direct_phase_all_gather(struct schedule *s, struct span own);

#endif
