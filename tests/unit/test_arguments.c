/* What arguments_check() takes and refuses, and that each refusal says what is wrong.
 * tests/process/arguments.c looks at the same through the public interface. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "executor/arguments.h"
#include "executor/overlap.h"
#include "tensor/type.h"

#define SIZE 4

static float memory[4096];
static struct tutti_error error;

static int check_on(int rank, struct tutti_call call)
{
    return arguments_check(rank, SIZE, &call, 1, &error);
}

static void expect_good(int line, int rank, struct tutti_call call)
{
    if (check_on(rank, call) != TUTTI_OK)
        fail_msg("line %d: refused on rank %d: %s", line, rank, error.message);
}

static void expect_bad(int line, int rank, struct tutti_call call, const char *word)
{
    if (check_on(rank, call) != TUTTI_ERR_ARGUMENT)
        fail_msg("line %d: taken on rank %d", line, rank);
    if (!strstr(error.message, word) || strlen(error.message) < 20)
        fail_msg("line %d: \"%s\" does not say \"%s\"", line, error.message, word);
}

/* A call with defaults, which a test may override. */
#pragma GCC diagnostic ignored "-Woverride-init"
#define CALL(...)                                                                                            \
    ((struct tutti_call){.count = 8, .type = TUTTI_FLOAT32, .reduction = TUTTI_SUM, __VA_ARGS__})
#define GOOD(rank, ...)      expect_good(__LINE__, rank, CALL(__VA_ARGS__))
#define BAD(word, rank, ...) expect_bad(__LINE__, rank, CALL(__VA_ARGS__), word)

static const size_t two_each[SIZE] = {2, 2, 2, 2};

static void every_operation_takes_separate_buffers(void **state)
{
    (void)state;
    for (int op = 1; op < OPERATION_COUNT; op++)
        for (int rank = 0; rank < SIZE; rank++)
            GOOD(rank, .op = op, .send = memory, .recv = memory + 1000, .count = 2, .root = 1,
                 .send_counts = two_each, .recv_counts = two_each);
}

