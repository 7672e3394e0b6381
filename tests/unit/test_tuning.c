#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "algorithm/select.h"

/* ---- Texts ----------------------------------------------------------------------------------------- */

/* What tuning_print() says, to be freed. */
static char *print(const struct tuning *tuning)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    tuning_print(tuning, out);
    assert_int_equal(fclose(out), 0);
    return text;
}

/* The default text with `from` replaced by `to`, to be freed. */
static char *edited(const char *from, const char *to)
{
    char *text = print(&tuning_default), *at = strstr(text, from), *result = NULL;
    if (!at)
        fail_msg("\"%s\" does not say '%s'", text, from);
    assert_true(asprintf(&result, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from)) > 0);
    free(text);
    return result;
}

/* All but the padding. */
static void assert_same(const struct tuning *a, const struct tuning *b)
{
    assert_int_equal(a->version, b->version);
    assert_memory_equal(&a->shm, &b->shm, sizeof *a - offsetof(struct tuning, shm));
}

static void assert_refused(const char *text, const char *word, const char *more)
{
    struct tuning tuning = tuning_default;
    struct tutti_error error = TUTTI_ERROR_INIT;
    assert_int_equal(tuning_parse(text, &tuning, &error), TUTTI_ERR_CONFIG);
    assert_int_equal(error.code, TUTTI_ERR_CONFIG);
    if (!strstr(error.message, word) || !strstr(error.message, more))
        fail_msg("\"%s\" does not say '%s' and '%s'", error.message, word, more);
    if (strchr(error.message, '\n') || strchr(error.message, '\033'))
        fail_msg("\"%s\" is not one plain line", error.message);
    assert_same(&tuning, &tuning_default);
}

static void assert_edit_refused(const char *from, const char *to, const char *word, const char *more)
{
    char *text = edited(from, to);
    assert_refused(text, word, more);
    free(text);
}

static void parse(const char *text, struct tuning *tuning)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    if (tuning_parse(text, tuning, &error) != TUTTI_OK)
        fail_msg("%s", error.message);
}

/* ---- Tests ----------------------------------------------------------------------------------------- */

static void the_built_in_constants_are_the_same_after_printing_and_parsing(void **state)
{
    (void)state;
    struct tuning tuning = {0};
    char *text = print(&tuning_default);
    parse(text, &tuning);
    assert_same(&tuning, &tuning_default);
    assert_true(strlen(text) < 1024);
    free(text);
}

/* Numbers of every magnitude, so that each digit of the text form counts. */
static void a_measured_tuning_is_the_same_after_rounding_printing_and_parsing(void **state)
{
    (void)state;
    uint64_t seed = 0x9E3779B97F4A7C15u;
    for (int round = 0; round < 1000; round++) {
        struct tuning tuning = tuning_default, again = {0};
        double *values[] = {&tuning.uds.latency_us,     &tuning.tcp.us_per_byte, &tuning.reduce_us_per_byte,
                            &tuning.stripe_overhead_us, &tuning.shm.us_per_byte, &tuning.shared.latency_us};
        for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            *values[i] = (double)(seed >> 11) / 9007199254740992.0;
            for (uint64_t magnitude = (seed >> 3) % 13; magnitude > 0; magnitude--)
                *values[i] *= i % 2 ? 3 : 0.3;
        }
        tuning_round(&tuning);
        char *text = print(&tuning);
        parse(text, &again);
        assert_same(&again, &tuning);
        free(text);
    }
}

static void what_cannot_be_written_is_rounded_to_what_can(void **state)
{
    (void)state;
    struct tuning tuning = tuning_default, again;
    tuning.uds.latency_us = -1;
    tuning.uds.overhead_us = 1e30;
    tuning.tcp.latency_us = NAN;
    tuning.tcp.us_per_byte = 1e-12;
    tuning_round(&tuning);
    assert_true(tuning.uds.latency_us == 0 && tuning.uds.overhead_us == 1e6);
    assert_true(tuning.tcp.latency_us == 0 && tuning.tcp.us_per_byte == 0);
    char *text = print(&tuning);
    parse(text, &again);
    assert_same(&again, &tuning);
    free(text);
}

static void comments_blanks_and_any_order_are_read(void **state)
{
    (void)state;
    char *text = print(&tuning_default), *mixed = NULL, *title_end = strchr(text, '\n');
    char *last = strstr(text, "stripe_overhead_us");
    assert_non_null(title_end);
    assert_non_null(last);
    assert_true(asprintf(&mixed,
                         "# of host a\r\n\n  tutti tuning 2 # the title\n\t stripe_overhead_us\t%s%.*s",
                         strchr(last, ' ') + 1, (int)(last - title_end - 1), title_end + 1) > 0);
    struct tuning tuning;
    parse(mixed, &tuning);
    assert_same(&tuning, &tuning_default);
    free(mixed);
    free(text);
}

static void a_last_line_may_lack_its_end(void **state)
{
    (void)state;
    char *text = print(&tuning_default);
    text[strlen(text) - 1] = '\0';
    struct tuning tuning;
    parse(text, &tuning);
    assert_same(&tuning, &tuning_default);
    free(text);
}

static void numbers_are_whole_or_have_a_point(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double value;
    } numbers[] = {{"0", 0}, {"7", 7}, {"0.000000001", 1e-9}, {"1000000", 1e6}, {"007.50", 7.5}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char line[64];
        struct tuning tuning;
        snprintf(line, sizeof line, "stripe_overhead_us %s", numbers[i].text);
        char *text = edited("stripe_overhead_us 50.0", line);
        parse(text, &tuning);
        assert_true(tuning.stripe_overhead_us == numbers[i].value);
        free(text);
    }
}

