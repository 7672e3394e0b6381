/* The table of settings, and the references that are printed of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/settings.h"

/* Every field but struct_size and `announce` with its context, which have no variables, once, in whatever
 * order: the sizes of all add up, and no two overlap. */
static void the_table_covers_every_field_of_the_configuration(void **state)
{
    (void)state;
    bool covered[sizeof(struct tutti_config)] = {false};
    memset(covered, true, sizeof(size_t));
    size_t announce = offsetof(struct tutti_config, announce);
    memset(covered + announce, true, sizeof covered - announce);
    for (size_t i = 0; i < settings_count; i++) {
        enum setting_kind kind = settings_table[i].kind;
        size_t size = kind == SETTING_BYTES        ? sizeof(size_t)
                      : kind <= SETTING_PORT_RANGE ? sizeof(char *)
                                                   : sizeof(int);
        for (size_t byte = 0; byte < size; byte++) {
            assert_false(covered[settings_table[i].offset + byte]);
            covered[settings_table[i].offset + byte] = true;
        }
    }
    size_t gap = 0;
    for (size_t byte = 0; byte < sizeof covered; byte++) {
        gap = covered[byte] ? 0 : gap + 1;
        assert_true(gap < sizeof(char *)); /* no more than padding */
    }
}

static char *print(int markdown)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    settings_print(out, markdown);
    fclose(out);
    return text;
}

static void both_references_name_every_variable_and_its_default(void **state)
{
    (void)state;
    for (int markdown = 0; markdown <= 1; markdown++) {
        char *text = print(markdown);
        for (size_t i = 0; i < settings_count; i++) {
            assert_non_null(strstr(text, settings_table[i].variable));
            if (settings_table[i].default_value != NULL)
                assert_non_null(strstr(text, settings_table[i].default_value));
        }
        free(text);
    }
}

static void plain_text_fits_a_terminal(void **state)
{
    (void)state;
    char *text = print(0);
    for (const char *line = text; *line != '\0'; line += strcspn(line, "\n") + 1)
        assert_in_range(strcspn(line, "\n"), 0, 79);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_covers_every_field_of_the_configuration),
        cmocka_unit_test(both_references_name_every_variable_and_its_default),
        cmocka_unit_test(plain_text_fits_a_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
