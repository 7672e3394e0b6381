#include "executor/executor.h"

#include <assert.h>
#include <string.h>
#include "base/error.h"
#include "executor/frame_check.h"
#include "tensor/chunk.h"
#include "tensor/type.h"

#define TURNS_MAX 64 /* slices in one progress(): a deadline, an abort and other work must get through */

/* ---- Geometry ---------------------------------------------------------------------------------- */

/* Is the work vector one vector that is cut, and not a sequence of the ranks' own parts? */
static bool cuts_vector(int operation)
{
    return operation == TUTTI_ALL_REDUCE || operation == TUTTI_REDUCE || operation == TUTTI_BROADCAST ||
           operation == TUTTI_BARRIER;
}

size_t executor_total(const struct fingerprint *call, int size)
{
    if (call->operation == TUTTI_BARRIER)
        return 0;
    return cuts_vector(call->operation) ? call->count : call->count * (size_t)size;
}

static size_t element_bytes_of(const struct fingerprint *call)
{
    size_t bytes = type_size(call->type);
    return bytes > 0 ? bytes : 1; /* a barrier has no type and no elements */
}

/* Of a _v: elements of a chunk that this rank sends, receives or passes on. */
static size_t own_count(int operation, int rank, int size, const struct executor_buffers *buffers, int chunk)
{
    switch (operation) {
    case TUTTI_ALL_TO_ALL_V:
        return chunk / size == rank ? buffers->send_counts[chunk % size] : buffers->recv_counts[chunk / size];
    case TUTTI_GATHER_V:
        return buffers->recv_counts ? buffers->recv_counts[chunk] : buffers->count;
    case TUTTI_SCATTER_V:
        return buffers->send_counts ? buffers->send_counts[chunk] : buffers->count;
    case TUTTI_ALL_GATHER_V:
        return buffers->recv_counts[chunk];
    default:
        return buffers->send_counts[chunk];
    }
}

/* Elements from chunk `first` up to chunk `end`, which is not counted. */
static size_t range_count(const struct executor *x, int first, int end)
{
    if (x->has_counts) {
        size_t count = 0;
        for (int chunk = first; chunk < end; chunk++)
            count += own_count(x->operation.call.operation, x->schedule->rank, x->schedule->size, &x->buffers,
                               chunk);
        return count;
    }
    if (!cuts_vector(x->operation.call.operation))
        return (size_t)(end - first) * x->operation.call.count;
    size_t chunks = (size_t)x->schedule->chunks;
    return chunk_begin(x->total, chunks, (size_t)end) - chunk_begin(x->total, chunks, (size_t)first);
}

/* The element of `send` and of `recv` at which a chunk begins that lies there. */
static size_t send_position(const struct executor *x, int chunk)
{
    int operation = x->operation.call.operation, plain = operation_plain(operation);
    if (operation_gathers(operation))
        return 0;
    if (plain == TUTTI_ALL_TO_ALL)
        chunk %= x->schedule->size;
    return x->has_counts ? x->buffers.send_offsets[chunk] : range_count(x, 0, chunk);
}

static size_t recv_position(const struct executor *x, int chunk)
{
    int operation = x->operation.call.operation, plain = operation_plain(operation);
    if (operation_scatters(operation))
        return 0;
    if (plain == TUTTI_ALL_TO_ALL)
        chunk /= x->schedule->size;
    return x->has_counts ? x->buffers.recv_offsets[chunk] : range_count(x, 0, chunk);
}

/* The most elements that a slot must hold. */
static size_t slot_count(const struct schedule *schedule, const struct fingerprint *call,
                         const struct executor_buffers *buffers)
{
    size_t most = 0, total = executor_total(call, schedule->size);
    if (cuts_vector(call->operation))
        return chunk_count(total, (size_t)schedule->chunks, 0) * (size_t)schedule->scratch_chunks;
    if (!operation_has_counts(call->operation))
        return call->count * (size_t)schedule->scratch_chunks;
    for (int first = 0; first + schedule->scratch_chunks <= schedule->chunks; first++) {
        size_t count = 0;
        for (int i = 0; i < schedule->scratch_chunks; i++)
            count += own_count(call->operation, schedule->rank, schedule->size, buffers, first + i);
        most = count > most ? count : most;
    }
    return most;
}

