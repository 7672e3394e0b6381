/* What the Python package needs beside the public interface of tutti; part of tutti._c. */
#ifndef TUTTI_PYTHON_EXTENSION_H
#define TUTTI_PYTHON_EXTENSION_H

#include "tutti/tutti.h"

/* A request and the latest status of it.  Python may run a signal handler, which may raise, between the
 * return of a C function and the use of its result: so the result is written down before. */
struct pending {
    tutti_request *request; /* NULL: none, or complete */
    int status;
};

/* tutti_start(); the status is TUTTI_PENDING when the request was issued. */
void pending_start(struct pending *pending, tutti_comm *comm, const struct tutti_call *calls, size_t count);
void pending_run(struct pending *pending, tutti_comm *comm, const struct tutti_call *calls, size_t count,
                 int timeout_ms);
void pending_plan_start(struct pending *pending, tutti_plan *plan);
void pending_plan_run(struct pending *pending, tutti_plan *plan, int timeout_ms);
void pending_wait(struct pending *pending, int timeout_ms);

/* A tensor of another framework, as the DLPack specification lays it out in memory. */
struct dlpack_tensor {
    void *data;
    int32_t device_type, device_id;
    int32_t ndim;
    uint8_t type_code, type_bits;
    uint16_t type_lanes;
    int64_t *shape, *strides; /* strides in elements; NULL: contiguous */
    uint64_t byte_offset;
};
struct dlpack_versioned {
    uint32_t major, minor;
    void *context;
    void *deleter;
    uint64_t flags; /* 1: read-only */
    struct dlpack_tensor tensor;
};

/* The address of a struct tutti_functions (tutti/torch/csrc/functions.h). */
const void *function_table(void);

#endif
