/* Virtual ranks that share an arena, in one thread and ordinary memory.  A seed draws their calls and who
 * gets a turn when.  A rank that has nothing to do falls asleep as the engine does, and gets no turn before
 * its bell rang; and the bell may give it one at once, within the action of the rank that rang, so that ranks
 * meet between any two actions. */
#ifndef TUTTI_TESTS_SHARED_WORLD_H
#define TUTTI_TESTS_SHARED_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>
#include "tests/sim/shared_calls.h"

#define CALLS_MAX   64
#define NESTED_MAX  4
#define IDLE_TURNS  600 /* for each rank, in which nothing moves: then nothing ever will */
#define FAULT_BYTES 1024
#define FIRST_RANK  3 /* of the communicator: index i is rank 2i + 3, which errors call 5i + 100 */

enum shared_state {
    AWAKE,
    DROWSY, /* has said that it sleeps, and looks once more */
    ASLEEP,
    ENDED,  /* all calls returned */
    FAILED, /* one returned `status` */
    DEAD
};

struct shared_rank {
    struct shared_world *world;
    int index;
    struct arena *arena;
    struct direct direct;
    struct shared_side side;
    enum shared_state state;
    int next; /* call: under way, or to be made next */
    bool under_way, begun, running, rung;
    int dies_after; /* rings that it gives: in the middle of its actions; 0: it does not */
    jmp_buf death;
    int status;
    struct tutti_error error;
};

struct shared_world {
    uint64_t seed, random;
    int count, calls_count;
    uint64_t first_sequence;
    int slow; /* index of a rank that gets few turns; -1: none */
    bool symmetric;
    /* One rank makes another call than the others: which, as its number what; -1: none. */
    int guilty, mismatch_at;
    struct shared_call other_call;
    uint8_t *memory;
    struct shared_rank ranks[SHARED_RANKS_MAX];
    struct shared_call calls[CALLS_MAX];
    int left[CALLS_MAX]; /* ranks from which the call has not returned */
    int drawn;           /* calls */
    int nested;
    long turns, rings, naps;
    char fault[FAULT_BYTES]; /* "": none */
};

