/* The data of calls: what a rank puts in, and what must come out, to the bit: sums are exact in every type,
 * but for those that are to show in which order the ranks were added. */
#ifndef TUTTI_TESTS_FAULT_DATA_H
#define TUTTI_TESTS_FAULT_DATA_H

#include <stddef.h>
#include "tests/sim/fault/plan.h"

/* A collective of rank `rank` of `size`, with memory of its own. */
struct data {
    struct planned_call planned;
    int rank, size;
    struct tutti_call call;      /* complete but for the algorithm and the time-out */
    size_t counts[4][RANKS_MAX]; /* to which its counts and offsets point */
    uint8_t *memory;
    size_t memory_bytes;
};

void data_init(struct data *data, const struct planned_call *planned, int rank, int size);
bool data_is_right(const struct data *data); /* after the call */

/* From now on nobody may write to it. */
void data_poison(struct data *data);
bool data_is_poisoned(const struct data *data);

void data_free(struct data *data);

/* Element `index` of a message with that tag. */
int64_t data_message(int source, int tag, size_t index);

#endif