static size_t slot_bytes(const struct schedule *schedule, const struct fingerprint *call,
                         const struct executor_buffers *buffers)
{
    if (schedule->scratch_slots == 0)
        return 0;
    size_t bytes = slot_count(schedule, call, buffers) * element_bytes_of(call);
    return (bytes + 63) & ~(size_t)63; /* so that slots do not share cache lines */
}

size_t executor_scratch_bytes(const struct schedule *schedule, const struct fingerprint *call,
                              const struct executor_buffers *buffers)
{
    return slot_bytes(schedule, call, buffers) * (size_t)schedule->scratch_slots +
           (size_t)schedule->operand_count * sizeof(void *);
}

/* ---- Cursors ------------------------------------------------------------------------------------- */

/* Points the cursor at the first slice of the piece that begins with `chunk`, of step `index`. */
static void cursor_set_piece(const struct executor *x, struct executor_cursor *cursor, int index, int chunk)
{
    const struct step *step = &x->schedule->steps[index];
    cursor->step = index;
    cursor->slice = 0;
    cursor->chunk = chunk;
    cursor->chunks = x->has_counts ? 1 : step->chunks;
    cursor->count = range_count(x, chunk, chunk + cursor->chunks);
    cursor->slices = cursor->count == 0 ? 1 : (cursor->count + x->slice_elements - 1) / x->slice_elements;
}

static void cursor_set(const struct executor *x, struct executor_cursor *cursor, int index)
{
    if (index < x->schedule->count)
        cursor_set_piece(x, cursor, index, x->schedule->steps[index].chunk);
    else
        *cursor = (struct executor_cursor){.step = index};
}

static void cursor_advance(const struct executor *x, struct executor_cursor *cursor)
{
    if (++cursor->slice < cursor->slices)
        return;
    const struct step *step = &x->schedule->steps[cursor->step];
    int next = cursor->chunk + cursor->chunks;
    if (next < step->chunk + step->chunks)
        cursor_set_piece(x, cursor, cursor->step, next);
    else
        cursor_set(x, cursor, cursor->step + 1);
}

/* Of two cursors in steps with the same chunks: is `a` at a later slice than `b`? */
static bool cursor_is_ahead(const struct executor_cursor *a, const struct executor_cursor *b)
{
    return a->chunk > b->chunk || (a->chunk == b->chunk && a->slice > b->slice);
}

/* How far into its piece the cursor's slice begins, and its elements. */
static size_t slice_offset(const struct executor *x, const struct executor_cursor *cursor)
{
    return cursor->slice * x->slice_elements;
}

static size_t slice_count(const struct executor *x, const struct executor_cursor *cursor)
{
    size_t rest = cursor->count - slice_offset(x, cursor);
    return rest < x->slice_elements ? rest : x->slice_elements;
}

/* Where the cursor's slice lies in `span`.  Memory of the caller's input is not written through it.  A NULL
 * buffer with no elements must not meet pointer arithmetic. */
static uint8_t *slice_at(const struct executor *x, const struct executor_cursor *cursor, struct span span)
{
    size_t offset = slice_offset(x, cursor);
    uint8_t *base;
    switch (span.place) {
    case PLACE_SEND:
        base = (uint8_t *)x->buffers.send;
        offset += base ? send_position(x, cursor->chunk) : 0;
        break;
    case PLACE_RECV:
        base = x->buffers.recv;
        offset += base ? recv_position(x, cursor->chunk) : 0;
        break;
    default:
        base = x->scratch ? x->scratch + span.slot * x->scratch_stride : NULL;
        offset += base ? range_count(x, span.origin, cursor->chunk) : 0;
        break;
    }
    return base ? base + offset * x->element_bytes : NULL;
}

