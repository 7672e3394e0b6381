/* Motion: what there is to move, as the holder of the progress token sees it, and what it waits for.
 * Everything here is done with the token and without the lock. */
#ifndef TUTTI_ENGINE_MOTION_H
#define TUTTI_ENGINE_MOTION_H

#include "engine/comm.h"

struct motion {
    tutti_request *head;        /* of the collectives, NULL: none */
    const tutti_request *until; /* the request that is waited for, NULL: all */
    bool on_loop;
    uint64_t moved_bytes; /* by the head when it was last looked at */
    unsigned lanes_seen;  /* comm->lanes_done, then */
    bool messages_moved;
    bool takes_in; /* messages that nobody here has asked for, next time */
};

/* Moves what can be moved.  true: something was, or could be at once. */
bool motion_move(tutti_comm *comm, struct motion *motion);

/* Is the head blocked on ranks of this host that share memory with this one, whose bell then wakes? */
bool motion_awaits_bell(const tutti_comm *comm, const struct motion *motion);

/* It is blocked: tells, warns, asks or ends the group when something is late; and when to judge again. */
void motion_judge(tutti_comm *comm, const struct motion *motion, int64_t now_ns);
int64_t motion_next_judgement_ns(const tutti_comm *comm, const struct motion *motion, int64_t now_ns);

#define WATCHED_FEW 8 /* links that are watched without asking for memory */

/* A link that something waits for, and which way. */
struct watched {
    struct link *link;
    bool out;
};

struct watch_list {
    struct watched few[WATCHED_FEW], *list; /* `few`, or memory of its own */
    size_t count, capacity;
};

/* A sender whose message nobody has asked for may wait for this rank to take it in, so whoever waits for
 * something else does.  Not while it finalizes: links may then close in peace. */
static inline bool motion_may_take_in(const tutti_comm *comm)
{
    return comm->message_links > 0 && comm->phase == COMM_ACTIVE;
}

/* The links that are waited for. */
void watch_list_fill(struct watch_list *watched, const tutti_comm *comm, const struct motion *motion);
void watch_list_free(struct watch_list *watched);

#endif
