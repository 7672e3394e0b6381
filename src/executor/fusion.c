#include "executor/fusion.h"

#include <string.h>
#include "base/bytes.h"
#include "base/crc32c.h"
#include "executor/call_memory.h"

#define PREPARE_BYTES (16u << 10) /* copied, and then changed while it is in the first cache */

/* ---- Which calls ------------------------------------------------------------------------------- */

static bool is_same_algorithm(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Looks only at what the ranks must agree about: neither at fields that the operation does not have, nor at
 * deadlines and factors, which are each rank's own. */
static bool fits_with(const struct tutti_call *first, const struct tutti_call *call)
{
    bool same_kind = call->op == first->op && call->type == first->type &&
                     is_same_algorithm(call->algorithm, first->algorithm);
    return same_kind && (!operation_has_root(call->op) || call->root == first->root) &&
           (!operation_reduces(call->op) || call->reduction == first->reduction);
}

size_t fusion_run_length(const struct tutti_call *calls, size_t count)
{
    int op = calls[0].op;
    if (op != TUTTI_ALL_REDUCE && op != TUTTI_REDUCE && op != TUTTI_BROADCAST)
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
    uint8_t bytes[64 * sizeof(uint64_t)];
    size_t used = 0;
    print->count = 0;
    print->fused = (uint16_t)count;
    for (size_t i = 0; i < count; i++) {
        put_u64(bytes + used, calls[i].count);
        used += sizeof(uint64_t);
        print->count += calls[i].count;
        if (used == sizeof bytes || i + 1 == count) {
            print->fused_counts = crc32c(print->fused_counts, bytes, used);
            used = 0;
        }
    }
}

void fusion_parts(struct fusion_part *parts, const struct tutti_call *calls, size_t count, int rank)
{
    bool is_root = calls[0].root == rank;
    bool sends = calls[0].op != TUTTI_BROADCAST || is_root;
    bool receives = calls[0].op != TUTTI_REDUCE || is_root;
    size_t element_bytes = tutti_type_size(calls[0].type);
    for (size_t i = 0; i < count; i++)
        parts[i] = (struct fusion_part){sends ? calls[i].send : NULL, receives ? calls[i].recv : NULL,
                                        calls[i].count * element_bytes, calls[i].factor};
}

/* ---- Packing ----------------------------------------------------------------------------------- */

/* Are the results of the reduction 0 or 1 whatever the inputs? */
static bool makes_truth(int type, int reduction)
{
    return reduction != 0 &&
           (type == TUTTI_BOOL || reduction == TUTTI_LOGICAL_AND || reduction == TUTTI_LOGICAL_OR);
}

/* The input as the reduction wants it, in `target`. */
static void pack_part(const struct executor *x, const struct fusion_part *part, uint8_t *target)
{
    const struct fingerprint *call = &x->operation.call;
    const struct reduce_table *kernels = x->group->kernels;
    const uint8_t *source = part->send;
    if (!source)
        return;
    scale_kernel scale = call->reduction == TUTTI_PREMULTIPLIED_SUM ? kernels->scale[call->type] : NULL;
    bool alone = x->schedule->size == 1; /* no kernel runs */
    reduce_kernel truth = alone && makes_truth(call->type, call->reduction)
                              ? kernels->reduce[call->type][TUTTI_LOGICAL_OR]
                              : NULL;
    size_t step = scale || truth ? PREPARE_BYTES : part->bytes;
    for (size_t at = 0; at < part->bytes; at += step) {
        size_t bytes = part->bytes - at < step ? part->bytes - at : step;
        if (target != source)
            memcpy(target + at, source + at, bytes);
        if (scale)
            scale(target + at, bytes / x->element_bytes, part->factor);
        if (truth)
            truth(target + at, target + at, target + at, bytes / x->element_bytes);
    }
}

static void pack(struct executor *x)
{
    uint8_t *packed = x->fusion.packed;
    for (size_t i = 0; i < x->fusion.count; i++) {
        pack_part(x, &x->fusion.parts[i], packed);
        packed += x->fusion.parts[i].bytes;
    }
    x->fusion.is_packed = true;
}

static void unpack(const struct executor *x)
{
    const uint8_t *packed = x->fusion.packed;
    for (size_t i = 0; i < x->fusion.count; i++) {
        const struct fusion_part *part = &x->fusion.parts[i];
        if (part->recv && part->bytes > 0)
            memcpy(part->recv, packed, part->bytes);
        packed += part->bytes;
    }
}

static int fused_progress(struct operation *operation, struct tutti_error *error)
{
    struct executor *x = (struct executor *)operation;
    if (!x->fusion.is_packed)
        pack(x);
    int status = x->fusion.progress(operation, error);
    if (status == TUTTI_OK)
        unpack(x);
    return status;
}

static int staged_progress(struct operation *operation, struct tutti_error *error)
{
    struct executor *x = (struct executor *)operation;
    if (!x->fusion.is_packed)
        pack(x);
    return x->fusion.progress(operation, error);
}

static void wrap(struct executor *x, const struct fusion_part *parts, size_t count, void *packed,
                 int (*progress)(struct operation *operation, struct tutti_error *error))
{
    x->fusion.parts = parts;
    x->fusion.count = count;
    x->fusion.packed = packed;
    x->fusion.is_packed = false;
    x->fusion.progress = x->operation.progress;
    x->operation.progress = progress;
}

void fusion_wrap(struct executor *x, const struct fusion_part *parts, size_t count, void *packed)
{
    wrap(x, parts, count, packed, fused_progress);
}

/* ---- Staging ----------------------------------------------------------------------------------- */

bool staging_is_needed(const struct tutti_call *call, int size)
{
    if (!operation_reduces(call->op))
        return call->op == TUTTI_ALL_TO_ALL && call->send == call->recv;
    return call->reduction == TUTTI_PREMULTIPLIED_SUM ||
           (size == 1 && makes_truth(call->type, call->reduction));
}

/* A reduction may run in place, so where this rank has an output as long as the input, the copy is made
 * there.
 */
static bool is_made_in_recv(const struct tutti_call *call, int rank)
{
    return call->op == TUTTI_ALL_REDUCE || (call->op == TUTTI_REDUCE && call->root == rank);
}

size_t staging_bytes(const struct tutti_call *call, int rank, int size)
{
    const struct call_memory memory = call_memory_of(rank, size, call);
    return is_made_in_recv(call, rank) ? 0 : memory.send.elements * memory.element_bytes;
}

void *staging_copy(const struct tutti_call *call, int rank, void *scratch)
{
    return is_made_in_recv(call, rank) ? call->recv : scratch;
}

void staging_wrap(struct executor *x, struct fusion_part *part, const struct tutti_call *call, int rank,
                  int size, void *copy)
{
    const struct call_memory memory = call_memory_of(rank, size, call);
    *part = (struct fusion_part){
        .send = call->send, .bytes = memory.send.elements * memory.element_bytes, .factor = call->factor};
    wrap(x, part, 1, copy, staged_progress);
}