static void a_number_that_is_none_is_refused_with_its_line(void **state)
{
    (void)state;
    static const char *const numbers[] = {"",     "-1",  "+1",           "nan",     "inf",
                                          "1e3",  "1.",  ".5",           "1,5",     "0x10",
                                          "1 2",  "1.x", "0.0000000001", "1000001", "99999999999999999999",
                                          "1.2.3"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char line[64];
        snprintf(line, sizeof line, "tutti tuning 2\nstripe_overhead_us %s\n", numbers[i]);
        assert_refused(line, "line 2", "decimal number");
    }
}

static void another_version_is_refused_naming_both(void **state)
{
    (void)state;
    assert_edit_refused("tutti tuning 2", "tutti tuning 1", "'tutti tuning 1'", "version 2");
    assert_edit_refused("tutti tuning 2", "tutti tuning 1", "1", "run `tutti tune`");
    assert_edit_refused("tutti tuning 2", "tutti tuning 3", "'tutti tuning 3'", "version 2");
}

static void what_is_no_tuning_is_refused(void **state)
{
    (void)state;
    assert_refused("", "empty", "tutti tune");
    assert_refused("# nothing but this\n\n", "empty", "tutti tune");
    assert_refused("uds.latency_us 2\n", "line 1", "tutti tuning 2");
    assert_refused("tutti tuning\n", "line 1", "tutti tuning 2");
    assert_refused("tutti tuning 2x\n", "line 1", "tutti tuning 2");
    assert_refused("tutti tuning 99999999999\n", "line 1", "tutti tuning 2");
    assert_refused("\033[2J\001\n", "line 1", "tutti tuning 2");
}

static void unknown_names_are_refused_with_their_line(void **state)
{
    (void)state;
    assert_edit_refused("uds.overhead_us", "uds.overhead", "line 8", "there is no constant");
    assert_edit_refused("tcp.latency_us", "ib.latency_us", "'ib.latency_us", "there is no constant");
}

static void missing_names_are_refused(void **state)
{
    (void)state;
    assert_edit_refused("reduce_us_per_byte", "#", "reduce_us_per_byte", "tutti tune");
    assert_edit_refused("shared.us_per_byte", "#", "shared.us_per_byte", "tutti tune");
    assert_refused("tutti tuning 2\n", "shm.latency_us", "line 1");
}

static void a_name_that_is_given_twice_is_refused(void **state)
{
    (void)state;
    assert_edit_refused("stripe_overhead_us", "uds.latency_us 1\nstripe_overhead_us", "uds.latency_us",
                        "second time");
}

static void a_very_long_line_is_quoted_in_part(void **state)
{
    (void)state;
    char *text = malloc(100001);
    assert_non_null(text);
    memset(text, 'x', 100000);
    text[100000] = '\0';
    assert_refused(text, "line 1", "xxx");
    free(text);
}

/* ---- The path --------------------------------------------------------------------------------------- */

/* Names and values in turn, ended by NULL. */
static const char *read_list(void *context, const char *name)
{
    for (const char *const *entry = context; entry[0]; entry += 2)
        if (strcmp(entry[0], name) == 0)
            return entry[1];
    return NULL;
}

static void assert_path(const char *const *environment, const char *expected)
{
    char path[64] = "";
    bool found = tuning_default_path(read_list, (void *)(uintptr_t)environment, path, sizeof path);
    assert_int_equal(found, expected != NULL);
    if (expected)
        assert_string_equal(path, expected);
}

static void the_path_is_below_the_configuration_of_the_user(void **state)
{
    (void)state;
    assert_path((const char *const[]){"HOME", "/h", NULL}, "/h/.config/tutti/tuning");
    assert_path((const char *const[]){"HOME", "/h", "XDG_CONFIG_HOME", "/x", NULL}, "/x/tutti/tuning");
    assert_path((const char *const[]){"HOME", "/h", "XDG_CONFIG_HOME", "", NULL}, "/h/.config/tutti/tuning");
    assert_path((const char *const[]){"HOME", "/h", "XDG_CONFIG_HOME", "x", NULL}, "/h/.config/tutti/tuning");
}

static void without_a_home_there_is_no_path(void **state)
{
    (void)state;
    assert_path((const char *const[]){NULL}, NULL);
    assert_path((const char *const[]){"HOME", "", NULL}, NULL);
    assert_path((const char *const[]){"HOME", "/a/home/that/is/too/long/for/the/buffer/of/this/test", NULL},
                NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_built_in_constants_are_the_same_after_printing_and_parsing),
        cmocka_unit_test(a_measured_tuning_is_the_same_after_rounding_printing_and_parsing),
        cmocka_unit_test(what_cannot_be_written_is_rounded_to_what_can),
        cmocka_unit_test(comments_blanks_and_any_order_are_read),
        cmocka_unit_test(a_last_line_may_lack_its_end),
        cmocka_unit_test(numbers_are_whole_or_have_a_point),
        cmocka_unit_test(a_number_that_is_none_is_refused_with_its_line),
        cmocka_unit_test(another_version_is_refused_naming_both),
        cmocka_unit_test(what_is_no_tuning_is_refused),
        cmocka_unit_test(unknown_names_are_refused_with_their_line),
        cmocka_unit_test(missing_names_are_refused),
        cmocka_unit_test(a_name_that_is_given_twice_is_refused),
        cmocka_unit_test(a_very_long_line_is_quoted_in_part),
        cmocka_unit_test(the_path_is_below_the_configuration_of_the_user),
        cmocka_unit_test(without_a_home_there_is_no_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
