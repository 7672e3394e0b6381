#include "transport/shm_ring.h"

#include <assert.h>

static_assert(sizeof(struct shm_ring_control) <= SHM_RING_CONTROL_BYTES, "the slots begin behind it");
static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "processes share no locks");

bool shm_ring_is_valid(uint32_t slot_count, uint32_t slot_bytes)
{
    return slot_count >= 2 && slot_count <= SHM_RING_SLOTS_MAX && slot_bytes >= SHM_RING_SLOT_BYTES_MIN &&
           slot_bytes <= SHM_RING_SLOT_BYTES_MAX && slot_bytes % SHM_RING_SLOT_BYTES_MIN == 0;
}

size_t shm_ring_bytes(uint32_t slot_count, uint32_t slot_bytes)
{
    return SHM_RING_CONTROL_BYTES + (size_t)slot_count * slot_bytes;
}

void shm_ring_format(void *memory, uint64_t nonce)
{
    struct shm_ring_control *control = memory;
    control->magic = SHM_RING_MAGIC;
    control->nonce = nonce;
}

void shm_ring_open(struct shm_ring *ring, void *memory, uint32_t slot_count, uint32_t slot_bytes)
{
    *ring = (struct shm_ring){
        .control = memory,
        .slots = (uint8_t *)memory + SHM_RING_CONTROL_BYTES,
        .slot_count = slot_count,
        .slot_bytes = slot_bytes,
    };
}

/* Reads the other end's count, which is at least what it was and at most `most`. */
static bool read_other(struct shm_ring *ring, const atomic_uint_fast64_t *count, uint64_t most,
                       memory_order order)
{
    uint64_t now = atomic_load_explicit(count, order);
    if (now - ring->other > most - ring->other)
        return false;
    ring->other = now;
    return true;
}

/* What the own end says before it looks at what the other says.  An exchange: on x86-64 a store in this order
 * is one, and qemu does not keep a mere store of Arm before the load that follows it, as a processor does. */
static void publish(atomic_uint_fast64_t *count, uint64_t value)
{
    (void)atomic_exchange(count, value);
}

/* A slot has been passed on: is the other end asleep?  Then it is not any more: one call wakes it. */
static bool must_wake(atomic_uint *asleep)
{
    return atomic_load_explicit(asleep, memory_order_seq_cst) != 0 &&
           atomic_exchange_explicit(asleep, 0, memory_order_seq_cst) != 0;
}

/* ---- The sender -------------------------------------------------------------------------------- */

static bool is_full(const struct shm_ring *ring)
{
    return ring->own - ring->other >= ring->slot_count;
}

static int look_for_room(struct shm_ring *ring, memory_order order)
{
    if (is_full(ring) && !read_other(ring, &ring->control->freed, ring->own, order))
        return -1;
    return !is_full(ring);
}

int shm_ring_has_room(struct shm_ring *ring)
{
    return look_for_room(ring, memory_order_acquire);
}

bool shm_ring_fill(struct shm_ring *ring)
{
    publish(&ring->control->filled, ++ring->own);
    return must_wake(&ring->control->receiver_asleep);
}

bool shm_ring_sender_sleeps(struct shm_ring *ring)
{
    (void)atomic_exchange(&ring->control->sender_asleep, 1);
    return look_for_room(ring, memory_order_seq_cst) != 0;
}

/* ---- The receiver ------------------------------------------------------------------------------ */

static int look_for_slot(struct shm_ring *ring, uint32_t held, memory_order order)
{
    if (ring->other - ring->own > held)
        return 1;
    if (!read_other(ring, &ring->control->filled, ring->own + ring->slot_count, order))
        return -1;
    return ring->other - ring->own > held;
}

int shm_ring_has_slot(struct shm_ring *ring, uint32_t held)
{
    return look_for_slot(ring, held, memory_order_acquire);
}

bool shm_ring_free(struct shm_ring *ring)
{
    publish(&ring->control->freed, ++ring->own);
    return must_wake(&ring->control->sender_asleep);
}

bool shm_ring_receiver_sleeps(struct shm_ring *ring, uint32_t held)
{
    (void)atomic_exchange(&ring->control->receiver_asleep, 1);
    return look_for_slot(ring, held, memory_order_seq_cst) != 0;
}
