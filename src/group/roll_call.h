/* The roll call of a job: members whose operation is past its deadline ask who has not called it.
 *
 * Happy path.  The first to ask begins the roll call: every member that is connected is asked what it has
 * called last.  Who asks meanwhile takes part in the one under way.  When all have answered, each asker is
 * told who is behind its own operation, by name and last call; the furthest behind first, for that is the one
 * for which the others may be waiting, too.
 *
 * Failure modes.
 * - Members that have not answered after ROLL_CALL_MS, or are not connected, are named as such.
 * - A member whose connection goes is not waited for.
 * - The group fails meanwhile: the roll call ends without answers, for everybody is told the cause. */
#ifndef TUTTI_GROUP_ROLL_CALL_H
#define TUTTI_GROUP_ROLL_CALL_H

#include "group/job.h"
#include "group/rendezvous.h"

#define ROLL_CALL_MS 200

/* `asker` waits in operation `sequence`, past its deadline.  Returns when roll_call_tick() is due. */
int64_t roll_call_ask(const struct rendezvous_output *output, struct job *job, struct member *asker,
                      uint64_t sequence, int64_t now_ms);

/* What `member` has called last. */
void roll_call_answer(const struct rendezvous_output *output, struct job *job, struct member *member,
                      const Wire__Present *present);

/* The connection of `member` has gone. */
void roll_call_lose(const struct rendezvous_output *output, struct job *job, struct member *member);

/* Returns when it is due next; NEVER when no roll call is under way. */
int64_t roll_call_tick(const struct rendezvous_output *output, struct job *job, int64_t now_ms);

void roll_call_cancel(struct job *job);

#endif
