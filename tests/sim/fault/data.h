/* The data of calls: what a rank puts in, and what must come out.  Sums are exact in every type. */
#ifndef TUTTI_TESTS_FAULT_DATA_H
#define TUTTI_TESTS_FAULT_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "wire/frame.h"

/* How a group calls; the same on all ranks. */
struct planned_call {
    uint8_t operation, type;
    uint32_t root, count;
    bool in_place, asynchronous;
};

/* A call of rank `rank` of `size`, with memory of its own. */
struct data {
    struct fingerprint print;
    int rank, size;
    uint64_t salt; /* distinguishes calls */
    uint8_t *memory, *send, *recv;
    size_t recv_bytes, memory_bytes;
};

void data_init(struct data *data, const struct planned_call *planned, int rank, int size, uint64_t salt);
bool data_is_right(const struct data *data); /* after the call */

/* From now on nobody may write to it. */
void data_poison(struct data *data);
bool data_is_poisoned(const struct data *data);

void data_free(struct data *data);

#endif
