/* A ring of ranks in one thread: executors over virtual links, turned in a seeded random order.  Include the
 * headers that cmocka wants before this one. */
#ifndef TUTTI_TESTS_VIRTUAL_RING_H
#define TUTTI_TESTS_VIRTUAL_RING_H

#include <stdbool.h>
#include <cmocka.h>
#include "executor/executor.h"
#include "tests/sim/virtual_link.h"

#define RANKS_MAX 16

struct sim {
    uint64_t random;
    int size;
    struct virtual_queue *queues[RANKS_MAX]; /* from rank i to rank i + 1 */
    struct link *in[RANKS_MAX][RANKS_MAX], *out[RANKS_MAX][RANKS_MAX];
    struct executor_group groups[RANKS_MAX];
    struct schedule *schedules[RANKS_MAX];
    struct executor executors[RANKS_MAX];
    int64_t *send[RANKS_MAX], *recv[RANKS_MAX];
    void *scratch[RANKS_MAX];
};

static inline void sim_init(struct sim *sim, uint64_t seed, int size)
{
    memset(sim, 0, sizeof *sim);
    sim->random = seed;
    sim->size = size;
    uint32_t slice_bytes = 8u << sim_random(&sim->random) % 8;
    size_t capacity = 1 + sim_random(&sim->random) % 2000;
    for (int rank = 0; rank < size; rank++) {
        int next = (rank + 1) % size;
        if (size > 1) {
            sim->queues[rank] = virtual_queue_new(capacity, &sim->random);
            sim->out[rank][next] = virtual_link_new(sim->queues[rank], next, slice_bytes);
            sim->in[next][rank] = virtual_link_new(sim->queues[rank], rank, slice_bytes);
        }
        sim->groups[rank] = (struct executor_group){
            .in = sim->in[rank],
            .out = sim->out[rank],
            .instance = 7,
            .generation = 1,
            .slice_bytes = slice_bytes,
            .kernels = reduce_table(),
        };
    }
}

static inline void sim_free(struct sim *sim)
{
    for (int rank = 0; rank < sim->size && sim->size > 1; rank++) {
        int next = (rank + 1) % sim->size;
        virtual_free(sim->out[rank][next]);
        virtual_free(sim->in[next][rank]);
        virtual_queue_free(sim->queues[rank]);
    }
}

/* Turns the ranks in a random order until all are done.  The number of turns bounds a deadlock. */
static inline void sim_run(struct sim *sim)
{
    bool done[RANKS_MAX] = {false};
    int left = sim->size;
    for (long turns = 0; left > 0; turns++) {
        assert_true(turns < 50 * 1000 * 1000);
        int rank = (int)(sim_random(&sim->random) % (uint64_t)sim->size);
        if (done[rank])
            continue;
        struct tutti_error error = TUTTI_ERROR_INIT;
        struct operation *operation = &sim->executors[rank].operation;
        int status = operation->progress(operation, &error);
        if (status < 0)
            fail_msg("rank %d: %s", rank, error.message);
        if (status == TUTTI_OK) {
            done[rank] = true;
            left--;
        }
    }
}

#endif