static inline void world_fault(struct shared_world *w, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static inline void world_fault(struct shared_world *w, const char *format, ...)
{
    va_list arguments;
    if (w->fault[0] != '\0')
        return; /* the first is the one to look at */
    va_start(arguments, format);
    vsnprintf(w->fault, sizeof w->fault, format, arguments);
    va_end(arguments);
}

static inline int name_of(int index)
{
    return 5 * index + 100;
}

static inline int rank_of(int index)
{
    return 2 * index + FIRST_RANK;
}

static inline uint64_t sequence_of(const struct shared_world *w, int call)
{
    return w->first_sequence + (uint64_t)call;
}

/* ---- Making it --------------------------------------------------------------------------------- */

static inline void take_turn(struct shared_rank *rank);

static inline void ring_bell(void *context, int index)
{
    struct shared_rank *ringer = context, *rank = &ringer->world->ranks[index];
    struct shared_world *w = ringer->world;
    rank->rung = true;
    w->rings++;
    if (rank->state == ASLEEP)
        rank->state = AWAKE;
    if (rank->state == AWAKE && !rank->running && w->nested < NESTED_MAX && draw(&w->random, 3) == 0) {
        w->nested++;
        take_turn(rank);
        w->nested--;
    }
    if (ringer->running && ringer->dies_after > 0 && --ringer->dies_after == 0)
        longjmp(ringer->death, 1);
}

static inline struct symmetric *symmetric_of_all(int count, int index)
{
    int fds[SHARED_RANKS_MAX];
    struct tutti_error error;
    for (int i = 0; i < count; i++) {
        fds[i] = dup(symmetric_heap_descriptor(&error));
        if (fds[i] < 0)
            abort();
    }
    return symmetric_new(fds, count, index);
}

/* As if the calls before the first had been made. */
static inline void begin_late(const struct shared_world *w, struct arena *arena)
{
    uint64_t first = w->first_sequence;
    arena->all_begun = first - 1;
    for (uint64_t made = first > ARENA_CALLS ? first - ARENA_CALLS : 1; made < first; made++)
        arena_post(arena, arena_position(made, 0));
}

static inline void world_make(struct shared_world *w, uint64_t seed, int count, int calls)
{
    int ranks[SHARED_RANKS_MAX], names[SHARED_RANKS_MAX];
    *w = (struct shared_world){.seed = seed, .random = seed, .count = count, .calls_count = calls};
    w->guilty = w->mismatch_at = -1;
    w->first_sequence =
        1 + draw(&w->random, 2);  /* of a child the first call is made before it has an arena */
    if (draw(&w->random, 4) == 0) /* positions wrap around */
        w->first_sequence = (UINT64_C(1) << (64 - ARENA_STEP_BITS)) - draw(&w->random, 2 * CALLS_MAX);
    w->slow = draw(&w->random, 2) ? (int)draw(&w->random, (size_t)count) : -1;
    w->symmetric = draw(&w->random, 3) == 0;
    w->memory = aligned_alloc(ARENA_PAGE_BYTES, arena_bytes(count));
    if (!w->memory)
        abort();
    memset(w->memory, 0,
           ARENA_PAGE_BYTES * (size_t)(count + 1)); /* slots are not looked at before they are set */
    memset(w->memory + ARENA_PAGE_BYTES * (size_t)(count + 1), 0x77, ARENA_SLOT_BYTES * (size_t)count);
    arena_format(w->memory, count, seed);
    for (int i = 0; i < count; i++) {
        ranks[i] = rank_of(i);
        names[i] = name_of(i);
    }
    for (int i = 0; i < count; i++) {
        struct shared_rank *rank = &w->ranks[i];
        rank->world = w;
        rank->index = i;
        rank->arena = arena_new(&(struct arena_options){.memory = w->memory,
                                                        .count = count,
                                                        .index = i,
                                                        .ranks = ranks,
                                                        .names = names,
                                                        .kernels = reduce_table(),
                                                        .ring = ring_bell,
                                                        .ring_context = rank});
        if (!rank->arena)
            abort();
        if (w->symmetric)
            rank->arena->symmetric = symmetric_of_all(count, i);
        begin_late(w, rank->arena);
    }
}

static inline void world_free(struct shared_world *w)
{
    for (int i = 0; i < w->count; i++) {
        struct shared_rank *rank = &w->ranks[i];
        side_release(&rank->side);
        symmetric_free(rank->arena->symmetric);
        arena_free(rank->arena);
    }
    for (int i = 0; i < w->drawn; i++)
        shared_call_free(&w->calls[i]);
    shared_call_free(&w->other_call);
    free(w->memory);
}

/* ---- Calls ------------------------------------------------------------------------------------- */

static inline void draw_call(struct shared_world *w)
{
    struct shared_call *c = &w->calls[w->drawn], *before = w->drawn > 0 ? c - 1 : NULL;
    if (before && !before->over_links && draw(&w->random, 4) == 0 && w->drawn - 1 != w->mismatch_at) {
        *c = *before;
        c->again = true;
        c->seed = sim_random(&w->random);
        shared_call_complete(c);
    } else {
        shared_call_draw(c, &w->random, w->count, w->symmetric);
        c->over_links = draw(&w->random, 5) == 0;
        c->call.algorithm = c->over_links ? 3 : SHARED_ALGORITHM;
    }
    w->left[w->drawn++] = w->count;
}

/* The call that the rank makes as its next one. */
static inline const struct shared_call *call_of(const struct shared_rank *rank)
{
    const struct shared_world *w = rank->world;
    bool other = rank->index == w->guilty && rank->next == w->mismatch_at;
    return other ? &w->other_call : &w->calls[rank->next];
}

/* Are the buffers and the plan kept for the call after this one? */
static inline bool is_kept(const struct shared_rank *rank)
{
    const struct shared_world *w = rank->world;
    return rank->next + 1 < w->drawn && w->calls[rank->next + 1].again && rank->next + 1 != w->mismatch_at &&
           rank->next != w->mismatch_at;
}

static inline void begin_call(struct shared_rank *rank)
{
    struct shared_world *w = rank->world;
    while (w->drawn <= rank->next + 1 && w->drawn < w->calls_count)
        draw_call(w); /* with the one after, so that a plan is known as one */
    const struct shared_call *c = call_of(rank);
    bool planned = c->again && rank->next != w->mismatch_at && rank->next - 1 != w->mismatch_at;
    rank->under_way = true;
    rank->begun = false;
    if (!planned) {
        side_take(&rank->side, c, rank->index, &w->random);
        memset(&rank->direct, 0xa5, sizeof rank->direct);
        if (!c->over_links)
            direct_init(&rank->direct, rank->arena, &c->call, rank->side.sends, rank->side.receives, c->root);
    }
    side_fill(&rank->side, c, rank->index);
    if (!c->over_links)
        direct_start(&rank->direct, sequence_of(w, rank->next), 0, INT64_MAX);
}

static inline void end_call(struct shared_rank *rank)
{
    struct shared_world *w = rank->world;
    const struct shared_call *c = call_of(rank);
    const char *fault = c->over_links ? NULL : side_fault(&rank->side, c, rank->index);
    bool counts = w->mismatch_at < 0 || rank->next < w->mismatch_at || (fault && fault[0] == 'b');
    if (fault && counts)
        world_fault(
            w,
            "%s of call %d on index %d of %d is wrong: operation %d, type %d, reduction %d, count %llu, "
            "symmetric %llx to %llx%s",
            fault, rank->next, rank->index, w->count, c->call.operation, c->call.type, c->call.reduction,
            (unsigned long long)c->call.count, (unsigned long long)c->symmetric_send,
            (unsigned long long)c->symmetric_recv, is_in_place(c, rank->index) ? ", in place" : "");
    for (int i = 0; c->call.operation == TUTTI_BARRIER && !c->over_links && i < w->count; i++)
        if (counts &&
            (w->ranks[i].next < rank->next || (w->ranks[i].next == rank->next && !w->ranks[i].under_way)))
            world_fault(w, "barrier %d let index %d go before index %d had come", rank->next, rank->index, i);
    side_scribble(&rank->side);
    if (!is_kept(rank))
        side_release(&rank->side);
    if (--w->left[rank->next] == 0)
        shared_call_free(&w->calls[rank->next]);
    rank->under_way = false;
    if (++rank->next == w->calls_count)
        rank->state = ENDED;
}

/* ---- Turns ------------------------------------------------------------------------------------- */

/* As a call over links: begun for all to see, and then, where ranks may differ, not done before all have. */
static inline int progress_over_links(struct shared_rank *rank, const struct shared_call *c,
                                      struct operation_wait *wait)
{
    struct arena *arena = rank->arena;
    uint64_t sequence = sequence_of(rank->world, rank->next);
    int index = -1;
    if (!rank->begun)
        rank->begun = arena_begin(arena, sequence, &c->call, true, &index);
    bool done = rank->begun && (rank->world->mismatch_at < 0 || arena_have_begun(arena, sequence, &index));
    /* The frames of such a call show what its peer calls; of earlier calls it learns only where it waits. */
    bool looks = !done || rank->next == rank->world->mismatch_at;
    if (rank->begun && looks && arena_check_call(arena, sequence, &rank->error) < 0)
        return rank->error.code;
    if (done)
        return TUTTI_OK;
    *wait = (struct operation_wait){.from = arena->ranks[index], .to = -1, .shared = true};
    return arena_is_aborted(arena) ? TUTTI_ERR_ABORTED : TUTTI_PENDING;
}

static inline void check_wait(struct shared_rank *rank, const struct operation_wait *wait)
{
    int index = (wait->from - FIRST_RANK) / 2;
    if (wait->to != -1 || (wait->from != -1 && (!wait->shared || index < 0 || index >= rank->world->count ||
                                                index == rank->index || rank_of(index) != wait->from)))
        world_fault(rank->world, "index %d waits for rank %d, to send to %d", rank->index, wait->from,
                    wait->to);
}

/* Falls asleep in two steps, as whoever polls a bell must. */
static inline void rest(struct shared_rank *rank, const struct operation_wait *wait)
{
    struct shared_world *w = rank->world;
    if (wait->from < 0) {
        rank->state = AWAKE; /* it has only had its share of turns */
    } else if (rank->state == DROWSY) {
        rank->state = rank->rung ? AWAKE : ASLEEP;
        w->naps += rank->state == ASLEEP;
    } else if (draw(&w->random, 3) > 0) {
        rank->rung = false;
        arena_fall_asleep(rank->arena);
        rank->state = DROWSY;
    }
}

static inline int progress_directly(struct shared_rank *rank, struct operation_wait *wait)
{
    int status = rank->direct.operation.progress(&rank->direct.operation, &rank->error);
    *wait = rank->direct.operation.wait;
    return status;
}

/* As an engine does: the others are told, then the call returns, and its buffers are the user's again. */
static inline void fail_rank(struct shared_rank *rank, int status)
{
    rank->status = status;
    rank->state = FAILED;
    arena_abort(rank->arena);
    side_scribble(&rank->side);
    side_release(&rank->side);
}

/* Moves the call; returns its status, and what it waits for. */
static inline int move_call(struct shared_rank *rank, struct operation_wait *wait)
{
    if (setjmp(rank->death) == 0)
        return call_of(rank)->over_links ? progress_over_links(rank, call_of(rank), wait)
                                         : progress_directly(rank, wait);
    rank->state = DEAD;
    return TUTTI_PENDING;
}

static inline void take_turn(struct shared_rank *rank)
{
    struct shared_world *w = rank->world;
    struct operation_wait wait = {.from = -1, .to = -1};
    rank->running = true;
    w->turns++;
    if (rank->state == AWAKE)
        arena_wake(rank->arena);
    if (!rank->under_way)
        begin_call(rank);
    int status = move_call(rank, &wait);
    if (rank->state == DEAD) {
        rank->running = false;
        return;
    }
    if (status == TUTTI_OK) {
        rank->state = AWAKE;
        end_call(rank);
    } else if (status == TUTTI_PENDING) {
        check_wait(rank, &wait);
        rest(rank, &wait);
    } else {
        fail_rank(rank, status);
    }
    rank->running = false;
}

static inline bool can_move(const struct shared_rank *rank)
{
    return rank->state == AWAKE || rank->state == DROWSY;
}

/* How far all have come, so that it shows whether anything moves. */
static inline uint64_t world_progress(const struct shared_world *w)
{
    uint64_t sum = 0;
    for (int i = 0; i < w->count; i++) {
        const struct shared_rank *rank = &w->ranks[i];
        uint64_t actions = 0;
        for (int line = 0; line < ARENA_CALLS; line++)
            actions += atomic_load(&rank->arena->controls[i]->calls[line].position);
        sum += actions + (uint64_t)rank->next + (rank->state >= ENDED);
    }
    return sum;
}

/* One turn of a rank that is not asleep, drawn at random; false: there is none. */
static inline bool world_turn(struct shared_world *w)
{
    struct shared_rank *awake[SHARED_RANKS_MAX];
    int count = 0;
    for (int i = 0; i < w->count; i++)
        if (can_move(&w->ranks[i]) && (i != w->slow || draw(&w->random, 30) == 0))
            awake[count++] = &w->ranks[i];
    if (count == 0 && w->slow >= 0 && can_move(&w->ranks[w->slow]))
        awake[count++] = &w->ranks[w->slow];
    if (count == 0)
        return false;
    take_turn(awake[draw(&w->random, (size_t)count)]);
    return true;
}

/* Until `limit` turns are over, nobody has anything to do, or nothing moves any more. */
static inline void world_run(struct shared_world *w, long limit)
{
    uint64_t progress = world_progress(w);
    for (long idle = 0; limit > 0 && idle < IDLE_TURNS * w->count && w->fault[0] == '\0'; limit--) {
        if (!world_turn(w))
            return;
        uint64_t now = world_progress(w);
        idle = now == progress ? idle + 1 : 0;
        progress = now;
    }
}

static inline int count_state(const struct shared_world *w, enum shared_state state)
{
    int count = 0;
    for (int i = 0; i < w->count; i++)
        count += w->ranks[i].state == state;
    return count;
}

#endif
