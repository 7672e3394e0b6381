/* What the bench makes of many times. */
#ifndef TUTTI_TOOLS_BENCH_STATISTICS_H
#define TUTTI_TOOLS_BENCH_STATISTICS_H

#include <stddef.h>

/* Both sort `values`, and are 0 where there are none. */
double bench_median(double *values, size_t count);

/* The least value that at least `share` of them (0.99) do not exceed. */
double bench_percentile(double *values, size_t count, double share);

/* Of positive values. */
double bench_geometric_mean(const double *values, size_t count);

#endif
