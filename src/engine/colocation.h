/* Co-location: the ranks of one host agree on shared memory when a communicator is made.
 *
 * The lowest rank of the host leads.  It dials the Unix sockets of the others (a hello with role HELLO_ARENA
 * and the instance of the communicator) and makes the memfd of the arena.  Over each connection:
 *
 *   - offer, leader to member: the memfd and a nonce;
 *   - answer: the nonce has been read back from the mapping; the eventfd that is the member's bell, and the
 *     memfd of its symmetric memory;
 *   - leader to member, when all have answered: the bells and the symmetric memory of all ranks of the host;
 *   - ready, member to leader: nothing can go wrong any more;
 *   - verdict, leader to member.
 *
 * Any trouble on any rank becomes the verdict of all: so either all ranks of a host have the arena or none
 * has, and where none has, each says why in one log line, and Unix sockets carry everything.  A member whose
 * Unix socket cannot be reached hears the verdict over TCP.  Ranks that do not want shared memory
 * (TUTTI_TRANSPORTS) are known from the roster, and nobody is asked.  A rank that dies or stops is a failure
 * of the group.
 *
 * On the thread that makes the communicator; the door hands connections over on the worker's. */
#ifndef TUTTI_ENGINE_COLOCATION_H
#define TUTTI_ENGINE_COLOCATION_H

#include "engine/comm.h"

/* Makes comm->colocation and comm->arena, or leaves both NULL: shared memory is switched off, this host has
 * one rank of the communicator, or it cannot be made.  Returns TUTTI_OK in all these cases; an error when the
 * group has failed meanwhile, or the others did not come within `timeout_ms`.  comm->hosts, roster and place
 * are there. */
int colocation_open(tutti_comm *comm, int timeout_ms, struct tutti_error *error);

/* A hello has come through the door, with HELLO_ARENA for this communicator: enum hello_verdict, or
 * DOOR_NOT_YET.  Then its connection, which passes to the receiver.  On the worker's thread. */
int colocation_judge(tutti_comm *comm, const struct hello *hello);
void colocation_take(tutti_comm *comm, int fd);

/* The descriptor to poll for the bell of this rank, and its silencing after a poll. */
int colocation_bell(const tutti_comm *comm);
void colocation_silence(tutti_comm *comm);

/* Closes and unmaps all.  Nobody uses the arena any more. */
void colocation_close(tutti_comm *comm);

#endif
