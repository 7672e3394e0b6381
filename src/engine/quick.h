/* The quick way of a blocking call: one short collective in shared memory, on a communicator on which nothing
 * else is under way.  It needs no request while it is done within a few thousand looks at a flag, no clock
 * and no decision; what takes longer becomes a request like any other. */
#ifndef TUTTI_ENGINE_QUICK_H
#define TUTTI_ENGINE_QUICK_H

#include "engine/comm.h"

/* Runs a validated call with the lock, and true; or false: it is not for the quick way, and nothing was done.
 * `status` TUTTI_OK: it is complete.  TUTTI_PENDING: *request is in the queue. */
bool quick_run(tutti_comm *comm, const struct tutti_call *call, int *status, tutti_request **request);

#endif
