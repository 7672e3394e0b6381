/* The protocol of the arena: whose memory, how far each rank is, who made another call, who is woken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "local/arena.h"

#define RANKS 3
#define NONCE UINT64_C(0x1234)

struct fixture {
    uint8_t *memory;
    struct arena *arenas[RANKS];
    int rings[RANKS];
};

static void ring(void *context, int index)
{
    ((struct fixture *)context)->rings[index]++;
}

static int set_up(void **state)
{
    static const int ranks[RANKS] = {4, 7, 9}, names[RANKS] = {104, 107, 109};
    struct fixture *f = calloc(1, sizeof *f);
    f->memory = aligned_alloc(ARENA_PAGE_BYTES, arena_bytes(RANKS));
    assert_non_null(f->memory);
    memset(f->memory, 0, arena_bytes(RANKS));
    arena_format(f->memory, RANKS, NONCE);
    for (int i = 0; i < RANKS; i++) {
        const struct arena_options options = {.memory = f->memory,
                                              .count = RANKS,
                                              .index = i,
                                              .ranks = ranks,
                                              .names = names,
                                              .ring = ring,
                                              .ring_context = f};
        f->arenas[i] = arena_new(&options);
        assert_non_null(f->arenas[i]);
    }
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < RANKS; i++)
        arena_free(f->arenas[i]);
    free(f->memory);
    free(f);
    return 0;
}

static const struct fingerprint barrier_call = {.operation = TUTTI_BARRIER};

static struct fingerprint all_reduce_of(uint64_t count)
{
    return (struct fingerprint){
        .operation = TUTTI_ALL_REDUCE, .type = TUTTI_FLOAT32, .reduction = TUTTI_SUM, .count = count};
}

/* Begins a barrier for all to see; false with the rank that is too far behind. */
static bool begin(struct fixture *f, int index, uint64_t sequence, int *behind)
{
    return arena_begin(f->arenas[index], sequence, &barrier_call, true, behind);
}

static void begin_all(struct fixture *f, uint64_t first, uint64_t last)
{
    for (uint64_t s = first; s <= last; s++)
        for (int i = 0, behind; i < RANKS; i++)
            assert_true(begin(f, i, s, &behind));
}

/* ---- The memory -------------------------------------------------------------------------------- */

static void the_size_is_a_page_and_for_each_rank_a_page_and_its_slots(void **state)
{
    (void)state;
    assert_int_equal(arena_bytes(1), 4096 + 4096 + ARENA_SLOT_BYTES);
    assert_int_equal(arena_bytes(8) - arena_bytes(7), 4096 + ARENA_SLOT_BYTES);
}

static void what_one_rank_writes_shares_no_cache_line_with_what_another_writes(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < RANKS; i++) {
        assert_int_equal((uintptr_t)f->arenas[0]->controls[i] % ARENA_PAGE_BYTES, 0);
        assert_int_equal((uintptr_t)f->arenas[0]->slots[i] % ARENA_PAGE_BYTES, 0);
        for (int j = 0; j < ARENA_CALLS; j++)
            assert_int_equal((uintptr_t)&f->arenas[0]->controls[i]->calls[j] % ARENA_LINE_BYTES, 0);
    }
    assert_int_equal((uintptr_t)&f->arenas[0]->controls[0]->asleep % ARENA_LINE_BYTES, 0);
}

static void memory_of_another_arena_or_of_none_is_refused(void **state)
{
    struct fixture *f = *state;
    struct tutti_error error = TUTTI_ERROR_INIT;
    size_t bytes = arena_bytes(RANKS);
    assert_int_equal(arena_check(f->memory, bytes, RANKS, NONCE, &error), TUTTI_OK);
    assert_int_equal(arena_check(f->memory, bytes, RANKS, NONCE + 1, &error), TUTTI_ERR_PROTOCOL);
    assert_int_equal(arena_check(f->memory, bytes, RANKS + 1, NONCE, &error), TUTTI_ERR_PROTOCOL);
    assert_int_equal(arena_check(f->memory, bytes, RANKS - 1, NONCE, &error), TUTTI_ERR_PROTOCOL);
    assert_int_equal(arena_check(f->memory, bytes - 1, RANKS, NONCE, &error), TUTTI_ERR_PROTOCOL);
    assert_non_null(strchr(error.message, ' '));
    f->arenas[0]->head->version++;
    assert_int_equal(arena_check(f->memory, bytes, RANKS, NONCE, &error), TUTTI_ERR_PROTOCOL);
    memset(f->memory, 0, ARENA_PAGE_BYTES);
    assert_int_equal(arena_check(f->memory, bytes, RANKS, 0, &error), TUTTI_ERR_PROTOCOL);
}