/* ---- The receiving cursor ---------------------------------------------------------------------- */

/* The call as frames say it that come now: their count is that of the piece, where only the two ranks agree
 * on it. */
static struct fingerprint expected_call(const struct executor *x)
{
    struct fingerprint call = x->operation.call;
    if (operation_has_own_counts(call.operation))
        call.count = x->receiving.count;
    return call;
}

struct mismatch_side executor_side(const struct executor *x, const struct frame *frame,
                                   const struct fingerprint *under_way)
{
    const struct operation *operation = &x->operation;
    int rank = executor_rank_name(x->group, x->schedule->rank);
    const struct fingerprint *recent = x->group->recent_calls;
    uint64_t theirs = frame->sequence;
    struct fingerprint call = frame->call;
    if (operation_has_own_counts(call.operation))
        call.count = 0;
    if (recent && theirs > 0 && theirs < operation->sequence &&
        theirs + EXECUTOR_RECENT_CALLS > operation->sequence &&
        !fingerprint_equal(&recent[theirs % EXECUTOR_RECENT_CALLS], &call))
        return (struct mismatch_side){rank, theirs, &recent[theirs % EXECUTOR_RECENT_CALLS]};
    return (struct mismatch_side){rank, operation->sequence, under_way};
}

/* Is the frame the one that this operation expects?  The header was intact, so what differs is what the
 * peer called, or which group it belongs to. */
static int frame_check(const struct executor *x, const struct link *link, const struct frame *frame,
                       uint32_t length, struct tutti_error *error)
{
    const struct operation *operation = &x->operation;
    const struct fingerprint expected = expected_call(x);
    if (frame_check_group(x->group, link->peer, frame, error) < 0)
        return error->code;
    if (frame->sequence != operation->sequence || !fingerprint_equal(&frame->call, &expected)) {
        const struct mismatch_side theirs = {link->peer, frame->sequence, &frame->call};
        const struct mismatch_side ours = executor_side(x, frame, &expected);
        return mismatch_error(&theirs, &ours, error);
    } else if (frame->type != FRAME_DATA || frame->length != length) {
        error_set(error, TUTTI_ERR_PROTOCOL,
                  "rank %d sent a frame of type %d with %u bytes where a slice of %u bytes was due",
                  link->peer, frame->type, (unsigned)frame->length, (unsigned)length);
    } else {
        return TUTTI_OK;
    }
    error->rank = link->peer;
    return error->code;
}

/* The holder of the token alone writes it: no need for a locked addition. */
static void note_moved(struct executor *x, uint32_t length)
{
    uint64_t moved = atomic_load_explicit(&x->operation.moved_bytes, memory_order_relaxed);
    atomic_store_explicit(&x->operation.moved_bytes, moved + FRAME_HEADER_BYTES + length,
                          memory_order_relaxed);
}

static int receive_and_reduce(struct executor *x, const struct step *step, struct link *link, size_t count,
                              struct tutti_error *error)
{
    struct frame frame;
    const void *received;
    uint32_t length = (uint32_t)(count * x->element_bytes);
    int result = link->ops->recv_loan(link, &frame, &received, length, error);
    if (result == LINK_AGAIN || result < 0)
        return result;
    int status = frame_check(x, link, &frame, length, error);
    if (status < 0)
        return status;
    uint8_t *target = slice_at(x, &x->receiving, step->target);
    const void *own = slice_at(x, &x->receiving, step->source);
    x->reduce(target, step->own_first ? own : received, step->own_first ? received : own, count);
    note_moved(x, length);
    return LINK_DONE;
}

