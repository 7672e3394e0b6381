#include "schedule/shape.h"

#include <stdarg.h>
#include "tensor/type.h"

/* What each kind of step has. */
static const struct shape {
    bool from, to, source, operands, target;
} shapes[] = {
    [STEP_SEND] = {.to = true, .source = true},
    [STEP_RECV] = {.from = true, .target = true},
    [STEP_RECV_SEND] = {.from = true, .to = true, .target = true},
    [STEP_RECV_REDUCE] = {.from = true, .source = true, .target = true},
    [STEP_RECV_REDUCE_SEND] = {.from = true, .to = true, .source = true, .target = true},
    [STEP_COPY] = {.source = true, .target = true},
    [STEP_REDUCE] = {.operands = true, .target = true},
};

__attribute__((format(printf, 3, 4))) static bool refuse(char *why, size_t why_size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, why_size, format, arguments);
    va_end(arguments);
    return false;
}

/* ---- The work vector ----------------------------------------------------------------------------- */

bool shape_has_input(const struct schedule *s, int chunk)
{
    switch (s->operation) {
    case TUTTI_GATHER:
    case TUTTI_ALL_GATHER:
        return chunk == s->rank;
    case TUTTI_ALL_TO_ALL:
        return chunk / s->size == s->rank;
    case TUTTI_BROADCAST:
    case TUTTI_SCATTER:
        return s->rank == s->root;
    default:
        return true;
    }
}

bool shape_has_output(const struct schedule *s, int chunk)
{
    switch (s->operation) {
    case TUTTI_GATHER:
    case TUTTI_REDUCE:
        return s->rank == s->root;
    case TUTTI_SCATTER:
    case TUTTI_REDUCE_SCATTER:
        return chunk == s->rank;
    case TUTTI_ALL_TO_ALL:
        return chunk % s->size == s->rank;
    default:
        return true;
    }
}

/* Into how many chunks the operation cuts its work vector: 0 where the algorithm chooses, -1 where there is
 * no schedule for such an operation. */
static int chunks_of(int operation, int size)
{
    switch (operation) {
    case TUTTI_ALL_REDUCE:
    case TUTTI_REDUCE:
    case TUTTI_BROADCAST:
    case TUTTI_BARRIER:
        return 0;
    case TUTTI_GATHER:
    case TUTTI_ALL_GATHER:
    case TUTTI_SCATTER:
    case TUTTI_REDUCE_SCATTER:
        return size;
    case TUTTI_ALL_TO_ALL:
        return size * size;
    default:
        return -1;
    }
}

static bool check_header(struct schedule *const *ranks, int rank, int size, char *why, size_t why_size)
{
    const struct schedule *s = ranks[rank];
    int chunks = chunks_of(s->operation, size);
    if (s->rank != rank || s->size != size)
        return refuse(why, why_size, "the schedule of rank %d of %d was made for rank %d of %d", rank, size,
                      s->rank, s->size);
    if (s->operation != ranks[0]->operation || s->chunks != ranks[0]->chunks || s->root != ranks[0]->root)
        return refuse(why, why_size, "ranks 0 and %d differ in operation, chunks or root", rank);
    if (s->root < 0 || s->root >= size)
        return refuse(why, why_size, "%s: root %d in a group of %d", s->algorithm, s->root, size);
    if (chunks < 0)
        return refuse(why, why_size, "%s: there are no schedules of %s", s->algorithm,
                      operation_name(s->operation));
    if (s->chunks < 1 || (chunks > 0 && s->chunks != chunks))
        return refuse(why, why_size, "%s: %d chunks, where the work vector of %s has %d", s->algorithm,
                      s->chunks, operation_name(s->operation), chunks > 0 ? chunks : 1);
    return true;
}

/* ---- Scratch memory ------------------------------------------------------------------------------ */

/* What the uses of one slot have in common. */
struct slot_use {
    int origin;      /* of the first use; -1: none yet */
    bool origins;    /* there are several */
    bool beyond_one; /* some use is more than the one chunk that lies at its origin */
};

static void note_use(struct slot_use *use, int slot, const struct step *step, struct span span)
{
    if (span.place != PLACE_SCRATCH || span.slot != slot)
        return;
    use->origins |= use->origin >= 0 && use->origin != span.origin;
    use->beyond_one |= step->chunks != 1 || step->chunk != span.origin;
    use->origin = span.origin;
}

/* Chunks differ in length, so that images of the work vector with different origins overlap anyhow, except
 * for a single chunk at the very beginning.  A slot therefore has one origin for good, in which case a chunk
 * always lies in the same place, or holds one chunk at a time. */
static bool slot_is_sound(const struct schedule *s, int slot)
{
    struct slot_use use = {.origin = -1};
    for (int i = 0; i < s->count; i++) {
        const struct step *step = &s->steps[i];
        note_use(&use, slot, step, step->source);
        note_use(&use, slot, step, step->target);
        for (int k = 0; k < step->operands; k++)
            note_use(&use, slot, step, s->operands[step->operand + k]);
    }
    return !use.origins || !use.beyond_one;
}

/* ---- Steps --------------------------------------------------------------------------------------- */

