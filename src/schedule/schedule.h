/* A schedule: what one rank does in a collective, as a flat list of steps over chunks.
 *
 * A chunk is a part of the work vector of a collective, the smallest that an algorithm moves by itself:
 *   all_reduce, reduce, broadcast    `count` elements, cut into `chunks` parts by chunk_begin();
 *   gather, all_gather, scatter,
 *   reduce_scatter and their _v      `size` chunks, chunk r being the part of rank r;
 *   all_to_all and _v                size * size chunks: chunk s * size + r goes from rank s to rank r.
 *
 * A step moves or combines a range of consecutive chunks, most often one.  It finds them in one of three
 * places:
 *   - PLACE_SEND: the caller's input, never written;
 *   - PLACE_RECV: the caller's output;
 *   - PLACE_SCRATCH: slot `slot` of the operation's own memory, an image of the work vector that begins with
 *     chunk `origin`.  A slot has one origin for good, or holds one chunk at a time, at its beginning: chunks
 *     differ in length, so nothing else could tell what overlaps.
 *
 * Meaning.  Steps run in order, with two freedoms that make the pipeline (executor/executor.h):
 *   - the receiving (or local) half of a step starts when that of the step before is complete;
 *   - sending is asynchronous: the sending half of RECV_SEND and RECV_REDUCE_SEND may lag behind, slice by
 *     slice; that of SEND starts when the receiving halves of all earlier steps are complete.
 *
 * Sends leave in order.  A step that writes a place from which an earlier step still sends waits for that
 * send (`after`).  The two ends of a message name the same chunks. */
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
    STEP_REDUCE            /* target = operand 0 op operand 1 op ... */
};

enum place { PLACE_NONE, PLACE_SEND, PLACE_RECV, PLACE_SCRATCH };

struct span {
    uint8_t place;  /* enum place */
    uint16_t slot;  /* of PLACE_SCRATCH, else 0 */
    int32_t origin; /* of PLACE_SCRATCH: the chunk that lies at the beginning of the slot, else 0 */
};

static inline struct span span_send(void)
{
    return (struct span){PLACE_SEND, 0, 0};
}
static inline struct span span_recv(void)
{
    return (struct span){PLACE_RECV, 0, 0};
}
static inline struct span span_scratch(int slot, int origin)
{
    return (struct span){PLACE_SCRATCH, (uint16_t)slot, origin};
}

struct step {
    uint8_t kind;          /* enum step_kind */
    bool finish;           /* the reduction of these chunks is complete with this step: TUTTI_AVG divides */
    bool own_first;        /* RECV_REDUCE, RECV_REDUCE_SEND: target = source op received */
    int32_t from, to;      /* ranks, -1 where there is none */
    int32_t chunk, chunks; /* the first, and how many */
    struct span source, target;
    int32_t operand, operands; /* REDUCE: which of the schedule's operands, at least 2; else 0 */
    int32_t after;    /* index of the step whose sending must be over before `target` is written; -1 */
    bool after_slice; /* it sends from just these chunks: slice i may be written once slice i is sent */
};

/* Which ranks share a host.  Hosts are numbered from 0 in the order of their lowest ranks. */
struct host_map {
    int host_count;
    const int *host_of; /* by rank */
};

struct schedule {
    int operation; /* enum tutti_operation; never a _v, which runs the schedule of the plain one */
    const char *algorithm;
    int rank, size, root;
    const struct host_map *hosts; /* while emitting; NULL: all ranks on one host */
    int chunks;                   /* parts of the work vector, at least 1 */
    int scratch_slots;            /* as the steps need, counted by schedule_new() */
    int scratch_chunks;           /* the most chunks from the origin of a slot to the end of a step's range */
    int count, capacity;
    struct step *steps;
    int operand_count, operand_capacity;
    struct span *operands; /* of REDUCE steps, in the order of reduction */
    bool latest_is_empty;  /* while emitting: the latest step had no chunks, so there is none to mark */
    bool failed;           /* memory ran out while emitting */
};

/* For emitters: each appends one step over `chunks` chunks from `chunk` on; none where `chunks` is 0, and
 * then marking it does nothing.  Memory failures are remembered and make schedule_new() fail. */
void schedule_send(struct schedule *s, int to, int chunk, int chunks, struct span source);
void schedule_recv(struct schedule *s, int from, int chunk, int chunks, struct span target);
void schedule_recv_send(struct schedule *s, int from, int to, int chunk, int chunks, struct span target);
/* target = received op own */
void schedule_recv_reduce(struct schedule *s, int from, int chunk, int chunks, struct span own,
                          struct span target);
