#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <errno.h>
#include <unistd.h>
#include "base/log.h"

/* Standard error is a pipe between these two. */
static int saved_stderr, reading;

static void capture_begin(void)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    saved_stderr = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    reading = ends[0];
}

static void capture_end(char *text, size_t text_size)
{
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    size_t length = 0;
    ssize_t count;
    while ((count = read(reading, text + length, text_size - 1 - length)) > 0)
        length += (size_t)count;
    close(reading);
    text[length] = '\0';
}

static void a_line_tells_the_rank_and_the_level(void **state)
{
    (void)state;
    char text[4096];
    struct log log = {.level = LOG_LEVEL_WARNING, .rank = 2};
    capture_begin();
    log_warning(&log, "missing: rank %d", 3);
    capture_end(text, sizeof text);
    assert_string_equal(text, "tutti[rank 2] warning: missing: rank 3\n");
}

static void a_rank_that_is_not_known_is_not_printed(void **state)
{
    (void)state;
    char text[4096];
    struct log log = {.level = LOG_LEVEL_DEBUG, .rank = -1};
    capture_begin();
    log_error(&log, "a");
    log_info(&log, "b");
    log_debug(&log, "c");
    capture_end(text, sizeof text);
    assert_string_equal(text, "tutti error: a\ntutti info: b\ntutti debug: c\n");
}

static void levels_beyond_the_chosen_one_are_silent(void **state)
{
    (void)state;
    char text[4096];
    struct log log = {.level = LOG_LEVEL_ERROR, .rank = 0};
    capture_begin();
    log_warning(&log, "quiet");
    log_info(&log, "quiet");
    log_debug(&log, "quiet");
    log_error(&log, "loud");
    capture_end(text, sizeof text);
    assert_string_equal(text, "tutti[rank 0] error: loud\n");
}

static void control_characters_of_a_peer_cannot_forge_a_line(void **state)
{
    (void)state;
    char text[4096];
    struct log log = {.level = LOG_LEVEL_ERROR, .rank = 0};
    capture_begin();
    log_error(&log, "%s", "it said\ntutti[rank 1] error: \x1B[2J\x7F");
    capture_end(text, sizeof text);
    assert_string_equal(text, "tutti[rank 0] error: it said tutti[rank 1] error:  [2J \n");
}

static void a_line_too_long_is_cut_and_still_ends(void **state)
{
    (void)state;
    char text[8192], message[4000];
    memset(message, 'x', sizeof message - 1);
    message[sizeof message - 1] = '\0';
    struct log log = {.level = LOG_LEVEL_ERROR, .rank = 0};
    capture_begin();
    log_error(&log, "%s", message);
    capture_end(text, sizeof text);
    size_t length = strlen(text);
    assert_in_range(length, 1000, 2048);
    assert_string_equal(text + length - 2, "x\n");
}

static void errno_survives_logging(void **state)
{
    (void)state;
    char text[4096];
    struct log log = {.level = LOG_LEVEL_ERROR, .rank = 0};
    capture_begin();
    close(STDERR_FILENO);
    errno = ENOENT;
    log_error(&log, "nobody hears this");
    int after = errno;
    capture_end(text, sizeof text);
    assert_int_equal(after, ENOENT);
    assert_string_equal(text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_tells_the_rank_and_the_level),
        cmocka_unit_test(a_rank_that_is_not_known_is_not_printed),
        cmocka_unit_test(levels_beyond_the_chosen_one_are_silent),
        cmocka_unit_test(control_characters_of_a_peer_cannot_forge_a_line),
        cmocka_unit_test(a_line_too_long_is_cut_and_still_ends),
        cmocka_unit_test(errno_survives_logging),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
