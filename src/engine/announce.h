/* What a member says to the rendezvous while it joins, until its ring is open and group/membership.h speaks
 * for it. On the worker's thread. */
#ifndef TUTTI_ENGINE_ANNOUNCE_H
#define TUTTI_ENGINE_ANNOUNCE_H

#include "engine/comm.h"

/* That it wants to be in a group, or to re-form one; it can wait for `left_ms`. */
void announce_member(struct connection *connection, const tutti_comm *comm, int64_t left_ms);

/* That its ring is connected: nobody else is needed any more to notice its end. */
void announce_wired(struct connection *connection, const tutti_comm *comm);

/* In answer to a roll call: that it lives, and has made no call yet. */
void announce_presence(struct connection *connection, const tutti_comm *comm);

/* That it has its rank and cannot take its place: the others should not wait for it. */
void announce_failure(struct connection *connection, const tutti_comm *comm, const struct tutti_error *why);

#endif
