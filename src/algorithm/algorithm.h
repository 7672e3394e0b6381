/* The algorithms: each one small file that emits a schedule, and the table of all. */
#ifndef TUTTI_ALGORITHM_ALGORITHM_H
#define TUTTI_ALGORITHM_ALGORITHM_H

#include "schedule/schedule.h"

void ring_all_reduce(struct schedule *s);
void ring_exchange_all_reduce(struct schedule *s);
void ring_broadcast(struct schedule *s);
void ring_all_gather(struct schedule *s);
void ring_gather(struct schedule *s);
void ring_reduce_scatter(struct schedule *s);
void ring_barrier(struct schedule *s);

struct algorithm {
    int operation;    /* enum tutti_operation */
    const char *name; /* "ring", "ring_exchange" */
    schedule_emitter emit;
};

extern const struct algorithm algorithms[];
extern const size_t algorithm_count;

/* The algorithm for a call: a function of what is the same on every rank. `bytes`: of the work vector. */
const struct algorithm *algorithm_select(int operation, int size, size_t bytes);

#endif
