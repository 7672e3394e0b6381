/* The rendezvous in a process: the real state machine behind virtual connections, as
 * engine/rendezvous_service.c is it behind sockets. */
#ifndef TUTTI_TESTS_FAULT_SERVER_H
#define TUTTI_TESTS_FAULT_SERVER_H

#include "tests/sim/fault/simulation.h"

/* Serves in this process, if nobody does at this moment and the address is one of its host. */
void server_try_to_serve(struct process *process);

/* Stops to serve; also in a process that has ended.  NULL is accepted. */
void server_free(struct server *server);

#endif