static int receive_in_place(struct executor *x, const struct step *step, struct link *link, size_t count,
                            struct tutti_error *error)
{
    struct frame frame;
    uint32_t length = (uint32_t)(count * x->element_bytes);
    int result = link->ops->recv(link, &frame, slice_at(x, &x->receiving, step->target), length, error);
    if (result == LINK_AGAIN || result < 0)
        return result;
    note_moved(x, length);
    return frame_check(x, link, &frame, length, error);
}

/* Must the step wait for a send that still reads the memory that it writes? */
static bool target_is_busy(const struct executor *x, const struct step *step)
{
    const struct executor_cursor *sending = &x->sending;
    if (sending->step != step->after || !step->after_slice)
        return sending->step <= step->after;
    return !cursor_is_ahead(sending, &x->receiving);
}

static void reduce_slice(struct executor *x, const struct step *step, size_t count)
{
    for (int i = 0; i < step->operands; i++)
        x->operands[i] = slice_at(x, &x->receiving, x->schedule->operands[step->operand + i]);
    reduce_many(x->group->kernels, x->operation.call.type, x->operation.call.reduction,
                slice_at(x, &x->receiving, step->target), x->operands, step->operands, count);
}

static int receive_from(struct executor *x, const struct step *step, size_t count, struct tutti_error *error)
{
    struct link *link = x->group->in[step->from];
    bool reduces = step->kind == STEP_RECV_REDUCE || step->kind == STEP_RECV_REDUCE_SEND;
    int result = LINK_AGAIN;
    if (link)
        result = reduces ? receive_and_reduce(x, step, link, count, error)
                         : receive_in_place(x, step, link, count, error);
    if (result == LINK_AGAIN) {
        x->operation.wait.from = step->from;
        x->operation.wait.receive = link;
    }
    return result;
}

/* The receiving or local half of the cursor's slice: LINK_DONE, LINK_AGAIN or an error. */
static int receive_slice(struct executor *x, const struct step *step, struct tutti_error *error)
{
    if (target_is_busy(x, step))
        return LINK_AGAIN;
    size_t count = slice_count(x, &x->receiving), bytes = count * x->element_bytes;
    int result = LINK_DONE;
    if (step_receives(step)) {
        result = receive_from(x, step, count, error);
    } else if (step->kind == STEP_COPY) {
        const uint8_t *source = slice_at(x, &x->receiving, step->source);
        uint8_t *target = slice_at(x, &x->receiving, step->target);
        if (source != target && bytes > 0)
            memcpy(target, source, bytes);
    } else if (step->kind == STEP_REDUCE && count > 0) {
        reduce_slice(x, step, count);
    }
    if (result == LINK_DONE && step->finish && x->divide)
        x->divide(slice_at(x, &x->receiving, step->target), count, x->schedule->size);
    return result;
}

/* One slice, if it can: 1 when something was done, 0 when blocked or at the end, or an error. */
static int advance_receiving(struct executor *x, struct tutti_error *error)
{
    if (x->receiving.step == x->schedule->count)
        return 0;
    const struct step *step = &x->schedule->steps[x->receiving.step];
    if (step->kind == STEP_SEND) {
        cursor_set(x, &x->receiving, x->receiving.step + 1);
        return 1;
    }
    int result = receive_slice(x, step, error);
    if (result == LINK_AGAIN)
        return 0;
    if (result < 0)
        return result;
    cursor_advance(x, &x->receiving);
    return 1;
}

/* ---- The sending cursor ------------------------------------------------------------------------ */

/* Has the memory that the slice is sent from been filled? */
static bool source_is_ready(const struct executor *x, const struct step *step)
{
    const struct executor_cursor *receiving = &x->receiving, *sending = &x->sending;
    if (step->kind == STEP_SEND || receiving->step != sending->step)
        return receiving->step >= sending->step;
    return cursor_is_ahead(receiving, sending);
}

