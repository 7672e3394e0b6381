/* The ranks of a communicator over several hosts agree whether those of every host share memory, so that its
 * collectives may be mixed (local/mixed.h): in the memory of a host, and over links between hosts. */
#ifndef TUTTI_ENGINE_MIXED_AGREEMENT_H
#define TUTTI_ENGINE_MIXED_AGREEMENT_H

#include "engine/comm.h"

/* Sets comm->select.mixed, which is the same on every rank.  Where the hosts have equally many consecutive
 * ranks, at least two, all of which want shared memory, that takes a collective call; elsewhere nothing.
 * Blocks.  After colocation_open(), before the user has the communicator.  TUTTI_OK, or an error when the
 * group has failed. */
int mixed_agree(tutti_comm *comm, int timeout_ms, struct tutti_error *error);

#endif
