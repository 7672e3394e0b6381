/* The real executor and schedules over virtual links: every algorithm, many sizes and
 * seeds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>
#include "algorithm/algorithm.h"
#include "tests/sim/virtual_mesh.h"

#define COUNT_MAX 97
#define ROOM      (RANKS_MAX * (COUNT_MAX + RANKS_MAX))
#define UNTOUCHED (-77)

/* A collective over all ranks.  Chunk r of those whose work vector has a chunk for each rank has counts[r]
 * elements; of all_to_all the chunk from rank s to rank r has counts[(s + 2 * r) % size]. */
struct collective {
    const struct algorithm *algorithm;
    int operation, size, root;
    bool in_place;
    size_t count; /* of what is no _v; and then that of each chunk */
    size_t counts[RANKS_MAX];
};

/* What the arrays of a call are on one rank. */
struct layout {
    size_t send_counts[RANKS_MAX], send_offsets[RANKS_MAX], recv_counts[RANKS_MAX], recv_offsets[RANKS_MAX];
    size_t send_total, recv_total; /* elements of both buffers, gaps included */
};

static int64_t send_memory[RANKS_MAX][ROOM], recv_memory[RANKS_MAX][ROOM];
static struct layout layouts[RANKS_MAX];

/* Element `index` of what `rank` has for chunk `chunk` of the work vector. */
static int64_t input(int rank, size_t chunk, size_t index)
{
    return (int64_t)(index * 31 + chunk * 100003 + (size_t)rank * 10000019);
}

static int64_t sum(int size, size_t chunk, size_t index)
{
    int64_t total = 0;
    for (int rank = 0; rank < size; rank++)
        total += input(rank, chunk, index);
    return total;
}

static size_t pair_count(const struct collective *c, int from, int to)
{
    return c->counts[(from + 2 * to) % c->size];
}

/* In the order of the ranks or, of a _v with `gaps`, in the reverse order with an element between them. */
static size_t lay_out(const struct collective *c, const size_t *counts, size_t *offsets, bool gaps)
{
    size_t at = 0;
    for (int i = 0; i < c->size; i++) {
        int r = gaps ? c->size - 1 - i : i;
        offsets[r] = at;
        at += counts[r] + (gaps ? 1 : 0);
    }
    return at;
}

static void lay_out_rank(const struct collective *c, int rank)
{
    struct layout *l = &layouts[rank];
    bool has_counts = operation_has_counts(c->operation);
    bool pairs = operation_plain(c->operation) == TUTTI_ALL_TO_ALL;
    for (int r = 0; r < c->size; r++) {
        l->send_counts[r] = pairs ? pair_count(c, rank, r) : c->counts[r];
        l->recv_counts[r] = pairs ? pair_count(c, r, rank) : c->counts[r];
    }
    bool gaps = has_counts && c->operation != TUTTI_REDUCE_SCATTER_V;
    l->send_total = lay_out(c, l->send_counts, l->send_offsets, gaps);
    l->recv_total = lay_out(c, l->recv_counts, l->recv_offsets, gaps);
}

/* This rank's buffers, filled. */
static struct executor_buffers fill(const struct collective *c, int rank)
{
    const struct layout *l = &layouts[rank];
    int64_t *send = send_memory[rank], *recv = recv_memory[rank];
    bool gathers = operation_gathers(c->operation), scatters = operation_scatters(c->operation);
    bool whole = !gathers && !scatters && operation_plain(c->operation) != TUTTI_ALL_TO_ALL;
    if (c->in_place && gathers)
        send = recv + l->recv_offsets[rank];
    else if (c->in_place && scatters)
        recv = send + l->send_offsets[rank];
    else if (c->in_place)
        recv = send;
    for (size_t i = 0; i < ROOM; i++)
        send_memory[rank][i] = recv_memory[rank][i] = UNTOUCHED;
    if (whole || gathers) {
        for (size_t i = 0; i < (whole ? c->count : c->counts[rank]); i++)
            send[i] = input(rank, whole ? 0 : (size_t)rank, i);
    } else {
        for (int r = 0; r < c->size; r++)
            for (size_t i = 0; i < l->send_counts[r]; i++)
                send[l->send_offsets[r] + i] = input(rank, (size_t)r, i);
    }
    struct executor_buffers buffers = {.send = send, .recv = recv, .count = c->counts[rank]};
    bool is_root = rank == c->root, any = operation_has_counts(c->operation);
    if (any && !gathers && (is_root || c->operation != TUTTI_SCATTER_V)) {
        buffers.send_counts = l->send_counts;
        buffers.send_offsets = l->send_offsets;
    }
    if (any && !scatters && (is_root || c->operation != TUTTI_GATHER_V)) {
        buffers.recv_counts = l->recv_counts;
        buffers.recv_offsets = l->recv_offsets;
    }
    return buffers;
}

