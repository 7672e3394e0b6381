/* The checker: all ranks' schedules run symbolically, slice by slice, by the rules of executor/executor.h,
 * until nothing moves.  Two cursors per rank; links are queues; memory holds expressions
 * (schedule/expression.h).
 *
 * One run stands for all: what a rank does next depends only on what has come, never on timing, once it is
 * certain that no write overtakes a send from the same memory.  schedule/shape.h makes sure of that first. */
#include "schedule/schedule.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "schedule/expression.h"
#include "schedule/shape.h"
#include "tensor/type.h"

#define NOTHING (-1) /* memory that was never written */

struct cursor {
    int step, slice;
};

struct item {
    int value; /* an expression */
    int step;  /* of the sender, whose knowledge at that step comes along */
    int slice;
};

struct queue {
    int first, count;
    struct item *items;
};

struct process {
    const struct schedule *schedule;
    struct cursor receiving, sending;
    bool offered;         /* a slice lies in an unbuffered link until its receiver takes it */
    int *memory;          /* of each place: `slices` expressions, or NOTHING */
    uint64_t *known;      /* set of ranks that this one has heard of, directly or through others */
    uint64_t *known_then; /* of each step that sends: what was known when it could first send */
};

struct world {
    struct process *processes;
    int size, slices, capacity;
    bool unbuffered, in_place;
    int words; /* of 64 bits in a set of ranks */
    struct queue *links;
    struct item *items;
    struct expressions expressions;
    bool failed;
    char *why;
    size_t why_size;
};

/* ---- Saying why -------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static bool fail(struct world *w, const char *format, ...)
{
    va_list arguments;
    if (w->failed)
        return false;
    w->failed = true;
    const struct schedule *s = w->processes[0].schedule;
    int length =
        snprintf(w->why, w->why_size, "%s of %d ranks, %s, %d slices, links of %d: ", s->algorithm, w->size,
                 w->in_place ? "in place" : "out of place", w->slices, w->unbuffered ? 0 : w->capacity);
    if (length < 0 || (size_t)length >= w->why_size)
        return false;
    va_start(arguments, format);
    vsnprintf(w->why + length, w->why_size - (size_t)length, format, arguments);
    va_end(arguments);
    return false;
}

/* `cursor` is where process `rank` fails. */
static bool fail_at(struct world *w, int rank, const struct cursor *cursor, const char *what)
{
    const struct step *step = &w->processes[rank].schedule->steps[cursor->step];
    return fail(w, "rank %d, step %d (%s chunk %d): %s", rank, cursor->step, step_kind_name(step->kind),
                step->chunk, what);
}

static bool fail_memory(struct world *w)
{
    return fail(w, "out of memory");
}

/* ---- Memory ------------------------------------------------------------------------------------ */

static int *memory_at(const struct world *w, const struct process *p, struct span span, int chunk, int slice)
{
    int chunks = p->schedule->chunks, place;
    if (span.place == PLACE_SCRATCH)
        place = 2 * chunks + span.slot;
    else if (span.place == PLACE_RECV || w->in_place)
        place = chunk;
    else
        place = chunks + chunk;
    return &p->memory[(size_t)place * (size_t)w->slices + (size_t)slice];
}

static struct span sent_span(const struct step *step)
{
    return step->kind == STEP_SEND ? step->source : step->target;
}

/* Reads a slice as `cursor` asks; NOTHING after a failure. */
static int read_slice(struct world *w, int rank, const struct cursor *cursor, struct span span)
{
    const struct process *p = &w->processes[rank];
    int chunk = p->schedule->steps[cursor->step].chunk;
    int value = *memory_at(w, p, span, chunk, cursor->slice);
    if (value == NOTHING)
        fail_at(w, rank, cursor, "reads what was never written");
    else if (w->expressions.list[value].chunk != chunk) {
        fail_at(w, rank, cursor, "finds another chunk in the place that it reads");
        value = NOTHING;
    }
    return value;
}