static void every_operation_needs_the_buffers_it_uses_and_no_others(void **state)
{
    (void)state;
    static const struct {
        int op;
        bool root_sends_alone, root_receives_alone;
    } kinds[] = {
        {TUTTI_ALL_REDUCE, false, false},
        {TUTTI_REDUCE, false, true},
        {TUTTI_BROADCAST, true, false},
        {TUTTI_ALL_GATHER, false, false},
        {TUTTI_GATHER, false, true},
        {TUTTI_REDUCE_SCATTER, false, false},
        {TUTTI_SCATTER, true, false},
        {TUTTI_ALL_TO_ALL, false, false},
        {TUTTI_ALL_GATHER_V, false, false},
        {TUTTI_GATHER_V, false, true},
        {TUTTI_REDUCE_SCATTER_V, false, false},
        {TUTTI_SCATTER_V, true, false},
        {TUTTI_ALL_TO_ALL_V, false, false},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        for (int rank = 0; rank < SIZE; rank++) {
            const bool is_root = rank == 2;
            struct tutti_call call = CALL(.op = kinds[i].op, .send = memory, .recv = memory + 100, .count = 2,
                                          .root = 2, .send_counts = two_each, .recv_counts = two_each);
            struct tutti_call no_send = call, no_recv = call, empty = call;
            const size_t none[SIZE] = {0};
            no_send.send = empty.send = NULL;
            no_recv.recv = empty.recv = NULL;
            empty.count = 0;
            empty.send_counts = empty.recv_counts = none;
            bool sends = is_root || !kinds[i].root_sends_alone;
            bool receives = is_root || !kinds[i].root_receives_alone;
            if (sends)
                expect_bad(__LINE__, rank, no_send, "send is NULL");
            else
                expect_good(__LINE__, rank, no_send);
            if (receives)
                expect_bad(__LINE__, rank, no_recv, "recv is NULL");
            else
                expect_good(__LINE__, rank, no_recv);
            expect_good(__LINE__, rank, empty);
        }
    BAD("send is NULL", 0, .op = TUTTI_SEND, .recv = memory);
    GOOD(0, .op = TUTTI_SEND, .send = memory);
    BAD("recv is NULL", 0, .op = TUTTI_RECV, .send = memory);
    GOOD(0, .op = TUTTI_RECV, .recv = memory);
    GOOD(0, .op = TUTTI_BARRIER, .type = 0, .reduction = 0, .count = SIZE_MAX);
}

static void reductions_take_the_types_that_they_are_for(void **state)
{
    (void)state;
    for (int op = 1; op < OPERATION_COUNT; op++)
        for (int type = 1; type < TYPE_COUNT; type++)
            for (int reduction = 1; reduction < REDUCTION_COUNT; reduction++) {
                struct tutti_call call =
                    CALL(.op = op, .send = memory, .recv = memory + 1000, .count = 2, .send_counts = two_each,
                         .recv_counts = two_each, .type = type, .reduction = reduction);
                if (!operation_reduces(op) || type_takes(type, reduction))
                    expect_good(__LINE__, 0, call);
                else
                    expect_bad(__LINE__, 0, call, type_name(type));
            }
    BAD("float32, float64, float16, bfloat16, complex64", 0, .op = TUTTI_ALL_REDUCE, .send = memory,
        .recv = memory, .type = TUTTI_INT8, .reduction = TUTTI_PREMULTIPLIED_SUM);
    BAD("reduction", 0, .op = TUTTI_REDUCE, .send = memory, .recv = memory, .reduction = 0);
    BAD("reduction", 0, .op = TUTTI_REDUCE_SCATTER_V, .send = memory, .recv = memory,
        .reduction = REDUCTION_COUNT, .send_counts = two_each);
    BAD("type", 0, .op = TUTTI_SCATTER, .send = memory, .recv = memory, .type = TYPE_COUNT);
    BAD("type", 0, .op = TUTTI_RECV, .recv = memory, .type = 0);
    BAD("operation", 0, .op = OPERATION_COUNT);
    BAD("root is 4", 0, .op = TUTTI_REDUCE, .send = memory, .recv = memory, .root = SIZE);
    BAD("root is -1", 0, .op = TUTTI_SCATTER_V, .send = memory, .recv = memory, .root = -1);
    BAD("timeout_ms", 0, .op = TUTTI_BARRIER, .timeout_ms = -1);
}

static void in_place_is_where_the_operation_says(void **state)
{
    (void)state;
    const size_t counts[SIZE] = {3, 0, 5, 2}, offsets[SIZE] = {20, 7, 9, 0};
    for (int rank = 0; rank < SIZE; rank++) {
        float *own = memory + (size_t)rank * 8, *v_own = memory + (rank > 2 ? 8 : rank > 0 ? 3 : 0);
        int other = (rank + 1) % SIZE;
        GOOD(rank, .op = TUTTI_ALL_REDUCE, .send = memory, .recv = memory);
        GOOD(rank, .op = TUTTI_REDUCE, .send = memory, .recv = memory, .root = rank);
        GOOD(rank, .op = TUTTI_BROADCAST, .send = memory, .recv = memory, .root = rank);
        GOOD(rank, .op = TUTTI_ALL_TO_ALL, .send = memory, .recv = memory);
        GOOD(rank, .op = TUTTI_ALL_GATHER, .send = own, .recv = memory);
        GOOD(rank, .op = TUTTI_GATHER, .send = own, .recv = memory, .root = rank);
        GOOD(rank, .op = TUTTI_REDUCE_SCATTER, .send = memory, .recv = own);
        GOOD(rank, .op = TUTTI_SCATTER, .send = memory, .recv = own, .root = rank);
        GOOD(rank, .op = TUTTI_ALL_GATHER_V, .send = v_own, .recv = memory, .recv_counts = counts);
        GOOD(rank, .op = TUTTI_ALL_GATHER_V, .send = memory + offsets[rank], .recv = memory,
             .recv_counts = counts, .recv_offsets = offsets);
        GOOD(rank, .op = TUTTI_GATHER_V, .send = memory + offsets[rank], .recv = memory, .root = rank,
             .recv_counts = counts, .recv_offsets = offsets, .count = counts[rank]);
        GOOD(rank, .op = TUTTI_SCATTER_V, .send = memory, .recv = memory + offsets[rank], .root = rank,
             .send_counts = counts, .send_offsets = offsets, .count = counts[rank]);
        GOOD(rank, .op = TUTTI_REDUCE_SCATTER_V, .send = memory, .recv = v_own, .send_counts = counts);

        /* The place of another rank is not this one's, nor is one element further on. */
        BAD("overlap", rank, .op = TUTTI_ALL_REDUCE, .send = memory + 1, .recv = memory);
        BAD("overlap", rank, .op = TUTTI_REDUCE, .send = memory + 1, .recv = memory, .root = rank);
        GOOD(rank, .op = TUTTI_REDUCE, .send = memory + 1, .recv = memory, .root = other);
        BAD("send == recv", rank, .op = TUTTI_ALL_TO_ALL, .send = memory, .recv = memory + 31);
        BAD("rank * count", rank, .op = TUTTI_GATHER, .send = memory + 8 * other, .recv = memory,
            .root = rank);
        BAD("rank * count", rank, .op = TUTTI_SCATTER, .send = memory, .recv = memory + 8 * other,
            .root = rank);
        GOOD(rank, .op = TUTTI_SCATTER, .send = memory, .recv = memory + 8 * other, .root = other);
        BAD("overlap", rank, .op = TUTTI_ALL_TO_ALL_V, .send = memory, .recv = memory,
            .send_counts = two_each, .recv_counts = two_each);
    }
    BAD("offset of this rank's part", 0, .op = TUTTI_ALL_GATHER_V, .send = memory + 2, .recv = memory,
        .recv_counts = counts);
    BAD("overlap", 0, .op = TUTTI_ALL_GATHER_V, .send = memory + 11, .recv = memory, .recv_counts = counts,
        .recv_offsets = offsets);
    BAD("overlap", 0, .op = TUTTI_SCATTER_V, .send = memory, .recv = memory + 19, .count = 3,
        .send_counts = counts, .send_offsets = offsets);
}

static void parts_may_lie_anywhere_but_not_where_another_is_written(void **state)
{
    (void)state;
    const size_t counts[SIZE] = {3, 0, 5, 2}, scattered[SIZE] = {20, 9, 8, 0}, touching[SIZE] = {7, 0, 2, 0};
    const size_t overlapping[SIZE] = {6, 0, 2, 0}, same[SIZE] = {5, 5, 5, 5};
    GOOD(0, .op = TUTTI_ALL_GATHER_V, .send = memory + 100, .recv = memory, .recv_counts = counts,
         .recv_offsets = scattered); /* an empty part within another disturbs nobody */
    GOOD(1, .op = TUTTI_ALL_GATHER_V, .recv = memory, .recv_counts = counts, .recv_offsets = touching);
    BAD("ranks 2 and 0", 1, .op = TUTTI_ALL_GATHER_V, .recv = memory, .recv_counts = counts,
        .recv_offsets = overlapping);
    BAD("recv_offsets", 1, .op = TUTTI_GATHER_V, .recv = memory, .recv_counts = counts, .recv_offsets = same,
        .root = 1, .count = 0);
    /* Parts that are only read may overlap. */
    GOOD(1, .op = TUTTI_SCATTER_V, .send = memory, .recv = memory + 100, .send_counts = counts,
         .send_offsets = same, .root = 1, .count = 0);
    GOOD(0, .op = TUTTI_ALL_TO_ALL_V, .send = memory, .send_counts = two_each, .send_offsets = same,
         .recv = memory + 100, .recv_counts = two_each);
    /* In a gap between parts there is room for the other buffer. */
    GOOD(0, .op = TUTTI_ALL_GATHER_V, .send = memory + 13, .recv = memory, .recv_counts = counts,
         .recv_offsets = scattered);
    const size_t even[SIZE] = {0, 4, 8, 12}, odd[SIZE] = {14, 10, 6, 2}, late[SIZE] = {14, 10, 6, 3};
    GOOD(3, .op = TUTTI_ALL_TO_ALL_V, .send = memory, .send_counts = two_each, .send_offsets = even,
         .recv = memory, .recv_counts = two_each, .recv_offsets = odd);
    BAD("overlap", 3, .op = TUTTI_ALL_TO_ALL_V, .send = memory, .send_counts = two_each, .send_offsets = even,
        .recv = memory, .recv_counts = two_each, .recv_offsets = late);
}

static void counts_must_be_there_and_fit_in_memory(void **state)
{
    (void)state;
    const size_t most = SIZE_MAX / 2 / sizeof(float);
    const size_t huge[SIZE] = {most, 0, 0, 1}, fits[SIZE] = {0, most, 0, 0}, far[SIZE] = {0, 0, most - 1, 0};
    for (int op = TUTTI_ALL_GATHER_V; op <= TUTTI_ALL_TO_ALL_V; op++)
        BAD("_counts is NULL", 0, .op = op, .send = memory, .recv = memory + 100);
    /* Only the root of gather_v and scatter_v knows them. */
    GOOD(1, .op = TUTTI_GATHER_V, .send = memory);
    GOOD(1, .op = TUTTI_SCATTER_V, .recv = memory);
    BAD("recv_counts is NULL", 0, .op = TUTTI_ALL_TO_ALL_V, .send = memory, .send_counts = two_each);

    BAD("ranks 0 to 3", 1, .op = TUTTI_ALL_GATHER_V, .recv = memory, .recv_counts = huge);
    GOOD(0, .op = TUTTI_ALL_GATHER_V, .recv = memory, .recv_counts = fits);
    BAD("recv_offsets[2]", 0, .op = TUTTI_ALL_GATHER_V, .send = memory + 100, .recv = memory,
        .recv_counts = two_each, .recv_offsets = far);
    BAD("count", 0, .op = TUTTI_REDUCE_SCATTER_V, .send = memory, .recv = memory, .send_counts = huge);
    BAD("count", 1, .op = TUTTI_GATHER_V, .send = memory, .count = most + 1);
    for (int op = 1; op < OPERATION_COUNT; op++)
        if (op != TUTTI_BARRIER && !operation_has_counts(op))
            BAD("count", 0, .op = op, .send = memory, .recv = memory + 100,
                .count = operation_is_message(op) ? most + 1 : most / SIZE + 1);
    GOOD(0, .op = TUTTI_SEND, .send = memory, .count = most);
}

static void what_a_rank_gives_itself_it_must_know_only_one_count_of(void **state)
{
    (void)state;
    const size_t counts[SIZE] = {3, 0, 5, 2}, others[SIZE] = {9, 9, 5, 9};
    BAD("recv_counts[2] is 5", 2, .op = TUTTI_GATHER_V, .send = memory, .recv = memory + 100, .root = 2,
        .count = 4, .recv_counts = counts);
    GOOD(2, .op = TUTTI_GATHER_V, .send = memory, .recv = memory + 100, .root = 2, .count = 5,
         .recv_counts = counts);
    GOOD(2, .op = TUTTI_GATHER_V, .send = memory, .root = 1, .count = 4, .recv_counts = counts);
    BAD("send_counts[0] is 3", 0, .op = TUTTI_SCATTER_V, .send = memory, .recv = memory + 100, .count = 2,
        .send_counts = counts);
    GOOD(2, .op = TUTTI_ALL_TO_ALL_V, .send = memory, .recv = memory + 100, .send_counts = counts,
         .recv_counts = others);
    BAD("recv_counts[0] is 9", 0, .op = TUTTI_ALL_TO_ALL_V, .send = memory, .recv = memory + 100,
        .send_counts = counts, .recv_counts = others);
}

static void messages_need_a_peer_and_a_tag(void **state)
{
    (void)state;
    for (int peer = 0; peer < SIZE; peer++) {
        GOOD(1, .op = TUTTI_SEND, .send = memory, .peer = peer, .tag = INT32_MAX);
        GOOD(1, .op = TUTTI_RECV, .recv = memory, .peer = peer);
    }
    GOOD(1, .op = TUTTI_RECV, .recv = memory, .peer = TUTTI_ANY_SOURCE, .tag = TUTTI_ANY_TAG);
    BAD("peer is -1", 1, .op = TUTTI_SEND, .send = memory, .peer = TUTTI_ANY_SOURCE);
    BAD("tag is -1", 1, .op = TUTTI_SEND, .send = memory, .tag = TUTTI_ANY_TAG);
    BAD("TUTTI_ANY_SOURCE", 1, .op = TUTTI_RECV, .recv = memory, .peer = -2);
    BAD("peer is 4", 1, .op = TUTTI_RECV, .recv = memory, .peer = SIZE);
    BAD("TUTTI_ANY_TAG", 1, .op = TUTTI_RECV, .recv = memory, .tag = -2);
    /* Collectives do not have these fields. */
    GOOD(1, .op = TUTTI_ALL_REDUCE, .send = memory, .recv = memory, .peer = -7, .tag = -7);
}

static void messages_and_collectives_are_not_issued_together(void **state)
{
    (void)state;
    struct tutti_call calls[3] = {CALL(.op = TUTTI_SEND, .send = memory, .peer = 1),
                                  CALL(.op = TUTTI_RECV, .recv = memory + 8, .peer = 2),
                                  CALL(.op = TUTTI_BARRIER)};
    assert_int_equal(arguments_check(0, SIZE, calls, 2, &error), TUTTI_OK);
    assert_int_equal(arguments_check(0, SIZE, calls, 3, &error), TUTTI_ERR_ARGUMENT);
    assert_non_null(strstr(error.message, "calls 0 and 2"));
    assert_int_equal(arguments_check(0, SIZE, calls + 1, 2, &error), TUTTI_ERR_ARGUMENT);
    assert_int_equal(arguments_check(0, SIZE, calls + 2, 1, &error), TUTTI_OK);
}

/* Calls of every kind that use memory, one beside the other: all is well until one of them moves. */
static void calls_issued_together_must_not_touch_what_another_writes(void **state)
{
    (void)state;
    const size_t offsets[SIZE] = {12, 4, 0, 8};
    struct tutti_call calls[] = {
        CALL(.op = TUTTI_ALL_REDUCE, .send = memory, .recv = memory),
        CALL(.op = TUTTI_ALL_REDUCE, .send = memory + 8, .recv = memory + 16),
        CALL(.op = TUTTI_REDUCE_SCATTER, .send = memory + 24, .recv = memory + 24),
        CALL(.op = TUTTI_ALL_GATHER_V, .send = memory + 56, .recv = memory + 58, .recv_counts = two_each,
             .recv_offsets = offsets),
        CALL(.op = TUTTI_SCATTER, .send = memory + 8, .recv = memory + 60, .count = 2), /* in a gap */
    };
    enum { COUNT = sizeof calls / sizeof calls[0] };
    assert_int_equal(arguments_check(0, SIZE, calls, COUNT, &error), TUTTI_OK);
    static const size_t moves[][2] = {{0, 17}, {1, 55}, {2, 71}, {3, 9}, {4, 25}};
    for (size_t i = 0; i < sizeof moves / sizeof moves[0]; i++) {
        struct tutti_call moved[COUNT];
        memcpy(moved, calls, sizeof calls);
        bool in_place = calls[moves[i][0]].send == calls[moves[i][0]].recv;
        moved[moves[i][0]].recv = memory + moves[i][1];
        if (in_place)
            moved[moves[i][0]].send = memory + moves[i][1];
        assert_int_equal(arguments_check(0, SIZE, moved, COUNT, &error), TUTTI_ERR_ARGUMENT);
        assert_non_null(strstr(error.message, "calls "));
    }
}

static void two_receives_cannot_report_in_one_place(void **state)
{
    (void)state;
    struct tutti_received received[2];
    struct tutti_call calls[2] = {CALL(.op = TUTTI_RECV, .recv = memory, .received = &received[0]),
                                  CALL(.op = TUTTI_RECV, .recv = memory + 8, .received = &received[1])};
    assert_int_equal(arguments_check(0, SIZE, calls, 2, &error), TUTTI_OK);
    calls[1].received = &received[0];
    assert_int_equal(arguments_check(0, SIZE, calls, 2, &error), TUTTI_ERR_ARGUMENT);
    calls[1].received = (struct tutti_received *)(void *)(memory + 4);
    assert_int_equal(arguments_check(0, SIZE, calls, 2, &error), TUTTI_ERR_ARGUMENT);
}

static uint64_t next_random(uint64_t *state) /* xorshift64 */
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static bool conflicts_by_pairs(const struct memory_use *uses, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < i; j++)
            if (uses[i].owner != uses[j].owner && (uses[i].writes || uses[j].writes) &&
                memory_overlaps(uses[i].begin, uses[i].bytes, uses[j].begin, uses[j].bytes))
                return true;
    return false;
}

