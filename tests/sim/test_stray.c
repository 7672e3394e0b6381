/* Ranks that made different calls may each wait for a frame that never comes: the one that shows it lies on a
 * link that nobody reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "algorithm/algorithm.h"
#include "executor/stray.h"
#include "tests/sim/virtual_mesh.h"

#define RANKS 3
#define COUNT 4

struct trial {
    struct sim sim;
    int32_t send[RANKS][COUNT], recv[RANKS][COUNT];
};

/* Rank `rank` calls a broadcast from `root` as operation 1. */
static void call(struct trial *t, int rank, int root, uint64_t sequence)
{
    const struct algorithm *algorithm = algorithm_find(TUTTI_BROADCAST, "tree");
    const struct fingerprint print = {.operation = TUTTI_BROADCAST,
                                      .type = TUTTI_INT32,
                                      .algorithm = algorithm->number,
                                      .root = (uint32_t)root,
                                      .count = COUNT};
    const struct executor_buffers buffers = {.send = t->send[rank], .recv = t->recv[rank]};
    t->sim.schedules[rank] =
        schedule_new(TUTTI_BROADCAST, algorithm->name, algorithm->emit, rank, RANKS, root, NULL);
    assert_non_null(t->sim.schedules[rank]);
    sim_scratch(&t->sim, rank, &print, &buffers, 0);
    executor_init(&t->sim.executors[rank], &t->sim.groups[rank], t->sim.schedules[rank], &print, &buffers,
                  t->sim.scratch[rank]);
    executor_start(&t->sim.executors[rank], sequence, 0, 1);
}

/* Everybody moves until nobody can. */
static void move_all(struct trial *t, int status[RANKS])
{
    for (int turn = 0; turn < 2000; turn++)
        for (int rank = 0; rank < RANKS; rank++) {
            struct operation *operation = &t->sim.executors[rank].operation;
            struct tutti_error error;
            if (status[rank] == TUTTI_PENDING)
                status[rank] = operation->progress(operation, &error);
        }
}

static void different_roots_are_found_on_a_link_that_is_not_read(void **state)
{
    (void)state;
    struct trial t;
    int status[RANKS] = {TUTTI_PENDING, TUTTI_PENDING, TUTTI_PENDING};
    memset(&t, 0, sizeof t);
    sim_init(&t.sim, 1, RANKS);
    /* 0 sends to both others; 1 waits for 2, and 2 for 1. */
    call(&t, 0, 0, 1);
    call(&t, 1, 2, 1);
    call(&t, 2, 1, 1);
    move_all(&t, status);
    int found = 0;
    for (int rank = 1; rank < RANKS; rank++) {
        struct tutti_error error;
        assert_int_equal(status[rank], TUTTI_PENDING);
        if (stray_check(&t.sim.executors[rank], &error) == TUTTI_ERR_MISMATCH) {
            assert_non_null(strstr(error.message, "rank 0 called broadcast(root 0, 4 x int32)"));
            assert_int_equal(error.rank, 0);
            found++;
        }
    }
    assert_true(found >= 1); /* the links may be too short for both frames */
    sim_free(&t.sim);
}

static void frames_of_later_calls_and_of_this_one_are_no_strays(void **state)
{
    (void)state;
    struct trial t;
    int status[RANKS] = {TUTTI_PENDING, TUTTI_PENDING, TUTTI_PENDING};
    memset(&t, 0, sizeof t);
    sim_init(&t.sim, 1, RANKS);
    /* 0 is one call further than the others, of which 2 waits for 1, who has not called. */
    call(&t, 0, 0, 2);
    call(&t, 2, 1, 1);
    status[1] = TUTTI_OK;
    move_all(&t, status);
    struct tutti_error error;
    assert_int_equal(status[2], TUTTI_PENDING);
    assert_int_equal(stray_check(&t.sim.executors[2], &error), TUTTI_OK);
    sim_free(&t.sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(different_roots_are_found_on_a_link_that_is_not_read),
        cmocka_unit_test(frames_of_later_calls_and_of_this_one_are_no_strays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
