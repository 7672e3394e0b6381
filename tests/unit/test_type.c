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
    assert_int_equal(tutti_type_size(TUTTI_UINT32), 4);
    assert_int_equal(tutti_type_size(TUTTI_UINT64), 8);
    assert_int_equal(tutti_type_size(TUTTI_INT16), 2);
    assert_int_equal(tutti_type_size(TUTTI_BOOL), 1);
    assert_int_equal(tutti_type_size(TUTTI_COMPLEX64), 8);
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
    assert_int_equal(type_from_name("bool"), TUTTI_BOOL);
    assert_int_equal(type_from_name("complex64"), TUTTI_COMPLEX64);
    assert_int_equal(reduction_from_name("avg"), TUTTI_AVG);
    assert_int_equal(reduction_from_name("bit_xor"), TUTTI_BIT_XOR);
    assert_int_equal(reduction_from_name("logical_or"), TUTTI_LOGICAL_OR);
    assert_int_equal(reduction_from_name("premultiplied_sum"), TUTTI_PREMULTIPLIED_SUM);
    assert_int_equal(operation_from_name("reduce_scatter"), TUTTI_REDUCE_SCATTER);
    assert_int_equal(operation_from_name("all_to_all"), TUTTI_ALL_TO_ALL);
    assert_int_equal(operation_from_name("all_gather_v"), TUTTI_ALL_GATHER_V);
    assert_int_equal(operation_from_name("send"), TUTTI_SEND);
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

/* ---- What a type takes, what an operation is ------------------------------------------------------- */

static const int floats[] = {TUTTI_FLOAT32, TUTTI_FLOAT64, TUTTI_FLOAT16, TUTTI_BFLOAT16, 0};
static const int integers[] = {TUTTI_INT8,   TUTTI_UINT8, TUTTI_INT16,  TUTTI_INT32,
                               TUTTI_UINT32, TUTTI_INT64, TUTTI_UINT64, 0};

/* `reductions`: the letter of each that is taken, in the order of the enum: s p m M a & | ^ A O *. */
static void check_takes(int type, const char *reductions)
{
    static const char letters[] = "?spmMa&|^AO*";
    assert_int_equal(sizeof letters - 1, REDUCTION_COUNT);
    for (int reduction = 1; reduction < REDUCTION_COUNT; reduction++) {
        if (type_takes(type, reduction) != (strchr(reductions, letters[reduction]) != NULL))
            fail_msg("%s and %s", type_name(type), reduction_name(reduction));
    }
}

static void types_take_the_reductions_that_the_public_header_says(void **state)
{
    (void)state;
    for (int i = 0; floats[i] != 0; i++)
        check_takes(floats[i], "spmMa*");
    for (int i = 0; integers[i] != 0; i++)
        check_takes(integers[i], "spmMa&|^AO");
    check_takes(TUTTI_BOOL, "spmM&|^AO");
    check_takes(TUTTI_COMPLEX64, "spa*");
}

static void the_half_types_are_float16_and_bfloat16(void **state)
{
    (void)state;
    for (int type = 0; type <= TYPE_COUNT; type++)
        assert_int_equal(type_is_half(type), type == TUTTI_FLOAT16 || type == TUTTI_BFLOAT16);
}

/* Letters: R reduces, r has a root, g gathers, s scatters, c has counts, m is a message. */
static void operations_are_what_they_are(void **state)
{
    (void)state;
    static const struct {
        int plain;
        const char *properties;
    } expected[OPERATION_COUNT] = {
        [TUTTI_ALL_REDUCE] = {TUTTI_ALL_REDUCE, "R"},
        [TUTTI_BROADCAST] = {TUTTI_BROADCAST, "r"},
        [TUTTI_ALL_GATHER] = {TUTTI_ALL_GATHER, "g"},
        [TUTTI_GATHER] = {TUTTI_GATHER, "rg"},
        [TUTTI_REDUCE_SCATTER] = {TUTTI_REDUCE_SCATTER, "Rs"},
        [TUTTI_BARRIER] = {TUTTI_BARRIER, ""},
        [TUTTI_REDUCE] = {TUTTI_REDUCE, "Rr"},
        [TUTTI_SCATTER] = {TUTTI_SCATTER, "rs"},
        [TUTTI_ALL_TO_ALL] = {TUTTI_ALL_TO_ALL, ""},
        [TUTTI_ALL_GATHER_V] = {TUTTI_ALL_GATHER, "gc"},
        [TUTTI_GATHER_V] = {TUTTI_GATHER, "rgc"},
        [TUTTI_SCATTER_V] = {TUTTI_SCATTER, "rsc"},
        [TUTTI_REDUCE_SCATTER_V] = {TUTTI_REDUCE_SCATTER, "Rsc"},
        [TUTTI_ALL_TO_ALL_V] = {TUTTI_ALL_TO_ALL, "c"},
        [TUTTI_SEND] = {TUTTI_SEND, "m"},
        [TUTTI_RECV] = {TUTTI_RECV, "m"},
    };
    static const struct {
        char letter;
        bool (*is)(int operation);
    } properties[] = {{'R', operation_reduces},  {'r', operation_has_root},   {'g', operation_gathers},
                      {'s', operation_scatters}, {'c', operation_has_counts}, {'m', operation_is_message}};
    for (size_t p = 0; p < sizeof properties / sizeof properties[0]; p++) {
        for (int operation = 1; operation < OPERATION_COUNT; operation++) {
            bool is = strchr(expected[operation].properties, properties[p].letter) != NULL;
            if (properties[p].is(operation) != is)
                fail_msg("%s: %c", operation_name(operation), properties[p].letter);
        }
        for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
            assert_false(properties[p].is(others[i]));
    }
    for (int operation = 1; operation < OPERATION_COUNT; operation++)
        assert_int_equal(operation_plain(operation), expected[operation].plain);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_int_equal(operation_plain(others[i]), others[i]);
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
        cmocka_unit_test(types_take_the_reductions_that_the_public_header_says),
        cmocka_unit_test(the_half_types_are_float16_and_bfloat16),
        cmocka_unit_test(operations_are_what_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
