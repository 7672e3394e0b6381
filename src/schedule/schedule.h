/* A schedule: what one rank does in a collective, as a flat list of steps over chunks.
 *
 * The work vector of a collective (all_reduce, broadcast: `count` elements; gather, all_gather,
 * reduce_scatter: size * count) is cut into `chunks` parts by chunk_begin().  A step moves or combines one
 * chunk.  It finds it in one of three places:
 *   PLACE_SEND     the caller's input, never written;
 *   PLACE_RECV     the caller's output;
 *   PLACE_SCRATCH  slot `slot` of the operation's own memory; a slot holds any one chunk.
 *
 * Meaning.  Steps run in order, with two freedoms that make the pipeline (executor/executor.h):
 *   - the receiving (or local) half of a step starts when that of the step before is complete;
 *   - sending is asynchronous: the sending half of RECV_SEND and RECV_REDUCE_SEND may lag behind, slice by
 * slice; that of SEND starts when the receiving halves of all earlier steps are complete.  Sends leave in
 * order. A step that writes a place from which an earlier step still sends waits for that send (`after`). */
#ifndef TUTTI_SCHEDULE_SCHEDULE_H
#define TUTTI_SCHEDULE_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "tutti/tutti.h"

enum step_kind {
    STEP_SEND,             /* source -> peer `to` */
    STEP_RECV,             /* peer `from` -> target */
    STEP_RECV_SEND,        /* peer `from` -> target -> peer `to` */
    STEP_RECV_REDUCE,      /* target = received op source */
    STEP_RECV_REDUCE_SEND, /* target = received op source -> peer `to` */
    STEP_COPY,             /* target = source (nothing when they are the same memory) */
    STEP_REDUCE            /* target = source op other */
};

enum place { PLACE_NONE, PLACE_SEND, PLACE_RECV, PLACE_SCRATCH };

struct span {
    uint8_t place; /* enum place */
    uint16_t slot; /* of PLACE_SCRATCH, else 0 */
};

static inline struct span span_send(void)
{
    return (struct span){PLACE_SEND, 0};
}
static inline struct span span_recv(void)
{
    return (struct span){PLACE_RECV, 0};
}
static inline struct span span_scratch(int slot)
{
    return (struct span){PLACE_SCRATCH, (uint16_t)slot};
}

struct step {
    uint8_t kind;     /* enum step_kind */
    bool finish;      /* the reduction of this chunk is complete with this step: TUTTI_AVG divides */
    int32_t from, to; /* ranks, -1 where there is none */
    int32_t chunk;
    struct span source, other, target;
    int32_t after; /* index of the step whose sending must be over before `target` is written; -1 */
};

struct schedule {
    int operation; /* enum tutti_operation */
    const char *algorithm;
    int rank, size, root;
    int chunks;        /* parts of the work vector, at least 1 */
    int scratch_slots; /* as the steps need, counted by schedule_new() */
    int count, capacity;
    struct step *steps;
    bool failed; /* memory ran out while emitting */
};

/* For emitters: each appends one step.  Memory failures are remembered and make schedule_new() fail. */
void schedule_send(struct schedule *s, int to, int chunk, struct span source);
void schedule_recv(struct schedule *s, int from, int chunk, struct span target);
void schedule_recv_send(struct schedule *s, int from, int to, int chunk, struct span target);
void schedule_recv_reduce(struct schedule *s, int from, int chunk, struct span own, struct span target);
void schedule_recv_reduce_send(struct schedule *s, int from, int to, int chunk, struct span own,
                               struct span target);
void schedule_copy(struct schedule *s, int chunk, struct span source, struct span target);
void schedule_reduce(struct schedule *s, int chunk, struct span left, struct span right, struct span target);
void schedule_mark_finished(struct schedule *s); /* the latest step finishes its chunk */

bool step_sends(const struct step *step);    /* has a sending half */
bool step_receives(const struct step *step); /* has a receiving half */

/* An algorithm: emits the steps of s->rank in a group of s->size with s->root, having set s->chunks. Size
 * >= 1. */
typedef void (*schedule_emitter)(struct schedule *s);

const char *step_kind_name(int kind); /* "RECV_SEND" */

/* Runs an emitter and computes `after` and `scratch_slots`.  NULL when out of memory. */
struct schedule *schedule_new(int operation, const char *algorithm, schedule_emitter emit, int rank, int size,
                              int root);
void schedule_free(struct schedule *s); /* NULL is accepted */

/* "rank 0:  1 RECV_REDUCE_SEND chunk 3  3 op send -> recv -> 1, finish, after 0": one line a step, in which
 * the data flows from left to right and numbers beside the arrows are ranks. */
void schedule_print(const struct schedule *s, FILE *out);

/* Executes the schedules of all ranks symbolically: each chunk carries an expression over ranks.  Checks what
 * design.md asks: every send is matched, no chunk is read before it is written or overwritten while
 * its send is in flight, links that hold `queue` slices cannot deadlock when a chunk has `slices` slices
 * (queue 0: a send is over only when its receiver has taken it, as on a socket whose buffer is smaller than a
 * slice), every rank ends with what `operation` promises, each contribution exactly once, and with the same
 * order of reduction on every rank.  All of it out of place and in place.  Returns true, or false with one
 * sentence in `why`. */
bool schedule_check(struct schedule *const *ranks, int size, int slices, int queue, char *why,
                    size_t why_size);

#endif
