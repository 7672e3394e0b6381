#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "tensor/type.h"

/* None of these is a type, a reduction or an operation. */
static const int others[] = {0, -1, 100, INT32_MAX, INT32_MIN};

static void type_sizes_are_those_of_the_elements(void **state)
{
    (void)state;
    assert_int_equal(tutti_type_size(TUTTI_FLOAT32), 4);
    assert_int_equal(tutti_type_size(TUTTI_FLOAT64), 8);
    assert_int_equal(tutti_type_size(TUTTI_FLOAT16), 2);
    assert_int_equal(tutti_type_size(TUTTI_BFLOAT16), 2);
    assert_int_equal(tutti_type_size(TUTTI_INT8), 1);
    assert_int_equal(tutti_type_size(TUTTI_UINT8), 1);
    assert_int_equal(tutti_type_size(TUTTI_INT32), 4);
    assert_int_equal(tutti_type_size(TUTTI_INT64), 8);
}

static void a_value_that_is_no_type_has_no_size(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_int_equal(tutti_type_size((enum tutti_type)others[i]), 0);
    assert_int_equal(tutti_type_size((enum tutti_type)TYPE_COUNT), 0);
}

static void values_outside_of_the_enums_are_not_valid(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_false(type_is_valid(others[i]));
        assert_false(reduction_is_valid(others[i]));
        assert_false(operation_is_valid(others[i]));
        assert_string_equal(type_name(others[i]), "unknown type");
        assert_string_equal(reduction_name(others[i]), "unknown reduction");
        assert_string_equal(operation_name(others[i]), "unknown operation");
    }
    assert_false(type_is_valid(TYPE_COUNT));
    assert_false(reduction_is_valid(REDUCTION_COUNT));
    assert_false(operation_is_valid(OPERATION_COUNT));
}

static void every_name_leads_back_to_its_value(void **state)
{
    (void)state;
    for (int type = 1; type < TYPE_COUNT; type++) {
        assert_true(type_is_valid(type));
        assert_int_equal(type_from_name(type_name(type)), type);
    }
    for (int reduction = 1; reduction < REDUCTION_COUNT; reduction++) {
        assert_true(reduction_is_valid(reduction));
        assert_int_equal(reduction_from_name(reduction_name(reduction)), reduction);
    }
    for (int operation = 1; operation < OPERATION_COUNT; operation++) {
        assert_true(operation_is_valid(operation));
        assert_int_equal(operation_from_name(operation_name(operation)), operation);
    }
}

static void names_are_those_of_python_and_the_command_line(void **state)
{
    (void)state;
    assert_int_equal(type_from_name("float32"), TUTTI_FLOAT32);
    assert_int_equal(type_from_name("bfloat16"), TUTTI_BFLOAT16);
    assert_int_equal(reduction_from_name("avg"), TUTTI_AVG);
    assert_int_equal(operation_from_name("reduce_scatter"), TUTTI_REDUCE_SCATTER);
}

static void names_that_nothing_has_lead_to_zero(void **state)
{
    (void)state;
    static const char *const names[] = {"", "float", "float32 ", "SUM", "unknown type", "all-reduce"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_int_equal(type_from_name(names[i]), 0);
        assert_int_equal(reduction_from_name(names[i]), 0);
        assert_int_equal(operation_from_name(names[i]), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(type_sizes_are_those_of_the_elements),
        cmocka_unit_test(a_value_that_is_no_type_has_no_size),
        cmocka_unit_test(values_outside_of_the_enums_are_not_valid),
        cmocka_unit_test(every_name_leads_back_to_its_value),
        cmocka_unit_test(names_are_those_of_python_and_the_command_line),
        cmocka_unit_test(names_that_nothing_has_lead_to_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
