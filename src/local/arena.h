/* The arena: memory that the ranks of one host share in one communicator, and the protocol in it.
 *
 * Every rank has a control page, which only it writes (but for `asleep`, which is cleared by who rings), and
 * slots, each of which passes to and fro between two ranks.  Its *position* says how far it is: sequence
 * number of the call and step within it, growing.  A collective in shared memory is a list of actions on each
 * rank; an action first waits until other positions have come far enough, then copies or reduces, and then
 * moves the own position on, which publishes what was written before (release, acquire).  Nothing else
 * synchronises ranks, so a line has one writer at a time: of slots the two of a pair, by turns.
 *
 * The position of call k lies in call line k % ARENA_CALLS, with a digest of the call and, of the smallest
 * calls, the payload: one cache line moves between two cores, no more.  A rank begins call k only when every
 * other has begun call k - ARENA_CALLS + 1, and so has finished the call whose line it overwrites.  Calls
 * that run over links are begun here, too: positions are about all collectives of the communicator, so a rank
 * that made another call is noticed whatever carries that.
 *
 * Where ranks outnumber cores each tells on which it runs, so that who waits knows whether to make room.
 *
 * A rank that sleeps has set `asleep`; whoever moves its own position on rings the bell of each that has. The
 * sequentially consistent order of the two, on both sides, is what makes one of them see the other. */
#ifndef TUTTI_LOCAL_ARENA_H
#define TUTTI_LOCAL_ARENA_H

#include <stdatomic.h>
#include <stdbool.h>
#include "executor/mismatch.h"
#include "tensor/reduce.h"

#define ARENA_CALLS         8
#define ARENA_STATEMENTS    (2 * ARENA_CALLS) /* so many calls back can a rank be asked about */
#define ARENA_PAYLOAD_BYTES 48                /* beside the position in its cache line */
#define ARENA_SLOT_BYTES    (512u << 10)      /* of a rank, all together */
#define ARENA_PAGE_BYTES    4096u
#define ARENA_RANKS_MAX     1024
#define ARENA_STEP_BITS     32 /* 192 ranks broadcast 5 GB in 2^24 steps */
#define ARENA_LINE_BYTES    64

struct arena_call_line {
    _Alignas(ARENA_LINE_BYTES) atomic_uint_fast64_t position;
    uint64_t digest; /* of this call and all before it */
    uint8_t payload[ARENA_PAYLOAD_BYTES];
};

/* Where a buffer lies in the symmetric memory of its rank (symmetric.h); bytes 0: elsewhere. */
struct arena_extent {
    uint64_t block, block_bytes; /* of the memory that was allocated: where in the memfd, how long */
    uint64_t offset;             /* of the buffer in it */
};

/* The full call, for the two sides of a mismatch; read when digests differ, or for the extents. */
struct arena_statement {
    _Alignas(ARENA_LINE_BYTES) struct fingerprint call;
    struct arena_extent send, recv;
};

struct arena_control {
    struct arena_call_line calls[ARENA_CALLS];
    struct arena_statement statements[ARENA_STATEMENTS];
    _Alignas(ARENA_LINE_BYTES) atomic_uint asleep; /* set by the sleeper, cleared by who rings */
    atomic_int core;                               /* on which it was last; 0: not told */
};

struct arena_head {
    uint64_t magic, nonce;
    uint32_t version, count;
    _Alignas(ARENA_LINE_BYTES) atomic_uint aborted; /* 1: the group has failed on some rank of this host */
};

/* The arena as one process sees it.  With the progress token, but for `aborted` and the control's `asleep`.
 */
struct arena {
    uint8_t *memory; /* borrowed */
    struct arena_head *head;
    int count, index;                /* ranks of this host, and which of them this one is */
    const int *ranks;                /* by index: the rank in the communicator, growing; borrowed */
    const int *names;                /* by index: the rank as errors name it; borrowed */
    struct arena_control **controls; /* by index */
    uint8_t **slots;                 /* likewise */
    uint64_t *begun;                 /* by index: the latest call that each is known to have begun */
    uint64_t all_begun;              /* by every other rank, at least */
    uint64_t slots_used[2];          /* by half: the latest call that used it */
    uint8_t turned[2];               /* by half: slots that have changed sides, collective.h */
    uint64_t digest;                 /* of the calls of this rank that have begun */
    int spins;                       /* looks in vain until progress() returns */
    int further_spins; /* beyond these, as long as nobody who is behind has to run on this core */
    const struct reduce_table *kernels;
    struct symmetric *symmetric;            /* NULL: none */
    void (*ring)(void *context, int index); /* the bell of that rank, which sleeps or is about to */
    void *ring_context;
};

