/* Collectives in shared memory among virtual ranks, by seeds: results, order, sleep, ends.  TUTTI_TEST_SEED
 * and TUTTI_TEST_SEEDS choose the first seed and how many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <cmocka.h>
#include "tests/sim/shared_world.h"

#define TURNS_MAX 10000000

static uint64_t first_seed;
static int seeds;

/* ---- Kinds of history -------------------------------------------------------------------------- */

static int draw_ranks(uint64_t *random)
{
    static const int few[] = {2, 2, 2, 3, 3, 4, 4, 5, 7, 8};
    switch (draw(random, 8)) {
    case 0:
        return 9 + (int)draw(random, 8);
    case 1:
        return draw(random, 4) == 0 ? SHARED_RANKS_MAX : 16;
    default:
        return few[draw(random, sizeof few / sizeof few[0])];
    }
}

static struct shared_world *world_new(uint64_t seed)
{
    struct shared_world *w = malloc(sizeof *w);
    uint64_t random = seed ^ 0x5eed;
    assert_non_null(w);
    int count = draw_ranks(&random);
    world_make(w, seed, count, 4 + (int)draw(&random, count > 8 ? 20 : 40));
    return w;
}

static void expect_all_ended(struct shared_world *w)
{
    for (int i = 0; i < w->count; i++) {
        const struct shared_rank *rank = &w->ranks[i];
        static const char *const states[] = {"awake", "about to sleep", "asleep", "ended", "failed", "dead"};
        if (rank->state != ENDED)
            world_fault(w,
                        "index %d of %d is for ever in call %d of %d: %s, action %u of %u, operation %d; %s",
                        i, w->count, rank->next, w->calls_count, states[rank->state], rank->direct.action,
                        rank->direct.actions, call_of(rank)->call.operation, rank->error.message);
    }
}

static void play_to_the_end(struct shared_world *w)
{
    world_run(w, TURNS_MAX);
    expect_all_ended(w);
}

/* After an abort everyone that has not ended gets an error. */
static void expect_all_over(struct shared_world *w, const char *what)
{
    world_run(w, TURNS_MAX);
    for (int i = 0; i < w->count; i++) {
        const struct shared_rank *rank = &w->ranks[i];
        if (rank->state < ENDED)
            world_fault(w, "%s, and index %d of %d hangs in call %d, operation %d", what, i, w->count,
                        rank->next, call_of(rank)->call.operation);
        if (rank->state == FAILED && rank->status != TUTTI_ERR_ABORTED && rank->status != TUTTI_ERR_MISMATCH)
            world_fault(w, "%s, and index %d failed with %s", what, i, tutti_error_name(rank->status));
    }
}

/* Where what a failed rank does to its buffers is seen by others. */
static bool anyone_reads_symmetric_memory(const struct shared_world *w)
{
    for (int i = 0; i < w->count; i++) {
        const struct shared_rank *rank = &w->ranks[i];
        if (rank->under_way && !call_of(rank)->over_links && rank->direct.chosen && rank->direct.action > 0 &&
            rank->direct.collective == rank->direct.symmetric)
            return true;
    }
    return false;
}

static void play_with_an_abort(struct shared_world *w)
{
    world_run(w, (long)draw(&w->random, 400));
    for (long turns = 0; w->symmetric && turns < 5000 && !anyone_reads_symmetric_memory(w); turns++)
        world_run(w, 1);
    struct shared_rank *leaver = &w->ranks[draw(&w->random, (size_t)w->count)];
    if (leaver->state < ENDED)
        leaver->state = DEAD;
    arena_abort(leaver->arena);
    expect_all_over(w, "a rank aborted");
}

/* Nobody is told in the arena; the engine of a survivor is, by other ways, and aborts. */
static void play_with_a_death(struct shared_world *w)
{
    world_run(w, (long)draw(&w->random, 400));
    struct shared_rank *dead = &w->ranks[draw(&w->random, (size_t)w->count)];
    dead->dies_after = (int)draw(&w->random, 4);
    if (dead->state < ENDED && dead->dies_after == 0)
        dead->state = DEAD;
    world_run(w, TURNS_MAX);
    struct shared_rank *survivor = &w->ranks[dead->index == 0 ? 1 : 0];
    if (survivor->state < ENDED)
        fail_rank(survivor, TUTTI_ERR_ABORTED);
    else
        arena_abort(survivor->arena);
    expect_all_over(w, "a rank died");
}

/* ---- Different calls --------------------------------------------------------------------------- */

/* One rank makes another call, which differs in anything that a fingerprint tells. */
static void draw_mismatch(struct shared_world *w)
{
    while (w->drawn <= w->mismatch_at)
        draw_call(w);
    const struct shared_call *right = &w->calls[w->mismatch_at];
    struct shared_call *other = &w->other_call;
    do {
        shared_call_free(other);
        shared_call_draw(other, &w->random, w->count, w->symmetric);
        if (draw(&w->random, 2)) { /* nearly the same */
            struct fingerprint call = right->call;
            call.count += draw(&w->random, 2) && call.operation != TUTTI_BARRIER;
            if (operation_has_root(call.operation))
                call.root = (uint32_t)draw(&w->random, (size_t)w->count);
            if (call.type)
                call.type = draw(&w->random, 2) ? TUTTI_FLOAT32 : TUTTI_FLOAT64;
            call.reduction = call.reduction ? TUTTI_SUM : 0;
            shared_call_free(other);
            other->call = call;
            other->root = (int)call.root;
            shared_call_complete(other);
        }
        other->over_links = draw(&w->random, 4) == 0;
        other->call.algorithm = other->over_links ? 3 : SHARED_ALGORITHM;
    } while (fingerprint_equal(&other->call, &right->call));
}

