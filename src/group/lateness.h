/* Lateness: when a call that waits is announced to the neighbours, warned about, and ended.
 *
 * Who is to blame?  The rank that this one waits for may itself wait.  Heartbeats therefore carry the number
 * of the latest call that their sender has made, and of the one in which it waits (and go out early when a
 * rank has waited for a while): a neighbour that has made this one, or waits in one before it, is not the
 * late rank, and one that has not, though it has had the time to say so, is, whomever this rank waits for.
 * When the deadline passes, the rendezvous is asked for all that are missing (membership_ask()); where it
 * does not answer, the rank beside the late one names it, and the others, who know less, give it time to
 * speak first:
 *
 *                                   | the rendezvous was asked | there is none to ask
 *   a neighbour is known to be late | one LATENESS_PATIENCE_MS | at once
 *   none is, as far as known        | two of them              | one
 *
 * So no call outlives its deadline by more than twice that time.  Where this rank itself looks late (it was
 * stopped past the deadline, say), the time begins with that look, and there is one LATENESS_PATIENCE_MS
 * more: the reason may have arrived and is still unread. */
#ifndef TUTTI_GROUP_LATENESS_H
#define TUTTI_GROUP_LATENESS_H

#include <stdbool.h>
#include "executor/operation.h"
#include "group/membership.h"

#define LATENESS_PATIENCE_MS 300 /* longer than a roll call takes (group/rendezvous.c) */

/* What has been done about one request; zeroed at its issue. */
struct lateness {
    bool announced, warned, asked;
    int64_t overdue_ns; /* when it was first seen to be past its deadline; 0: not yet */
};

enum lateness_step {
    LATENESS_NONE,
    LATENESS_ANNOUNCE, /* call membership_announce() */
    LATENESS_WARN,     /* log the sentence */
    LATENESS_ASK,      /* call membership_ask() */
    LATENESS_EXPIRE    /* end the group with *error */
};

struct lateness_view {
    const struct operation *operation; /* that is blocked */
    int64_t due_ns;                    /* its deadline, or an earlier one of a call behind it */
    int64_t straggler_after_ns;
    const struct membership *membership; /* NULL in a group of one; only what any thread may read is read */
    /* Of a communicator that was split from another the neighbours and the rendezvous know nothing: its calls
     * have numbers of their own. */
    bool is_child;
    int peer;              /* that the operation waits for, as a rank of the root; -1: it does not wait */
    const char *peer_text; /* "rank 3 (host b, pid 4711)" */
};

/* The next thing to do about the blocked operation; call again until LATENESS_NONE.  Fills *error for WARN
 * (its message is the log line) and EXPIRE. */
enum lateness_step lateness_judge(struct lateness *lateness, const struct lateness_view *view, int64_t now_ns,
                                  struct tutti_error *error);

/* When to judge again at the latest. */
int64_t lateness_next_ns(const struct lateness *lateness, const struct lateness_view *view, int64_t now_ns);

/* The failure that a deadline makes when the missing are known: `rank`, `host` and `missing` as in
 * membership_output.missing(). */
void lateness_expire_by_roll_call(const struct lateness_view *view, int rank, const char *host,
                                  const char *missing, struct tutti_error *error);

#endif
