#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "group/topology.h"

#define ANY TUTTI_RANK_ANY
#define MAX 8

/* Assigns and checks the ranks, in the order of arrival. */
static int assign(struct place *places, int size, const int *expected)
{
    int scratch[TOPOLOGY_SCRATCH * MAX];
    int hosts = topology_assign(places, size, scratch);
    for (int i = 0; i < size; i++)
        assert_int_equal(places[i].rank, expected[i]);
    return hosts;
}

static void ranks_of_one_host_are_consecutive_and_hosts_come_in_the_order_of_arrival(void **state)
{
    (void)state;
    struct place places[] = {
        {"b", ANY, ANY}, {"a", ANY, ANY}, {"b", ANY, ANY}, {"c", ANY, ANY}, {"a", ANY, ANY}};
    assert_int_equal(assign(places, 5, (int[]){0, 2, 1, 4, 3}), 3);
    assert_int_equal(places[0].host_index, 0);
    assert_int_equal(places[4].host_index, 1);
    assert_int_equal(places[3].host_index, 2);
    assert_int_equal(places[2].local_rank, 1);
    assert_int_equal(places[2].local_size, 2);
    assert_int_equal(places[3].local_rank, 0);
    assert_int_equal(places[3].local_size, 1);
}

static void explicit_ranks_are_kept_and_the_others_fill_the_gaps(void **state)
{
    (void)state;
    struct place places[] = {{"a", ANY, ANY}, {"b", 0, ANY}, {"a", 2, ANY}, {"b", ANY, ANY}, {"a", ANY, ANY}};
    assert_int_equal(assign(places, 5, (int[]){1, 0, 2, 4, 3}), 2);
    assert_int_equal(places[1].local_rank, 0);
    assert_int_equal(places[3].local_rank, 1);
    assert_int_equal(places[4].local_rank, 2);
    assert_int_equal(places[4].local_size, 3);
}

static void local_ranks_follow_the_ranks_also_when_hosts_alternate(void **state)
{
    (void)state;
    struct place places[] = {{"a", 3, ANY}, {"a", 1, ANY}, {"b", 2, ANY}, {"b", 0, ANY}};
    assert_int_equal(assign(places, 4, (int[]){3, 1, 2, 0}), 2);
    assert_int_equal(places[0].local_rank, 1);
    assert_int_equal(places[1].local_rank, 0);
    assert_int_equal(places[2].local_rank, 1);
    assert_int_equal(places[3].local_rank, 0);
}

static void a_remembered_rank_gives_way_to_an_explicit_one_only(void **state)
{
    (void)state;
    struct place places[] = {{"new", ANY, ANY}, {"a", ANY, 0}, {"a", ANY, 2}, {"b", 2, ANY}};
    assign(places, 4, (int[]){1, 0, 3, 2});
}

static void an_explicit_wish_overrules_the_memory(void **state)
{
    (void)state;
    struct place places[] = {{"a", 1, 0}, {"a", ANY, 1}};
    assign(places, 2, (int[]){1, 0});
}

static void one_member_is_rank_0_of_its_host(void **state)
{
    (void)state;
    struct place places[] = {{"", ANY, ANY}};
    assert_int_equal(assign(places, 1, (int[]){0}), 1);
    assert_int_equal(places[0].local_size, 1);
}

static void ranks_are_printed_as_ranges(void **state)
{
    (void)state;
    char text[64];
    int ranks[] = {2, 5, 6, 7, 10, 11, 4095};
    assert_string_equal(topology_print_ranks(ranks, 1, text, sizeof text), "rank 2");
    assert_string_equal(topology_print_ranks(ranks, 2, text, sizeof text), "ranks 2, 5");
    assert_string_equal(topology_print_ranks(ranks, 4, text, sizeof text), "ranks 2, 5-7");
    assert_string_equal(topology_print_ranks(ranks, 7, text, sizeof text), "ranks 2, 5-7, 10-11, 4095");
}

static void a_long_list_of_ranks_is_cut(void **state)
{
    (void)state;
    int odd[2048];
    for (int i = 0; i < 2048; i++)
        odd[i] = 2 * i + 1;
    for (size_t size = 16; size < 300; size++) {
        char text[300];
        memset(text, '!', sizeof text);
        topology_print_ranks(odd, 2048, text, size);
        size_t length = strlen(text);
        assert_true(length < size);
        assert_string_equal(text + length - 3, "...");
        assert_int_equal(text[size], '!');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_of_one_host_are_consecutive_and_hosts_come_in_the_order_of_arrival),
        cmocka_unit_test(explicit_ranks_are_kept_and_the_others_fill_the_gaps),
        cmocka_unit_test(local_ranks_follow_the_ranks_also_when_hosts_alternate),
        cmocka_unit_test(a_remembered_rank_gives_way_to_an_explicit_one_only),
        cmocka_unit_test(an_explicit_wish_overrules_the_memory),
        cmocka_unit_test(one_member_is_rank_0_of_its_host),
        cmocka_unit_test(ranks_are_printed_as_ranges),
        cmocka_unit_test(a_long_list_of_ranks_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
