/* Communicators that are made of another.  They have a place, links and an order of calls of their own;
 * liveness and failures are the root's.  Nothing needs the rendezvous: the roster says who is who, and the
 * identity of the new group follows from that of the old one and from what all members know alike. */
#ifndef TUTTI_ENGINE_SPLIT_H
#define TUTTI_ENGINE_SPLIT_H

#include "engine/comm.h"

/* As tutti_split(), tutti_subgroup() and tutti_local(); arguments are checked. */
int split_by_color(tutti_comm *comm, int color, int key, tutti_comm **child);
int split_by_list(tutti_comm *comm, const int *ranks, int count, tutti_comm **child);
int split_by_host(tutti_comm *comm, tutti_comm **child);

/* A lane of the communicator, of all its ranks: nobody waits for the others to make theirs.  NULL and *error
 * on failure. */
tutti_comm *split_lane(tutti_comm *comm, int index, struct tutti_error *error);

void split_forget(tutti_comm *comm); /* frees what counts the subgroups made of it */

#endif
