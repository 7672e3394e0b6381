/* How two ranks of one host come to share a ring (shm_ring.h), over the Unix socket that joins them.  The
 * receiver of a link makes the ring and offers it as the first thing on the fresh connection; the sender maps
 * it and reads the nonce back into it, or does without.
 *
 * The offer, 32 bytes with the descriptor of the memory beside them:
 *  0 "TUTS" | 4 version u8 | 5 kind u8 (0: none, and no descriptor; 1: a ring) | 6 slots u16
 *  8 bytes of a slot u32 | 12 zero u32 | 16 nonce u64 | 24 zero u32 | 28 CRC-32C of bytes 0 to 27 u32 */
#ifndef TUTTI_TRANSPORT_SHM_OFFER_H
#define TUTTI_TRANSPORT_SHM_OFFER_H

#include "base/failpoint.h"
#include "transport/shm_ring.h"

#define SHM_OFFER_BYTES 32

/* A ring in memory that is mapped here. */
struct shm_share {
    void *memory; /* NULL: none */
    size_t bytes;
    uint64_t nonce;
    struct shm_ring ring;
};

/* The receiver: makes a ring and offers it.  TUTTI_OK, or a status with a sentence when nothing was sent. */
int shm_offer_ring(struct shm_share *share, int socket_fd, uint32_t slot_bytes, struct failpoints *failpoints,
                   struct tutti_error *error);
/* Or says that there is none. */
void shm_offer_none(int socket_fd);

enum shm_offer_result {
    SHM_OFFER_AGAIN,   /* it has not come yet */
    SHM_OFFER_TAKEN,   /* `share` is attached */
    SHM_OFFER_NONE,    /* none was made, or this end may not share memory */
    SHM_OFFER_FAILED,  /* it could not be taken: *error says why */
    SHM_OFFER_CLOSED,  /* the connection is */
    SHM_OFFER_UNKNOWN, /* it is not an offer */
};

/* The sender. */
enum shm_offer_result shm_offer_take(struct shm_share *share, int socket_fd, bool may_share,
                                     struct failpoints *failpoints, struct tutti_error *error);

/* The receiver: 1 once the sender is attached, 0 before, -1 when what it has written cannot be. */
int shm_offer_is_taken(const struct shm_share *share);

void shm_share_release(struct shm_share *share);

#endif
