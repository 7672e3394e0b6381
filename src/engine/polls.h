/* Watching data links on the loop, while asynchronous calls are blocked on them.  A poll belongs to a link
 * for good. On the worker's thread. */
#ifndef TUTTI_ENGINE_POLLS_H
#define TUTTI_ENGINE_POLLS_H

#include "engine/comm.h"

/* Has progress_drive_on_loop() called when the link can be received from or sent to; adds to what is armed.
 */
void polls_arm(tutti_comm *comm, const struct link *link, int events);
void polls_stop(tutti_comm *comm);
void polls_close(tutti_comm *comm); /* counts down comm->ring.handles when each is closed */

#endif
