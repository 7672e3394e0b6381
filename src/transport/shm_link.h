/* Links through shared memory, between ranks whose Unix socket has connected: a ring of slots (shm_ring.h)
 * that the receiver makes and offers (shm_offer.h).  The socket carries the offer of the ring, rings the bell
 * of an end that sleeps, and tells when the other end is gone.  See executor/link.h.
 *
 * Happy path: the receiver offers its ring as the first thing on the fresh connection.  The sender maps it,
 * reads the nonce back into it, and sends frames through it.  A sender waits for nothing that the application
 * of its receiver must do first.
 *
 * The header of a frame lies beside the slot in which it begins; its payload fills that slot and as many more
 * as it needs.
 *
 * Failure modes: a receiver that cannot make the ring, or may not, offers none; a sender that cannot map it,
 * or may not, does without.  Then frames go over the socket, as those of uds links do (stream.h), which the
 * receiver notices by the first byte; whoever failed writes a line that says why.  They cannot meet the
 * offer, which goes the other way.  Once the ring is in use, each byte on the socket, of value 1, is a bell.
 */
#ifndef TUTTI_TRANSPORT_SHM_LINK_H
#define TUTTI_TRANSPORT_SHM_LINK_H

#include "base/log.h"
#include "executor/link.h"

struct shm_link_options {
    int fd;                /* connected, non-blocking, hellos exchanged; taken over */
    int peer;              /* rank, as errors name it */
    const char *peer_text; /* "rank 3 (host b, pid 4711)", copied */
    size_t loan_bytes;     /* the longest payload that recv_loan() is asked for */
    bool is_sender;
    bool may_share;                /* shared memory is wanted here; the other end may see that otherwise */
    uint32_t slot_bytes;           /* of the ring, where this end receives */
    const struct log *log;         /* borrowed */
    struct failpoints *failpoints; /* likewise; NULL outside of tests */
};

/* Its transport is "shm", and becomes "uds" once there is found to be no ring.  NULL when out of memory, when
 * the socket is closed. */
struct link *shm_link_new(const struct shm_link_options *options);

#endif
