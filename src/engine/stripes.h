/* Stripes: a large operation on a vector runs over several channels at once, each with links and a thread of
 * its own.
 *
 * The further channels are lanes: communicators of the same members that nobody sees, moved by other worker
 * loops. When the operation comes to the head of the queue, its parts are issued on the lanes; it is complete
 * when all parts are.  Lanes are made with their communicator, where its ranks have cores to spare; all ranks
 * agree on how many. */
#ifndef TUTTI_ENGINE_STRIPES_H
#define TUTTI_ENGINE_STRIPES_H

#include "engine/comm.h"

#define STRIPES_MAX (COMM_LANES_MAX + 1) /* channels of one operation, the communicator's own included */

/* Makes the lanes of a communicator that is complete otherwise; and ends them, before it. */
int stripes_open(tutti_comm *comm, struct tutti_error *error);
void stripes_finalize(tutti_comm *comm); /* nothing more will come over them */
void stripes_close(tutti_comm *comm);

/* Makes the executor, prepared for the whole call, run its first part only, and the others over lanes.  NULL
 * when out of memory. */
struct stripes *stripes_wrap(struct executor *executor, tutti_comm *comm, const struct tutti_call *call,
                             const char *algorithm, int channels);
void stripes_free(struct stripes *stripes); /* NULL is accepted */

/* The request of the operation is complete, well or not: returns when no lane moves its parts any more.
 * Without the lock. */
void stripes_join(struct stripes *stripes);

#endif
