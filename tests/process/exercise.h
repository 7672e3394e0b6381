/* An exercise: one call of any collective with buffers of its own, known input and a result that is checked
 * element by element, with the bytes around it.  Programs of several ranks share these. */
#ifndef TESTS_PROCESS_EXERCISE_H
#define TESTS_PROCESS_EXERCISE_H

#include "elements.h"

enum issue { ISSUE_BLOCKING, ISSUE_START, ISSUE_RUN, ISSUE_POLL, ISSUE_PLAN, ISSUES };

/* Where the buffers of calls lie: in memory of malloc(), in symmetric memory, or there on some ranks and in
 * some calls. */
enum where { WHERE_ORDINARY, WHERE_SYMMETRIC, WHERE_MIXED };

struct job {
    tutti_comm *comm;
    int rank, size;
    enum where where;
    long checked;    /* calls */
    uint64_t digest; /* of every result so far, where results are asked to be the same elsewhere */
};

/* What a call sends or receives on this rank: memory between guards. */
struct exercise_buffer {
    unsigned char *memory;                                      /* NULL: not used */
    bool symmetric;                                             /* of tutti_alloc() */
    size_t elements;                                            /* gaps between parts included */
    size_t counts[PATTERN_SIZE_MAX], offsets[PATTERN_SIZE_MAX]; /* by rank, where there is a part for each */
};

struct exercise {
    struct tutti_call call; /* op, count, type, reduction, root are given; of a _v `count` is a measure */
    bool in_place;          /* where the operation has that on this rank */
    bool scattered;         /* of a _v: parts in another order, with gaps */
    enum issue issue;
    size_t measure; /* count as given */
    struct exercise_buffer send, recv;
};

struct operation_shape {
    enum tutti_operation op;
    const char *name;
    bool reduces, has_root, has_counts;
};
extern const struct operation_shape operations[]; /* every collective but barrier */
#define OPERATIONS 13

/* Writes a message with the exercise (may be NULL) and what tutti says, and exits. */
_Noreturn void fail(const struct job *job, const struct exercise *e, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void expect(const struct job *job, const struct exercise *e, int status); /* TUTTI_OK */

/* Joins the group of the environment. */
void job_init(struct job *job);

/* Gives the call buffers, filled. */
void exercise_prepare(const struct job *job, struct exercise *e);

/* The result, the input and the guards; frees the buffers. */
void exercise_finish(struct job *job, struct exercise *e);

/* Fills the input again, so that a plan can run once more; checks all but keeps the buffers. */
void exercise_refill(const struct job *job, const struct exercise *e);
void exercise_verify(const struct job *job, const struct exercise *e);

/* Makes `count` calls in that way and waits for them; `e` is the first of them, for messages. */
void exercise_issue(const struct job *job, const struct exercise *e, const struct tutti_call *calls,
                    size_t count, enum issue how);

/* All of it. */
void exercise_run(struct job *job, struct exercise e, enum issue how);

#endif
