#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/hash.h"
#include "base/text.h"

#define UNTOUCHED 4711

static void control_characters_are_those_below_the_space_and_delete(void **state)
{
    (void)state;
    for (int byte = 0; byte <= UINT8_MAX; byte++) {
        char c = (char)byte, text[] = {'a', c, 'b', '\0'};
        bool control = byte < 0x20 || byte == 0x7F;
        assert_int_equal(text_is_control(c), control);
        if (byte != 0)
            assert_int_equal(text_has_control(text), control);
    }
    assert_false(text_has_control(""));
    assert_true(text_has_control("at the end\n"));
}

static void a_line_has_spaces_in_the_place_of_control_characters(void **state)
{
    (void)state;
    char text[] = "\na\r\n\tb\x1B[1mc\x7F\xC3\xA9 ";
    text_to_one_line(text);
    assert_string_equal(text, " a   b [1mc \xC3\xA9 ");
    char empty[] = "";
    text_to_one_line(empty);
    assert_string_equal(empty, "");
}

static void digits_are_read_up_to_what_follows_them(void **state)
{
    (void)state;
    uint64_t number;
    assert_string_equal(text_read_digits("20000-20100", 65535, &number), "-20100");
    assert_int_equal(number, 20000);
    assert_string_equal(text_read_digits("007", 7, &number), "");
    assert_int_equal(number, 7);
    number = UNTOUCHED;
    assert_null(text_read_digits("", 9, &number));
    assert_null(text_read_digits("-1", 9, &number));
    assert_null(text_read_digits("10", 9, &number));
    assert_int_equal(number, UNTOUCHED);
}

/* Around every limit, those of the type included. */
static void a_number_is_read_up_to_its_limit_and_not_beyond(void **state)
{
    (void)state;
    static const uint64_t limits[] = {
        0, 1, 8, 9, 10, 99, 100, 65535, INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX - 1, UINT64_MAX};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        char text[32];
        uint64_t number = UNTOUCHED;
        snprintf(text, sizeof text, "%ju", (uintmax_t)limits[i]);
        assert_true(text_to_number(text, limits[i], &number));
        assert_true(number == limits[i]);
        number = UNTOUCHED;
        if (limits[i] > 0)
            assert_false(text_to_number(text, limits[i] - 1, &number));
        strcat(text, "0"); /* ten times as much */
        if (limits[i] > 0)
            assert_false(text_to_number(text, limits[i], &number));
        assert_true(limits[i] == 0 || number == UNTOUCHED);
    }
    uint64_t number = UNTOUCHED;
    assert_false(text_to_number("18446744073709551616", UINT64_MAX, &number));
    assert_false(text_to_number("99999999999999999999999999", UINT64_MAX, &number));
    assert_int_equal(number, UNTOUCHED);
}

static void a_number_is_digits_alone(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",   " ",  "4x",  "x4",  "+4", "-4",
                                        " 4", "4 ", "4.0", "0x4", "4K", "1e3"};
    uint64_t number = UNTOUCHED;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(text_to_number(wrong[i], UINT64_MAX, &number));
    assert_int_equal(number, UNTOUCHED);
}

static void amounts_are_multiplied_by_their_unit(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const struct text_unit *units;
        uint64_t amount;
    } cases[] = {
        {"4096", text_byte_units, 4096},
        {"0K", text_byte_units, 0},
        {"256K", text_byte_units, 256u << 10},
        {"3M", text_byte_units, 3u << 20},
        {"5G", text_byte_units, UINT64_C(5) << 30},
        {"500", text_time_units, 500},
        {"500ms", text_time_units, 500},
        {"10s", text_time_units, 10000},
        {"2m", text_time_units, 120000},
        {"168h", text_time_units, 604800000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t amount = UNTOUCHED;
        assert_true(text_to_amount(cases[i].text, cases[i].units, INT64_MAX, &amount));
        assert_true(amount == cases[i].amount);
    }
}

static void amounts_with_another_unit_or_beyond_the_limit_are_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {"", "K", "4k", "4KB", "4 K", "-4K", "+4K", "4.5K", "4T", "4s"};
    uint64_t amount = UNTOUCHED;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(text_to_amount(wrong[i], text_byte_units, UINT64_MAX, &amount));
    assert_false(text_to_amount("4K", text_time_units, UINT64_MAX, &amount));
    assert_false(text_to_amount("4097", text_byte_units, 4096, &amount));
    assert_false(text_to_amount("5K", text_byte_units, 5119, &amount));
    assert_false(text_to_amount("17179869184G", text_byte_units, UINT64_MAX, &amount)); /* 2^64 */
    assert_int_equal(amount, UNTOUCHED);
    assert_true(text_to_amount("5K", text_byte_units, 5120, &amount));
    assert_true(text_to_amount("17179869183G", text_byte_units, UINT64_MAX, &amount));
    assert_true(amount == UINT64_MAX - (UINT32_MAX >> 2));
}

static uint64_t hash_of(const char *text)
{
    uint64_t hash = FNV1A_START;
    for (; *text; text++)
        hash = fnv1a_add(hash, (uint8_t)*text);
    return hash;
}

/* From the test vectors that its authors publish. */
static void the_hash_is_fnv_1a(void **state)
{
    (void)state;
    assert_true(hash_of("") == UINT64_C(0xcbf29ce484222325));
    assert_true(hash_of("a") == UINT64_C(0xaf63dc4c8601ec8c));
    assert_true(hash_of("foobar") == UINT64_C(0x85944171f73967e8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control_characters_are_those_below_the_space_and_delete),
        cmocka_unit_test(a_line_has_spaces_in_the_place_of_control_characters),
        cmocka_unit_test(digits_are_read_up_to_what_follows_them),
        cmocka_unit_test(a_number_is_read_up_to_its_limit_and_not_beyond),
        cmocka_unit_test(a_number_is_digits_alone),
        cmocka_unit_test(amounts_are_multiplied_by_their_unit),
        cmocka_unit_test(amounts_with_another_unit_or_beyond_the_limit_are_refused),
        cmocka_unit_test(the_hash_is_fnv_1a),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
