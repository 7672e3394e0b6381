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

/* Sets the constants of what has been measured so that the predicted times come close to the measured ones:
 * by ratio, too long being as bad as too short, and outliers counting less.  The samples are all of one host;
 * and all of one kind of links, tuning->shm, tuning->uds or tuning->tcp_local as their groups say, or all of
 * the direct collectives, tuning->shared.  No constant becomes negative.  The others are taken as they are. A
 * constant that no sample depends on stays as it was. */
void fit_times(const struct fit_sample *samples, size_t count, struct tuning *tuning);

/* Moves the constants of links on, from what fit_times() has found, so that the algorithm which they choose
 * for each call of the samples is as fast as the fastest measured one: that is what they are for, and a model
 * this small cannot predict every time.  Predictions stay close where the choice does not depend on them.
 * Not for samples of direct collectives, which nothing is chosen instead of. */
void fit_choice(const struct fit_sample *samples, size_t count, struct tuning *tuning);

/* By what factor the chosen algorithms of the samples' calls are slower than the fastest: the geometric mean.
 */
double fit_regret(const struct fit_sample *samples, size_t count, const struct tuning *tuning);

/* By what factor predicted and measured times differ: the geometric mean. */
double fit_error(const struct fit_sample *samples, size_t count, const struct tuning *tuning);

#endif
