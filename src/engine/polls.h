/* Watching data links, and the bell of shared memory, on the loop, while asynchronous calls are blocked on
 * them.  A poll belongs to a link for good. On the worker's thread. */
#ifndef TUTTI_ENGINE_POLLS_H
#define TUTTI_ENGINE_POLLS_H

#include "engine/comm.h"

/* Has progress_drive_on_loop() called when the link can be sent to (`out`) or received from; adds to what is
 * armed.  true: it can already. */
bool polls_arm(tutti_comm *comm, struct link *link, bool out);
void polls_arm_bell(tutti_comm *comm); /* likewise, when another rank of the host rings */
void polls_stop(tutti_comm *comm);
void polls_close(tutti_comm *comm); /* counts down comm->ring.handles when each is closed */

#endif
