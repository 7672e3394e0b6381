/* Ranks in one thread, each with a link to each other: executors over virtual links, turned in a seeded
 * random order.  Include the headers that cmocka wants before this one. */
#ifndef TUTTI_TESTS_VIRTUAL_MESH_H
#define TUTTI_TESTS_VIRTUAL_MESH_H

#include <stdbool.h>
#include <cmocka.h>
#include "executor/executor.h"
#include "tests/sim/virtual_link.h"

#define RANKS_MAX 16

struct sim {
    uint64_t random;
    int size;
    struct virtual_queue *queues[RANKS_MAX][RANKS_MAX];                /* from the first to the second */
    struct link *in[RANKS_MAX][RANKS_MAX], *out[RANKS_MAX][RANKS_MAX]; /* of the first, by peer */
    struct executor_group groups[RANKS_MAX];
    struct schedule *schedules[RANKS_MAX];
    struct executor executors[RANKS_MAX];
    void *scratch[RANKS_MAX];
};

static inline void sim_init(struct sim *sim, uint64_t seed, int size)
{
    memset(sim, 0, sizeof *sim);
    sim->random = seed;
    sim->size = size;
    uint32_t slice_bytes = 8u << sim_random(&sim->random) % 8;
    size_t capacity = 1 + sim_random(&sim->random) % 2000;
    for (int from = 0; from < size; from++) {
        sim->groups[from] = (struct executor_group){
            .in = sim->in[from],
            .out = sim->out[from],
            .instance = 7,
            .generation = 1,
            .slice_bytes = slice_bytes,
            .kernels = reduce_table(),
        };
        for (int to = 0; to < size; to++) {
            if (to == from)
                continue;
            sim->queues[from][to] = virtual_queue_new(capacity, &sim->random);
            sim->out[from][to] = virtual_link_new(sim->queues[from][to], to, slice_bytes);
            sim->in[to][from] = virtual_link_new(sim->queues[from][to], from, slice_bytes);
        }
    }
}

/* Scratch memory for `rank` to run `schedule`, with `more_bytes` behind it that are the caller's, and begin
 * at the address that is returned. */
static inline uint8_t *sim_scratch(struct sim *sim, int rank, const struct fingerprint *call,
                                   const struct executor_buffers *buffers, size_t more_bytes)
{
    size_t bytes = (executor_scratch_bytes(sim->schedules[rank], call, buffers) + 63) & ~(size_t)63;
    sim->scratch[rank] = aligned_alloc(64, (bytes + more_bytes + 64) & ~(size_t)63);
    assert_non_null(sim->scratch[rank]);
    return (uint8_t *)sim->scratch[rank] + bytes;
}

static inline void sim_free(struct sim *sim)
{
    for (int from = 0; from < sim->size; from++) {
        schedule_free(sim->schedules[from]);
        free(sim->scratch[from]);
        for (int to = 0; to < sim->size; to++) {
            if (to == from)
                continue;
            virtual_free(sim->out[from][to]);
            virtual_free(sim->in[to][from]);
            virtual_queue_free(sim->queues[from][to]);
        }
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