/* ---- Positions --------------------------------------------------------------------------------- */

static void a_rank_may_be_so_many_calls_ahead_as_there_are_lines_and_no_more(void **state)
{
    struct fixture *f = *state;
    int behind = -1;
    for (uint64_t s = 1; s < ARENA_CALLS; s++)
        assert_true(begin(f, 0, s, &behind)); /* though nobody else has come */
    assert_false(begin(f, 0, ARENA_CALLS, &behind));
    assert_int_equal(behind, 1);
    assert_true(begin(f, 1, 1, &behind));
    assert_false(begin(f, 0, ARENA_CALLS, &behind));
    assert_int_equal(behind, 2);
    assert_true(begin(f, 2, 1, &behind));
    assert_true(begin(f, 0, ARENA_CALLS, &behind));
    assert_false(begin(f, 0, ARENA_CALLS + 1, &behind));
}

static void a_call_that_is_not_published_is_not_seen_before_the_first_action(void **state)
{
    struct fixture *f = *state;
    int index = -1;
    assert_true(arena_begin(f->arenas[0], 1, &barrier_call, false, &index));
    assert_false(arena_is_at(f->arenas[1], 0, arena_position(1, 0)));
    arena_post(f->arenas[0], arena_position(1, 3));
    assert_true(arena_is_at(f->arenas[1], 0, arena_position(1, 0)));
    assert_true(arena_is_at(f->arenas[1], 0, arena_position(1, 3)));
    assert_false(arena_is_at(f->arenas[1], 0, arena_position(1, 4)));
}

static void a_position_in_a_later_call_is_beyond_any_in_an_earlier_one(void **state)
{
    struct fixture *f = *state;
    begin_all(f, 1, 3 + ARENA_CALLS);
    assert_true(arena_is_at(f->arenas[1], 0, arena_position(3, UINT32_MAX)));
}

static void have_begun_names_the_first_rank_that_has_not(void **state)
{
    struct fixture *f = *state;
    int index = -1;
    assert_true(begin(f, 1, 1, &index));
    assert_false(arena_have_begun(f->arenas[1], 1, &index));
    assert_int_equal(index, 0);
    assert_true(begin(f, 0, 1, &index));
    assert_false(arena_have_begun(f->arenas[1], 1, &index));
    assert_int_equal(index, 2);
    assert_true(begin(f, 2, 1, &index));
    assert_true(arena_have_begun(f->arenas[1], 1, &index));
    assert_false(arena_have_begun(f->arenas[1], 2, &index));
}

/* ---- Different calls --------------------------------------------------------------------------- */

static void another_call_of_the_same_number_is_a_mismatch_that_tells_both(void **state)
{
    struct fixture *f = *state;
    struct tutti_error error = TUTTI_ERROR_INIT;
    const struct fingerprint ours = all_reduce_of(10), theirs = all_reduce_of(20);
    int index;
    assert_true(arena_begin(f->arenas[0], 1, &ours, true, &index));
    assert_int_equal(arena_check_call(f->arenas[0], 1, &error), TUTTI_OK); /* nobody has come */
    assert_true(arena_begin(f->arenas[1], 1, &ours, true, &index));
    assert_int_equal(arena_check_call(f->arenas[0], 1, &error), TUTTI_OK);
    assert_true(arena_begin(f->arenas[2], 1, &theirs, true, &index));
    assert_int_equal(arena_check_call(f->arenas[0], 1, &error), TUTTI_ERR_MISMATCH);
    assert_int_equal(error.rank, 109);
    assert_non_null(strstr(error.message, "rank 109 called all_reduce(sum, 20 x float32) as operation 1"));
    assert_non_null(strstr(error.message, "rank 104 called all_reduce(sum, 10 x float32) as operation 1"));
    assert_int_equal(arena_check_call(f->arenas[2], 1, &error), TUTTI_ERR_MISMATCH);
    assert_int_equal(error.rank, 104);
}

static void whatever_a_fingerprint_tells_makes_a_difference(void **state)
{
    struct fixture *f = *state;
    struct tutti_error error = TUTTI_ERROR_INIT;
    struct fingerprint call = {TUTTI_BROADCAST, TUTTI_FLOAT32, TUTTI_SUM, 64, 1, 100, 2, 77}, others[8];
    for (int i = 0; i < 8; i++)
        others[i] = call;
    others[0].operation = TUTTI_ALL_REDUCE;
    others[1].type = TUTTI_INT32;
    others[2].reduction = TUTTI_MAX;
    others[3].algorithm = 1;
    others[4].root = 2;
    others[5].count = 101;
    others[6].fused = 3;
    others[7].fused_counts = 78;
    for (int i = 0, index; i < 8; i++) {
        void *fresh;
        assert_int_equal(tear_down(state), 0);
        assert_int_equal(set_up(&fresh), 0);
        f = *state = fresh;
        assert_true(arena_begin(f->arenas[0], 1, &call, true, &index));
        assert_true(arena_begin(f->arenas[1], 1, &others[i], true, &index));
        assert_int_equal(arena_check_call(f->arenas[0], 1, &error), TUTTI_ERR_MISMATCH);
        assert_int_equal(arena_check_call(f->arenas[1], 1, &error), TUTTI_ERR_MISMATCH);
    }
}