static void check_chunk(const struct collective *c, int rank, const int64_t *got, int from, size_t chunk,
                        size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int64_t expected = from < 0 ? sum(c->size, chunk, i) : input(from, chunk, i);
        if (got[i] != expected)
            fail_msg("%s by %s, rank %d of %d, root %d, %s: element %zu of chunk %zu is %lld, not %lld",
                     operation_name(c->operation), c->algorithm->name, rank, c->size, c->root,
                     c->in_place ? "in place" : "out of place", i, chunk, (long long)got[i],
                     (long long)expected);
    }
}

static void check_result(const struct collective *c, int rank, const struct executor_buffers *buffers)
{
    const struct layout *l = &layouts[rank];
    const int64_t *recv = buffers->recv;
    switch (operation_plain(c->operation)) {
    case TUTTI_REDUCE:
    case TUTTI_ALL_REDUCE:
        if (c->operation == TUTTI_ALL_REDUCE || rank == c->root)
            check_chunk(c, rank, recv, -1, 0, c->count);
        break;
    case TUTTI_BROADCAST:
        check_chunk(c, rank, recv, c->root, 0, c->count);
        break;
    case TUTTI_SCATTER:
        check_chunk(c, rank, recv, c->root, (size_t)rank, c->counts[rank]);
        break;
    case TUTTI_REDUCE_SCATTER:
        check_chunk(c, rank, recv, -1, (size_t)rank, c->counts[rank]);
        break;
    case TUTTI_GATHER:
    case TUTTI_ALL_GATHER:
        for (int r = 0; (operation_plain(c->operation) == TUTTI_ALL_GATHER || rank == c->root) && r < c->size;
             r++)
            check_chunk(c, rank, recv + l->recv_offsets[r], r, (size_t)r, l->recv_counts[r]);
        break;
    case TUTTI_ALL_TO_ALL:
        for (int r = 0; r < c->size; r++)
            check_chunk(c, rank, recv + l->recv_offsets[r], r, (size_t)rank, l->recv_counts[r]);
        break;
    default:
        break;
    }
}

/* Nothing is written outside of the result, nor to inputs that are only read. */
static void check_rest(const struct collective *c, int rank)
{
    static int64_t before[2][ROOM];
    memcpy(before[0], send_memory[rank], sizeof before[0]);
    memcpy(before[1], recv_memory[rank], sizeof before[1]);
    size_t changed = 0, results = 0;
    fill(c, rank); /* as it was */
    for (size_t i = 0; i < ROOM; i++) {
        changed += before[0][i] != send_memory[rank][i];
        changed += before[1][i] != recv_memory[rank][i];
    }
    switch (operation_plain(c->operation)) {
    case TUTTI_REDUCE:
        results = rank == c->root ? c->count : 0;
        break;
    case TUTTI_ALL_REDUCE:
    case TUTTI_BROADCAST:
        results = c->count;
        break;
    case TUTTI_SCATTER:
    case TUTTI_REDUCE_SCATTER:
        results = c->counts[rank];
        break;
    case TUTTI_GATHER:
        if (rank != c->root)
            break;
        /* fall through */
    default:
        for (int r = 0; c->operation != TUTTI_BARRIER && r < c->size; r++)
            results += layouts[rank].recv_counts[r];
    }
    if (changed > results)
        fail_msg("%s by %s, rank %d of %d: %zu elements were changed, but only %zu are its result",
                 operation_name(c->operation), c->algorithm->name, rank, c->size, changed, results);
}

static struct fingerprint print_of(const struct collective *c)
{
    bool by_rank = operation_has_counts(c->operation), barrier = c->operation == TUTTI_BARRIER;
    return (struct fingerprint){
        .operation = (uint8_t)c->operation,
        .type = barrier ? 0 : TUTTI_INT64,
        .reduction = operation_reduces(c->operation) ? TUTTI_SUM : 0,
        .algorithm = c->algorithm->number,
        .root = operation_has_root(c->operation) ? (uint32_t)c->root : 0,
        .count = barrier || by_rank ? 0 : c->count,
    };
}

