#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "tensor/chunk.h"

static void chunks_follow_one_another_and_cover_the_vector(void **state)
{
    (void)state;
    for (size_t parts = 1; parts <= 65; parts++) {
        for (size_t total = 0; total <= 300; total++) {
            size_t next = 0;
            for (size_t index = 0; index < parts; index++) {
                assert_int_equal(chunk_begin(total, parts, index), next);
                next += chunk_count(total, parts, index);
            }
            assert_int_equal(next, total);
            assert_int_equal(chunk_begin(total, parts, parts), total);
        }
    }
}

static void chunks_differ_by_one_element_at_most_and_the_larger_come_first(void **state)
{
    (void)state;
    for (size_t parts = 1; parts <= 65; parts++) {
        for (size_t total = 0; total <= 300; total++) {
            for (size_t index = 1; index < parts; index++)
                assert_true(chunk_count(total, parts, index) <= chunk_count(total, parts, index - 1));
            assert_true(chunk_count(total, parts, 0) - chunk_count(total, parts, parts - 1) <= 1);
        }
    }
}

static void chunks_of_the_largest_vector_do_not_overflow(void **state)
{
    (void)state;
    for (size_t parts = 1; parts <= 4096; parts = parts * 2 + 1) {
        assert_true(chunk_begin(SIZE_MAX, parts, parts) == SIZE_MAX);
        size_t last = parts - 1;
        assert_true(chunk_begin(SIZE_MAX, parts, last) + chunk_count(SIZE_MAX, parts, last) == SIZE_MAX);
    }
}

static void four_ranks_share_ten_elements_as_three_three_two_two(void **state)
{
    (void)state;
    static const size_t begins[] = {0, 3, 6, 8, 10};
    for (size_t index = 0; index <= 4; index++)
        assert_int_equal(chunk_begin(10, 4, index), begins[index]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_follow_one_another_and_cover_the_vector),
        cmocka_unit_test(chunks_differ_by_one_element_at_most_and_the_larger_come_first),
        cmocka_unit_test(chunks_of_the_largest_vector_do_not_overflow),
        cmocka_unit_test(four_ranks_share_ten_elements_as_three_three_two_two),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