static int advance_sending(struct executor *x, struct tutti_error *error)
{
    while (x->sending.step < x->schedule->count && !step_sends(&x->schedule->steps[x->sending.step]))
        cursor_set(x, &x->sending, x->sending.step + 1);
    if (x->sending.step == x->schedule->count)
        return 0;
    const struct step *step = &x->schedule->steps[x->sending.step];
    if (!source_is_ready(x, step))
        return 0;
    struct link *link = x->group->out[step->to];
    struct span source = step->kind == STEP_SEND ? step->source : step->target;
    x->frame_out.step = (uint32_t)x->sending.step;
    if (operation_has_own_counts(x->frame_out.call.operation))
        x->frame_out.call.count = x->sending.count;
    x->frame_out.length = (uint32_t)(slice_count(x, &x->sending) * x->element_bytes);
    int result =
        link ? link->ops->send(link, &x->frame_out, slice_at(x, &x->sending, source), error) : LINK_AGAIN;
    if (result == LINK_AGAIN) {
        x->operation.wait.to = step->to;
        x->operation.wait.send = link;
        return 0;
    }
    if (result < 0)
        return result;
    cursor_advance(x, &x->sending);
    return 1;
}

/* ---- The operation ----------------------------------------------------------------------------- */

static const struct operation_wait not_blocked = {.from = -1, .to = -1};

static int executor_progress(struct operation *operation, struct tutti_error *error)
{
    struct executor *x = (struct executor *)operation;
    for (int turn = 0; turn < TURNS_MAX; turn++) {
        operation->wait = not_blocked;
        /* Sending first: a peer may be idle until it arrives. */
        int sent = advance_sending(x, error);
        if (sent < 0)
            return sent;
        int received = advance_receiving(x, error);
        if (received < 0)
            return received;
        if (sent || received)
            continue;
        if (x->sending.step == x->schedule->count && x->receiving.step == x->schedule->count)
            return TUTTI_OK;
        assert(operation->wait.from >= 0 || operation->wait.to >= 0);
        return TUTTI_PENDING;
    }
    operation->wait = not_blocked; /* others want a turn too */
    return TUTTI_PENDING;
}

void executor_init(struct executor *x, const struct executor_group *group, const struct schedule *schedule,
                   const struct fingerprint *call, const struct executor_buffers *buffers, void *scratch)
{
    memset(x, 0, sizeof *x);
    x->operation.progress = executor_progress;
    x->operation.call = *call;
    x->operation.wait = not_blocked;
    x->group = group;
    x->schedule = schedule;
    x->buffers = *buffers;
    x->has_counts = operation_has_counts(call->operation);
    x->scratch = scratch;
    x->scratch_stride = slot_bytes(schedule, call, buffers);
    if (schedule->operand_count > 0)
        x->operands = (const void **)(x->scratch + x->scratch_stride * (size_t)schedule->scratch_slots);
    x->total = executor_total(call, schedule->size);
    x->element_bytes = element_bytes_of(call);
    if (call->reduction != 0) {
        x->reduce = group->kernels->reduce[call->type][call->reduction];
        x->divide = call->reduction == TUTTI_AVG ? group->kernels->divide[call->type] : NULL;
    }
    x->slice_elements = group->slice_bytes / x->element_bytes;
}

void executor_start(struct executor *x, uint64_t sequence, int64_t now_ns, int64_t deadline_ns)
{
    x->operation.sequence = sequence;
    x->operation.begun = false;
    x->operation.started_ns = now_ns;
    x->operation.deadline_ns = deadline_ns;
    atomic_store_explicit(&x->operation.moved_bytes, 0, memory_order_relaxed);
    cursor_set(x, &x->receiving, 0);
    cursor_set(x, &x->sending, 0);
    x->operation.input.is_packed = false;
    x->frame_out = (struct frame){
        .type = FRAME_DATA,
        .flags = x->group->checksum ? FRAME_HAS_PAYLOAD_CRC : 0,
        .channel = x->group->channel,
        .generation = x->group->generation,
        .instance = x->group->instance,
        .sequence = sequence,
        .call = x->operation.call,
    };
}
