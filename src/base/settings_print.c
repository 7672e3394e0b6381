#include <inttypes.h>
#include <string.h>
#include "base/settings.h"
#include "base/text.h"

#define TEXT_COLUMNS  80 /* of a line of plain text */
#define ALLOWED_BYTES 160
#define AMOUNT_BYTES  24

/* The amount in the largest unit that divides it. */
static const char *print_amount(int64_t amount, const struct text_unit *units, char text[AMOUNT_BYTES])
{
    while ((uint64_t)amount % units->size != 0)
        units++;
    snprintf(text, AMOUNT_BYTES, "%" PRId64 "%s", amount / (int64_t)units->size, units->name);
    return text;
}

/* "error|warning|info" as "error, warning<last>info". */
static void print_choices(const char *choices, const char *last, char *text, size_t text_size)
{
    size_t length = 0;
    text[0] = '\0';
    while (*choices != '\0' && length < text_size) {
        size_t word = strcspn(choices, "|");
        bool is_last = choices[word] == '\0';
        const char *before = length == 0 ? "" : is_last ? last : ", ";
        length += (size_t)snprintf(text + length, text_size - length, "%s%.*s", before, (int)word, choices);
        choices += word + !is_last;
    }
}

void setting_print_allowed(const struct setting *setting, char *text, size_t text_size)
{
    char low[AMOUNT_BYTES], high[AMOUNT_BYTES], choices[ALLOWED_BYTES];
    switch (setting->kind) {
    case SETTING_TEXT:
        if (setting->max > 0)
            snprintf(text, text_size, "text of at most %" PRId64 " bytes without control characters",
                     setting->max);
        else
            snprintf(text, text_size, "text");
        break;
    case SETTING_CHOICE:
        print_choices(setting->choices, " or ", text, text_size);
        break;
    case SETTING_LIST:
        print_choices(setting->choices, " and ", choices, sizeof choices);
        snprintf(text, text_size, "one or more of %s, each once, separated by commas", choices);
        break;
    case SETTING_PORT_RANGE:
        snprintf(text, text_size, "MIN-MAX, both from %" PRId64 " to %" PRId64, setting->min, setting->max);
        break;
    case SETTING_INT:
        if (setting->max > 0)
            snprintf(text, text_size, "a whole number from %lld to %lld", (long long)setting->min,
                     (long long)setting->max);
        else
            snprintf(text, text_size, "a whole number");
        break;
    case SETTING_MS:
        snprintf(text, text_size, "a time (500ms, 10s, 2m, 1h) from %s to %s",
                 print_amount(setting->min, text_time_units, low),
                 print_amount(setting->max, text_time_units, high));
        break;
    case SETTING_BYTES:
    case SETTING_BUFFER:
        snprintf(text, text_size, "a size in bytes (4096, 256K, 1M, 1G) from %s to %s%s",
                 print_amount(setting->min, text_byte_units, low),
                 print_amount(setting->max, text_byte_units, high),
                 setting->kind == SETTING_BUFFER ? ", or default" : "");
        break;
    case SETTING_FLAG:
        snprintf(text, text_size, "0 or 1");
        break;
    }
}

static void print_markdown(FILE *out)
{
    fputs(
        "# Configuration\n"
        "\n"
        "<!-- `tutti info --settings --markdown` prints this page from src/base/settings_table.c. -->\n"
        "\n"
        "What is given in `struct tutti_config` (in Python: as a keyword of `tutti.init`) comes first, then\n"
        "the environment variable, then the default. A field that is zero and a variable that is empty\n"
        "count as not given. In a field, times are milliseconds and sizes are bytes; in a variable, a time\n"
        "without a unit is milliseconds, and K, M and G are powers of 1024.\n"
        "\n"
        "| variable | field | value | default | meaning |\n"
        "|---|---|---|---|---|\n",
        out);
    for (size_t i = 0; i < settings_count; i++) {
        const struct setting *setting = &settings_table[i];
        char allowed[ALLOWED_BYTES];
        setting_print_allowed(setting, allowed, sizeof allowed);
        fprintf(out, "| `%s` | `%s` | %s | ", setting->variable, setting->field, allowed);
        if (setting->default_value != NULL)
            fprintf(out, "`%s`", setting->default_value);
        else
            fputs("none", out);
        fprintf(out, " | %s |\n", setting->help);
    }
}

/* Prints `text` in lines that start with `indent` spaces and end before TEXT_COLUMNS. */
static void print_wrapped(FILE *out, const char *text, int indent)
{
    size_t column = 0;
    while (*text != '\0') {
        size_t word = strcspn(text, " ");
        if (column > 0 && column + 1 + word >= TEXT_COLUMNS) {
            fputc('\n', out);
            column = 0;
        }
        if (column == 0)
            column = (size_t)fprintf(out, "%*s", indent, "");
        else
            column += fwrite(" ", 1, 1, out);
        column += fwrite(text, 1, word, out);
        text += word;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

static void print_text(FILE *out)
{
    for (size_t i = 0; i < settings_count; i++) {
        const struct setting *setting = &settings_table[i];
        char allowed[ALLOWED_BYTES], value[2 * ALLOWED_BYTES];
        setting_print_allowed(setting, allowed, sizeof allowed);
        snprintf(value, sizeof value, "Default: %s. Value: %s.",
                 setting->default_value != NULL ? setting->default_value : "none", allowed);
        fprintf(out, "%s  %s\n", i == 0 ? "" : "\n", setting->variable);
        print_wrapped(out, setting->help, 6);
        print_wrapped(out, value, 6);
    }
}

void settings_print(FILE *out, int markdown)
{
    if (markdown)
        print_markdown(out);
    else
        print_text(out);
}
