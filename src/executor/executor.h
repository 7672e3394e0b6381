/* The executor: runs a schedule over links as a resumable operation.
 *
 * It has two cursors in the schedule, one for receiving and local work and one for sending, each at (step,
 * slice).  A slice that has been received and reduced may be sent on at once, while the next one arrives:
 * that is the pipeline.  The receiving cursor never waits for room in an output: it waits only for input, or
 * for a send of its own that still reads the memory it would write (`after` of the schedule). */
#ifndef TUTTI_EXECUTOR_EXECUTOR_H
#define TUTTI_EXECUTOR_EXECUTOR_H

#include "executor/mismatch.h"
#include "executor/operation.h"
#include "schedule/schedule.h"
#include "tensor/reduce.h"

#define EXECUTOR_RECENT_CALLS 64

/* What is the same for every operation of a communicator. */
struct executor_group {
    struct link *const *in;  /* by rank: the link to receive from; NULL where there is none yet */
    struct link *const *out; /* by rank: the link to send to; likewise */
    uint16_t channel;        /* of these links */
    const int *root_ranks;   /* by rank: the names of the ranks in errors; NULL: they are their own */
    uint64_t instance;
    uint32_t generation;
    /* The latest calls of this rank, by sequence modulo EXECUTOR_RECENT_CALLS; NULL where they are not kept.
     */
    const struct fingerprint *recent_calls;
    uint32_t slice_bytes; /* most bytes of payload in one frame, at least one element */
    bool checksum;
    const struct reduce_table *kernels;
};

static inline int executor_rank_name(const struct executor_group *group, int rank)
{
    return group->root_ranks ? group->root_ranks[rank] : rank;
}

/* The buffers of a call and, of a _v, its counts and offsets by rank, which are all there that this rank has
 * to know.  All borrowed. */
struct executor_buffers {
    const void *send;
    void *recv;
    size_t count; /* of gather_v and scatter_v: elements of this rank's own part */
    const size_t *send_counts, *send_offsets, *recv_counts, *recv_offsets;
};

/* A place in a schedule.  A step moves its range in pieces: all of it at once, or chunk by chunk where the
 * chunks of a _v lie apart; each piece is cut into slices. */
struct executor_cursor {
    int step;
    int chunk, chunks; /* of this piece */
    size_t slice, slices;
    size_t count; /* elements of this piece */
};

struct executor {
    struct operation operation; /* first */
    const struct executor_group *group;
    const struct schedule *schedule;
    struct executor_buffers buffers;
    bool has_counts; /* of a _v */
    uint8_t *scratch;
    const void **operands; /* room in `scratch` for those of a REDUCE */
    size_t scratch_stride; /* bytes of a scratch slot */
    size_t total;          /* elements of the work vector; unused of a _v */
    size_t element_bytes;
    reduce_kernel reduce; /* NULL where nothing is reduced */
    divide_kernel divide; /* NULL unless TUTTI_AVG */
    reduce_kernel
        canonical; /* makes truth values of a term that meets no other 0 and 1; NULL: they are numbers */
    struct executor_cursor receiving, sending;
    size_t slice_elements;
    struct frame frame_out; /* of the slice being sent */
    void *shell;            /* of whoever wraps `progress`; not the executor's */
};

/* Elements of the work vector of a call that is no _v. */
size_t executor_total(const struct fingerprint *call, int size);

/* Bytes of scratch memory that running `schedule` for the call needs.  `buffers` is read of a _v only. */
size_t executor_scratch_bytes(const struct schedule *schedule, const struct fingerprint *call,
                              const struct executor_buffers *buffers);

/* Prepares `executor` (storage of the caller) to run `schedule` for the call.  Borrows everything until it is
 * done; copies `buffers`.  `scratch` has executor_scratch_bytes() bytes, aligned to 64. */
void executor_init(struct executor *executor, const struct executor_group *group,
                   const struct schedule *schedule, const struct fingerprint *call,
                   const struct executor_buffers *buffers, void *scratch);

/* Numbers the operation, sets its times and goes to the beginning; before the first progress(), and again
 * before it runs once more. */
void executor_start(struct executor *executor, uint64_t sequence, int64_t now_ns, int64_t deadline_ns);

/* Which of our calls to show beside that of a frame: that of the same number where it is known and differs,
 * since it is where the ranks parted; else the one under way, as `under_way` says it. */
struct mismatch_side executor_side(const struct executor *executor, const struct frame *frame,
                                   const struct fingerprint *under_way);

#endif