static void check_mismatch(struct shared_world *w, const struct shared_rank *rank)
{
    char ours[200], theirs[200];
    const struct shared_call *right = &w->calls[w->mismatch_at], *other = &w->other_call;
    bool is_guilty = rank->index == w->guilty;
    fingerprint_print(is_guilty ? &other->call : &right->call, ours, sizeof ours);
    fingerprint_print(is_guilty ? &right->call : &other->call, theirs, sizeof theirs);
    int named = (rank->error.rank - 100) / 5;
    if (rank->next < w->mismatch_at || rank->error.code != TUTTI_ERR_MISMATCH ||
        name_of(named) != rank->error.rank || (is_guilty ? named == w->guilty : named != w->guilty) ||
        !strstr(rank->error.message, ours) || !strstr(rank->error.message, theirs))
        world_fault(w, "index %d, told in call %d of a mismatch of index %d in call %d (%s and %s): %s",
                    rank->index, rank->next, w->guilty, w->mismatch_at, ours, theirs, rank->error.message);
}

static void play_with_a_mismatch(struct shared_world *w)
{
    w->guilty = (int)draw(&w->random, (size_t)w->count);
    /* Not the last call, in which nobody need look at another: each may take another one for the root. */
    w->mismatch_at = (int)draw(&w->random, (size_t)w->calls_count - 1);
    draw_mismatch(w);
    while (count_state(w, FAILED) == 0 && w->fault[0] == '\0') {
        long before = w->turns;
        world_run(w, 1);
        if (w->turns == before || w->turns > TURNS_MAX)
            break;
    }
    if (count_state(w, FAILED) == 0)
        world_fault(
            w,
            "nobody has noticed that index %d of %d made another call as number %d: operation %d to root "
            "%d%s, and the others operation %d to root %d%s",
            w->guilty, w->count, w->mismatch_at, w->other_call.call.operation, w->other_call.root,
            w->other_call.over_links ? " over links" : "", w->calls[w->mismatch_at].call.operation,
            w->calls[w->mismatch_at].root, w->calls[w->mismatch_at].over_links ? " over links" : "");
    for (int i = 0; i < w->count; i++)
        if (w->ranks[i].status == TUTTI_ERR_MISMATCH)
            check_mismatch(w, &w->ranks[i]);
    if (w->fault[0] == '\0')
        expect_all_over(w, "a rank made another call");
}

/* ---- Seeds ------------------------------------------------------------------------------------- */

struct tally {
    long turns, rings, naps;
};

static struct tally play_all(void (*play)(struct shared_world *w), int share)
{
    struct tally tally = {0, 0, 0};
    for (int i = 0; i < seeds / share; i++) {
        struct shared_world *w = world_new(first_seed + (uint64_t)i);
        play(w);
        if (w->fault[0] != '\0') {
            printf("seed %llu violates an invariant: %s\n", (unsigned long long)w->seed, w->fault);
            fail_msg("%s", "see above; TUTTI_TEST_SEED=N TUTTI_TEST_SEEDS=1 repeats it");
        }
        tally.turns += w->turns;
        tally.rings += w->rings;
        tally.naps += w->naps;
        world_free(w);
        free(w);
    }
    return tally;
}

static void every_call_gives_every_rank_what_the_textbook_says(void **state)
{
    (void)state;
    struct tally tally = play_all(play_to_the_end, 1);
    print_message("%ld turns, %ld naps, %ld rings\n", tally.turns, tally.naps, tally.rings);
    assert_true(tally.naps > 0 && tally.rings >= tally.naps); /* else nothing was tried */
}

static void an_abort_reaches_every_rank_wherever_it_is(void **state)
{
    (void)state;
    play_all(play_with_an_abort, 2);
}

static void survivors_of_a_dead_rank_wait_until_they_are_told_and_then_fail(void **state)
{
    (void)state;
    play_all(play_with_a_death, 2);
}

static void ranks_that_make_different_calls_are_told_both(void **state)
{
    (void)state;
    play_all(play_with_a_mismatch, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_gives_every_rank_what_the_textbook_says),
        cmocka_unit_test(an_abort_reaches_every_rank_wherever_it_is),
        cmocka_unit_test(survivors_of_a_dead_rank_wait_until_they_are_told_and_then_fail),
        cmocka_unit_test(ranks_that_make_different_calls_are_told_both),
    };
    const char *seed = getenv("TUTTI_TEST_SEED"), *count = getenv("TUTTI_TEST_SEEDS");
    first_seed = seed ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
    seeds = count ? atoi(count) : 200;
    print_message("TUTTI_TEST_SEED=%llu\n", (unsigned long long)first_seed);
    inputs_make();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
