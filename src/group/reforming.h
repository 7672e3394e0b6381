/* A job whose group has failed: who may come to re-form it, who is waited for, and how the new group comes
 * out of the old one.  Only data: joining.c and rendezvous.c do the talking.
 *
 * Happy path.  The group fails: from now on each of its ranks is awaited or not.  Its survivors come and are
 * willing.  When nobody is awaited any more, the willing ones are the new group, in the order of their old
 * ranks, and the report says what they have agreed on.
 *
 * Nobody waits for a rank
 * - that has said goodbye,
 * - that has been without a connection for REFORMING_GRACE_MS (before that, it may be coming on a new one),
 * - that is connected, but does not say that it lives for as long as a neighbour may be silent (dead_after):
 * it is stopped or cut off, and not merely late,
 * - that another member has for lost, at once when its connection is gone as well; else after
 *   REFORMING_GRACE_MS, for two members that lost only the connection between them accuse each other. */
#ifndef TUTTI_GROUP_REFORMING_H
#define TUTTI_GROUP_REFORMING_H

#include "group/job.h"

#define REFORMING_GRACE_MS 500

/* Whether `member`, who has come with a `previous`, may re-form the job in which it is as `old` (or NULL). */
int reforming_check(const struct job *job, const struct member *member, const struct member *old,
                    struct tutti_error *error);

/* Why it may not where its group has gone on: `generation` is that of the group now. */
int reforming_left_behind(const struct job *job, uint32_t generation, const Wire__Previous *previous,
                          struct tutti_error *error);

/* Whether both Joins are of one attempt: the same process, which has lost its connection and asks again. */
bool reforming_repeats(const struct member *old, const struct member *member);

/* Sets the cause of the failure: as a member tells it, as a survivor brings it along (or not), and where
 * `member` was lost before it was wired. */
void reforming_set_cause(struct job *job, const Wire__Abort *abort);
void reforming_set_cause_of_survivor(struct job *job, const struct member *member);
void reforming_set_cause_of_loss(struct job *job, const struct member *member);

/* Looks at each rank of a group that has failed, or at one, whether it is awaited.  Returns when to look
 * again, NEVER when time alone changes nothing (and for a group that has not failed). */
int64_t reforming_review_all(struct job *job, int64_t now_ms);
int64_t reforming_review(struct job *job, int rank, int64_t now_ms);

/* The rank `by` tells of a failure, in which it may have another for lost.  Returns as reforming_review(). */
int64_t reforming_accuse(struct job *job, const Wire__Abort *abort, int by, int64_t now_ms);

/* Whether to ask `member`, now that the group begins to re-form, if it lives; and it has said so.  The latter
 * returns as reforming_review(). */
bool reforming_ask(struct job *job, const struct member *member);
int64_t reforming_hear(struct job *job, int rank, int64_t now_ms);

/* `member` is in the job, connected and willing, and accuses whom its cause names.  Returns as
 * reforming_review(). */
int64_t reforming_come(struct job *job, const struct member *member, int64_t now_ms);

/* The connection of the rank has gone.  Returns as reforming_review(). */
int64_t reforming_go(struct job *job, int rank, int64_t now_ms);

/* Why the willing ones must not become a group: they have waited in vain for at least as many of a group that
 * is known only from what they say, and which may have gone on elsewhere (`timed_out`); or others have all of
 * them for lost, and are not here.  TUTTI_OK when they may. */
int reforming_check_outcome(struct job *job, bool timed_out, struct tutti_error *error);

/* Makes the willing ones the group, and the report of how it came about; frees the other members, which are
 * not connected any more.  The generation is still the old one. */
void reforming_finish(struct job *job);

/* "ranks 2, 4": who is awaited; there is somebody. */
const char *reforming_print_awaited(struct job *job, char *text, size_t text_size);

#endif
