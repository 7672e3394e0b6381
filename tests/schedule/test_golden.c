/* The schedules of four ranks, printed: the files in golden/ are test and documentation at once.  After a
 * deliberate change run with TUTTI_UPDATE_GOLDEN=1 and read the difference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "algorithm/algorithm.h"
#include "tensor/type.h"

#define RANKS 4
#define ROOT  1

static char *print_all_ranks(const struct algorithm *algorithm)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    fprintf(out, "%s of %d ranks, algorithm %s", operation_name(algorithm->operation), RANKS,
            algorithm->name);
    if (algorithm->operation == TUTTI_BROADCAST || algorithm->operation == TUTTI_GATHER)
        fprintf(out, ", root %d", ROOT);
    fputc('\n', out);
    for (int rank = 0; rank < RANKS; rank++) {
        struct schedule *s =
            schedule_new(algorithm->operation, algorithm->name, algorithm->emit, rank, RANKS, ROOT);
        assert_non_null(s);
        fputc('\n', out);
        schedule_print(s, out);
        schedule_free(s);
    }
    assert_int_equal(fclose(out), 0);
    return text;
}

static char *read_golden(const char *path)
{
    char *text = NULL;
    size_t size = 0;
    FILE *in = fopen(path, "r");
    if (!in)
        fail_msg("%s cannot be opened: run with TUTTI_UPDATE_GOLDEN=1 to write it", path);
    /* The delimiter NUL does not occur: the whole file. */
    assert_true(getdelim(&text, &size, '\0', in) > 0);
    fclose(in);
    return text;
}

static void write_golden(const char *path, const char *text)
{
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
}

static void printed_schedules_of_four_ranks_equal_the_golden_files(void **state)
{
    (void)state;
    const char *update = getenv("TUTTI_UPDATE_GOLDEN");
    for (size_t i = 0; i < algorithm_count; i++) {
        char path[128];
        snprintf(path, sizeof path, "golden/%s_%s.txt", algorithms[i].name,
                 operation_name(algorithms[i].operation));
        char *printed = print_all_ranks(&algorithms[i]);
        if (update && strcmp(update, "1") == 0)
            write_golden(path, printed);
        char *golden = read_golden(path);
        if (strcmp(printed, golden) != 0)
            fail_msg("%s differs; run with TUTTI_UPDATE_GOLDEN=1 if the change is meant.  Now:\n%s", path,
                     printed);
        free(golden);
        free(printed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(printed_schedules_of_four_ranks_equal_the_golden_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
