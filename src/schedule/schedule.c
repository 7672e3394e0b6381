#include "schedule/schedule.h"

#include <assert.h>
#include <stdlib.h>

#define CAPACITY_MIN 16

bool step_sends(const struct step *step)
{
    return step->kind == STEP_SEND || step->kind == STEP_RECV_SEND || step->kind == STEP_RECV_REDUCE_SEND;
}

bool step_receives(const struct step *step)
{
    return step->kind == STEP_RECV || step->kind == STEP_RECV_SEND || step->kind == STEP_RECV_REDUCE ||
           step->kind == STEP_RECV_REDUCE_SEND;
}

/* ---- Emitting ---------------------------------------------------------------------------------- */

static void append(struct schedule *s, struct step step)
{
    assert(step.chunk >= 0 && step.chunk < s->chunks);
    if (s->failed)
        return;
    if (s->count == s->capacity) {
        int capacity = s->capacity > 0 ? s->capacity * 2 : CAPACITY_MIN;
        struct step *steps = realloc(s->steps, (size_t)capacity * sizeof *steps);
        if (!steps) {
            s->failed = true;
            return;
        }
        s->steps = steps;
        s->capacity = capacity;
    }
    step.after = -1;
    s->steps[s->count++] = step;
}

void schedule_send(struct schedule *s, int to, int chunk, struct span source)
{
    append(s, (struct step){.kind = STEP_SEND, .from = -1, .to = to, .chunk = chunk, .source = source});
}

void schedule_recv(struct schedule *s, int from, int chunk, struct span target)
{
    append(s, (struct step){.kind = STEP_RECV, .from = from, .to = -1, .chunk = chunk, .target = target});
}

void schedule_recv_send(struct schedule *s, int from, int to, int chunk, struct span target)
{
    append(s,
           (struct step){.kind = STEP_RECV_SEND, .from = from, .to = to, .chunk = chunk, .target = target});
}

void schedule_recv_reduce(struct schedule *s, int from, int chunk, struct span own, struct span target)
{
    append(s, (struct step){.kind = STEP_RECV_REDUCE,
                            .from = from,
                            .to = -1,
                            .chunk = chunk,
                            .source = own,
                            .target = target});
}

void schedule_recv_reduce_send(struct schedule *s, int from, int to, int chunk, struct span own,
                               struct span target)
{
    append(s, (struct step){.kind = STEP_RECV_REDUCE_SEND,
                            .from = from,
                            .to = to,
                            .chunk = chunk,
                            .source = own,
                            .target = target});
}

void schedule_copy(struct schedule *s, int chunk, struct span source, struct span target)
{
    append(s,
           (struct step){
               .kind = STEP_COPY, .from = -1, .to = -1, .chunk = chunk, .source = source, .target = target});
}

void schedule_reduce(struct schedule *s, int chunk, struct span left, struct span right, struct span target)
{
    append(s, (struct step){.kind = STEP_REDUCE,
                            .from = -1,
                            .to = -1,
                            .chunk = chunk,
                            .source = left,
                            .other = right,
                            .target = target});
}

void schedule_mark_finished(struct schedule *s)
{
    assert(s->failed || s->count > 0);
    if (!s->failed)
        s->steps[s->count - 1].finish = true;
}

/* ---- Completing -------------------------------------------------------------------------------- */

static int larger(int a, int b)
{
    return a > b ? a : b;
}

static void count_scratch_slots(struct schedule *s)
{
    for (int i = 0; i < s->count; i++) {
        const struct step *step = &s->steps[i];
        const struct span spans[] = {step->source, step->other, step->target};
        for (int k = 0; k < 3; k++) {
            if (spans[k].place == PLACE_SCRATCH)
                s->scratch_slots = larger(s->scratch_slots, spans[k].slot + 1);
        }
    }
}

/* The latest steps that send from each chunk of the input, chunk of the output, and scratch slot; -1: none.
 */
struct senders {
    int *input, *output, *scratch;
};

static int *sender_of(const struct senders *latest, struct span span, int chunk)
{
    switch (span.place) {
    case PLACE_SEND:
        return &latest->input[chunk];
    case PLACE_RECV:
        return &latest->output[chunk];
    default:
        return &latest->scratch[span.slot];
    }
}

/* The step whose sending must be over before `step` may write; sends leave in order, so the latest counts. */
static int after_of(const struct step *step, const struct senders *latest)
{
    if (step->target.place == PLACE_NONE)
        return -1;
    int after = *sender_of(latest, step->target, step->chunk);
    if (step->target.place != PLACE_RECV)
        return after;
    /* Input and output may be the same memory.  A plain copy from one to the other is safe all the same:
     * there it writes nothing, elsewhere it writes what nobody sends. */
    bool plain_copy = step->kind == STEP_COPY && step->source.place == PLACE_SEND && !step->finish;
    return plain_copy ? after : larger(after, latest->input[step->chunk]);
}

static bool compute_after(struct schedule *s)
{
    size_t cells = 2 * (size_t)s->chunks + (size_t)s->scratch_slots;
    int *cell = malloc(cells * sizeof *cell);
    if (!cell)
        return false;
    for (size_t i = 0; i < cells; i++)
        cell[i] = -1;
    struct senders latest = {cell, cell + s->chunks, cell + 2 * s->chunks};
    for (int i = 0; i < s->count; i++) {
        struct step *step = &s->steps[i];
        step->after = after_of(step, &latest);
        if (step_sends(step))
            *sender_of(&latest, step->kind == STEP_SEND ? step->source : step->target, step->chunk) = i;
    }
    free(cell);
    return true;
}

struct schedule *schedule_new(int operation, const char *algorithm, schedule_emitter emit, int rank, int size,
                              int root)
{
    assert(size >= 1 && rank >= 0 && rank < size && root >= 0 && root < size);
    struct schedule *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->operation = operation;
    s->algorithm = algorithm;
    s->rank = rank;
    s->size = size;
    s->root = root;
    s->chunks = 1;
    emit(s);
    count_scratch_slots(s);
    if (s->failed || !compute_after(s)) {
        schedule_free(s);
        return NULL;
    }
    return s;
}

void schedule_free(struct schedule *s)
{
    if (!s)
        return;
    free(s->steps);
    free(s);
}
