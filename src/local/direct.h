/* Direct collectives: those of ranks that share an arena, without links.  A resumable operation like that of
 * the executor, with which it shares everything but the way of moving data.
 *
 * Where the buffers that others would read lie in symmetric memory on every rank, they are read there; else
 * each rank copies through its slots.  A rank whose buffers are symmetric waits until it knows; one whose
 * buffers are not knows already. */
#ifndef TUTTI_LOCAL_DIRECT_H
#define TUTTI_LOCAL_DIRECT_H

#include "executor/operation.h"
#include "local/arena.h"

struct direct;

enum direct_result {
    DIRECT_DONE,    /* the position moves on, past this action */
    DIRECT_SILENT,  /* done, but nobody waits for it: the position stays until the next one moves on */
    DIRECT_BLOCKED, /* direct->waits_for is too far behind: again later */
    DIRECT_FAILED   /* *error says why */
};

/* One way of carrying out an operation: a list of actions, of which `act` carries out number `action`, from 0
 * to direct->actions - 1.  Each rank ends with its position moved on at least once. */
struct direct_collective {
    void (*prepare)(struct direct *direct); /* sets `actions` and what `act` needs */
    enum direct_result (*act)(struct direct *direct, uint32_t action, struct tutti_error *error);
    bool uses_slots;
};

struct direct {
    struct operation operation; /* first */
    struct arena *arena;
    const struct direct_collective *collective;
    const struct direct_collective *staged, *symmetric; /* to choose from; the latter NULL: no choice */
    const void *send;
    void *recv;
    size_t count; /* as in the call */
    int cuts; /* 0; of a phase, each rank's part of the vector of `count` elements is so many chunks of it */
    size_t element_bytes;
    int root;             /* its index in the arena */
    reduce_kernel reduce; /* NULL where nothing is reduced */
    divide_kernel divide; /* NULL unless TUTTI_AVG */
    size_t piece_bytes;   /* of one rank, in one round */
    uint32_t rounds;
    uint32_t action, actions;
    uint32_t first; /* the position before action 0: 1 after a choice */
    uint64_t base;  /* the position of the beginning of the call */
    bool chosen;
    uint64_t claim; /* the latest call before this one that used the same half of the slots; 0: none */
    uint8_t half;   /* of the slots */
    int spins, further_spins; /* left in this progress() */
    int waits_for;            /* index of the rank */
};

/* Prepares `direct` (storage of the caller) for a call of an operation of algorithm_shared().  `root` is its
 * index in the arena.  Borrows everything until it is done. */
void direct_init(struct direct *direct, struct arena *arena, const struct fingerprint *call, const void *send,
                 void *recv, int root);

/* As executor_start(). */
void direct_start(struct direct *direct, uint64_t sequence, int64_t now_ns, int64_t deadline_ns);

/* ---- Phases of another operation ----------------------------------------------------------------- */

/* A part of an operation whose other parts are carried out otherwise.  `collective` is shared_reduce_scatter
 * or shared_all_gather, of the parts into which the vector is cut as schedules cut it, with `cuts` chunks for
 * each rank: `send` and `recv` are the whole vector, or the part of this rank.  Averages are not divided. Or
 * it is shared_arrival or shared_release. */
struct direct_phase {
    const struct direct_collective *collective;
    const void *send;
    void *recv;
    int cuts;
    uint32_t first; /* 0, or direct_end() of the phase before it in the same call */
};

/* Prepares and starts `direct` (storage of the caller) as a phase of `whole`, which has begun in the arena
 * with its position published.  Borrows everything until it is done. */
void direct_start_phase(struct direct *direct, struct arena *arena, const struct operation *whole,
                        const struct direct_phase *phase);

/* The position of this rank after the last action, from the beginning of the call. */
static inline uint32_t direct_end(const struct direct *direct)
{
    return direct->first + direct->actions;
}

#endif
