/* The shape of schedules: that each step has what its kind needs, only touches what its rank has, and
 * overtakes no send from the memory that it writes.  The part of the checker that needs no run. */
#ifndef TUTTI_SCHEDULE_SHAPE_H
#define TUTTI_SCHEDULE_SHAPE_H

#include "schedule/schedule.h"

/* Does the rank's input or output hold that chunk, by the promises of tutti.h? */
bool shape_has_input(const struct schedule *s, int chunk);
bool shape_has_output(const struct schedule *s, int chunk);

/* false with one sentence in `why` when the schedules of a group are not well formed. */
bool shape_check(struct schedule *const *ranks, int size, char *why, size_t why_size);

#endif
