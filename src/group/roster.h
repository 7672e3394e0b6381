/* The roster: who all members of the group are.  The rendezvous tells each member its two neighbours only;
 * when the ring is wired, the members' cards go round it, so that every rank knows every other: where it
 * listens, which host it is on, what it may use.  Pure: the caller moves the messages.
 *
 * Happy path: each member sends its own card to the next rank, and passes on what comes from the previous
 * one, which is the card of rank - 1, then of rank - 2, ..., and is not passed on when it is that of the next
 * rank. Failure modes: a card out of order or malformed is ERR_PROTOCOL; the rest is the ring's. */
#ifndef TUTTI_GROUP_ROSTER_H
#define TUTTI_GROUP_ROSTER_H

#include <stdbool.h>
#include "group/place.h"

#define ROSTER_ADDRESSES_MAX 9

struct roster_member {
    bool known;
    uint8_t member_id[MEMBER_ID_BYTES];
    char host_name[256];
    char text[320];    /* "rank 3 (host b, pid 4711)" */
    int host;          /* number of its host, in the order of the lowest ranks; when the roster is complete */
    int cores;         /* that it may use */
    uint64_t core_set; /* which: the same number, the same cores */
    bool uds;          /* it prefers Unix sockets, or shared memory set up over them, on its host */
    bool shm;          /* it may use shared memory */
    char *identity;    /* of its host */
    char **addresses;
    int address_count;
};

struct roster {
    int rank, size;
    int known;                     /* cards that are here */
    struct roster_member *members; /* by rank */
    char *tuning;                  /* of rank 0, NULL: none */
    int host_count;                /* when it is complete */
    int *host_of;                  /* by rank */
};

/* Begins with the own card.  TUTTI_OK or ERR_MEMORY. */
int roster_open(struct roster *roster, int rank, int size, const Wire__Card *own, struct tutti_error *error);
void roster_close(struct roster *roster); /* a zeroed one is fine */

/* A card has come from the previous rank.  1: pass it on to the next rank; 0: do not; negative: an error. */
int roster_receive(struct roster *roster, const Wire__Card *card, struct tutti_error *error);
bool roster_is_complete(const struct roster *roster);

#endif