/* A leaf of a gather leaves without a look at anybody. */
static void an_earlier_call_that_differed_is_told_at_the_next_look(void **state)
{
    struct fixture *f = *state;
    struct tutti_error error = TUTTI_ERROR_INIT;
    const struct fingerprint ours = all_reduce_of(1), theirs = all_reduce_of(2);
    int index;
    assert_true(arena_begin(f->arenas[0], 1, &ours, true, &index));
    assert_true(arena_begin(f->arenas[1], 1, &theirs, true, &index));
    for (uint64_t s = 2; s <= 5; s++)
        for (int i = 0; i < 2; i++)
            assert_true(begin(f, i, s, &index));
    assert_int_equal(arena_check_call(f->arenas[0], 5, &error), TUTTI_ERR_MISMATCH);
    assert_non_null(strstr(error.message, "rank 107 called all_reduce(sum, 2 x float32) as operation 1"));
}

/* ---- Sleeping ---------------------------------------------------------------------------------- */

static void who_moves_on_rings_every_rank_that_sleeps_once(void **state)
{
    struct fixture *f = *state;
    arena_post(f->arenas[0], arena_position(1, 0));
    assert_int_equal(f->rings[1] + f->rings[2], 0); /* nobody sleeps */
    arena_fall_asleep(f->arenas[1]);
    arena_fall_asleep(f->arenas[2]);
    arena_post(f->arenas[0], arena_position(1, 1));
    assert_int_equal(f->rings[0], 0);
    assert_int_equal(f->rings[1], 1);
    assert_int_equal(f->rings[2], 1);
    arena_post(f->arenas[0], arena_position(1, 2));
    assert_int_equal(f->rings[1] + f->rings[2], 2); /* they have been rung */
}

static void who_woke_by_itself_is_not_rung(void **state)
{
    struct fixture *f = *state;
    arena_fall_asleep(f->arenas[1]);
    arena_wake(f->arenas[1]);
    arena_post(f->arenas[0], arena_position(1, 0));
    assert_int_equal(f->rings[1], 0);
}

static void a_rank_that_moves_on_does_not_ring_itself(void **state)
{
    struct fixture *f = *state;
    arena_fall_asleep(f->arenas[0]);
    arena_post(f->arenas[0], arena_position(1, 0));
    assert_int_equal(f->rings[0], 0);
}

static void an_abort_is_seen_by_all_and_wakes_them_whether_they_said_that_they_sleep_or_not(void **state)
{
    struct fixture *f = *state;
    arena_fall_asleep(f->arenas[2]);
    assert_false(arena_is_aborted(f->arenas[1]));
    arena_abort(f->arenas[0]);
    for (int i = 0; i < RANKS; i++)
        assert_true(arena_is_aborted(f->arenas[i]));
    assert_int_equal(f->rings[1], 1);
    assert_int_equal(f->rings[2], 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_size_is_a_page_and_for_each_rank_a_page_and_its_slots),
        TEST(what_one_rank_writes_shares_no_cache_line_with_what_another_writes),
        TEST(memory_of_another_arena_or_of_none_is_refused),
        TEST(a_rank_may_be_so_many_calls_ahead_as_there_are_lines_and_no_more),
        TEST(a_call_that_is_not_published_is_not_seen_before_the_first_action),
        TEST(a_position_in_a_later_call_is_beyond_any_in_an_earlier_one),
        TEST(have_begun_names_the_first_rank_that_has_not),
        TEST(another_call_of_the_same_number_is_a_mismatch_that_tells_both),
        TEST(whatever_a_fingerprint_tells_makes_a_difference),
        TEST(an_earlier_call_that_differed_is_told_at_the_next_look),
        TEST(who_moves_on_rings_every_rank_that_sleeps_once),
        TEST(who_woke_by_itself_is_not_rung),
        TEST(a_rank_that_moves_on_does_not_ring_itself),
        TEST(an_abort_is_seen_by_all_and_wakes_them_whether_they_said_that_they_sleep_or_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
