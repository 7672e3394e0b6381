/* The executor: runs a schedule over links as a resumable operation.
 *
 * It has two cursors in the schedule, one for receiving and local work and one for sending, each at (step,
 * slice).  A slice that has been received and reduced may be sent on at once, while the next one arrives:
 * that is the pipeline.  The receiving cursor never waits for room in an output: it waits only for input, or
 * for a send of its own that still reads the memory it would write (`after` of the schedule). */
#ifndef TUTTI_EXECUTOR_EXECUTOR_H
#define TUTTI_EXECUTOR_EXECUTOR_H

#include "executor/operation.h"
#include "schedule/schedule.h"
#include "tensor/reduce.h"

#define EXECUTOR_RECENT_CALLS 64

/* What is the same for every operation of a communicator. */
struct executor_group {
    struct link *const *in;  /* by rank: the link to receive from; NULL where there is none */
    struct link *const *out; /* by rank: the link to send to */
    uint64_t instance;
    uint32_t generation;
    /* The latest calls of this rank, by sequence modulo EXECUTOR_RECENT_CALLS; NULL where they are not kept.
     */
    const struct fingerprint *recent_calls;
    uint32_t slice_bytes; /* most bytes of payload in one frame, at least one element */
    bool checksum;
    const struct reduce_table *kernels;
};

struct executor_cursor {
    int step;
    size_t slice, slices; /* slices of the chunk of this step */
    size_t begin, count;  /* elements: the chunk of this step in the work vector */
};

struct executor {
    struct operation operation; /* first */
    const struct executor_group *group;
    const struct schedule *schedule;
    const uint8_t *send; /* PLACE_SEND */
    size_t send_origin;  /* the element of the work vector at which `send` begins */
    uint8_t *recv;       /* PLACE_RECV */
    size_t recv_origin;
    uint8_t *scratch;
    size_t scratch_stride; /* bytes of a scratch slot */
    size_t total;          /* elements of the work vector */
    size_t element_bytes;
    reduce_kernel reduce; /* NULL where nothing is reduced */
    divide_kernel divide; /* NULL unless TUTTI_AVG */
    struct executor_cursor receiving, sending;
    size_t slice_elements;
    struct frame frame_out; /* of the slice being sent */
    struct {                /* fusion.h; unused otherwise */
        const struct fusion_part *parts;
        size_t count;
        uint8_t *packed;
        bool is_packed;
        int (*progress)(struct operation *operation, struct tutti_error *error);
    } fusion;
};

/* Elements of the work vector of a call; bytes of scratch memory that running `schedule` for it needs. */
size_t executor_total(const struct fingerprint *call, int size);
size_t executor_scratch_bytes(const struct schedule *schedule, const struct fingerprint *call);

/* Prepares `executor` (storage of the caller) to run `schedule` for the call.  Borrows everything until it is
 * done.  `scratch` has executor_scratch_bytes() bytes, aligned to 64. */
void executor_init(struct executor *executor, const struct executor_group *group,
                   const struct schedule *schedule, const struct fingerprint *call, const void *send,
                   void *recv, void *scratch);

/* Numbers the operation and sets its times; before the first progress(). */
void executor_start(struct executor *executor, uint64_t sequence, int64_t now_ns, int64_t deadline_ns);

#endif