static bool span_is_valid(const struct schedule *s, const struct step *step, struct span span, bool wanted,
                          bool written)
{
    if (span.place == PLACE_NONE || !wanted)
        return span.place == PLACE_NONE && !wanted;
    if (span.place == PLACE_SCRATCH)
        return span.slot < s->scratch_slots && span.origin >= 0 && span.origin <= step->chunk &&
               step->chunk + step->chunks - span.origin <= s->scratch_chunks;
    bool valid = span.place == PLACE_RECV || (span.place == PLACE_SEND && !written);
    for (int chunk = step->chunk; valid && chunk < step->chunk + step->chunks; chunk++)
        valid = span.place == PLACE_SEND ? shape_has_input(s, chunk) : shape_has_output(s, chunk);
    return valid;
}

/* Are the operands there, and all of them places to read? */
static bool operands_are_valid(const struct schedule *s, const struct step *step, bool wanted)
{
    if (!wanted)
        return step->operands == 0;
    if (step->operands < 2 || step->operand < 0 || step->operand > s->operand_count - step->operands)
        return false;
    for (int i = 0; i < step->operands; i++) {
        if (!span_is_valid(s, step, s->operands[step->operand + i], true, false))
            return false;
    }
    return true;
}

static bool peer_is_valid(const struct schedule *s, int peer, bool wanted)
{
    return wanted ? peer >= 0 && peer < s->size && peer != s->rank : peer == -1;
}

static struct span sent_span(const struct step *step)
{
    return step->kind == STEP_SEND ? step->source : step->target;
}

/* The first chunk of a range in the memory of its place: two ranges in a slot overlap where their places do.
 */
static int place_of(const struct step *step, struct span span)
{
    return span.place == PLACE_SCRATCH ? step->chunk - span.origin : step->chunk;
}

/* May `writer` and the sending half of `sender` touch the same memory?  Input and output are the same memory
 * in place; then a plain copy between them writes nothing. */
static bool meet(const struct step *writer, const struct step *sender)
{
    struct span written = writer->target, sent = sent_span(sender);
    bool scratch = written.place == PLACE_SCRATCH;
    if (scratch != (sent.place == PLACE_SCRATCH) || (scratch && written.slot != sent.slot))
        return false;
    bool plain_copy = writer->kind == STEP_COPY && writer->source.place == PLACE_SEND && !writer->finish;
    if (plain_copy && sent.place == PLACE_SEND)
        return false;
    int first = place_of(writer, written), first_sent = place_of(sender, sent);
    return first < first_sent + sender->chunks && first_sent < first + writer->chunks;
}

/* Might the step overtake an earlier one that sends from the memory that it writes?  It waits for `after`
 * and, since sends leave in order, for all before that. */
static bool overtakes_a_send(const struct schedule *s, int index)
{
    const struct step *step = &s->steps[index];
    for (int i = step->after + 1; i < index && step->target.place != PLACE_NONE; i++) {
        if (step_sends(&s->steps[i]) && meet(step, &s->steps[i]))
            return true;
    }
    return false;
}

/* Does slice i of the step write just the memory that slice i of `after` sends? */
static bool slices_correspond(const struct step *step, const struct step *after)
{
    struct span written = step->target, sent = sent_span(after);
    return step->chunk == after->chunk && step->chunks == after->chunks && written.origin == sent.origin;
}

/* What is wrong with the step; NULL when nothing is. */
static const char *step_fault(const struct schedule *s, int index)
{
    const struct step *step = &s->steps[index];
    if (step->kind >= sizeof shapes / sizeof *shapes)
        return "has no kind";
    if (step->chunk < 0 || step->chunks < 1 || step->chunk >= s->chunks ||
        step->chunks > s->chunks - step->chunk)
        return "names a chunk that the schedule does not have";
    const struct shape *shape = &shapes[step->kind];
    if (!peer_is_valid(s, step->from, shape->from) || !peer_is_valid(s, step->to, shape->to))
        return "names a peer that is no other rank of the group";
    if (!span_is_valid(s, step, step->source, shape->source, false) ||
        !operands_are_valid(s, step, shape->operands))
        return "reads a place that this rank does not have";
    if (!span_is_valid(s, step, step->target, shape->target, true))
        return "writes a place that is not this rank's to write";
    if (step->after < -1 || step->after >= index || (step->after >= 0 && !step_sends(&s->steps[step->after])))
        return "waits for a step that is no earlier send";
    if (step->finish && !shape->target)
        return "finishes a chunk that it does not write";
    if (step->own_first && !(shape->from && shape->source))
        return "reduces nothing received that its own could come before";
    if (overtakes_a_send(s, index))
        return "overwrites what an earlier step may still have to send";
    if (step->after_slice && (step->after < 0 || !slices_correspond(step, &s->steps[step->after])))
        return "waits by slices for a step that sends other memory";
    return NULL;
}

bool shape_check(struct schedule *const *ranks, int size, char *why, size_t why_size)
{
    for (int rank = 0; rank < size; rank++) {
        const struct schedule *s = ranks[rank];
        if (!check_header(ranks, rank, size, why, why_size))
            return false;
        for (int i = 0; i < s->count; i++) {
            const char *fault = step_fault(s, i);
            if (fault)
                return refuse(why, why_size, "%s: rank %d, step %d %s", s->algorithm, rank, i, fault);
        }
        for (int slot = 0; slot < s->scratch_slots; slot++) {
            if (!slot_is_sound(s, slot))
                return refuse(why, why_size,
                              "%s: rank %d uses slot %d with several origins and for more than one chunk at "
                              "a time: chunks differ in length, so it cannot be told what overlaps",
                              s->algorithm, rank, slot);
        }
    }
    return true;
}
