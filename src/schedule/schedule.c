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

/* Room for `more` elements behind `count`; NULL, with `items` as it was, when out of memory. */
static void *grow(void *items, int count, int more, int *capacity, size_t item_bytes)
{
    int wanted = *capacity > 0 ? *capacity : CAPACITY_MIN;
    while (wanted < count + more)
        wanted *= 2;
    void *grown = wanted == *capacity ? items : realloc(items, (size_t)wanted * item_bytes);
    if (grown)
        *capacity = wanted;
    return grown;
}

static void append(struct schedule *s, struct step step)
{
    assert(step.chunk >= 0 && step.chunks >= 0 && step.chunk + step.chunks <= s->chunks);
    s->latest_is_empty = step.chunks == 0;
    if (s->failed || s->latest_is_empty)
        return;
    struct step *steps = grow(s->steps, s->count, 1, &s->capacity, sizeof *steps);
    if (!steps) {
        s->failed = true;
        return;
    }
    step.after = -1;
    s->steps = steps;
    s->steps[s->count++] = step;
}

void schedule_send(struct schedule *s, int to, int chunk, int chunks, struct span source)
{
    append(s,
           (struct step){
               .kind = STEP_SEND, .from = -1, .to = to, .chunk = chunk, .chunks = chunks, .source = source});
}

void schedule_recv(struct schedule *s, int from, int chunk, int chunks, struct span target)
{
    append(
        s,
        (struct step){
            .kind = STEP_RECV, .from = from, .to = -1, .chunk = chunk, .chunks = chunks, .target = target});
}

void schedule_recv_send(struct schedule *s, int from, int to, int chunk, int chunks, struct span target)
{
    append(s, (struct step){.kind = STEP_RECV_SEND,
                            .from = from,
                            .to = to,
                            .chunk = chunk,
                            .chunks = chunks,
                            .target = target});
}

void schedule_recv_reduce(struct schedule *s, int from, int chunk, int chunks, struct span own,
                          struct span target)
{
    append(s, (struct step){.kind = STEP_RECV_REDUCE,
                            .from = from,
                            .to = -1,
                            .chunk = chunk,
                            .chunks = chunks,
                            .source = own,
                            .target = target});
}

void schedule_recv_reduce_send(struct schedule *s, int from, int to, int chunk, int chunks, struct span own,
                               struct span target)
{
    append(s, (struct step){.kind = STEP_RECV_REDUCE_SEND,
                            .from = from,
                            .to = to,
                            .chunk = chunk,
                            .chunks = chunks,
                            .source = own,
                            .target = target});
}

void schedule_copy(struct schedule *s, int chunk, int chunks, struct span source, struct span target)
{
    append(s, (struct step){.kind = STEP_COPY,
                            .from = -1,
                            .to = -1,
                            .chunk = chunk,
                            .chunks = chunks,
                            .source = source,
                            .target = target});
}

void schedule_reduce(struct schedule *s, int chunk, int chunks, const struct span *operands, int count,
                     struct span target)
{
    assert(count >= 2);
    struct step step = {.kind = STEP_REDUCE,
                        .from = -1,
                        .to = -1,
                        .chunk = chunk,
                        .chunks = chunks,
                        .operand = s->operand_count,
                        .operands = count,
                        .target = target};
    if (!s->failed && chunks > 0) {
        struct span *grown = grow(s->operands, s->operand_count, count, &s->operand_capacity, sizeof *grown);
        if (grown) {
            s->operands = grown;
            for (int i = 0; i < count; i++)
                s->operands[s->operand_count++] = operands[i];
        }
        s->failed = !grown;
    }
    append(s, step);
}

/* The latest step; NULL where there is none to mark. */
static struct step *latest_step(struct schedule *s)
{
    assert(s->failed || s->latest_is_empty || s->count > 0);
    return s->failed || s->latest_is_empty ? NULL : &s->steps[s->count - 1];
}

void schedule_mark_finished(struct schedule *s)
{
    struct step *step = latest_step(s);
    if (step)
        step->finish = true;
}

void schedule_mark_own_first(struct schedule *s)
{
    struct step *step = latest_step(s);
    assert(!step || step->kind == STEP_RECV_REDUCE || step->kind == STEP_RECV_REDUCE_SEND);
    if (step)
        step->own_first = true;
}

