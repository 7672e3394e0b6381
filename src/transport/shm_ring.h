/* A ring of slots in memory that two processes share: one fills them in turn, the other empties them.
 *
 * Each end counts: `filled` is written by the sender alone and `freed` by the receiver alone, each in a cache
 * line of its own, and each end keeps what it last read of the other's, so that it looks there only when that
 * is used up.  Who is about to sleep says so in its `asleep` word and looks once more; who has filled or
 * freed a slot looks at the other's word.  These four accesses are sequentially consistent, so that one of
 * the two sees the other.
 *
 * The other process is not trusted: a count that cannot be is told, and nothing else is read that matters. */
#ifndef TUTTI_TRANSPORT_SHM_RING_H
#define TUTTI_TRANSPORT_SHM_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHM_RING_SLOTS          4
#define SHM_RING_SLOTS_MAX      32
#define SHM_RING_SLOT_BYTES     65536u
#define SHM_RING_SLOT_BYTES_MIN 4096u
#define SHM_RING_SLOT_BYTES_MAX (1u << 20)
#define SHM_RING_HEADER_BYTES   64 /* beside each slot, for the header of a frame that begins in it */
#define SHM_RING_CONTROL_BYTES  4096u
#define SHM_RING_MAGIC          0x474e495249545554u /* "TUTIRING" in the order of the bytes */

struct shm_ring_control {
    uint64_t magic, nonce;
    _Alignas(64) atomic_uint_fast64_t filled;
    atomic_uint_fast64_t attached; /* by the sender: the nonce, read back; then it uses the ring */
    _Alignas(64) atomic_uint_fast64_t freed;
    _Alignas(64) atomic_uint sender_asleep;
    _Alignas(64) atomic_uint receiver_asleep;
    _Alignas(64) uint8_t headers[SHM_RING_SLOTS_MAX][SHM_RING_HEADER_BYTES];
};

/* One end of it. */
struct shm_ring {
    struct shm_ring_control *control;
    uint8_t *slots;
    uint32_t slot_count, slot_bytes;
    uint64_t own, other; /* counts: of this end, and of the other end when it was last read */
};

/* Is there such a ring? */
bool shm_ring_is_valid(uint32_t slot_count, uint32_t slot_bytes);
size_t shm_ring_bytes(uint32_t slot_count, uint32_t slot_bytes);

/* Writes the head of fresh memory, all zero. */
void shm_ring_format(void *memory, uint64_t nonce);

/* `memory` of shm_ring_bytes() is borrowed. */
void shm_ring_open(struct shm_ring *ring, void *memory, uint32_t slot_count, uint32_t slot_bytes);

/* The slot with that count, and the place for a header beside it. */
static inline uint8_t *shm_ring_slot(const struct shm_ring *ring, uint64_t position)
{
    return ring->slots + (size_t)(position % ring->slot_count) * ring->slot_bytes;
}
static inline uint8_t *shm_ring_header(const struct shm_ring *ring, uint64_t position)
{
    return ring->control->headers[position % ring->slot_count];
}

/* The sender: is a slot free, number ring->own?  1, 0, or -1: the other end's count cannot be. */
int shm_ring_has_room(struct shm_ring *ring);
/* It is filled.  true: the receiver sleeps and must be woken, which only this call tells. */
bool shm_ring_fill(struct shm_ring *ring);
/* true: there is something already. */
bool shm_ring_sender_sleeps(struct shm_ring *ring);

/* The receiver: is a slot filled, number ring->own + held?  1, 0, or -1. */
int shm_ring_has_slot(struct shm_ring *ring, uint32_t held);
/* Slot ring->own is empty.  true: the sender must be woken. */
bool shm_ring_free(struct shm_ring *ring);
bool shm_ring_receiver_sleeps(struct shm_ring *ring, uint32_t held);

#endif