static int reduce_values(struct world *w, int rank, int left, int right)
{
    const struct cursor *cursor = &w->processes[rank].receiving;
    const struct expressions *e = &w->expressions;
    if (left == NOTHING || right == NOTHING)
        return NOTHING;
    if (e->list[left].kind == EXPRESSION_FINISHED || e->list[right].kind == EXPRESSION_FINISHED) {
        fail_at(w, rank, cursor, "reduces a chunk that is finished already");
        return NOTHING;
    }
    int twice = expression_common_rank(e, left, right);
    if (twice >= 0) {
        fail(w, "rank %d, step %d reduces the contribution of rank %d to chunk %d twice", rank, cursor->step,
             twice, e->list[left].chunk);
        return NOTHING;
    }
    int value = expression_reduction(&w->expressions, left, right);
    if (value < 0)
        fail_memory(w);
    return value;
}

static int finish_value(struct world *w, int rank, int value)
{
    if (value == NOTHING)
        return NOTHING;
    if (w->expressions.list[value].kind == EXPRESSION_FINISHED) {
        fail_at(w, rank, &w->processes[rank].receiving, "finishes a chunk a second time");
        return NOTHING;
    }
    value = expression_finished(&w->expressions, value);
    if (value < 0)
        fail_memory(w);
    return value;
}

/* ---- The two cursors --------------------------------------------------------------------------- */

static struct queue *link_between(const struct world *w, int from, int to)
{
    return &w->links[(size_t)from * (size_t)w->size + (size_t)to];
}

static void advance(const struct world *w, struct cursor *cursor)
{
    if (++cursor->slice == w->slices)
        *cursor = (struct cursor){cursor->step + 1, 0};
}

static void learn(uint64_t *known, const uint64_t *news, int words)
{
    for (int i = 0; i < words; i++)
        known[i] |= news[i];
}

static uint64_t *known_at(const struct world *w, int rank, int step)
{
    return w->processes[rank].known_then + (size_t)step * (size_t)w->words;
}

/* Step `step` can be sent from now on: what goes with it is what is known now. */
static void note_knowledge(struct world *w, int rank, int step)
{
    memcpy(known_at(w, rank, step), w->processes[rank].known, (size_t)w->words * sizeof(uint64_t));
}

static bool target_is_busy(const struct process *p, const struct step *step)
{
    return step->after >= 0 && (p->sending.step < step->after ||
                                (p->sending.step == step->after && p->sending.slice <= p->receiving.slice));
}

/* Takes the slice that is due from the link. */
static int take(struct world *w, int rank, const struct step *step)
{
    struct process *p = &w->processes[rank];
    struct queue *link = link_between(w, step->from, rank);
    struct item item = link->items[link->first];
    link->first = (link->first + 1) % w->capacity;
    link->count--;
    learn(p->known, known_at(w, step->from, item.step), w->words);
    if (w->expressions.list[item.value].chunk != step->chunk || item.slice != p->receiving.slice) {
        fail(w, "rank %d, step %d expects slice %d of chunk %d but rank %d sends slice %d of chunk %d", rank,
             p->receiving.step, p->receiving.slice, step->chunk, step->from, item.slice,
             w->expressions.list[item.value].chunk);
        return NOTHING;
    }
    return item.value;
}

static int compute(struct world *w, int rank, const struct step *step)
{
    const struct cursor *cursor = &w->processes[rank].receiving;
    int left, value;
    switch (step->kind) {
    case STEP_COPY:
        value = read_slice(w, rank, cursor, step->source);
        break;
    case STEP_REDUCE:
        left = read_slice(w, rank, cursor, step->source);
        value = reduce_values(w, rank, left, read_slice(w, rank, cursor, step->other));
        break;
    default:
        value = take(w, rank, step);
        if (step->kind == STEP_RECV_REDUCE || step->kind == STEP_RECV_REDUCE_SEND)
            value = reduce_values(w, rank, value, read_slice(w, rank, cursor, step->source));
        break;
    }
    return step->finish ? finish_value(w, rank, value) : value;
}

/* One slice of the receiving cursor: false when it is blocked, at the end, or has failed. */
static bool receive_slice(struct world *w, int rank)
{
    struct process *p = &w->processes[rank];
    if (p->receiving.step == p->schedule->count)
        return false;
    const struct step *step = &p->schedule->steps[p->receiving.step];
    if (step->kind == STEP_SEND) {
        note_knowledge(w, rank, p->receiving.step++);
        return true;
    }
    if (target_is_busy(p, step) || (step_receives(step) && link_between(w, step->from, rank)->count == 0))
        return false;
    int value = compute(w, rank, step);
    if (value == NOTHING)
        return false;
    *memory_at(w, p, step->target, step->chunk, p->receiving.slice) = value;
    if (step_sends(step) && p->receiving.slice == 0)
        note_knowledge(w, rank, p->receiving.step);
    advance(w, &p->receiving);
    return true;
}

