#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <errno.h>
#include "base/error.h"

static void error_set_fills_everything_and_returns_the_code(void **state)
{
    (void)state;
    struct tutti_error error;
    memset(&error, 0x55, sizeof error);
    assert_int_equal(error_set(&error, TUTTI_ERR_TIMEOUT, "rank %d of %s", 3, "job"), TUTTI_ERR_TIMEOUT);
    assert_int_equal(error.struct_size, sizeof error);
    assert_int_equal(error.code, TUTTI_ERR_TIMEOUT);
    assert_int_equal(error.rank, -1);
    assert_string_equal(error.host, "");
    assert_string_equal(error.operation, "");
    assert_int_equal(error.sequence, 0);
    assert_string_equal(error.message, "rank 3 of job");
}

static void error_set_does_without_an_error_to_fill(void **state)
{
    (void)state;
    assert_int_equal(error_set(NULL, TUTTI_ERR_MEMORY, "no %s", "memory"), TUTTI_ERR_MEMORY);
    assert_int_equal(error_set_errno(NULL, ENOENT, "no %s", "file"), TUTTI_ERR_SYSTEM);
}

static void error_set_can_wrap_the_message_that_it_replaces(void **state)
{
    (void)state;
    struct tutti_error error;
    error_set(&error, TUTTI_ERR_SYSTEM, "connect failed");
    error_set(&error, TUTTI_ERR_UNREACHABLE, "rank 2: %s", error.message);
    assert_string_equal(error.message, "rank 2: connect failed");
}

static void error_set_keeps_the_longest_message_whole(void **state)
{
    (void)state;
    char text[sizeof((struct tutti_error *)0)->message];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    struct tutti_error error;
    error_set(&error, TUTTI_ERR_ABORTED, "%s", text);
    assert_string_equal(error.message, text);
}

static void error_set_marks_a_message_that_it_cuts(void **state)
{
    (void)state;
    char text[3000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    struct tutti_error error;
    error_set(&error, TUTTI_ERR_ABORTED, "%s", text);
    size_t length = strlen(error.message);
    assert_int_equal(length, sizeof error.message - 1);
    assert_string_equal(error.message + length - 4, "x...");
}

static void error_set_cuts_between_utf8_characters(void **state)
{
    (void)state;
    char text[3001];
    for (int shift = 0; shift < 3; shift++) {
        memset(text, 'x', 3);
        for (size_t i = (size_t)shift; i + 3 < sizeof text; i += 3)
            memcpy(text + i, "\xE2\x82\xAC", 4);
        struct tutti_error error;
        error_set(&error, TUTTI_ERR_ABORTED, "%s", text);
        size_t length = strlen(error.message);
        assert_string_equal(error.message + length - 6, "\xE2\x82\xAC...");
    }
}

static void error_set_errno_ends_with_the_text_of_the_errno(void **state)
{
    (void)state;
    struct tutti_error error;
    assert_int_equal(error_set_errno(&error, ECONNREFUSED, "connect to %s", "10.0.0.1"), TUTTI_ERR_SYSTEM);
    assert_int_equal(error.code, TUTTI_ERR_SYSTEM);
    assert_string_equal(error.message, "connect to 10.0.0.1: Connection refused");
}

static void error_set_errno_cuts_the_message_rather_than_the_cause(void **state)
{
    (void)state;
    char text[3000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    struct tutti_error error;
    error_set_errno(&error, ECONNREFUSED, "%s", text);
    assert_int_equal(strlen(error.message), sizeof error.message - 1);
    assert_non_null(strstr(error.message, "x...: Connection refused"));
}

static void every_status_has_its_name_and_text(void **state)
{
    (void)state;
    assert_string_equal(tutti_error_name(TUTTI_OK), "TUTTI_OK");
    assert_string_equal(tutti_error_name(TUTTI_PENDING), "TUTTI_PENDING");
    assert_string_equal(tutti_error_name(TUTTI_ERR_TIMEOUT), "TUTTI_ERR_TIMEOUT");
    assert_string_equal(tutti_strerror(TUTTI_ERR_TIMEOUT), "a deadline passed");
    for (int status = TUTTI_ERR_INTERNAL; status <= TUTTI_PENDING; status++) {
        assert_string_not_equal(tutti_error_name(status), "TUTTI_ERR_UNKNOWN");
        assert_string_not_equal(tutti_strerror(status), "unknown status");
    }
}

static void a_number_that_is_no_status_is_called_unknown(void **state)
{
    (void)state;
    static const int others[] = {2, -16, 1000, -1000, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_string_equal(tutti_error_name(others[i]), "TUTTI_ERR_UNKNOWN");
        assert_string_equal(tutti_strerror(others[i]), "unknown status");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_set_fills_everything_and_returns_the_code),
        cmocka_unit_test(error_set_does_without_an_error_to_fill),
        cmocka_unit_test(error_set_can_wrap_the_message_that_it_replaces),
        cmocka_unit_test(error_set_keeps_the_longest_message_whole),
        cmocka_unit_test(error_set_marks_a_message_that_it_cuts),
        cmocka_unit_test(error_set_cuts_between_utf8_characters),
        cmocka_unit_test(error_set_errno_ends_with_the_text_of_the_errno),
        cmocka_unit_test(error_set_errno_cuts_the_message_rather_than_the_cause),
        cmocka_unit_test(every_status_has_its_name_and_text),
        cmocka_unit_test(a_number_that_is_no_status_is_called_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
