/* The constants of the cost model from measured times: for `tutti tune`. */
#ifndef TUTTI_ALGORITHM_FIT_H
#define TUTTI_ALGORITHM_FIT_H

#include "algorithm/select.h"

/* A call that was measured.  Of the group everything counts but the tuning. */
struct fit_sample {
    struct select_group group;
    struct select_call call;
    const struct algorithm *algorithm;
    double us; /* above 0 */
};

/* Sets the four constants of the links within a host, tuning->uds or tuning->tcp_local as the samples' groups
 * say, which are all of one host and one kind, so that the predicted times come close to the measured ones:
 * by ratio, too long being as bad as too short, and outliers counting less.  None becomes negative.  The
 * other constants are taken as they are.  A constant that no sample depends on stays as it was. */
void fit_link(const struct fit_sample *samples, size_t count, struct tuning *tuning);

/* By what factor predicted and measured times differ: the geometric mean. */
double fit_error(const struct fit_sample *samples, size_t count, const struct tuning *tuning);

#endif