static void run(uint64_t seed, const struct collective *c)
{
    struct sim sim;
    struct executor_buffers buffers[RANKS_MAX];
    const struct fingerprint print = print_of(c);
    sim_init(&sim, seed, c->size);
    for (int rank = 0; rank < c->size; rank++) {
        lay_out_rank(c, rank);
        assert_true(layouts[rank].send_total <= ROOM && layouts[rank].recv_total <= ROOM);
        buffers[rank] = fill(c, rank);
        sim.schedules[rank] = schedule_new(c->algorithm->operation, c->algorithm->name, c->algorithm->emit,
                                           rank, c->size, c->root, NULL);
        assert_non_null(sim.schedules[rank]);
        sim_scratch(&sim, rank, &print, &buffers[rank], 0);
        executor_init(&sim.executors[rank], &sim.groups[rank], sim.schedules[rank], &print, &buffers[rank],
                      sim.scratch[rank]);
    }
    for (uint64_t turn = 1; turn <= 2; turn++) { /* the second as a plan does that is started again */
        for (int rank = 0; rank < c->size; rank++) {
            fill(c, rank);
            executor_start(&sim.executors[rank], turn, 0, INT64_MAX);
        }
        sim_run(&sim);
        for (int rank = 0; rank < c->size; rank++) {
            check_result(c, rank, &buffers[rank]);
            check_rest(c, rank);
        }
    }
    sim_free(&sim);
}

