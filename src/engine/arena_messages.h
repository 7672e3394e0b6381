/* The messages by which the ranks of one host agree on shared memory (colocation.h): fixed structs in the
 * byte order of the host, since both ends are processes of one machine, with descriptors beside them.
 *
 * A message says how many descriptors follow, then these come in parcels, for the kernel takes only so many
 * at once.  Whatever is not as it should be ends the conversation: a peer can lie, but no length and no
 * number that it gives is used unchecked.  Blocking, until a deadline or the failure of the group. */
#ifndef TUTTI_ENGINE_ARENA_MESSAGES_H
#define TUTTI_ENGINE_ARENA_MESSAGES_H

#include <stdbool.h>
#include <stdint.h>
#include "tutti/tutti.h"

#define ARENA_WHY_BYTES 384

enum arena_message_kind {
    ARENA_OFFER = 1, /* of the leader: the memory */
    ARENA_ANSWER,    /* of a member: has it, and beside it its own descriptors */
    ARENA_FURNISH,   /* of the leader: the descriptors of all */
    ARENA_READY,     /* of a member: nothing can go wrong any more */
    ARENA_VERDICT    /* of the leader, the last; in the place of any other where there is no agreement */
};

/* A descriptor, and whose it is. */
enum arena_item_kind { ARENA_MEMORY = 1, ARENA_BELL, ARENA_HEAP };

struct arena_item {
    uint16_t kind, index; /* enum arena_item_kind; of the rank, among those of the host */
};

struct arena_message {
    uint64_t magic;
    uint32_t version;
    uint32_t kind;
    uint64_t nonce;    /* of the arena */
    uint32_t count;    /* ranks of this host, as the sender believes */
    uint32_t agrees;   /* 0: there will be no shared memory, and `why` says why not */
    uint32_t items;    /* that follow in parcels */
    uint32_t reserved; /* zero */
    char why[ARENA_WHY_BYTES];
};

/* An item with its descriptor: the sender's before, the receiver's after. */
struct arena_piece {
    struct arena_item item;
    int fd;
};

/* A connection to another rank of the host, and what ends a wait for it. */
struct arena_line {
    int fd;
    int doorbell; /* readable once the group has failed */
    int64_t until_ns;
};

/* Both: TUTTI_OK; TUTTI_ERR_ABORTED: the doorbell has rung; TUTTI_ERR_TIMEOUT: the deadline has passed; or
 * another negative status with a sentence in *error, when the connection is of no more use. */

/* Sends the message, whose magic, version and items it sets, and `count` pieces, whose descriptors stay the
 * sender's. */
int arena_message_send(const struct arena_line *line, struct arena_message *message,
                       const struct arena_piece *pieces, int count, struct tutti_error *error);

/* Receives a message of that kind, or a verdict in its place, with at most `max` pieces, whose descriptors
 * become the receiver's; message->items says how many, and is 0 after a failure. */
int arena_message_receive(const struct arena_line *line, int kind, struct arena_message *message,
                          struct arena_piece *pieces, int max, struct tutti_error *error);

#endif