void schedule_recv_reduce_send(struct schedule *s, int from, int to, int chunk, int chunks, struct span own,
                               struct span target);
void schedule_mark_own_first(struct schedule *s); /* the latest step: target = own op received */
void schedule_copy(struct schedule *s, int chunk, int chunks, struct span source, struct span target);
/* target = operands[0] op operands[1] op ..., rounded once; `target` may be one of them.  Copies `operands`,
 * of which there are at least 2. */
void schedule_reduce(struct schedule *s, int chunk, int chunks, const struct span *operands, int count,
                     struct span target);
void schedule_mark_finished(struct schedule *s); /* the latest step finishes its chunks */

bool step_sends(const struct step *step);    /* has a sending half */
bool step_receives(const struct step *step); /* has a receiving half */

/* An algorithm: emits the steps of s->rank in a group of s->size with s->root, having set s->chunks. Size
 * >= 1. */
typedef void (*schedule_emitter)(struct schedule *s);

const char *step_kind_name(int kind); /* "RECV_SEND" */

/* Runs an emitter and computes `after`, `scratch_slots` and `scratch_chunks`.  `hosts` (NULL: one host) is
 * borrowed while it runs.  NULL when out of memory. */
struct schedule *schedule_new(int operation, const char *algorithm, schedule_emitter emit, int rank, int size,
                              int root, const struct host_map *hosts);
void schedule_free(struct schedule *s); /* NULL is accepted */

/* "chunk 3", "chunks 2-5". */
#define CHUNKS_TEXT_SIZE 32
const char *chunks_text(int chunk, int chunks, char text[CHUNKS_TEXT_SIZE]);

/* "rank 0:  1 RECV_REDUCE_SEND chunk 3  3 op send -> recv -> 1, finish, after 0": one line a step, in which
 * the data flows from left to right, operands stand in the order of reduction and bare numbers are ranks.
 * "slot 1+2": the chunks lie two chunks from the beginning of slot 1.  "after 0": step 0 must have been sent
 * whole; "after 0 by slices": each of its slices before the same slice of this step. */
void schedule_print(const struct schedule *s, FILE *out);

/* Executes the schedules of all ranks symbolically: each chunk carries an expression over ranks.  Checks what
 * design.md asks: every send is matched, no chunk is read before it is written or overwritten while
 * its send is in flight, links that hold `queue` slices cannot deadlock when each chunk of a step has
 * `slices` slices (queue 0: a send is over only when its receiver has taken it, as on a socket whose buffer
 * is smaller than a slice; what passes with 0 passes with any queue and any number of slices), every rank
 * ends with what `operation` promises, each contribution exactly once, and with the same order of reduction
 * on every rank.  All of it out of place and (but for all_to_all) in place.  Returns true, or false with one
 * sentence in `why`. */
bool schedule_check(struct schedule *const *ranks, int size, int slices, int queue, char *why,
                    size_t why_size);

/* A further promise of schedules that schedule_check() has accepted, likewise: every output is one reduction
 * of all contributions in the order of the ranks, by a single step, so that its bits depend neither on the
 * algorithm nor on the hosts, and 16-bit floats are rounded once.  True where nothing is reduced. */
bool schedule_check_rank_order(struct schedule *const *ranks, int size, char *why, size_t why_size);

/* What the schedules of a group cost out of place, counted from them, to hold an algorithm's cost function
 * against.  The unit of what is sent, received, reduced and copied is the whole work vector (of all_to_all:
 * the input of one rank), all chunks being equal; a barrier moves nothing.  A "round" is a message in the
 * longest chain of messages that wait for each other: the time that the group takes when a message arrives
 * one unit of time after it was sent and nothing else takes any time. */
struct schedule_count {
    int rounds;
    int messages_sent_max, messages_received_max; /* by one rank */
    double sent_max, received_max;                /* by one rank */
    double reduced_max; /* read by reductions on one rank, the first operand apart */
    double copied_max;  /* by COPY on one rank */
    int messages_sent_between_hosts_max, messages_received_between_hosts_max; /* by one rank */
    double sent_between_hosts_max, received_between_hosts_max; /* by all ranks of one host together */
};

/* Of schedules that schedule_check() has accepted.  `hosts` NULL: one host.  false when out of memory. */
bool schedule_measure(struct schedule *const *ranks, int size, const struct host_map *hosts,
                      struct schedule_count *count);

#endif