/* One slice of the sending cursor, likewise. */
static bool send_slice(struct world *w, int rank)
{
    struct process *p = &w->processes[rank];
    const struct schedule *s = p->schedule;
    while (p->sending.step < s->count && !step_sends(&s->steps[p->sending.step]))
        p->sending.step++;
    if (p->sending.step == s->count)
        return false;
    const struct step *step = &s->steps[p->sending.step];
    /* A SEND waits for the receiving cursor to have passed it, which it does without waiting. */
    if (p->receiving.step < p->sending.step ||
        (p->receiving.step == p->sending.step && p->receiving.slice <= p->sending.slice))
        return false;
    struct queue *link = link_between(w, rank, step->to);
    if (link->count == w->capacity)
        return false;
    if (!p->offered) {
        int value = read_slice(w, rank, &p->sending, sent_span(step));
        if (value == NOTHING)
            return false;
        link->items[(link->first + link->count) % w->capacity] =
            (struct item){value, p->sending.step, p->sending.slice};
        link->count++;
        p->offered = w->unbuffered;
        if (p->offered)
            return true;
    }
    p->offered = false;
    advance(w, &p->sending);
    return true;
}

/* ---- The end ----------------------------------------------------------------------------------- */

static bool check_all_done(struct world *w)
{
    for (int rank = 0; rank < w->size; rank++) {
        const struct process *p = &w->processes[rank];
        if (p->receiving.step < p->schedule->count) {
            const struct step *step = &p->schedule->steps[p->receiving.step];
            return fail_at(w, rank, &p->receiving,
                           target_is_busy(p, step) ? "deadlock, it waits for room to send what it would "
                                                     "overwrite"
                                                   : "deadlock, it waits for a slice that never comes");
        }
        if (p->sending.step < p->schedule->count)
            return fail_at(w, rank, &p->sending, "deadlock, its slice is never received");
    }
    for (int from = 0; from < w->size; from++) {
        for (int to = 0; to < w->size; to++) {
            const struct queue *link = link_between(w, from, to);
            if (link->count > 0)
                return fail(w, "rank %d sends a slice in step %d that rank %d never receives", from,
                            link->items[link->first].step, to);
        }
    }
    return true;
}

/* The output must be the finished reduction of every rank's contribution, the same on every rank. */
static bool check_reduced(struct world *w, int rank, int chunk, int value)
{
    const struct expressions *e = &w->expressions;
    if (e->list[value].kind != EXPRESSION_FINISHED)
        return fail(w, "rank %d ends with chunk %d not finished", rank, chunk);
    int missing = expression_missing_rank(e, value, w->size);
    if (missing >= 0)
        return fail(w, "rank %d ends with chunk %d without the contribution of rank %d", rank, chunk,
                    missing);
    const struct process *first = &w->processes[shape_has_output(w->processes[0].schedule, chunk) ? 0 : rank];
    if (value != *memory_at(w, first, span_recv(), chunk, 0))
        return fail(w, "ranks 0 and %d reduce chunk %d in different orders", rank, chunk);
    return true;
}

static bool check_output(struct world *w, int rank, int chunk, int slice)
{
    const struct process *p = &w->processes[rank];
    const struct schedule *s = p->schedule;
    int value = *memory_at(w, p, span_recv(), chunk, slice);
    if (value == NOTHING)
        return fail(w, "rank %d ends without chunk %d", rank, chunk);
    const struct expression *found = &w->expressions.list[value];
    if (found->chunk != chunk)
        return fail(w, "rank %d ends with chunk %d where chunk %d belongs", rank, found->chunk, chunk);
    if (operation_reduces((int)s->operation))
        return check_reduced(w, rank, chunk, value);
    int origin = s->operation == TUTTI_BROADCAST ? s->root : chunk;
    if (found->kind != EXPRESSION_LEAF || found->left != origin)
        return fail(w, "rank %d ends with a chunk %d that is not what rank %d sent", rank, chunk, origin);
    return true;
}

