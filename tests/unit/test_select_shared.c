#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "select_samples.h"

/* Ranks of one host that share an arena. */
static struct select_group one_arena(int size)
{
    struct select_group group = one_host(size);
    group.local = LOCAL_SHM;
    group.shared = true;
    return group;
}

static const int served[] = {TUTTI_ALL_REDUCE, TUTTI_REDUCE_SCATTER, TUTTI_ALL_GATHER,
                             TUTTI_BROADCAST,  TUTTI_GATHER,         TUTTI_BARRIER};
#define SERVED_COUNT (sizeof served / sizeof *served)

static const size_t byte_counts[] = {0, 4, 64 * KIB, 64 * MIB};
#define BYTE_COUNT (sizeof byte_counts / sizeof *byte_counts)

/* ---- The choice ------------------------------------------------------------------------------------- */

static void ranks_with_an_arena_take_it_for_what_it_serves_at_every_length(void **state)
{
    (void)state;
    for (size_t i = 0; i < SERVED_COUNT * BYTE_COUNT; i++) {
        struct select_group group = one_arena(2 + (int)i % 7);
        struct select_call call = call_of(served[i / BYTE_COUNT], byte_counts[i % BYTE_COUNT]);
        group.channels_max = 4;
        struct selection selection = choose(&group, &call);
        assert_ptr_equal(selection.algorithm, algorithm_shared(call.operation));
        assert_int_equal(selection.channels, 1);
        assert_true(selection.predicted_us == select_predict_us(&group, &call, selection.algorithm));
        group.deterministic = true;
        call.type = TUTTI_BFLOAT16;
        assert_ptr_equal(choose(&group, &call).algorithm, algorithm_shared(call.operation));
        group.shared = false;
        assert_false(algorithm_is_shared(choose(&group, &call).algorithm));
    }
}

static void what_the_arena_does_not_serve_goes_over_links(void **state)
{
    (void)state;
    static const int operations[] = {TUTTI_REDUCE,       TUTTI_SCATTER,         TUTTI_ALL_TO_ALL,
                                     TUTTI_ALL_GATHER_V, TUTTI_GATHER_V,        TUTTI_SCATTER_V,
                                     TUTTI_ALL_TO_ALL_V, TUTTI_REDUCE_SCATTER_V};
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        struct select_group group = one_arena(4);
        struct select_call call = call_of(operations[i], 1 * MIB);
        struct selection over_links = choose(&group, &call);
        assert_false(algorithm_is_shared(over_links.algorithm));
        group.shared = false;
        assert_ptr_equal(choose(&group, &call).algorithm, over_links.algorithm);
    }
}

/* ---- Names ------------------------------------------------------------------------------------------ */

static void assert_refused(const struct select_group *group, const struct select_call *call, const char *word,
                           bool lists_shared)
{
    struct selection selection;
    struct tutti_error error = TUTTI_ERROR_INIT;
    assert_int_equal(algorithm_select(group, call, &selection, &error), TUTTI_ERR_ARGUMENT);
    const char *list = strrchr(error.message, ';') ? strrchr(error.message, ';') : error.message;
    if (!strstr(error.message, word) || !strstr(error.message, "ring") ||
        (strstr(list, "shared") != NULL) != lists_shared)
        fail_msg("\"%s\" does not say '%s', or not what there is", error.message, word);
}

static void it_can_be_asked_for_by_name_where_there_is_an_arena(void **state)
{
    (void)state;
    for (size_t i = 0; i < SERVED_COUNT; i++) {
        struct select_group group = one_arena(4);
        struct select_call call = call_of(served[i], 1 * KIB);
        call.name = "shared";
        assert_ptr_equal(choose(&group, &call).algorithm, algorithm_shared(served[i]));
        group.shared = false;
        assert_refused(&group, &call, "no shared memory joins all ranks", false);
    }
}

static void it_cannot_be_asked_for_where_parts_have_different_lengths(void **state)
{
    (void)state;
    struct select_group group = one_arena(4);
    struct select_call call = call_of(TUTTI_ALL_GATHER_V, 1 * KIB);
    call.name = "shared";
    assert_refused(&group, &call, "different lengths", false);
    call.operation = TUTTI_REDUCE;
    assert_refused(&group, &call, "no algorithm 'shared' of reduce", false);
}

static void it_is_listed_where_it_may_be_used(void **state)
{
    (void)state;
    struct select_group group = one_arena(4);
    struct select_call call = call_of(TUTTI_ALL_REDUCE, 1 * KIB);
    call.name = "hierarchical";
    assert_refused(&group, &call, "several hosts", true);
    group.shared = false;
    assert_refused(&group, &call, "several hosts", false);
}

static void the_call_or_the_override_may_name_a_schedule_instead(void **state)
{
    (void)state;
    struct select_group group = one_arena(4);
    struct tutti_error error = TUTTI_ERROR_INIT;
    struct select_call call = call_of(TUTTI_ALL_REDUCE, 1 * KIB);
    call.name = "ring";
    assert_string_equal(choose(&group, &call).algorithm->name, "ring");
    call.name = NULL;
    assert_int_equal(algorithm_override_parse("all_reduce:tree", &group.override, &error), TUTTI_OK);
    assert_string_equal(choose(&group, &call).algorithm->name, "tree");
    call.name = "shared";
    assert_string_equal(choose(&group, &call).algorithm->name, "shared");
    /* One that may not be used here is passed over, and the arena is taken. */
    call.name = NULL;
    assert_int_equal(algorithm_override_parse("all_reduce:hierarchical", &group.override, &error), TUTTI_OK);
    assert_string_equal(choose(&group, &call).algorithm->name, "shared");
}

