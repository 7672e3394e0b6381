#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "base/error.h"
#include "base/settings.h"
#include "base/text.h"

/* A struct_size beyond this is not a future version of the struct but memory that nobody has set. */
#define STRUCT_BYTES_MAX 65536

/* A value and where it comes from, for the sentence of an error. */
struct source {
    const struct setting *setting;
    const char *name; /* of the variable or of the field */
    const char *text; /* as it was written */
};

static bool is_text(enum setting_kind kind)
{
    return kind == SETTING_TEXT || kind == SETTING_CHOICE || kind == SETTING_LIST ||
           kind == SETTING_PORT_RANGE;
}

static int reject(const struct source *source, struct tutti_error *error)
{
    char allowed[160];
    setting_print_allowed(source->setting, allowed, sizeof allowed);
    return error_set(error, TUTTI_ERR_CONFIG, "%s is '%.200s', but must be %s", source->name, source->text,
                     allowed);
}

/* ---- Reading text ------------------------------------------------------------------------------- */

static bool read_number(const struct setting *setting, const char *text, int64_t *number)
{
    if (setting->kind == SETTING_BUFFER && (strcmp(text, "default") == 0 || strcmp(text, "-1") == 0)) {
        *number = -1;
        return true;
    }
    uint64_t max = (uint64_t)setting->max, value;
    bool valid;
    switch (setting->kind) {
    case SETTING_MS:
        valid = text_to_amount(text, text_time_units, max, &value);
        break;
    case SETTING_BYTES:
    case SETTING_BUFFER:
        valid = text_to_amount(text, text_byte_units, max, &value);
        break;
    default:
        valid = text_to_number(text, max, &value);
    }
    if (!valid)
        return false;
    *number = (int64_t)value;
    return *number >= setting->min;
}

/* The index of the word in "a|b", -1 when it is not there. */
static int choice_index(const char *choices, const char *word, size_t length)
{
    for (int index = 0;; index++) {
        size_t next = strcspn(choices, "|");
        if (next == length && memcmp(choices, word, length) == 0)
            return index;
        if (choices[next] == '\0')
            return -1;
        choices += next + 1;
    }
}

static bool list_is_valid(const char *choices, const char *text)
{
    unsigned seen = 0;
    for (;;) {
        size_t length = strcspn(text, ",");
        int index = choice_index(choices, text, length);
        if (index < 0 || (seen & 1u << index) != 0)
            return false;
        seen |= 1u << index;
        if (text[length] == '\0')
            return true;
        text += length + 1;
    }
}

bool setting_list_holds(const char *list, const char *choice)
{
    size_t length = strlen(choice);
    for (;;) {
        size_t next = strcspn(list, ",");
        if (next == length && memcmp(list, choice, length) == 0)
            return true;
        if (list[next] == '\0')
            return false;
        list += next + 1;
    }
}

static bool port_range_is_valid(const struct setting *setting, const char *text)
{
    uint64_t max = (uint64_t)setting->max, low, high;
    const char *dash = text_read_digits(text, max, &low);
    return dash != NULL && *dash == '-' && text_to_number(dash + 1, max, &high) &&
           low >= (uint64_t)setting->min && low <= high;
}

static bool plain_text_is_valid(const struct setting *setting, const char *text)
{
    return !text_has_control(text) && strlen(text) <= (size_t)setting->max;
}

static bool text_is_valid(const struct setting *setting, const char *text)
{
    switch (setting->kind) {
    case SETTING_CHOICE:
        return choice_index(setting->choices, text, strlen(text)) >= 0;
    case SETTING_LIST:
        return list_is_valid(setting->choices, text);
    case SETTING_PORT_RANGE:
        return port_range_is_valid(setting, text);
    default:
        return plain_text_is_valid(setting, text);
    }
}

const struct setting *setting_find(const char *field)
{
    for (size_t i = 0; i < settings_count; i++) {
        if (strcmp(settings_table[i].field, field) == 0)
            return &settings_table[i];
    }
    return NULL;
}

int setting_check_text(const struct setting *setting, const char *name, const char *text,
                       struct tutti_error *error)
{
    struct source source = {setting, name, text};
    return text_is_valid(setting, text) ? TUTTI_OK : reject(&source, error);
}

/* ---- Fields ------------------------------------------------------------------------------------- */

static const char *get_text(const struct tutti_config *config, const struct setting *setting)
{
    const char *text;
    memcpy(&text, (const char *)config + setting->offset, sizeof text);
    return text;
}

/* 0 when it is not given.  A size too large for the result is as wrong as the result. */
static int64_t get_number(const struct tutti_config *config, const struct setting *setting)
{
    const char *field = (const char *)config + setting->offset;
    if (setting->kind == SETTING_BYTES) {
        size_t size;
        memcpy(&size, field, sizeof size);
        return size > INT64_MAX ? INT64_MAX : (int64_t)size;
    }
    int number;
    memcpy(&number, field, sizeof number);
    return number;
}

static void put_number(struct tutti_config *config, const struct setting *setting, int64_t number)
{
    char *field = (char *)config + setting->offset;
    if (setting->kind == SETTING_BYTES) {
        size_t size = (size_t)number;
        memcpy(field, &size, sizeof size);
    } else {
        assert(number >= INT_MIN && number <= INT_MAX);
        memcpy(field, &(int){(int)number}, sizeof(int));
    }
}