static void conflicts_are_found_as_by_comparing_each_pair(void **state)
{
    (void)state;
    const char *text = getenv("TUTTI_TEST_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 0) : 1, random = seed * 0x9e3779b97f4a7c15u + 1;
    int found = 0, turns = 20000;
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int turn = 0; turn < turns; turn++) {
        struct memory_use uses[2 * 24], copy[24], conflict[2];
        size_t count = next_random(&random) % 25, owners = 1 + next_random(&random) % 24;
        size_t range = 20 + next_random(&random) % 400;
        for (size_t i = 0; i < count; i++)
            copy[i] = (struct memory_use){(const char *)memory + next_random(&random) % range,
                                          1 + next_random(&random) % 12, next_random(&random) % owners,
                                          next_random(&random) % 3 == 0};
        memcpy(uses, copy, count * sizeof *copy);
        bool expected = conflicts_by_pairs(copy, count);
        assert_int_equal(memory_uses_conflict(uses, count, conflict), expected);
        found += expected;
        if (expected)
            assert_true(conflicts_by_pairs(conflict, 2));
    }
    assert_in_range(found, turns / 10, turns - turns / 10); /* both kinds were met */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operation_takes_separate_buffers),
        cmocka_unit_test(every_operation_needs_the_buffers_it_uses_and_no_others),
        cmocka_unit_test(reductions_take_the_types_that_they_are_for),
        cmocka_unit_test(in_place_is_where_the_operation_says),
        cmocka_unit_test(parts_may_lie_anywhere_but_not_where_another_is_written),
        cmocka_unit_test(counts_must_be_there_and_fit_in_memory),
        cmocka_unit_test(what_a_rank_gives_itself_it_must_know_only_one_count_of),
        cmocka_unit_test(messages_need_a_peer_and_a_tag),
        cmocka_unit_test(messages_and_collectives_are_not_issued_together),
        cmocka_unit_test(calls_issued_together_must_not_touch_what_another_writes),
        cmocka_unit_test(two_receives_cannot_report_in_one_place),
        cmocka_unit_test(conflicts_are_found_as_by_comparing_each_pair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