static void an_override_by_its_name_is_passed_over_where_there_is_no_arena(void **state)
{
    (void)state;
    struct select_group group = one_arena(4), plain = group;
    struct tutti_error error = TUTTI_ERROR_INIT;
    struct select_call call = call_of(TUTTI_ALL_GATHER, 1 * KIB), with_counts = call;
    with_counts.operation = TUTTI_ALL_GATHER_V;
    assert_int_equal(algorithm_override_parse("all_gather:shared", &group.override, &error), TUTTI_OK);
    group.deterministic = true;
    assert_int_equal(select_check(&group, &error), TUTTI_OK);
    group.deterministic = false;
    assert_string_equal(choose(&group, &call).algorithm->name, "shared");
    assert_ptr_equal(choose(&group, &with_counts).algorithm, choose(&plain, &with_counts).algorithm);
    group.shared = plain.shared = false;
    assert_ptr_equal(choose(&group, &call).algorithm, choose(&plain, &call).algorithm);
    assert_int_equal(algorithm_override_parse("scatter:shared", &group.override, &error), TUTTI_ERR_CONFIG);
    assert_int_equal(algorithm_override_parse("all_reduce:rung", &group.override, &error), TUTTI_ERR_CONFIG);
    assert_non_null(strstr(error.message, "hierarchical_exchange and shared"));
}

/* ---- The predicted time ----------------------------------------------------------------------------- */

static void its_time_is_a_latency_and_a_share_of_the_bytes_for_each_pass_through_memory(void **state)
{
    (void)state;
    struct select_group group = one_arena(4);
    group.tuning.shared =
        (struct tuning_shared){.latency_us = 2, .shared_latency_us = 8, .us_per_byte = 0.75};
    static const double passes[SERVED_COUNT] = {3, 2, 1, 1, 1, 0};
    for (size_t i = 0; i < SERVED_COUNT; i++) {
        struct select_call call = call_of(served[i], 64);
        group.crowding = 1;
        assert_true(choose(&group, &call).predicted_us == 2 + 64 * 0.25 * passes[i]);
        group.crowding = 2; /* they take turns, and wait for each other's */
        assert_true(choose(&group, &call).predicted_us == 2 + 8 + 2 * 64 * 0.25 * passes[i]);
    }
}

static void a_group_of_one_needs_no_time(void **state)
{
    (void)state;
    struct select_group group = one_host(1);
    struct select_call call = call_of(TUTTI_ALL_REDUCE, 1 * MIB);
    assert_true(select_predict_us(&group, &call, algorithm_shared(TUTTI_ALL_REDUCE)) == 0);
}

/* ---- Links within a host ---------------------------------------------------------------------------- */

static void the_transports_say_what_links_within_a_host_are(void **state)
{
    (void)state;
    static const struct {
        const char *transports;
        enum local_transport local;
    } cases[] = {
        {"shm,uds,tcp", LOCAL_SHM}, {"shm", LOCAL_SHM},     {"shm,tcp", LOCAL_SHM}, {"uds,shm", LOCAL_SHM},
        {"uds,tcp,shm", LOCAL_SHM}, {"uds,tcp", LOCAL_UDS}, {"uds", LOCAL_UDS},     {"tcp", LOCAL_TCP},
        {"tcp,shm", LOCAL_TCP},     {"tcp,uds", LOCAL_TCP},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(local_transport_of(cases[i].transports), cases[i].local);
    assert_string_equal(local_transport_name(LOCAL_SHM), "shm");
    assert_string_equal(local_transport_name(LOCAL_UDS), "uds");
    assert_string_equal(local_transport_name(LOCAL_TCP), "tcp");
}

static void slices_fit_a_slot_where_shared_memory_carries_every_link(void **state)
{
    (void)state;
    struct select_group group = one_host(4);
    assert_int_equal(select_slice_bytes(&group, 256 * KIB), 256 * KIB);
    group.local = LOCAL_SHM;
    assert_int_equal(select_slice_bytes(&group, 256 * KIB), 64 * KIB);
    assert_int_equal(select_slice_bytes(&group, 8 * KIB), 8 * KIB);
    group.host_count = 2;
    assert_int_equal(select_slice_bytes(&group, 256 * KIB), 256 * KIB);
}

static void the_most_crowded_ranks_decide_about_cores(void **state)
{
    (void)state;
    struct select_group group = {.channels_max = 4};
    select_share_cores(&group, 2, 16);
    assert_true(group.crowding == 1 && group.channels_max == 4);
    select_share_cores(&group, 4, 8);
    assert_true(group.crowding == 1 && group.channels_max == 2);
    select_share_cores(&group, 3, 2);
    assert_true(group.crowding == 1.5 && group.channels_max == 1);
    select_share_cores(&group, 2, 16);
    assert_true(group.crowding == 1.5 && group.channels_max == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_with_an_arena_take_it_for_what_it_serves_at_every_length),
        cmocka_unit_test(what_the_arena_does_not_serve_goes_over_links),
        cmocka_unit_test(it_can_be_asked_for_by_name_where_there_is_an_arena),
        cmocka_unit_test(it_cannot_be_asked_for_where_parts_have_different_lengths),
        cmocka_unit_test(it_is_listed_where_it_may_be_used),
        cmocka_unit_test(the_call_or_the_override_may_name_a_schedule_instead),
        cmocka_unit_test(an_override_by_its_name_is_passed_over_where_there_is_no_arena),
        cmocka_unit_test(its_time_is_a_latency_and_a_share_of_the_bytes_for_each_pass_through_memory),
        cmocka_unit_test(a_group_of_one_needs_no_time),
        cmocka_unit_test(the_transports_say_what_links_within_a_host_are),
        cmocka_unit_test(slices_fit_a_slot_where_shared_memory_carries_every_link),
        cmocka_unit_test(the_most_crowded_ranks_decide_about_cores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
