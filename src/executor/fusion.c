#include "executor/fusion.h"

#include <string.h>
#include "base/bytes.h"
#include "base/crc32c.h"
#include "executor/call_memory.h"
#include "tensor/type.h"

#define PREPARE_BYTES (16u << 10) /* copied, and then changed while it is in the first cache */

/* ---- Which calls ------------------------------------------------------------------------------- */

static bool is_same_algorithm(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

size_t fusion_run_length(const struct tutti_call *calls, size_t count)
{
    const struct tutti_call *first = &calls[0];
    if (first->op != TUTTI_ALL_REDUCE && first->op != TUTTI_REDUCE && first->op != TUTTI_BROADCAST)
        return 1;
    /* Looks only at what the ranks must agree about: neither at fields that the operation does not have, nor
     * at deadlines and factors, which are each rank's own. */
    bool has_root = operation_has_root(first->op), reduces = operation_reduces(first->op);
    size_t length = 0, total = 0, element_bytes = type_size(first->type);
    for (; length < count && length < FUSION_CALLS_MAX; length++) {
        const struct tutti_call *call = &calls[length];
        size_t bytes = call->count * element_bytes;
        if (call->op != first->op || call->type != first->type || (has_root && call->root != first->root) ||
            (reduces && call->reduction != first->reduction) ||
            !is_same_algorithm(call->algorithm, first->algorithm) || bytes > FUSION_CALL_BYTES_MAX ||
            total + bytes > FUSION_TOTAL_BYTES_MAX)
            break;
        total += bytes;
    }
    return length > 0 ? length : 1;
}

/* Do the inputs, or the outputs, lie one behind the other? */
static bool follow_one_another(const struct tutti_call *calls, size_t count, size_t element_bytes, bool send)
{
    const char *end = send ? calls[0].send : calls[0].recv;
    for (size_t i = 0; i < count; i++) {
        const char *begin = send ? calls[i].send : calls[i].recv;
        if (begin != end)
            return false;
        end = begin + calls[i].count * element_bytes;
    }
    return true;
}

bool fusion_is_one_buffer(const struct tutti_call *calls, size_t count, int rank)
{
    int op = calls[0].op;
    bool sends = op != TUTTI_BROADCAST || calls[0].root == rank,
         receives = op != TUTTI_REDUCE || calls[0].root == rank;
    size_t element_bytes = type_size(calls[0].type);
    return calls[0].reduction != TUTTI_PREMULTIPLIED_SUM &&
           (!sends || follow_one_another(calls, count, element_bytes, true)) &&
           (!receives || follow_one_another(calls, count, element_bytes, false));
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
    size_t element_bytes = type_size(calls[0].type);
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
static void pack_part(const struct operation *operation, const struct fusion_part *part, uint8_t *target)
{
    const struct fingerprint *call = &operation->call;
    const struct reduce_table *kernels = operation->input.kernels;
    const uint8_t *source = part->send;
    if (!source)
        return;
    scale_kernel scale = call->reduction == TUTTI_PREMULTIPLIED_SUM ? kernels->scale[call->type] : NULL;
    size_t element_bytes = type_size(call->type);
    reduce_kernel truth = operation->input.alone && makes_truth(call->type, call->reduction)
                              ? kernels->reduce[call->type][TUTTI_LOGICAL_OR]
                              : NULL;
    size_t step = scale || truth ? PREPARE_BYTES : part->bytes;
    for (size_t at = 0; at < part->bytes; at += step) {
        size_t bytes = part->bytes - at < step ? part->bytes - at : step;
        if (target != source)
            memcpy(target + at, source + at, bytes);
        if (scale)
            scale(target + at, bytes / element_bytes, part->factor);
        if (truth)
            truth(target + at, target + at, target + at, bytes / element_bytes);
    }
}

static void pack(struct operation *operation)
{
    struct operation_input *input = &operation->input;
    uint8_t *packed = input->packed;
    for (size_t i = 0; i < input->count; i++) {
        pack_part(operation, &input->parts[i], packed);
        packed += input->parts[i].bytes;
    }
    input->is_packed = true;
}

static void unpack(const struct operation_input *input)
{
    const uint8_t *packed = input->packed;
    for (size_t i = 0; i < input->count; i++) {
        const struct fusion_part *part = &input->parts[i];
        if (part->recv && part->bytes > 0)
            memcpy(part->recv, packed, part->bytes);
        packed += part->bytes;
    }
}

static int fused_progress(struct operation *operation, struct tutti_error *error)
{
    if (!operation->input.is_packed)
        pack(operation);
    int status = operation->input.progress(operation, error);
    if (status == TUTTI_OK)
        unpack(&operation->input);
    return status;
}

static int staged_progress(struct operation *operation, struct tutti_error *error)
{
    if (!operation->input.is_packed)
        pack(operation);
    return operation->input.progress(operation, error);
}

static void wrap(struct operation *operation, const struct reduce_table *kernels, int size,
                 const struct fusion_part *parts, size_t count, void *packed,
                 int (*progress)(struct operation *operation, struct tutti_error *error))
{
    operation->input = (struct operation_input){
        .parts = parts,
        .count = count,
        .packed = packed,
        .kernels = kernels,
        .alone = size == 1,
        .progress = operation->progress,
    };
    operation->progress = progress;
}

void fusion_wrap(struct operation *operation, const struct reduce_table *kernels, int size,
                 const struct fusion_part *parts, size_t count, void *packed)
{
    wrap(operation, kernels, size, parts, count, packed, fused_progress);
}

/* ---- Staging ----------------------------------------------------------------------------------- */

bool staging_is_needed(const struct tutti_call *call, int size)
{
    if (!operation_reduces(call->op))
        return call->op == TUTTI_ALL_TO_ALL && call->send == call->recv;
    return call->reduction == TUTTI_PREMULTIPLIED_SUM ||
           (size == 1 && makes_truth(call->type, call->reduction));
}

/* A reduction may run in place: where this rank's output is as long as its input, the copy is made there. */
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

void staging_wrap(struct operation *operation, const struct reduce_table *kernels, int size,
                  struct fusion_part *part, const struct tutti_call *call, int rank, void *copy)
{
    const struct call_memory memory = call_memory_of(rank, size, call);
    *part = (struct fusion_part){
        .send = call->send, .bytes = memory.send.elements * memory.element_bytes, .factor = call->factor};
    wrap(operation, kernels, size, part, 1, copy, staged_progress);
}