static bool check_promise(struct world *w)
{
    for (int rank = 0; rank < w->size; rank++) {
        const struct process *p = &w->processes[rank];
        const struct schedule *s = p->schedule;
        if (s->operation == TUTTI_BARRIER) {
            for (int other = 0; other < w->size; other++) {
                if (!(p->known[other / 64] >> (other % 64) & 1))
                    return fail(w, "rank %d leaves the barrier without news of rank %d", rank, other);
            }
            continue;
        }
        for (int i = 0; i < s->chunks * w->slices; i++) {
            int chunk = i / w->slices;
            if (shape_has_output(s, chunk) && !check_output(w, rank, chunk, i % w->slices))
                return false;
        }
    }
    return true;
}

/* ---- A run ------------------------------------------------------------------------------------- */

static bool process_init(struct world *w, int rank)
{
    struct process *p = &w->processes[rank];
    const struct schedule *s = p->schedule;
    size_t places = (2 * (size_t)s->chunks + (size_t)s->scratch_slots) * (size_t)w->slices;
    p->memory = malloc(places * sizeof *p->memory);
    p->known = calloc((size_t)w->words * ((size_t)s->count + 1), sizeof *p->known);
    if (!p->memory || !p->known)
        return false;
    p->known_then = p->known + w->words;
    p->known[rank / 64] |= (uint64_t)1 << (rank % 64);
    for (size_t i = 0; i < places; i++)
        p->memory[i] = NOTHING;
    for (int chunk = 0; chunk < s->chunks; chunk++) {
        if (!shape_has_input(s, chunk))
            continue;
        int value = expression_leaf(&w->expressions, rank, chunk);
        if (value < 0)
            return false;
        for (int slice = 0; slice < w->slices; slice++)
            *memory_at(w, p, span_send(), chunk, slice) = value;
    }
    return true;
}

static bool world_init(struct world *w)
{
    size_t links = (size_t)w->size * (size_t)w->size;
    w->links = calloc(links, sizeof *w->links);
    w->items = calloc(links * (size_t)w->capacity, sizeof *w->items);
    if (!w->links || !w->items)
        return false;
    for (size_t i = 0; i < links; i++)
        w->links[i].items = w->items + i * (size_t)w->capacity;
    for (int rank = 0; rank < w->size; rank++) {
        if (!process_init(w, rank))
            return false;
    }
    return true;
}

static void world_clean_up(struct world *w)
{
    for (int rank = 0; rank < w->size; rank++) {
        free(w->processes[rank].memory);
        free(w->processes[rank].known);
    }
    free(w->processes);
    free(w->links);
    free(w->items);
    expressions_clean_up(&w->expressions);
}

static bool run(struct world *w)
{
    if (!world_init(w))
        return fail_memory(w);
    for (bool moved = true; moved && !w->failed;) {
        moved = false;
        for (int rank = 0; rank < w->size; rank++) {
            while (send_slice(w, rank) || receive_slice(w, rank))
                moved = true;
        }
    }
    return !w->failed && check_all_done(w) && check_promise(w);
}

bool schedule_check(struct schedule *const *ranks, int size, int slices, int queue, char *why,
                    size_t why_size)
{
    assert(size >= 1 && slices >= 1 && queue >= 0);
    bool valid = shape_check(ranks, size, why, why_size);
    for (int in_place = 0; in_place < 2 && valid; in_place++) {
        struct world w = {.size = size,
                          .slices = slices,
                          .capacity = queue > 0 ? queue : 1,
                          .unbuffered = queue == 0,
                          .in_place = in_place,
                          .words = (size + 63) / 64,
                          .why = why,
                          .why_size = why_size};
        expressions_init(&w.expressions, size);
        w.processes = calloc((size_t)size, sizeof *w.processes);
        if (!w.processes) {
            snprintf(why, why_size, "out of memory");
            return false;
        }
        for (int rank = 0; rank < size; rank++)
            w.processes[rank].schedule = ranks[rank];
        valid = run(&w);
        world_clean_up(&w);
    }
    return valid;
}
