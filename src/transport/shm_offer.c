#include "transport/shm_offer.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "transport/descriptor.h"
#include "transport/shared_memory.h"

#define OFFER_MAGIC      0x53545554u /* "TUTS" in the order of the bytes */
#define OFFER_VERSION    1
#define OFFER_CRC_OFFSET 28

enum offer_kind { OFFER_NONE = 0, OFFER_RING = 1 };

struct offer {
    enum offer_kind kind;
    uint32_t slot_count, slot_bytes;
    uint64_t nonce;
};

static void offer_encode(const struct offer *offer, uint8_t bytes[SHM_OFFER_BYTES])
{
    memset(bytes, 0, SHM_OFFER_BYTES);
    put_u32(bytes, OFFER_MAGIC);
    bytes[4] = OFFER_VERSION;
    bytes[5] = (uint8_t)offer->kind;
    put_u16(bytes + 6, (uint16_t)offer->slot_count);
    put_u32(bytes + 8, offer->slot_bytes);
    put_u64(bytes + 16, offer->nonce);
    put_u32(bytes + OFFER_CRC_OFFSET, crc32c(0, bytes, OFFER_CRC_OFFSET));
}

static bool offer_decode(const uint8_t bytes[SHM_OFFER_BYTES], struct offer *offer)
{
    if (get_u32(bytes) != OFFER_MAGIC || bytes[4] != OFFER_VERSION || bytes[5] > OFFER_RING ||
        get_u32(bytes + 12) != 0 || get_u32(bytes + 24) != 0 ||
        get_u32(bytes + OFFER_CRC_OFFSET) != crc32c(0, bytes, OFFER_CRC_OFFSET))
        return false;
    *offer = (struct offer){
        .kind = bytes[5],
        .slot_count = get_u16(bytes + 6),
        .slot_bytes = get_u32(bytes + 8),
        .nonce = get_u64(bytes + 16),
    };
    return offer->kind == OFFER_NONE ||
           (shm_ring_is_valid(offer->slot_count, offer->slot_bytes) && offer->nonce != 0);
}

/* Maps the ring, and lets no child of this process keep it alive.  TUTTI_OK or a status. */
static int share_map(struct shm_share *share, int memory_fd, const struct offer *offer,
                     struct tutti_error *error)
{
    share->bytes = shm_ring_bytes(offer->slot_count, offer->slot_bytes);
    share->memory = shared_memory_map(memory_fd, 0, share->bytes, true, error);
    if (!share->memory)
        return error->code;
    madvise(share->memory, share->bytes, MADV_DONTFORK);
    share->nonce = offer->nonce;
    shm_ring_open(&share->ring, share->memory, offer->slot_count, offer->slot_bytes);
    return TUTTI_OK;
}

void shm_share_release(struct shm_share *share)
{
    shared_memory_unmap(share->memory, share->bytes);
    share->memory = NULL;
}

/* ---- The receiver ------------------------------------------------------------------------------ */

/* Never 0. */
static uint64_t draw_nonce(const void *unique)
{
    uint64_t nonce;
    if (getrandom(&nonce, sizeof nonce, GRND_NONBLOCK) != sizeof nonce)
        nonce = (uintptr_t)unique;
    return nonce | 1;
}

static int share_make(struct shm_share *share, int socket_fd, int memory_fd, uint32_t slot_bytes,
                      struct tutti_error *error)
{
    uint8_t bytes[SHM_OFFER_BYTES];
    const struct offer offer = {OFFER_RING, SHM_RING_SLOTS, slot_bytes, draw_nonce(share)};
    int status = share_map(share, memory_fd, &offer, error);
    if (status < 0)
        return status;
    shm_ring_format(share->memory, offer.nonce);
    offer_encode(&offer, bytes);
    int sent = descriptors_send(socket_fd, bytes, sizeof bytes, &memory_fd, 1);
    if (sent == TUTTI_OK)
        return TUTTI_OK;
    shm_share_release(share);
    return error_set_errno(error, sent < 0 ? -sent : EAGAIN, "cannot pass on the descriptor of the memory");
}

int shm_offer_ring(struct shm_share *share, int socket_fd, uint32_t slot_bytes, struct failpoints *failpoints,
                   struct tutti_error *error)
{
    if (failpoint_hit(failpoints, FAILPOINT_ring_made) == FAIL_no_memory)
        return error_set(error, TUTTI_ERR_MEMORY, "no memory, because of a failpoint");
    int memory_fd = shared_memory_create(shm_ring_bytes(SHM_RING_SLOTS, slot_bytes), false, error);
    if (memory_fd < 0)
        return memory_fd;
    int status = share_make(share, socket_fd, memory_fd, slot_bytes, error);
    descriptor_close(memory_fd);
    return status;
}

void shm_offer_none(int socket_fd)
{
    uint8_t bytes[SHM_OFFER_BYTES];
    offer_encode(&(struct offer){.kind = OFFER_NONE}, bytes);
    /* A fresh connection has room for it, unless the peer has gone, which shows when frames are awaited. */
    (void)descriptors_send(socket_fd, bytes, sizeof bytes, NULL, 0);
}

int shm_offer_is_taken(const struct shm_share *share)
{
    uint64_t nonce = atomic_load_explicit(&share->ring.control->attached, memory_order_acquire);
    return nonce == share->nonce ? 1 : nonce == 0 ? 0 : -1;
}

/* ---- The sender -------------------------------------------------------------------------------- */

static int share_attach(struct shm_share *share, const struct offer *offer, int memory_fd,
                        struct failpoints *failpoints, struct tutti_error *error)
{
    if (failpoint_hit(failpoints, FAILPOINT_ring_mapped) == FAIL_no_memory)
        return error_set(error, TUTTI_ERR_MEMORY, "no memory, because of a failpoint");
    int status = share_map(share, memory_fd, offer, error);
    if (status < 0)
        return status;
    struct shm_ring_control *control = share->ring.control;
    if (control->magic != SHM_RING_MAGIC || control->nonce != offer->nonce) {
        shm_share_release(share);
        return error_set(error, TUTTI_ERR_PROTOCOL, "the memory that came is not the one that was offered");
    }
    atomic_store_explicit(&control->attached, offer->nonce, memory_order_release);
    return TUTTI_OK;
}

enum shm_offer_result shm_offer_take(struct shm_share *share, int socket_fd, bool may_share,
                                     struct failpoints *failpoints, struct tutti_error *error)
{
    uint8_t bytes[SHM_OFFER_BYTES];
    struct offer offer;
    ssize_t n;
    do {
        n = recv(socket_fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? SHM_OFFER_AGAIN : SHM_OFFER_CLOSED;
    if (n != sizeof bytes || !offer_decode(bytes, &offer)) /* it was sent in one piece */
        return SHM_OFFER_UNKNOWN;
    int memory_fd = -1;
    int taken = descriptors_receive(socket_fd, bytes, sizeof bytes, &memory_fd, offer.kind == OFFER_RING);
    enum shm_offer_result result = SHM_OFFER_NONE;
    if (offer.kind == OFFER_RING && may_share) {
        if (taken == TUTTI_OK)
            taken = share_attach(share, &offer, memory_fd, failpoints, error);
        else
            error_set_errno(error, taken < 0 ? -taken : EAGAIN,
                            "cannot receive the descriptor of the memory");
        result = taken == TUTTI_OK ? SHM_OFFER_TAKEN : SHM_OFFER_FAILED;
    }
    if (memory_fd >= 0)
        descriptor_close(memory_fd);
    return result;
}
