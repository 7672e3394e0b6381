/* The links beyond the ring, between any two ranks of a communicator: opened by the one that sends, when it
 * first has something to send, and kept.  The roster says where the other listens. */
#ifndef TUTTI_ENGINE_MESH_H
#define TUTTI_ENGINE_MESH_H

#include "engine/comm.h"

/* A data link to or from `peer` over a connection, which it owns, also when it cannot be made: NULL. */
struct link *mesh_make_link(tutti_comm *comm, int fd, bool is_unix, bool is_sender,
                            const struct neighbour *peer);

/* That rank of the communicator, as the roster knows it. */
struct neighbour mesh_neighbour(const tutti_comm *comm, int rank);

/* Tables for the links of every channel.  false when out of memory. */
bool mesh_init(tutti_comm *comm);
void mesh_free(tutti_comm *comm); /* links and tables, once nothing of it is on the loop */

/* Has a link to that rank opened, unless it is or will be.  With the lock. */
void mesh_want(tutti_comm *comm, int channel, int rank);
/* All links that a schedule sends on. */
void mesh_want_for(tutti_comm *comm, int channel, const struct schedule *schedule);

/* Puts links that have been opened into the tables, if there are any.  With the token, without the lock. */
void mesh_install(tutti_comm *comm);

/* ---- On the worker's thread -------------------------------------------------------------------- */

/* From now on the door of the root lets ranks in for the whole family.  Those that come for a communicator
 * that is not there yet wait. */
void mesh_take_door(tutti_comm *root);
void mesh_look_again(void *root); /* a task: a communicator has been made, or the roster is complete */

/* Is that hello for a link beyond the ring of this root or one of its family? */
bool mesh_is_for_later(const tutti_comm *root, const struct hello *hello);

void mesh_dial(void *comm);       /* a task: opens what is wanted */
void mesh_stop(tutti_comm *comm); /* gives up what is under way */

#endif
