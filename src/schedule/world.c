#include "schedule/world.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "schedule/shape.h"

/* ---- Saying why -------------------------------------------------------------------------------- */

bool world_fail(struct world *w, const char *format, ...)
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
    char chunks[CHUNKS_TEXT_SIZE];
    return world_fail(w, "rank %d, step %d (%s %s): %s", rank, cursor->step, step_kind_name(step->kind),
                      chunks_text(step->chunk, step->chunks, chunks), what);
}

bool world_fail_memory(struct world *w)
{
    return world_fail(w, "out of memory");
}

/* ---- Memory ------------------------------------------------------------------------------------ */

/* `slice` is one of the chunk's. */
static int *memory_at(const struct world *w, const struct process *p, struct span span, int chunk, int slice)
{
    const struct schedule *s = p->schedule;
    size_t place = (size_t)chunk;
    if (span.place == PLACE_SCRATCH)
        place = 2 * (size_t)s->chunks + (size_t)span.slot * (size_t)s->scratch_chunks +
                (size_t)(chunk - span.origin);
    else if (span.place == PLACE_SEND && !w->in_place)
        place += (size_t)s->chunks;
    return &p->memory[place * (size_t)w->slices + (size_t)slice];
}

static struct span sent_span(const struct step *step)
{
    return step->kind == STEP_SEND ? step->source : step->target;
}

static int chunk_at(const struct world *w, const struct step *step, const struct cursor *cursor)
{
    return step->chunk + cursor->slice / w->slices;
}

/* Reads a slice as `cursor` asks; NOTHING after a failure. */
static int read_slice(struct world *w, int rank, const struct cursor *cursor, struct span span)
{
    const struct process *p = &w->processes[rank];
    int chunk = chunk_at(w, &p->schedule->steps[cursor->step], cursor);
    int value = *memory_at(w, p, span, chunk, cursor->slice % w->slices);
    if (value == NOTHING)
        fail_at(w, rank, cursor, "reads what was never written");
    else if (w->expressions.list[value].chunk != chunk) {
        fail_at(w, rank, cursor, "finds another chunk in the place that it reads");
        value = NOTHING;
    }
    return value;
}

/* ---- Reducing ---------------------------------------------------------------------------------- */

/* May these be reduced?  Neither is finished, no rank contributes to both. */
static bool check_operands(struct world *w, int rank, int left, int right)
{
    const struct cursor *cursor = &w->processes[rank].receiving;
    const struct expressions *e = &w->expressions;
    if (left == NOTHING || right == NOTHING)
        return false;
    if (e->list[left].kind == EXPRESSION_FINISHED || e->list[right].kind == EXPRESSION_FINISHED)
        return fail_at(w, rank, cursor, "reduces a chunk that is finished already");
    int twice = expression_common_rank(e, left, right);
    if (twice >= 0)
        return world_fail(w, "rank %d, step %d reduces the contribution of rank %d to chunk %d twice", rank,
                          cursor->step, twice, e->list[left].chunk);
    return true;
}

/* A value, or NOTHING after having said that memory ran out. */
static int value_or_fail(struct world *w, int value)
{
    if (value < 0)
        world_fail_memory(w);
    return value;
}

static int reduce_two(struct world *w, int rank, int left, int right)
{
    if (!check_operands(w, rank, left, right))
        return NOTHING;
    return value_or_fail(w, expression_reduction(&w->expressions, left, right));
}

static int reduce_operands(struct world *w, int rank, const struct step *step)
{
    const struct process *p = &w->processes[rank];
    const struct span *operands = &p->schedule->operands[step->operand];
    int value = read_slice(w, rank, &p->receiving, operands[0]);
    if (step->operands == 2)
        return reduce_two(w, rank, value, read_slice(w, rank, &p->receiving, operands[1]));
    for (int i = 1; i < step->operands && value != NOTHING; i++) {
        int operand = read_slice(w, rank, &p->receiving, operands[i]);
        if (!check_operands(w, rank, value, operand))
            return NOTHING;
        value = value_or_fail(w, expression_accumulation(&w->expressions, value, operand));
    }
    return value == NOTHING ? NOTHING : value_or_fail(w, expression_rounded(&w->expressions, value));
}

static int finish_value(struct world *w, int rank, int value)
{
    if (value == NOTHING)
        return NOTHING;
    if (w->expressions.list[value].kind == EXPRESSION_FINISHED) {
        fail_at(w, rank, &w->processes[rank].receiving, "finishes a chunk a second time");
        return NOTHING;
    }
    return value_or_fail(w, expression_finished(&w->expressions, value));
}

/* ---- Knowledge --------------------------------------------------------------------------------- */

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

bool world_knows(const struct world *w, int rank, int other)
{
    return w->processes[rank].known[other / 64] >> (other % 64) & 1;
}

/* ---- The two cursors --------------------------------------------------------------------------- */

static struct queue *link_between(const struct world *w, int from, int to)
{
    return &w->links[(size_t)from * (size_t)w->size + (size_t)to];
}

static void advance(const struct world *w, const struct step *step, struct cursor *cursor)
{
    if (++cursor->slice == step->chunks * w->slices)
        *cursor = (struct cursor){cursor->step + 1, 0};
}

