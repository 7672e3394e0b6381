/* The rendezvous, as a state machine: members announce themselves, and when all of a job are there each is
 * told its rank and its ring neighbours.  It is told of failures, passes them on, knows who is late, and
 * makes a new group of those who survive.  Pure: connections are numbers, messages are structs, time is an
 * argument.
 *
 * Happy path of a job: FILLING (members arrive) -> COMPLETE (everyone has been welcomed, and stays connected)
 * -> when the last connection has gone, RESTING (only the map from member id to rank and the generation
 * remain, so that the same members get the same ranks again with the next generation).
 * After a failure: COMPLETE -> FAILED (the members know why) -> REFORMING (survivors come with what they know
 * of the old group) -> COMPLETE, one generation on.
 * Failure modes: see rendezvous.c, and docs/architecture.md, "Rendezvous". */
#ifndef TUTTI_GROUP_RENDEZVOUS_H
#define TUTTI_GROUP_RENDEZVOUS_H

#include <stdbool.h>
#include "wire/control.h"

#define RENDEZVOUS_JOBS_MAX 1024 /* filling, complete and resting; the longest resting is forgotten first */
#define RENDEZVOUS_SIZE_MAX 4096 /* ranks in a job */

/* What the machine wants done; called from within rendezvous_receive() and the like, which must not be
 * re-entered. */
struct rendezvous_output {
    void *context;
    void (*send)(void *context, uint64_t connection, const Wire__Control *message);
    void (*close)(void *context,
                  uint64_t connection); /* after what was sent has gone; no disconnected() follows */
    uint64_t (*random)(void *context);  /* for the instance of a group; 0 is not used */
};

struct rendezvous;

/* `embedded`: it lives in the process of rank 0, and members are told so.  NULL when out of memory. */
struct rendezvous *rendezvous_new(const struct rendezvous_output *output, bool embedded);
void rendezvous_free(struct rendezvous *rendezvous);

void rendezvous_receive(struct rendezvous *rendezvous, uint64_t connection, const Wire__Control *message,
                        int64_t now_ms);
void rendezvous_disconnected(struct rendezvous *rendezvous, uint64_t connection, int64_t now_ms);

/* Does what time demands: warnings that name the missing, refusals and re-forming without the missing when a
 * member's join_timeout_ms has passed, the end of a roll call, and what follows when members that have gone
 * do not come back.  Returns the time at which it must be called next, -1 when there is none; valid until the
 * next call of any function here. */
int64_t rendezvous_tick(struct rendezvous *rendezvous, int64_t now_ms);

/* Jobs that do not rest: somebody is connected. */
int rendezvous_active_jobs(const struct rendezvous *rendezvous);

#endif
