/* The schedules of four ranks, printed: the files in golden/ are test and documentation at once, and the
 * pictures in docs/algorithms.md are these files.  After a deliberate change run with TUTTI_UPDATE_GOLDEN=1,
 * which writes both, and read the difference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "algorithm/algorithm.h"
#include "tensor/type.h"

#define RANKS    4
#define ROOT     1
#define DOCUMENT "../../docs/algorithms.md"
#define FENCE    "```"

static const int host_of[RANKS] = {0, 0, 1, 1};
static const struct host_map two_hosts = {2, host_of};

static bool is_update(void)
{
    const char *update = getenv("TUTTI_UPDATE_GOLDEN");
    return update && strcmp(update, "1") == 0;
}

static char *title_of(const struct algorithm *algorithm)
{
    char *title;
    assert_true(asprintf(&title, "%s of %d ranks%s, algorithm %s%s\n", operation_name(algorithm->operation),
                         RANKS, algorithm->traits & ALGORITHM_HIERARCHICAL ? " on 2 hosts" : "",
                         algorithm->name, operation_has_root(algorithm->operation) ? ", root 1" : "") > 0);
    return title;
}

static char *print_all_ranks(const struct algorithm *algorithm)
{
    const struct host_map *hosts = algorithm->traits & ALGORITHM_HIERARCHICAL ? &two_hosts : NULL;
    char *text = NULL, *title = title_of(algorithm);
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    fputs(title, out);
    for (int rank = 0; rank < RANKS; rank++) {
        struct schedule *s =
            schedule_new(algorithm->operation, algorithm->name, algorithm->emit, rank, RANKS, ROOT, hosts);
        assert_non_null(s);
        fputc('\n', out);
        schedule_print(s, out);
        schedule_free(s);
    }
    assert_int_equal(fclose(out), 0);
    free(title);
    return text;
}

static char *read_file(const char *path)
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

static void write_file(const char *path, const char *text)
{
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
}

static char *read_golden(const struct algorithm *algorithm, char *path, size_t path_size)
{
    snprintf(path, path_size, "golden/%s_%s.txt", algorithm->name, operation_name(algorithm->operation));
    return read_file(path);
}

static void printed_schedules_of_four_ranks_equal_the_golden_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < algorithm_count; i++) {
        char path[128];
        char *printed = print_all_ranks(&algorithms[i]);
        snprintf(path, sizeof path, "golden/%s_%s.txt", algorithms[i].name,
                 operation_name(algorithms[i].operation));
        if (is_update())
            write_file(path, printed);
        char *golden = read_golden(&algorithms[i], path, sizeof path);
        if (strcmp(printed, golden) != 0)
            fail_msg("%s differs; run with TUTTI_UPDATE_GOLDEN=1 if the change is meant.  Now:\n%s", path,
                     printed);
        free(golden);
        free(printed);
    }
}

/* The picture with that title in the document, from its first character to the fence behind it; NULL: none.
 */
static const char *find_picture(const char *document, const char *title, size_t *length)
{
    char *fenced;
    assert_true(asprintf(&fenced, "\n" FENCE "text\n%s", title) > 0);
    const char *begin = strstr(document, fenced);
    if (begin) {
        begin += strlen(fenced) - strlen(title);
        const char *end = strstr(begin, "\n" FENCE "\n");
        assert_non_null(end);
        *length = (size_t)(end + 1 - begin);
        assert_null(strstr(begin + *length, fenced)); /* there is one only */
    }
    free(fenced);
    return begin;
}

static void replace_picture(char **document, const char *picture, size_t length, const char *golden)
{
    char *replaced;
    assert_true(
        asprintf(&replaced, "%.*s%s%s", (int)(picture - *document), *document, golden, picture + length) > 0);
    free(*document);
    *document = replaced;
}

static void the_pictures_in_the_document_are_the_golden_files(void **state)
{
    (void)state;
    char *document = read_file(DOCUMENT);
    for (size_t i = 0; i < algorithm_count; i++) {
        char path[128], *golden = read_golden(&algorithms[i], path, sizeof path);
        char *title = title_of(&algorithms[i]);
        size_t length = 0;
        const char *picture = find_picture(document, title, &length);
        if (!picture)
            fail_msg("docs/algorithms.md has no picture that begins with: %s", title);
        if (is_update())
            replace_picture(&document, picture, length, golden);
        else if (strlen(golden) != length || strncmp(picture, golden, length) != 0)
            fail_msg("docs/algorithms.md differs from %s: run with TUTTI_UPDATE_GOLDEN=1", path);
        free(title);
        free(golden);
    }
    if (is_update())
        write_file(DOCUMENT, document);
    free(document);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(printed_schedules_of_four_ranks_equal_the_golden_files),
        cmocka_unit_test(the_pictures_in_the_document_are_the_golden_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