/* ---- Completing -------------------------------------------------------------------------------- */

static int larger(int a, int b)
{
    return a > b ? a : b;
}

static void count_span(struct schedule *s, const struct step *step, struct span span)
{
    if (span.place != PLACE_SCRATCH)
        return;
    assert(span.origin >= 0 && span.origin <= step->chunk);
    s->scratch_slots = larger(s->scratch_slots, span.slot + 1);
    s->scratch_chunks = larger(s->scratch_chunks, step->chunk + step->chunks - span.origin);
}

static void count_scratch(struct schedule *s)
{
    for (int i = 0; i < s->count; i++) {
        const struct step *step = &s->steps[i];
        count_span(s, step, step->source);
        count_span(s, step, step->target);
        for (int k = 0; k < step->operands; k++)
            count_span(s, step, s->operands[step->operand + k]);
    }
}

/* The latest steps that send from each chunk of the input, of the output and of each scratch slot; -1: none.
 * A slot that is used with several origins holds one chunk at a time, always in its first place
 * (schedule/shape.h), so its places are told apart by their distance from the origin. */
struct senders {
    int *input, *output, *scratch;
    int scratch_chunks;
};

/* Those of the chunks from `chunk` on. */
static int *senders_of(const struct senders *latest, struct span span, int chunk)
{
    switch (span.place) {
    case PLACE_SEND:
        return latest->input + chunk;
    case PLACE_RECV:
        return latest->output + chunk;
    default:
        return latest->scratch + (size_t)span.slot * (size_t)latest->scratch_chunks + (chunk - span.origin);
    }
}

static struct span sent_span(const struct step *step)
{
    return step->kind == STEP_SEND ? step->source : step->target;
}

/* Do these steps send and write the same chunks in the same memory?  Input and output may be the same, and
 * where they are not `after` does not matter. */
static bool covers_same_memory(const struct step *sender, const struct step *writer)
{
    struct span sent = sent_span(sender), written = writer->target;
    if (sender->chunk != writer->chunk || sender->chunks != writer->chunks)
        return false;
    if (sent.place == PLACE_SCRATCH || written.place == PLACE_SCRATCH)
        return sent.place == written.place && sent.slot == written.slot && sent.origin == written.origin;
    return true;
}

/* The step whose sending must be over before `step` may write; sends leave in order, so the latest counts. */
static int after_of(const struct step *step, const struct senders *latest)
{
    /* Input and output may be the same memory.  A plain copy from one to the other is safe all the same:
     * there it writes nothing, elsewhere it writes what nobody sends. */
    bool plain_copy = step->kind == STEP_COPY && step->source.place == PLACE_SEND && !step->finish;
    bool may_be_input = step->target.place == PLACE_RECV && !plain_copy;
    int after = -1;
    for (int i = 0; i < step->chunks && step->target.place != PLACE_NONE; i++) {
        after = larger(after, senders_of(latest, step->target, step->chunk)[i]);
        if (may_be_input)
            after = larger(after, latest->input[step->chunk + i]);
    }
    return after;
}

static bool compute_after(struct schedule *s)
{
    size_t cells = 2 * (size_t)s->chunks + (size_t)s->scratch_slots * (size_t)s->scratch_chunks;
    int *cell = malloc(cells * sizeof *cell);
    if (!cell)
        return false;
    for (size_t i = 0; i < cells; i++)
        cell[i] = -1;
    struct senders latest = {cell, cell + s->chunks, cell + 2 * s->chunks, s->scratch_chunks};
    for (int i = 0; i < s->count; i++) {
        struct step *step = &s->steps[i];
        step->after = after_of(step, &latest);
        step->after_slice = step->after >= 0 && covers_same_memory(&s->steps[step->after], step);
        for (int k = 0; k < step->chunks && step_sends(step); k++)
            senders_of(&latest, sent_span(step), step->chunk)[k] = i;
    }
    free(cell);
    return true;
}

struct schedule *schedule_new(int operation, const char *algorithm, schedule_emitter emit, int rank, int size,
                              int root, const struct host_map *hosts)
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
    s->hosts = hosts;
    s->chunks = 1;
    emit(s);
    s->hosts = NULL;
    if (!s->failed)
        count_scratch(s);
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
    free(s->operands);
    free(s);
}
