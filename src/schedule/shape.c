#include "schedule/shape.h"

#include <stdarg.h>
#include "tensor/type.h"

/* What each kind of step has. */
static const struct shape {
    bool from, to, source, other, target;
} shapes[] = {
    [STEP_SEND] = {.to = true, .source = true},
    [STEP_RECV] = {.from = true, .target = true},
    [STEP_RECV_SEND] = {.from = true, .to = true, .target = true},
    [STEP_RECV_REDUCE] = {.from = true, .source = true, .target = true},
    [STEP_RECV_REDUCE_SEND] = {.from = true, .to = true, .source = true, .target = true},
    [STEP_COPY] = {.source = true, .target = true},
    [STEP_REDUCE] = {.source = true, .other = true, .target = true},
};

bool shape_has_input(const struct schedule *s, int chunk)
{
    if (operation_gathers((int)s->operation))
        return chunk == s->rank;
    return s->operation != TUTTI_BROADCAST || s->rank == s->root;
}

bool shape_has_output(const struct schedule *s, int chunk)
{
    switch (s->operation) {
    case TUTTI_GATHER:
        return s->rank == s->root;
    case TUTTI_REDUCE_SCATTER:
        return chunk == s->rank;
    default:
        return true;
    }
}

static bool span_is_valid(const struct schedule *s, int chunk, struct span span, bool wanted, bool written)
{
    switch (span.place) {
    case PLACE_NONE:
        return !wanted;
    case PLACE_SEND:
        return wanted && !written && shape_has_input(s, chunk);
    case PLACE_RECV:
        return wanted && shape_has_output(s, chunk);
    default:
        return wanted && span.place == PLACE_SCRATCH && span.slot < s->scratch_slots;
    }
}

static bool peer_is_valid(const struct schedule *s, int peer, bool wanted)
{
    return wanted ? peer >= 0 && peer < s->size && peer != s->rank : peer == -1;
}

__attribute__((format(printf, 3, 4))) static bool refuse(char *why, size_t why_size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, why_size, format, arguments);
    va_end(arguments);
    return false;
}

/* May `writer` and the sending half of `sender` touch the same memory?  Input and output are the same memory
 * in place; then a plain copy between them writes nothing. */
static bool meet(const struct step *writer, const struct step *sender)
{
    struct span written = writer->target, sent = sender->kind == STEP_SEND ? sender->source : sender->target;
    if (written.place == PLACE_SCRATCH || sent.place == PLACE_SCRATCH)
        return written.place == sent.place && written.slot == sent.slot;
    bool plain_copy = writer->kind == STEP_COPY && writer->source.place == PLACE_SEND && !writer->finish;
    return writer->chunk == sender->chunk && !(plain_copy && sent.place == PLACE_SEND);
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

/* What is wrong with the step; NULL when nothing is. */
static const char *step_fault(const struct schedule *s, int index)
{
    const struct step *step = &s->steps[index];
    if (step->kind >= sizeof shapes / sizeof *shapes)
        return "has no kind";
    if (step->chunk < 0 || step->chunk >= s->chunks)
        return "names a chunk that the schedule does not have";
    const struct shape *shape = &shapes[step->kind];
    if (!peer_is_valid(s, step->from, shape->from) || !peer_is_valid(s, step->to, shape->to))
        return "names a peer that is no other rank of the group";
    if (!span_is_valid(s, step->chunk, step->source, shape->source, false) ||
        !span_is_valid(s, step->chunk, step->other, shape->other, false))
        return "reads a place that this rank does not have";
    if (!span_is_valid(s, step->chunk, step->target, shape->target, true))
        return "writes a place that is not this rank's to write";
    if (step->after < -1 || step->after >= index || (step->after >= 0 && !step_sends(&s->steps[step->after])))
        return "waits for a step that is no earlier send";
    if (step->finish && !shape->target)
        return "finishes a chunk that it does not write";
    if (overtakes_a_send(s, index))
        return "overwrites what an earlier step may still have to send";
    return NULL;
}

bool shape_check(struct schedule *const *ranks, int size, char *why, size_t why_size)
{
    for (int rank = 0; rank < size; rank++) {
        const struct schedule *s = ranks[rank];
        if (s->rank != rank || s->size != size)
            return refuse(why, why_size, "the schedule of rank %d of %d was made for rank %d of %d", rank,
                          size, s->rank, s->size);
        if (s->operation != ranks[0]->operation || s->chunks != ranks[0]->chunks || s->root != ranks[0]->root)
            return refuse(why, why_size, "ranks 0 and %d differ in operation, chunks or root", rank);
        for (int i = 0; i < s->count; i++) {
            const char *fault = step_fault(s, i);
            if (fault)
                return refuse(why, why_size, "%s: rank %d, step %d %s", s->algorithm, rank, i, fault);
        }
    }
    return true;
}
