#include "executor/executor.h"

#include <assert.h>
#include <string.h>
#include "base/error.h"
#include "executor/mismatch.h"
#include "tensor/chunk.h"

#define TURNS_MAX 64 /* slices in one progress(): a deadline, an abort and other work must get through */

/* ---- Geometry ---------------------------------------------------------------------------------- */

size_t executor_total(const struct fingerprint *call, int size)
{
    switch (call->operation) {
    case TUTTI_ALL_REDUCE:
    case TUTTI_BROADCAST:
        return call->count;
    case TUTTI_BARRIER:
        return 0;
    default:
        return call->count * (size_t)size;
    }
}

static size_t element_bytes(const struct fingerprint *call)
{
    size_t bytes = tutti_type_size(call->type);
    return bytes > 0 ? bytes : 1; /* a barrier has no type and no elements */
}

static size_t scratch_stride(const struct schedule *schedule, const struct fingerprint *call)
{
    size_t total = executor_total(call, schedule->size);
    size_t largest = chunk_count(total, (size_t)schedule->chunks, 0) * element_bytes(call);
    return (largest + 63) & ~(size_t)63; /* so that slots do not share cache lines */
}

size_t executor_scratch_bytes(const struct schedule *schedule, const struct fingerprint *call)
{
    return scratch_stride(schedule, call) * (size_t)schedule->scratch_slots;
}

/* Points the cursor at the first slice of step `index`. */
static void cursor_set(const struct executor *x, struct executor_cursor *cursor, int index)
{
    cursor->step = index;
    cursor->slice = 0;
    if (index == x->schedule->count)
        return;
    size_t chunk = (size_t)x->schedule->steps[index].chunk, chunks = (size_t)x->schedule->chunks;
    cursor->begin = chunk_begin(x->total, chunks, chunk);
    cursor->count = chunk_count(x->total, chunks, chunk);
    cursor->slices = cursor->count == 0 ? 1 : (cursor->count + x->slice_elements - 1) / x->slice_elements;
}

static void cursor_advance(const struct executor *x, struct executor_cursor *cursor)
{
    if (++cursor->slice == cursor->slices)
        cursor_set(x, cursor, cursor->step + 1);
}

/* Elements of the cursor's slice, and how far into its chunk it begins. */
static size_t slice_offset(const struct executor *x, const struct executor_cursor *cursor)
{
    return cursor->slice * x->slice_elements;
}

static size_t slice_count(const struct executor *x, const struct executor_cursor *cursor)
{
    size_t rest = cursor->count - slice_offset(x, cursor);
    return rest < x->slice_elements ? rest : x->slice_elements;
}

/* Where the cursor's slice lies in `span`.  Memory of the caller's input is not written through it. */
static uint8_t *slice_at(const struct executor *x, const struct executor_cursor *cursor, struct span span)
{
    size_t offset = slice_offset(x, cursor);
    switch (span.place) {
    case PLACE_SEND:
        /* A NULL buffer with no elements must not meet pointer arithmetic. */
        return x->send ? (uint8_t *)x->send + (cursor->begin + offset - x->send_origin) * x->element_bytes
                       : NULL;
    case PLACE_RECV:
        return x->recv ? x->recv + (cursor->begin + offset - x->recv_origin) * x->element_bytes : NULL;
    default:
        return x->scratch ? x->scratch + span.slot * x->scratch_stride + offset * x->element_bytes : NULL;
    }
}

/* ---- The receiving cursor ---------------------------------------------------------------------- */

/* Which of our calls to show beside theirs: that of the same number where it is known and differs, since it
 * is where the ranks parted; else the one under way. */
static struct mismatch_side our_side(const struct executor *x, const struct frame *frame)
{
    const struct operation *operation = &x->operation;
    const struct fingerprint *recent = x->group->recent_calls;
    uint64_t theirs = frame->sequence;
    if (recent && theirs > 0 && theirs < operation->sequence &&
        theirs + EXECUTOR_RECENT_CALLS > operation->sequence &&
        !fingerprint_equal(&recent[theirs % EXECUTOR_RECENT_CALLS], &frame->call))
        return (struct mismatch_side){x->schedule->rank, theirs, &recent[theirs % EXECUTOR_RECENT_CALLS]};
    return (struct mismatch_side){x->schedule->rank, operation->sequence, &operation->call};
}

/* Is the frame the one that this operation expects?  The header was intact, so what differs is what the
 * peer called, or which group it belongs to. */