static bool target_is_busy(const struct process *p, const struct step *step)
{
    if (p->sending.step != step->after || !step->after_slice)
        return p->sending.step <= step->after;
    return p->sending.slice <= p->receiving.slice;
}

static void fail_unexpected(struct world *w, int rank, const struct step *step, const struct item *item)
{
    const struct process *p = &w->processes[rank];
    const struct step *sent = &w->processes[step->from].schedule->steps[item->step];
    char expected[CHUNKS_TEXT_SIZE], found[CHUNKS_TEXT_SIZE];
    world_fail(w, "rank %d, step %d expects slice %d of %s but rank %d sends slice %d of %s", rank,
               p->receiving.step, p->receiving.slice, chunks_text(step->chunk, step->chunks, expected),
               step->from, item->slice, chunks_text(sent->chunk, sent->chunks, found));
}

/* Takes the slice that is due from the link.  Both ends must name the same range, or they would cut it into
 * different slices. */
static int take(struct world *w, int rank, const struct step *step)
{
    struct process *p = &w->processes[rank];
    struct queue *link = link_between(w, step->from, rank);
    struct item item = link->items[link->first];
    link->first = (link->first + 1) % w->capacity;
    link->count--;
    learn(p->known, known_at(w, step->from, item.step), w->words);
    const struct step *sent = &w->processes[step->from].schedule->steps[item.step];
    if (sent->chunk != step->chunk || sent->chunks != step->chunks || item.slice != p->receiving.slice) {
        fail_unexpected(w, rank, step, &item);
        return NOTHING;
    }
    return item.value;
}

static int compute(struct world *w, int rank, const struct step *step)
{
    const struct cursor *cursor = &w->processes[rank].receiving;
    int own, value;
    switch (step->kind) {
    case STEP_COPY:
        value = read_slice(w, rank, cursor, step->source);
        break;
    case STEP_REDUCE:
        value = reduce_operands(w, rank, step);
        break;
    case STEP_RECV_REDUCE:
    case STEP_RECV_REDUCE_SEND:
        value = take(w, rank, step);
        own = read_slice(w, rank, cursor, step->source);
        value = step->own_first ? reduce_two(w, rank, own, value) : reduce_two(w, rank, value, own);
        break;
    default:
        value = take(w, rank, step);
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
    int chunk = chunk_at(w, step, &p->receiving);
    *memory_at(w, p, step->target, chunk, p->receiving.slice % w->slices) = value;
    if (step_sends(step) && p->receiving.slice == 0)
        note_knowledge(w, rank, p->receiving.step);
    advance(w, step, &p->receiving);
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
    advance(w, step, &p->sending);
    return true;
}

/* ---- A run ------------------------------------------------------------------------------------- */

static bool process_init(struct world *w, int rank)
{
    struct process *p = &w->processes[rank];
    const struct schedule *s = p->schedule;
    size_t places =
        (2 * (size_t)s->chunks + (size_t)s->scratch_slots * (size_t)s->scratch_chunks) * (size_t)w->slices;
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

bool world_init(struct world *w, struct schedule *const *ranks, int size, int slices, int queue,
                bool in_place, char *why, size_t why_size)
{
    *w = (struct world){.size = size,
                        .slices = slices,
                        .capacity = queue > 0 ? queue : 1,
                        .unbuffered = queue == 0,
                        .in_place = in_place,
                        .words = (size + 63) / 64,
                        .why = why,
                        .why_size = why_size};
    size_t links = (size_t)size * (size_t)size;
    expressions_init(&w->expressions, size);
    w->processes = calloc((size_t)size, sizeof *w->processes);
    w->links = calloc(links, sizeof *w->links);
    w->items = calloc(links * (size_t)w->capacity, sizeof *w->items);
    if (!w->processes || !w->links || !w->items) {
        snprintf(why, why_size, "out of memory");
        return false;
    }
    for (size_t i = 0; i < links; i++)
        w->links[i].items = w->items + i * (size_t)w->capacity;
    for (int rank = 0; rank < size; rank++)
        w->processes[rank].schedule = ranks[rank];
    for (int rank = 0; rank < size; rank++) {
        if (!process_init(w, rank))
            return world_fail_memory(w);
    }
    return true;
}

void world_clean_up(struct world *w)
{
    for (int rank = 0; rank < w->size && w->processes; rank++) {
        free(w->processes[rank].memory);
        free(w->processes[rank].known);
    }
    free(w->processes);
    free(w->links);
    free(w->items);
    expressions_clean_up(&w->expressions);
}

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
                return world_fail(w, "rank %d sends a slice in step %d that rank %d never receives", from,
                                  link->items[link->first].step, to);
        }
    }
    return true;
}

bool world_run(struct world *w)
{
    for (bool moved = true; moved && !w->failed;) {
        moved = false;
        for (int rank = 0; rank < w->size; rank++) {
            while (send_slice(w, rank) || receive_slice(w, rank))
                moved = true;
        }
    }
    return !w->failed && check_all_done(w);
}

int world_output(const struct world *w, int rank, int chunk, int slice)
{
    return *memory_at(w, &w->processes[rank], span_recv(), chunk, slice);
}
