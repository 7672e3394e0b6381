/* Stray frames: those of another call than the one that this rank is in, on links that it does not read.
 * Ranks that called with different roots or algorithms may each wait for a frame that never comes, while the
 * one that would show it lies elsewhere. */
#ifndef TUTTI_EXECUTOR_STRAY_H
#define TUTTI_EXECUTOR_STRAY_H

#include "executor/executor.h"

/* Looks at the next frame of every link but the one that the blocked executor waits for.  TUTTI_OK, or
 * ERR_MISMATCH: the end of the group. */
int stray_check(const struct executor *executor, struct tutti_error *error);

#endif