static int put_text(struct settings *settings, const struct setting *setting, const char *text,
                    struct tutti_error *error)
{
    assert(settings->text_count < (int)(sizeof settings->text / sizeof settings->text[0]));
    char *copy = strdup(text);
    if (copy == NULL)
        return error_set(error, TUTTI_ERR_MEMORY, "out of memory while reading %s", setting->variable);
    settings->text[settings->text_count++] = copy;
    memcpy((char *)&settings->values + setting->offset, &copy, sizeof copy);
    return TUTTI_OK;
}

/* ---- Resolving ---------------------------------------------------------------------------------- */

/* A copy of what the caller gives, which may have been compiled for an older or a newer struct. */
static int copy_given(struct tutti_config *given, const struct tutti_config *config,
                      struct tutti_error *error)
{
    memset(given, 0, sizeof *given);
    if (config == NULL)
        return TUTTI_OK;

    size_t size = config->struct_size;
    if (size < sizeof config->struct_size || size > STRUCT_BYTES_MAX)
        return error_set(error, TUTTI_ERR_CONFIG,
                         "struct_size of struct tutti_config is %zu, so the struct has not been initialised; "
                         "start from TUTTI_CONFIG_INIT",
                         size);
    const char *bytes = (const char *)config;
    for (size_t i = sizeof *given; i < size; i++) {
        if (bytes[i] != 0)
            return error_set(
                error, TUTTI_ERR_CONFIG,
                "struct tutti_config (%zu bytes) sets a field that this version of tutti (%zu "
                "bytes) does not know; install the version whose tutti.h the caller was compiled with",
                size, sizeof *given);
    }
    memcpy(given, config, size < sizeof *given ? size : sizeof *given);
    return TUTTI_OK;
}

/* A number that the caller gave in its field. */
static int check_field(const struct setting *setting, int64_t number, struct tutti_error *error)
{
    if (number >= setting->min && number <= setting->max)
        return TUTTI_OK;
    if (setting->kind == SETTING_BUFFER && number == -1)
        return TUTTI_OK;
    return error_set(error, TUTTI_ERR_CONFIG,
                     "%s is %" PRId64 ", but must be from %" PRId64 " to %" PRId64 "%s", setting->field,
                     number, setting->min, setting->max,
                     setting->kind == SETTING_BUFFER ? ", or -1 for the kernel's default" : "");
}

static int resolve_number(struct settings *settings, const struct setting *setting, int64_t given,
                          const char *written, struct tutti_error *error)
{
    if (given != 0) {
        int status = setting->by_launcher ? TUTTI_OK : check_field(setting, given, error);
        if (status == TUTTI_OK)
            put_number(&settings->values, setting, given);
        return status;
    }
    int64_t number;
    if (written != NULL) {
        struct source source = {setting, setting->variable, written};
        if (!read_number(setting, written, &number))
            return reject(&source, error);
        put_number(&settings->values, setting, number);
    } else if (setting->default_value != NULL) {
        bool valid = read_number(setting, setting->default_value, &number);
        assert(valid);
        (void)valid;
        put_number(&settings->values, setting, number);
    }
    return TUTTI_OK;
}

static int resolve_text(struct settings *settings, const struct setting *setting, const char *given,
                        const char *written, struct tutti_error *error)
{
    bool is_given = given != NULL && *given != '\0';
    const char *text = is_given ? given : written != NULL ? written : setting->default_value;
    if (text == NULL)
        return TUTTI_OK;
    const char *name = is_given ? setting->field : setting->variable;
    int status = setting->by_launcher ? TUTTI_OK : setting_check_text(setting, name, text, error);
    return status < 0 ? status : put_text(settings, setting, text, error);
}

static int resolve_one(struct settings *settings, const struct setting *setting,
                       const struct tutti_config *given, settings_getenv read, void *context,
                       struct tutti_error *error)
{
    const char *written = setting->by_launcher ? NULL : read(context, setting->variable);
    if (written != NULL && *written == '\0')
        written = NULL;
    if (is_text(setting->kind))
        return resolve_text(settings, setting, get_text(given, setting), written, error);
    return resolve_number(settings, setting, get_number(given, setting), written, error);
}

/* What single settings cannot see. */
static int check_together(const struct tutti_config *values, struct tutti_error *error)
{
    if (values->dead_after_ms > values->heartbeat_ms)
        return TUTTI_OK;
    return error_set(
        error, TUTTI_ERR_CONFIG,
        "dead_after_ms (TUTTI_DEAD_AFTER) is %d ms and heartbeat_ms (TUTTI_HEARTBEAT) is %d ms, but a "
        "neighbour must be given longer than one heartbeat; raise the one or lower the other",
        values->dead_after_ms, values->heartbeat_ms);
}

int settings_resolve(struct settings *settings, const struct tutti_config *config, settings_getenv read,
                     void *context, struct tutti_error *error)
{
    memset(settings, 0, sizeof *settings);
    settings->values.struct_size = sizeof settings->values;

    struct tutti_config given;
    int status = copy_given(&given, config, error);
    for (size_t i = 0; i < settings_count && status == TUTTI_OK; i++)
        status = resolve_one(settings, &settings_table[i], &given, read, context, error);
    if (status == TUTTI_OK)
        status = check_together(&settings->values, error);
    if (status != TUTTI_OK)
        settings_clean_up(settings);
    return status;
}

void settings_clean_up(struct settings *settings)
{
    for (int i = 0; i < settings->text_count; i++)
        free(settings->text[i]);
    memset(settings, 0, sizeof *settings);
}
