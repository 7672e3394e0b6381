#include "executor/fusion.h"

#include <string.h>
#include "base/bytes.h"
#include "base/crc32c.h"

/* Looks only at what the ranks must agree about: neither at fields that the operation does not have, nor at
 * deadlines, which are each rank's own. */
static bool fits_with(const struct tutti_call *first, const struct tutti_call *call)
{
    bool same_detail =
        call->op == TUTTI_BROADCAST ? call->root == first->root : call->reduction == first->reduction;
    return call->op == first->op && call->type == first->type && same_detail;
}

size_t fusion_run_length(const struct tutti_call *calls, size_t count)
{
    if (calls[0].op != TUTTI_ALL_REDUCE && calls[0].op != TUTTI_BROADCAST)
        return 1;
    size_t length = 0, total = 0;
    for (; length < count && length < FUSION_CALLS_MAX && fits_with(&calls[0], &calls[length]); length++) {
        size_t bytes = calls[length].count * tutti_type_size(calls[length].type);
        if (bytes > FUSION_CALL_BYTES_MAX || total + bytes > FUSION_TOTAL_BYTES_MAX)
            break;
        total += bytes;
    }
    return length > 0 ? length : 1;
}

void fusion_fingerprint(struct fingerprint *print, const struct tutti_call *calls, size_t count)
{
    print->count = 0;
    print->fused = (uint16_t)count;
    for (size_t i = 0; i < count; i++) {
        uint8_t bytes[sizeof(uint64_t)];
        put_u64(bytes, calls[i].count);
        print->count += calls[i].count;
        print->fused_counts = crc32c(print->fused_counts, bytes, sizeof bytes);
    }
}

static void pack(struct executor *x)
{
    uint8_t *packed = x->fusion.packed;
    for (size_t i = 0; i < x->fusion.count; i++) {
        const struct fusion_part *part = &x->fusion.parts[i];
        if (part->send && part->bytes > 0)
            memcpy(packed, part->send, part->bytes);
        packed += part->bytes;
    }
}

static void unpack(const struct executor *x)
{
    const uint8_t *packed = x->fusion.packed;
    for (size_t i = 0; i < x->fusion.count; i++) {
        const struct fusion_part *part = &x->fusion.parts[i];
        if (part->bytes > 0)
            memcpy(part->recv, packed, part->bytes);
        packed += part->bytes;
    }
}

static int fused_progress(struct operation *operation, struct tutti_error *error)
{
    struct executor *x = (struct executor *)operation;
    if (!x->fusion.is_packed) {
        pack(x);
        x->fusion.is_packed = true;
    }
    int status = x->fusion.progress(operation, error);
    if (status == TUTTI_OK)
        unpack(x);
    return status;
}

void fusion_wrap(struct executor *x, const struct fusion_part *parts, size_t count, void *packed)
{
    x->fusion.parts = parts;
    x->fusion.count = count;
    x->fusion.packed = packed;
    x->fusion.progress = x->operation.progress;
    x->operation.progress = fused_progress;
}
