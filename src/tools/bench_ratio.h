/* How many times as fast as its rivals tutti is, over all sizes. */
#ifndef TUTTI_TOOLS_BENCH_RATIO_H
#define TUTTI_TOOLS_BENCH_RATIO_H

#include "tools/bench.h"

/* All zero at first. */
struct bench_ratio {
    struct bench_ratio_time *times;
    size_t count, room;
};

/* Borrows the texts of the row; false: out of memory. */
bool bench_ratio_add(struct bench_ratio *ratio, const struct bench_row *row, bool is_ours);
void bench_ratio_free(struct bench_ratio *ratio);

/* For each transport of tutti, in place and not: a line for each size, with the ratio to the best setting of
 * all rivals, and the means.  The contestant "limit" is no rival, and has a line of its own. */
void bench_ratio_print(const struct bench_ratio *ratio);

#endif
