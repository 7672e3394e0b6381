#include "tools/bench_statistics.h"

#include <math.h>
#include <stdlib.h>

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

double bench_median(double *values, size_t count)
{
    if (count == 0)
        return 0;
    qsort(values, count, sizeof *values, compare);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

double bench_percentile(double *values, size_t count, double share)
{
    if (count == 0)
        return 0;
    qsort(values, count, sizeof *values, compare);
    /* 0.99 is a little less than 99/100, or more: what is a whole number but for that shall be one. */
    double below = ceil(share * (double)count - 1e-9);
    size_t index = below < 1 ? 0 : (size_t)below - 1;
    return values[index < count ? index : count - 1];
}

double bench_geometric_mean(const double *values, size_t count)
{
    double logarithms = 0;
    for (size_t i = 0; i < count; i++)
        logarithms += log(values[i]);
    return count > 0 ? exp(logarithms / (double)count) : 0;
}
