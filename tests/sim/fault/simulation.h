/* A whole job in one thread: what is drawn from the seed, who takes part, and what they share. */
#ifndef TUTTI_TESTS_FAULT_SIMULATION_H
#define TUTTI_TESTS_FAULT_SIMULATION_H

#include <setjmp.h>
#include "base/failpoint.h"
#include "tests/sim/fault/network.h"

#define RANKS_MAX          16
#define RENDEZVOUS_ADDRESS 1000000 /* where the rendezvous listens; members listen at small numbers */

struct options {
    int size, hosts;
    int64_t heartbeat_ms, dead_after_ms, call_timeout_ms, straggler_after_ms;
    int64_t join_timeout_ms, missing_after_ms;
    uint32_t slice_bytes;
    bool checksum;
    bool embedded;      /* rank 0 serves the rendezvous; else a process of its own does */
    bool any_rank;      /* ranks are assigned on arrival */
    bool deterministic; /* sums in the order of the ranks */
    bool messages;      /* programs send and receive, too */
};

struct process {
    struct simulation *sim;
    struct node *node;
    int number;
    uint64_t random;
    struct failpoints failpoints;
    struct comm *comm;       /* the one in use, which knows the older ones; NULL: none yet */
    struct server *server;   /* NULL: it does not serve the rendezvous */
    struct program *program; /* of a rank */
};

struct simulation {
    uint64_t seed;
    bool verbose;
    struct options options;
    struct network network;
    struct process processes[RANKS_MAX + 1]; /* the one after the ranks may be the rendezvous */
    struct arena_room *rooms;                /* arena_shell.c */
    struct faults *faults;
    struct world *world;
    jmp_buf broken; /* where a violated invariant ends the run */
    char violation[2400];
};

static inline int64_t sim_now_ms(const struct simulation *sim)
{
    return sim->network.now_ns / NS_PER_MS;
}

/* A line of the story, for --verbose.  `process` NULL: the world. */
void sim_say(const struct simulation *sim, const struct process *process, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#define SAY(sim, process, ...)                                                                               \
    do {                                                                                                     \
        if ((sim)->verbose)                                                                                  \
            sim_say(sim, process, __VA_ARGS__);                                                              \
    } while (0)

/* An invariant does not hold: ends the run. */
_Noreturn void sim_violated(struct simulation *sim, const char *invariant, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
