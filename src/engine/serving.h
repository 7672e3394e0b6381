/* The embedded rendezvous: rank 0 serves the meeting point unless somebody else does. On the worker's thread.
 */
#ifndef TUTTI_ENGINE_SERVING_H
#define TUTTI_ENGINE_SERVING_H

#include "engine/comm.h"

/* Serves comm->launch.rendezvous into comm->ring.service.  `resolved`: its addresses, where it is a TCP one.
 * TUTTI_OK also when the place is taken or not of this host: then another process serves.  A file is written
 * with the address; where there is none yet, comm->launch.rendezvous becomes it. */
int serve_rendezvous(tutti_comm *comm, const struct connector_targets *resolved, struct tutti_error *error);

/* Removes the file or Unix socket that serve_rendezvous() made, unless another has taken its place. */
void serving_remove_path(tutti_comm *comm);

#endif
