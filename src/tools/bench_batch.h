/* A batch of calls of one algorithm, where several take turns: of `tutti bench --algorithms` and `tutti
 * tune`.
 */
#ifndef TUTTI_TOOLS_BENCH_BATCH_H
#define TUTTI_TOOLS_BENCH_BATCH_H

#include "tools/bench.h"

#define BENCH_BATCH_MAX 200 /* calls in a batch */

/* `count` calls; *us becomes the median of the times that the slowest rank took, the same on every rank.
 * Where a rank may be done before the others have begun, a barrier comes before each call: calls would
 * overlap.  A status of tutti's. */
int bench_measure_batch(const struct bench_worker *worker, const struct bench_case *which, int count,
                        double *us);

/* How many calls of `us` microseconds make a batch. */
int bench_batch_for(double us);

#endif
