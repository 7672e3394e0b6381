/* The schedules of all ranks, run symbolically, slice by slice, by the rules of executor/executor.h, until
 * nothing moves.  Two cursors per rank; links are queues; memory holds expressions (schedule/expression.h).
 * For the checker.
 *
 * One run stands for all timings: what a rank does next depends only on what has come, once it is certain
 * that no write overtakes a send from the same memory.  schedule/shape.h makes sure of that first.
 *
 * One run stands for all ways to cut slices.  Here each chunk of a step is cut into `slices` of its own; the
 * executor cuts the whole range of a step, or, of a _v, each chunk into as many as its length asks for.  But
 * every element belongs to one chunk and meets only the same element of other ranks, so its value is that of
 * its chunk here.  And to wait means to wait either for a whole step, or for the slice before, or for the
 * same slice of a step over the same range, which is cut in the same way (the two ends of a message, the two
 * halves of a step, `after` by slices).  Follow a circle of waiting in one way of cutting: between whole
 * steps it leads from a first slice to a last one, within a step from any slice down to the first, and
 * otherwise it stays at its slice; so there is a circle through the same steps in any other way of cutting.
 * This is exact for links without buffers.  A buffer only lets a send end earlier, so what passes without
 * buffers passes with them. */
#ifndef TUTTI_SCHEDULE_WORLD_H
#define TUTTI_SCHEDULE_WORLD_H

#include "schedule/expression.h"
#include "schedule/schedule.h"

#define NOTHING (-1) /* memory that was never written */

/* A slice of a step: `slices` for each of its chunks, one chunk after the other. */
struct cursor {
    int step, slice;
};

struct item {
    int value; /* an expression */
    int step;  /* of the sender, whose knowledge at that step comes along */
    int slice;
};

struct queue {
    int first, count;
    struct item *items;
};

struct process {
    const struct schedule *schedule;
    struct cursor receiving, sending;
    bool offered;         /* a slice lies in an unbuffered link until its receiver takes it */
    int *memory;          /* of each place: `slices` expressions, or NOTHING */
    uint64_t *known;      /* set of ranks that this one has heard of, directly or through others */
    uint64_t *known_then; /* of each step that sends: what was known when it could first send */
};

struct world {
    struct process *processes;
    int size, slices, capacity;
    bool unbuffered, in_place;
    int words; /* of 64 bits in a set of ranks */
    struct queue *links;
    struct item *items;
    struct expressions expressions;
    bool failed;
    char *why;
    size_t why_size;
};

/* Borrows everything until world_clean_up(), which must be called even after a failure; that false was
 * returned, here and below, is explained in `why`.  Of schedules that shape_check() has accepted. */
bool world_init(struct world *w, struct schedule *const *ranks, int size, int slices, int queue,
                bool in_place, char *why, size_t why_size);
bool world_run(struct world *w); /* to the end: every cursor is there, every link is empty */
void world_clean_up(struct world *w);

/* Once it has run.  What the rank's output holds, or NOTHING; has news of `other` reached `rank`? */
int world_output(const struct world *w, int rank, int chunk, int slice);
bool world_knows(const struct world *w, int rank, int other);

/* Says why, unless something else was wrong before; returns false. */
bool world_fail(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool world_fail_memory(struct world *w);

#endif
