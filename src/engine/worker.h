/* Worker loops: a small pool of threads of the process, each with one libuv loop that never changes threads.
 * Communicators share them; the last to leave stops the thread. */
#ifndef TUTTI_ENGINE_WORKER_H
#define TUTTI_ENGINE_WORKER_H

#include <stdbool.h>
#include <uv.h>
#include "tutti/tutti.h"

struct worker;

/* A call that waits to run on a worker's thread; storage of the caller. */
struct worker_task {
    void (*run)(void *context);
    void *context;
    bool queued; /* private */
    struct worker_task *next;
};

#define WORKERS_MAX 8

/* A reference to a running worker; NULL and *error on failure.  Lane 0 carries the control traffic and the
 * asynchronous calls of every communicator of the process; the others, below WORKERS_MAX, those of stripes.
 * Any thread but a worker's. */
struct worker *worker_acquire(int lane, struct tutti_error *error);
void worker_share(struct worker *worker); /* one more reference */
void worker_release(struct worker *worker);

/* Was it made by a parent of this process?  Its thread does not exist here, and its descriptors are shared
 * with the parent: leave it alone. */
bool worker_is_foreign(const struct worker *worker);

uv_loop_t *worker_loop(struct worker *worker);

/* Runs the task on the worker's thread, soon, in the order of posting.  Does nothing when the task is queued
 * already. Any thread.  The task must stay valid until it has run. */
void worker_post(struct worker *worker, struct worker_task *task);

/* Runs the task on the worker's thread and returns when it has run.  Any thread but the worker's. */
void worker_call(struct worker *worker, void (*run)(void *context), void *context);

#endif