/* ARENA_PAGE_BYTES + count * (ARENA_PAGE_BYTES + ARENA_SLOT_BYTES). */
size_t arena_bytes(int count);

/* Writes the head of fresh memory, all zero, for `count` ranks; whoever made it, before others see it. */
void arena_format(void *memory, int count, uint64_t nonce);

/* Is this such memory?  TUTTI_OK, or TUTTI_ERR_PROTOCOL with a sentence. */
int arena_check(const void *memory, size_t bytes, int count, uint64_t nonce, struct tutti_error *error);

struct arena_options {
    void *memory; /* borrowed until arena_free() */
    int count, index;
    const int *ranks, *names; /* by index; copied */
    const struct reduce_table *kernels;
    void (*ring)(void *context, int index);
    void *ring_context;
};

struct arena *arena_new(const struct arena_options *options); /* NULL when out of memory */
void arena_free(struct arena *arena);                         /* NULL is accepted */

/* ---- Positions: with the token ----------------------------------------------------------------- */

static inline uint64_t arena_position(uint64_t sequence, uint32_t step)
{
    return sequence << ARENA_STEP_BITS | step; /* wraps around, which the comparison allows for */
}

static inline struct arena_call_line *arena_line(const struct arena *arena, int index, uint64_t position)
{
    return &arena->controls[index]->calls[(position >> ARENA_STEP_BITS) % ARENA_CALLS];
}

/* Has that rank come to `position`?  Then what it published up to there can be read. */
static inline bool arena_is_at(const struct arena *arena, int index, uint64_t position)
{
    uint64_t there = atomic_load(&arena_line(arena, index, position)->position);
    return (int64_t)(there - position) >= 0;
}

void arena_ring_sleepers(struct arena *arena);

/* Moves the own position on. */
static inline void arena_post(struct arena *arena, uint64_t position)
{
    /* In one order with the look at who sleeps, and theirs at the position after they have said so. */
    atomic_store(&arena_line(arena, arena->index, position)->position, position);
    arena_ring_sleepers(arena);
}

/* Have all others begun that call?  false: not the rank *index. */
bool arena_have_begun(struct arena *arena, uint64_t sequence, int *index);

/* Begins call `sequence`, whatever will carry it: true once it has.  false: rank *index is too far behind.
 * Its position becomes (sequence, 0), now if `publish`, else with the first that is posted. */
bool arena_begin(struct arena *arena, uint64_t sequence, const struct fingerprint *call, bool publish,
                 int *index);

/* Has another rank made other calls, up to that with the number of ours that has begun last?  TUTTI_OK, or
 * TUTTI_ERR_MISMATCH for the first of them. */
int arena_check_call(struct arena *arena, uint64_t sequence, struct tutti_error *error);

/* ---- Waiting -----------------------------------------------------------------------------------*/

/* Tells the others; `core` from 0. */
static inline void arena_runs_on(struct arena *arena, int core)
{
    atomic_int *told = &arena->controls[arena->index]->core;
    if (atomic_load_explicit(told, memory_order_relaxed) != core + 1)
        atomic_store_explicit(told, core + 1, memory_order_relaxed);
}

/* Does a rank that has not come to `position` run on the core of this one, as far as is known? */
bool arena_holds_up(const struct arena *arena, uint64_t position);

/* ---- Sleeping ---------------------------------------------------------------------------------- */

/* From now on whoever moves its position on rings this rank.  The caller looks once more before it sleeps. */
void arena_fall_asleep(struct arena *arena);
void arena_wake(struct arena *arena);

/* Tells all ranks of this host that the group has failed, and wakes them; any thread.  Why comes over the
 * control connections. */
void arena_abort(struct arena *arena);
static inline bool arena_is_aborted(const struct arena *arena)
{
    return atomic_load(&arena->head->aborted) != 0;
}

#endif
