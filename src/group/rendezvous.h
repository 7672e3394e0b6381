/* The rendezvous, as a state machine: members announce themselves, and when all of a job are there each is
 * told its rank and its ring neighbours.  Pure: connections are numbers, messages are structs, time is an
 * argument.
 *
 * Happy path of a job: FILLING (members arrive) -> COMPLETE (everyone has been welcomed) -> when the last
 * connection has gone, RESTING (only the map from member id to rank and the generation remain, so
 * that the same members get the same ranks again with the next generation).
 * Failure modes: see docs/architecture.md, "Rendezvous". */
#ifndef TUTTI_GROUP_RENDEZVOUS_H
#define TUTTI_GROUP_RENDEZVOUS_H

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

struct rendezvous *rendezvous_new(const struct rendezvous_output *output); /* NULL when out of memory */
void rendezvous_free(struct rendezvous *rendezvous);

void rendezvous_receive(struct rendezvous *rendezvous, uint64_t connection, const Wire__Control *message,
                        int64_t now_ms);
void rendezvous_disconnected(struct rendezvous *rendezvous, uint64_t connection, int64_t now_ms);

/* Does what time demands: warnings that name the missing, refusals when a member's join_timeout_ms has
 * passed. Returns the time at which it must be called next, -1 when there is none; valid until the next call
 * of any function here. */
int64_t rendezvous_tick(struct rendezvous *rendezvous, int64_t now_ms);

/* Jobs that still wait for members or for connections to go. */
int rendezvous_active_jobs(const struct rendezvous *rendezvous);

#endif