static int frame_check(const struct executor *x, const struct link *link, const struct frame *frame,
                       uint32_t length, struct tutti_error *error)
{
    const struct operation *operation = &x->operation;
    if (frame->instance != x->group->instance || frame->generation != x->group->generation) {
        error_set(
            error, TUTTI_ERR_PROTOCOL,
            "rank %d sent a frame of group %016llx generation %u, this is group %016llx generation %u: a "
            "member of an earlier group is still sending",
            link->peer, (unsigned long long)frame->instance, (unsigned)frame->generation,
            (unsigned long long)x->group->instance, (unsigned)x->group->generation);
    } else if (frame->sequence != operation->sequence || !fingerprint_equal(&frame->call, &operation->call)) {
        const struct mismatch_side theirs = {link->peer, frame->sequence, &frame->call};
        const struct mismatch_side ours = our_side(x, frame);
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
    x->reduce(target, received, slice_at(x, &x->receiving, step->source), count);
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
    return step->after >= 0 && (sending->step < step->after ||
                                (sending->step == step->after && sending->slice <= x->receiving.slice));
}

/* The receiving or local half of the cursor's slice: LINK_DONE, LINK_AGAIN or an error. */
static int receive_slice(struct executor *x, const struct step *step, struct tutti_error *error)
{
    if (target_is_busy(x, step))
        return LINK_AGAIN;
    size_t count = slice_count(x, &x->receiving), bytes = count * x->element_bytes;
    int result = LINK_DONE;
    if (step_receives(step)) {
        struct link *link = x->group->in[step->from];
        bool reduces = step->kind == STEP_RECV_REDUCE || step->kind == STEP_RECV_REDUCE_SEND;
        result = reduces ? receive_and_reduce(x, step, link, count, error)
                         : receive_in_place(x, step, link, count, error);
        if (result == LINK_AGAIN)
            x->operation.wait.receive = link;
    } else if (step->kind == STEP_COPY) {
        const uint8_t *source = slice_at(x, &x->receiving, step->source);
        uint8_t *target = slice_at(x, &x->receiving, step->target);
        if (source != target && bytes > 0)
            memcpy(target, source, bytes);
    } else if (step->kind == STEP_REDUCE) {
        x->reduce(slice_at(x, &x->receiving, step->target), slice_at(x, &x->receiving, step->source),
                  slice_at(x, &x->receiving, step->other), count);
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
    if (step->kind == STEP_SEND)
        return receiving->step >= sending->step;
    return receiving->step > sending->step ||
           (receiving->step == sending->step && receiving->slice > sending->slice);
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
    x->frame_out.length = (uint32_t)(slice_count(x, &x->sending) * x->element_bytes);
    int result = link->ops->send(link, &x->frame_out, slice_at(x, &x->sending, source), error);
    if (result == LINK_AGAIN) {
        x->operation.wait.send = link;
        return 0;
    }
    if (result < 0)
        return result;
    cursor_advance(x, &x->sending);
    return 1;
}

/* ---- The operation ----------------------------------------------------------------------------- */

static int executor_progress(struct operation *operation, struct tutti_error *error)
{
    struct executor *x = (struct executor *)operation;
    for (int turn = 0; turn < TURNS_MAX; turn++) {
        operation->wait = (struct operation_wait){NULL, NULL};
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
        assert(operation->wait.receive || operation->wait.send);
        return TUTTI_PENDING;
    }
    operation->wait = (struct operation_wait){NULL, NULL}; /* not blocked: others want a turn too */
    return TUTTI_PENDING;
}

void executor_init(struct executor *x, const struct executor_group *group, const struct schedule *schedule,
                   const struct fingerprint *call, const void *send, void *recv, void *scratch)
{
    memset(x, 0, sizeof *x);
    x->operation.progress = executor_progress;
    x->operation.call = *call;
    x->group = group;
    x->schedule = schedule;
    x->send = send;
    x->recv = recv;
    x->scratch = scratch;
    x->scratch_stride = scratch_stride(schedule, call);
    x->total = executor_total(call, schedule->size);
    x->element_bytes = element_bytes(call);
    size_t own = (size_t)schedule->rank * call->count;
    if (operation_gathers(call->operation))
        x->send_origin = own;
    if (call->operation == TUTTI_REDUCE_SCATTER)
        x->recv_origin = own;
    if (call->reduction != 0) {
        x->reduce = group->kernels->reduce[call->type][call->reduction];
        x->divide = call->reduction == TUTTI_AVG ? group->kernels->divide[call->type] : NULL;
    }
    x->slice_elements = group->slice_bytes / x->element_bytes;
    cursor_set(x, &x->receiving, 0);
    cursor_set(x, &x->sending, 0);
}

void executor_start(struct executor *x, uint64_t sequence, int64_t now_ns, int64_t deadline_ns)
{
    x->operation.sequence = sequence;
    x->operation.started_ns = now_ns;
    x->operation.deadline_ns = deadline_ns;
    x->frame_out = (struct frame){
        .type = FRAME_DATA,
        .flags = x->group->checksum ? FRAME_HAS_PAYLOAD_CRC : 0,
        .generation = x->group->generation,
        .instance = x->group->instance,
        .sequence = sequence,
        .call = x->operation.call,
    };
}