static uint64_t first_seed(void)
{
    const char *text = getenv("TUTTI_TEST_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 0) : 1;
    print_message("seed %llu\n", (unsigned long long)seed);
    return seed;
}

static const int sizes[] = {1, 2, 3, 4, 5, 7, 8, 16};
#define SIZES (sizeof sizes / sizeof sizes[0])

static bool works_in_place(int operation)
{
    return operation_plain(operation) != TUTTI_ALL_TO_ALL && operation != TUTTI_BARRIER;
}

static void every_algorithm_gives_the_right_result_over_links_that_stutter(void **state)
{
    (void)state;
    uint64_t seed = first_seed();
    for (size_t a = 0; a < algorithm_count; a++)
        for (size_t s = 0; s < SIZES; s++) {
            size_t n = (size_t)sizes[s], counts[] = {0, 1, n - 1, n, n + 1, COUNT_MAX};
            for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
                for (int in_place = 0; in_place <= works_in_place(algorithms[a].operation); in_place++) {
                    struct collective c = {.algorithm = &algorithms[a],
                                           .operation = algorithms[a].operation,
                                           .size = sizes[s],
                                           .in_place = in_place == 1,
                                           .count = counts[i]};
                    c.root = operation_has_root(c.operation) ? (int)(seed % n) : 0;
                    for (size_t r = 0; r < n; r++)
                        c.counts[r] = c.count;
                    run(seed++, &c);
                }
        }
}

/* Does the algorithm serve the operation, a _v? */
static bool serves(const struct algorithm *algorithm, int operation)
{
    bool needs_direct = operation == TUTTI_GATHER_V || operation == TUTTI_SCATTER_V;
    return operation_has_counts(operation) && algorithm->operation == algorithm_operation(operation) &&
           (!needs_direct || (algorithm->traits & ALGORITHM_DIRECT) != 0);
}

static void parts_of_different_lengths_come_to_where_their_offsets_say(void **state)
{
    (void)state;
    uint64_t seed = first_seed(), random = seed;
    int runs = 0;
    for (size_t a = 0; a < algorithm_count; a++)
        for (int operation = 1; operation < OPERATION_COUNT; operation++)
            for (size_t s = 0; serves(&algorithms[a], operation) && s < SIZES; s++)
                for (int turn = 0; turn < 6; turn++, runs++) {
                    struct collective c = {.algorithm = &algorithms[a],
                                           .operation = operation,
                                           .size = sizes[s],
                                           .root = (int)(seed % (uint64_t)sizes[s]),
                                           .in_place = turn % 2 == 1 && works_in_place(operation)};
                    for (int r = 0; r < c.size; r++)
                        c.counts[r] =
                            sim_random(&random) % 3 == 0 ? 0 : sim_random(&random) % (COUNT_MAX + 1);
                    c.root = operation_has_root(operation) ? c.root : 0;
                    run(seed++, &c);
                }
    assert_true(runs > 0);
}

static struct schedule *ring_schedule(int operation, int rank, int root)
{
    const struct algorithm *ring = algorithm_find(operation, "ring");
    assert_non_null(ring);
    struct schedule *schedule = schedule_new(operation, ring->name, ring->emit, rank, 2, root, NULL);
    assert_non_null(schedule);
    return schedule;
}

static void a_rank_that_calls_something_else_is_named_with_both_calls(void **state)
{
    (void)state;
    struct sim sim;
    sim_init(&sim, 3, 2);
    int64_t data[2][4] = {{1, 2, 3, 4}, {1, 2, 3, 4}};
    struct fingerprint calls[2] = {
        {.operation = TUTTI_BROADCAST, .type = TUTTI_INT64, .root = 1, .count = 4},
        {.operation = TUTTI_BROADCAST, .type = TUTTI_INT64, .root = 1, .count = 3}};
    for (int rank = 0; rank < 2; rank++) {
        sim.schedules[rank] = ring_schedule(TUTTI_BROADCAST, rank, 1);
        const struct executor_buffers buffers = {.send = data[rank], .recv = data[rank]};
        sim_scratch(&sim, rank, &calls[rank], &buffers, 0);
        executor_init(&sim.executors[rank], &sim.groups[rank], sim.schedules[rank], &calls[rank], &buffers,
                      sim.scratch[rank]);
        executor_start(&sim.executors[rank], 17, 0, INT64_MAX);
    }
    struct tutti_error error = TUTTI_ERROR_INIT;
    int status = TUTTI_PENDING;
    while (status == TUTTI_PENDING) {
        sim.executors[1].operation.progress(&sim.executors[1].operation, &error);
        status = sim.executors[0].operation.progress(&sim.executors[0].operation, &error);
    }
    assert_int_equal(status, TUTTI_ERR_MISMATCH);
    assert_int_equal(error.rank, 1);
    assert_non_null(strstr(error.message, "rank 1 called broadcast(root 1, 3 x int64) as operation 17"));
    assert_non_null(strstr(error.message, "rank 0 called broadcast(root 1, 4 x int64) as operation 17"));
    sim_free(&sim);
}

static void
a_frame_of_an_earlier_operation_is_shown_beside_the_call_that_was_made_under_its_number(void **state)
{
    (void)state;
    struct sim sim;
    sim_init(&sim, 3, 2);
    int64_t data[2][4] = {{1, 2, 3, 4}, {1, 2, 3, 4}};
    struct fingerprint recent[EXECUTOR_RECENT_CALLS] = {
        [1] = {.operation = TUTTI_BROADCAST, .type = TUTTI_INT64, .root = 0, .count = 4}};
    struct fingerprint calls[2] = {
        {.operation = TUTTI_BARRIER},
        {.operation = TUTTI_BROADCAST, .type = TUTTI_INT64, .root = 1, .count = 4}};
    sim.groups[0].recent_calls = recent;
    sim.schedules[0] = ring_schedule(TUTTI_BARRIER, 0, 0);
    sim.schedules[1] = ring_schedule(TUTTI_BROADCAST, 1, 1);
    for (int rank = 0; rank < 2; rank++) {
        const struct executor_buffers buffers = {.send = data[rank], .recv = data[rank]};
        sim_scratch(&sim, rank, &calls[rank], &buffers, 0);
        executor_init(&sim.executors[rank], &sim.groups[rank], sim.schedules[rank], &calls[rank], &buffers,
                      sim.scratch[rank]);
        executor_start(&sim.executors[rank], rank == 0 ? 2 : 1, 0, INT64_MAX);
    }
    struct tutti_error error = TUTTI_ERROR_INIT;
    int status = TUTTI_PENDING;
    while (status == TUTTI_PENDING) {
        sim.executors[1].operation.progress(&sim.executors[1].operation, &error);
        status = sim.executors[0].operation.progress(&sim.executors[0].operation, &error);
    }
    assert_int_equal(status, TUTTI_ERR_MISMATCH);
    assert_non_null(strstr(error.message,
                           "rank 1 called broadcast(root 1, 4 x int64) as operation 1, rank 0 called "
                           "broadcast(root 0, 4 x int64) as operation 1"));
    sim_free(&sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_algorithm_gives_the_right_result_over_links_that_stutter),
        cmocka_unit_test(parts_of_different_lengths_come_to_where_their_offsets_say),
        cmocka_unit_test(a_rank_that_calls_something_else_is_named_with_both_calls),
        cmocka_unit_test(
            a_frame_of_an_earlier_operation_is_shown_beside_the_call_that_was_made_under_its_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
