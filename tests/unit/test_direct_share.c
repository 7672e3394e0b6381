/* How much a direct collective does before it lets other work through: two ranks in one process. */
#include <stdlib.h>
#include "algorithm/algorithm.h"
#include "base/error.h"
#include "local/direct.h"
#include "tests/unit/symmetric_memory.h"

#define RANKS       2
#define PART_BYTES  ((size_t)8 << 20)
#define SHARE_BYTES ((size_t)8 << 20) /* what one progress() may move: milliseconds */
#define TURNS_MAX   1000

static void ring(void *context, int index)
{
    (void)context, (void)index; /* nobody sleeps */
}

static struct arena *rank_new(void *memory, int index)
{
    static const int ranks[RANKS] = {0, 1};
    const struct arena_options options = {.memory = memory,
                                          .count = RANKS,
                                          .index = index,
                                          .ranks = ranks,
                                          .names = ranks,
                                          .kernels = reduce_table(),
                                          .ring = ring};
    struct arena *arena = arena_new(&options);
    struct tutti_error error;
    int fds[RANKS];
    for (int i = 0; i < RANKS; i++)
        fds[i] = dup(symmetric_heap_descriptor(&error));
    assert_non_null(arena);
    arena->symmetric = symmetric_new(fds, RANKS, index);
    assert_non_null(arena->symmetric);
    return arena;
}

/* In turns; returns how often a rank that could have gone on let others through. */
static int play(struct direct ranks[RANKS])
{
    int status[RANKS] = {TUTTI_PENDING, TUTTI_PENDING}, paused = 0;
    for (int turn = 0; turn < TURNS_MAX && (status[0] != TUTTI_OK || status[1] != TUTTI_OK); turn++) {
        struct operation *operation = &ranks[turn % RANKS].operation;
        struct tutti_error error;
        if (status[turn % RANKS] == TUTTI_OK)
            continue;
        uint64_t before = operation->moved_bytes;
        status[turn % RANKS] = operation->progress(operation, &error);
        assert_true(status[turn % RANKS] == TUTTI_OK || status[turn % RANKS] == TUTTI_PENDING);
        if (status[turn % RANKS] == TUTTI_PENDING && operation->wait.from < 0) {
            assert_true(operation->moved_bytes > before); /* else it would look as if it were stuck */
            paused++;
        }
    }
    assert_int_equal(status[0], TUTTI_OK);
    assert_int_equal(status[1], TUTTI_OK);
    return paused;
}

static void a_long_call_in_symmetric_memory_lets_other_work_through(void **state)
{
    (void)state;
    const struct fingerprint call = {.operation = TUTTI_ALL_GATHER,
                                     .type = TUTTI_UINT8,
                                     .algorithm = ALGORITHM_SHARED_NUMBER,
                                     .count = PART_BYTES};
    void *memory = aligned_alloc(ARENA_PAGE_BYTES, arena_bytes(RANKS));
    struct arena *arenas[RANKS];
    struct direct ranks[RANKS];
    uint8_t *send[RANKS], *recv[RANKS];
    assert_non_null(memory);
    memset(memory, 0, arena_bytes(RANKS));
    arena_format(memory, RANKS, 1);
    for (int i = 0; i < RANKS; i++) {
        arenas[i] = rank_new(memory, i);
        send[i] = alloc(PART_BYTES);
        recv[i] = alloc(RANKS * PART_BYTES);
        memset(send[i], i + 1, PART_BYTES);
        direct_init(&ranks[i], arenas[i], &call, send[i], recv[i], 0);
        direct_start(&ranks[i], 1, 0, INT64_MAX);
    }
    assert_true(play(ranks) >= (int)(RANKS * (RANKS * PART_BYTES / SHARE_BYTES - 1)));
    for (int i = 0; i < RANKS; i++) {
        assert_true(is_all(recv[i], PART_BYTES, 1) && is_all(recv[i] + PART_BYTES, PART_BYTES, 2));
        assert_true(symmetric_heap_free(send[i]) && symmetric_heap_free(recv[i]));
        symmetric_free(arenas[i]->symmetric);
        arena_free(arenas[i]);
    }
    free(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_call_in_symmetric_memory_lets_other_work_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
