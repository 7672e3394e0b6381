/* What the server needs of a group of ranks: three collectives, made ready once and started for each request,
 * one at a time.  group_tutti.c and group_mpi.c implement it, and are the only files that know their library.
 */
#ifndef INFERENCE_GROUP_H
#define INFERENCE_GROUP_H

#include <stddef.h>

struct group;

enum group_step {
    STEP_INPUT,   /* broadcast of the input from rank 0 */
    STEP_LAYER_1, /* all_reduce of the first layer's output */
    STEP_LAYER_2, /* and of the second's */
    STEP_COUNT
};

/* Borrowed from group_prepare() to group_free(). */
struct group_buffers {
    void *input;
    size_t input_bytes;
    float *sums[2]; /* in place */
    size_t width;   /* elements of each */
};

/* Joins.  NULL without memory, else to be freed; group_error() is not "" when it failed. */
struct group *group_open(void);
int group_rank(const struct group *group);
int group_size(const struct group *group);
const char *group_library(void);

/* These return 0, or -1 after a failure, which is the end of the group on every rank. */
int group_prepare(struct group *group, const struct group_buffers *buffers);
int group_start(struct group *group, enum group_step step, int patience_ms);

/* 1: the step that was started is complete; 0: not yet; -1: the group has failed.  Waits for it at most
 * `patience_ms` (-1: as long as it takes), during which the caller serves nobody else. */
int group_test(struct group *group, int patience_ms);

/* Polls readable when the step is complete; -1 when there is no such thing, and one has to look again and
 * again. */
int group_fd(struct group *group);

/* One sentence about the failure; "" while there is none. */
const char *group_error(const struct group *group);

/* Ends the group on every rank for a reason of the caller's. */
void group_abort(struct group *group, const char *reason);

/* Collective: says goodbye.  0, or -1 as above. */
int group_finalize(struct group *group);
void group_free(struct group *group);

#endif
