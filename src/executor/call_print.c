#include "executor/call_print.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "executor/fusion.h"
#include "tensor/type.h"

/* Elements of all parts. */
static size_t sum_of(const size_t *counts, int size)
{
    size_t sum = 0;
    for (int rank = 0; rank < size; rank++)
        sum += counts[rank];
    return sum;
}

static uint32_t digest_of(const size_t *counts, int size)
{
    uint32_t digest = 0;
    for (int rank = 0; rank < size; rank++) {
        uint8_t bytes[sizeof(uint64_t)];
        put_u64(bytes, counts[rank]);
        digest = crc32c(digest, bytes, sizeof bytes);
    }
    return digest;
}

struct fingerprint call_print(const struct tutti_call *calls, size_t count, int size, bool last)
{
    const struct tutti_call *call = &calls[0];
    struct fingerprint print = {
        .operation = (uint8_t)call->op,
        .type = call->op == TUTTI_BARRIER ? 0 : (uint8_t)call->type,
        .reduction = operation_reduces(call->op) ? (uint8_t)call->reduction : 0,
        .root = operation_has_root(call->op) ? (uint32_t)call->root : 0,
        .count = call->count,
    };
    if (count > 1) {
        fusion_fingerprint(&print, calls, count);
    } else if (call->op == TUTTI_BARRIER) {
        print.count = last ? 1 : 0;
    } else if (operation_has_own_counts(call->op)) {
        print.count = 0;
    } else if (operation_has_counts(call->op)) {
        const size_t *counts = call->op == TUTTI_ALL_GATHER_V ? call->recv_counts : call->send_counts;
        print.count = sum_of(counts, size);
        print.root = digest_of(counts, size);
    }
    return print;
}
