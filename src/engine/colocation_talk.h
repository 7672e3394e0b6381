/* Co-location while it is being agreed on: what colocation.c, its owner, shares with the talk of the two
 * kinds of ranks, colocation_leader.c and colocation_member.c. */
#ifndef TUTTI_ENGINE_COLOCATION_TALK_H
#define TUTTI_ENGINE_COLOCATION_TALK_H

#include "engine/arena_messages.h"
#include "engine/colocation.h"
#include "local/arena.h"
#include "local/symmetric.h"

#define COLOCATION_LEADER 0 /* its index */

struct seat; /* colocation_leader.c */

struct colocation {
    tutti_comm *comm;
    int count, index;   /* ranks of this host; which of them this one is */
    int *ranks, *names; /* by index: in the communicator; in the root */
    int64_t until_ns;   /* the deadline of the talk */
    bool fails;         /* there will be no shared memory, because of: */
    char why[ARENA_WHY_BYTES];

    struct seat *seats; /* of the leader, while it asks: by index */
    bool expects;       /* of a member: the leader has not come; under the lock */
    int leader_fd;      /* of a member, or -1; likewise */
    int memory_fd;      /* -1, once it is mapped everywhere */

    uint64_t nonce;
    void *memory;
    struct arena_piece *pieces; /* the descriptors of all: of rank i its bell at 2i and its heap at 2i + 1 */
    struct symmetric *symmetric;
    struct arena *arena;
};

/* Agree with the other ranks of the host.  TUTTI_OK, and colocation->fails tells whether there is shared
 * memory; or the error that ends the group. */
int colocation_lead(struct colocation *colocation, struct tutti_error *error);
int colocation_follow(struct colocation *colocation, struct tutti_error *error);

/* There will be no shared memory; the first reason counts.  `index`: of the rank whose it is; -1: the reason
 * says that itself. */
void colocation_give_up(struct colocation *colocation, int index, const char *why);

/* Of the leader: makes the memory.  Of a member: maps what the leader has made, colocation->memory_fd.  All
 * may give up. */
void colocation_make_memory(struct colocation *colocation);
void colocation_map_memory(struct colocation *colocation, uint64_t nonce);

/* What this rank gives to the others, at `pieces` + 2 * index; how many, 0 where it has no bell. */
int colocation_make_own_pieces(struct colocation *colocation);

/* Keeps a piece that has come, or closes it, if it was not due; `of`: of that rank only, or -1: of any but
 * this one. */
void colocation_keep_piece(struct colocation *colocation, const struct arena_piece *piece, int of);

/* Makes the arena of the memory and of the pieces of all. */
void colocation_make_arena(struct colocation *colocation);

/* A message could not be sent or received, with that status, or time is up (`why` may be NULL).  TUTTI_OK:
 * this was the end of the talk with that rank, and colocation->fails; or the error that ends the group. */
int colocation_explain(struct colocation *colocation, int index, int status, const struct tutti_error *why,
                       struct tutti_error *error);

struct arena_message colocation_message(const struct colocation *colocation, int kind);
struct arena_line colocation_line(const struct colocation *colocation, int fd);
int colocation_failure(tutti_comm *comm, struct tutti_error *error); /* of the group: its code */

#endif
