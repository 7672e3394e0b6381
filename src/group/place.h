/* A member's place in its group: what the rendezvous has told it, and the hellos by which ring neighbours
 * recognise each other. */
#ifndef TUTTI_GROUP_PLACE_H
#define TUTTI_GROUP_PLACE_H

#include <stdbool.h>
#include "wire/control.h"
#include "wire/hello.h"

/* A ring neighbour. */
struct neighbour {
    int rank; /* -1: none */
    uint8_t member_id[MEMBER_ID_BYTES];
    char host_name[256]; /* for people */
    char text[320];      /* "rank 3 (host b, pid 4711)" */
    bool same_host;      /* says so itself; proved when a Unix socket connects */
};

struct group_place {
    int rank, size; /* -1 before the group is there */
    int local_size; /* ranks on this host */
    uint64_t instance;
    uint32_t generation;
    bool embedded; /* the rendezvous lives in the process of a member, */
    int server;    /* of this rank; -1: unknown, or it does not */
    uint8_t member_id[MEMBER_ID_BYTES];
    struct neighbour next, previous; /* of rank -1 in a group of one */
};

/* Reads a Welcome.  `place->member_id` is set.  `host`: the identity of this host.  `size`: the expected
 * size, exactly, or at most where the Welcome says that the group was re-formed.  TUTTI_OK, or ERR_PROTOCOL,
 * when `place` is as before. */
int place_from_welcome(struct group_place *place, const Wire__Welcome *welcome, const char *host, int size,
                       struct tutti_error *error);

/* What a Welcome says of the group before; nothing changes where `reformed` is NULL. */
void place_read_reformed(const Wire__Reformed *reformed, struct tutti_reform_info *info);

/* The hello for a connection of `role` (enum hello_role) to the rank `to`. */
struct hello place_hello(const struct group_place *place, uint8_t role, int to);

/* What is answered to a hello: is it from the previous rank of this group, and for us?  enum hello_verdict.
 */
int place_judge_hello(const struct group_place *place, const struct hello *hello);

/* Is the answer to our hello that of `peer`, of the next rank?  TUTTI_OK, or ERR_PROTOCOL. */
int place_check_answer_of(const struct group_place *place, const struct neighbour *peer,
                          const struct hello *answer, struct tutti_error *error);
int place_check_answer(const struct group_place *place, const struct hello *answer,
                       struct tutti_error *error);

#endif
