/* The constants of the cost model, and their text form. */
#include <math.h>
#include <stddef.h>
#include <string.h>
#include "algorithm/select.h"
#include "base/error.h"
#include "base/text.h"

/* A constant is a whole number of these in a microsecond, so that the text form holds it exactly, without a
 * decimal point that a locale could turn into a comma. */
#define UNITS_PER_US  1000000000ull
#define UNIT_DIGITS   9
#define CONSTANT_MAX  1000000ull /* microseconds */
#define TITLE         "tutti tuning "
#define LINE_TEXT_MAX 80 /* of what the file says, in an error */

/* Measured on 2 virtual cores of an AMD EPYC at 2.6 GHz, but for `tcp`, which is a usual 10 Gbit/s network.
 */
const struct tuning tuning_default = {
    .version = TUNING_VERSION,
    .shm = {.latency_us = 0.5, .shared_latency_us = 2.1, .overhead_us = 0.25, .us_per_byte = 0.000125},
    .uds = {.latency_us = 0.01, .shared_latency_us = 2.1, .overhead_us = 4.6, .us_per_byte = 0.00026},
    .tcp_local = {.latency_us = 0.5, .shared_latency_us = 3, .overhead_us = 7.6, .us_per_byte = 0.0004},
    .tcp = {.latency_us = 20, .shared_latency_us = 1.5, .overhead_us = 5.5, .us_per_byte = 0.0009},
    .shared = {.latency_us = 0.15, .shared_latency_us = 2.8, .us_per_byte = 0.00004},
    .reduce_us_per_byte = 0.00008,
    .copy_us_per_byte = 0.00008,
    .stripe_overhead_us = 50,
};

struct constant {
    const char *name;
    size_t offset; /* of a double in struct tuning */
};

#define LINK(link)                                                                                           \
    {#link ".latency_us", offsetof(struct tuning, link.latency_us)},                                         \
        {#link ".shared_latency_us", offsetof(struct tuning, link.shared_latency_us)},                       \
        {#link ".overhead_us", offsetof(struct tuning, link.overhead_us)},                                   \
    {                                                                                                        \
#link ".us_per_byte", offsetof(struct tuning, link.us_per_byte)                                      \
    }

static const struct constant constants[] = {
    LINK(shm),
    LINK(uds),
    LINK(tcp_local),
    LINK(tcp),
    {"shared.latency_us", offsetof(struct tuning, shared.latency_us)},
    {"shared.shared_latency_us", offsetof(struct tuning, shared.shared_latency_us)},
    {"shared.us_per_byte", offsetof(struct tuning, shared.us_per_byte)},
    {"reduce_us_per_byte", offsetof(struct tuning, reduce_us_per_byte)},
    {"copy_us_per_byte", offsetof(struct tuning, copy_us_per_byte)},
    {"stripe_overhead_us", offsetof(struct tuning, stripe_overhead_us)},
};

#define CONSTANT_COUNT (sizeof constants / sizeof *constants)

/* ---- Reading -------------------------------------------------------------------------------------- */

struct parser {
    const char *rest;
    int line;       /* number of the one below, from 1 */
    const char *at; /* the line, without comment and surrounding blanks */
    size_t length;  /* of it */
    bool seen[CONSTANT_COUNT];
    struct tutti_error *error;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* Goes to the next line that says something; false at the end. */
static bool next_line(struct parser *p)
{
    while (*p->rest != '\0') {
        const char *begin = p->rest, *end = begin + strcspn(begin, "\n");
        p->rest = *end == '\n' ? end + 1 : end;
        p->line++;
        const char *stop = memchr(begin, '#', (size_t)(end - begin));
        end = stop ? stop : end;
        while (begin < end && is_blank(*begin))
            begin++;
        while (end > begin && is_blank(end[-1]))
            end--;
        p->at = begin;
        p->length = (size_t)(end - begin);
        if (p->length > 0)
            return true;
    }
    return false;
}

/* Refuses a line: "line 3: 'uds.latency_us -1': `why`". */
static int refuse(const struct parser *p, const char *why)
{
    char said[LINE_TEXT_MAX + 1];
    size_t length = p->length < LINE_TEXT_MAX ? p->length : LINE_TEXT_MAX;
    memcpy(said, p->at, length);
    said[length] = '\0';
    text_to_one_line(said);
    return error_set(p->error, TUTTI_ERR_CONFIG, "line %d of the tuning, '%s': %s", p->line, said, why);
}

/* "0.00026" as a number of microseconds, up to `end`. */
static bool read_constant(const char *text, const char *end, double *value)
{
    uint64_t whole, units;
    const char *at = text_read_digits(text, CONSTANT_MAX, &whole);
    if (!at || at > end)
        return false;
    units = whole * UNITS_PER_US;
    if (at < end && *at == '.') {
        uint64_t unit = UNITS_PER_US;
        const char *first = ++at;
        for (; at < end && at - first < UNIT_DIGITS && *at >= '0' && *at <= '9'; at++) {
            unit /= 10;
            units += (uint64_t)(*at - '0') * unit;
        }
        if (at == first)
            return false;
    }
    *value = (double)units / (double)UNITS_PER_US;
    return at == end;
}

/* The constant that the line begins with; -1: there is none of that name. */
static int find_constant(const struct parser *p, size_t name_length)
{
    for (size_t i = 0; i < CONSTANT_COUNT; i++)
        if (strlen(constants[i].name) == name_length && memcmp(constants[i].name, p->at, name_length) == 0)
            return (int)i;
    return -1;
}

static int take_line(struct parser *p, struct tuning *tuning)
{
    const char *end = p->at + p->length, *name_end = p->at;
    while (name_end < end && !is_blank(*name_end))
        name_end++;
    int index = find_constant(p, (size_t)(name_end - p->at));
    if (index < 0)
        return refuse(p, "there is no constant of that name; run `tutti tune` to write the file anew");
    if (p->seen[index])
        return refuse(p, "this constant is given a second time; remove one of the two lines");
    const char *number = name_end;
    while (number < end && is_blank(*number))
        number++;
    double *value = (double *)(void *)((char *)tuning + constants[index].offset);
    if (!read_constant(number, end, value))
        return refuse(p, "a name is followed by a decimal number from 0 to 1000000 with at most 9 digits "
                         "after the point, such as 2.1");
    p->seen[index] = true;
    return TUTTI_OK;
}

static int take_title(struct parser *p, struct tuning *tuning)
{
    size_t title_length = strlen(TITLE);
    uint64_t version;
    if (!next_line(p))
        return error_set(p->error, TUTTI_ERR_CONFIG,
                         "the tuning is empty; it begins with the line '" TITLE
                         "%d', and `tutti tune` writes it",
                         TUNING_VERSION);
    if (p->length <= title_length || memcmp(p->at, TITLE, title_length) != 0 ||
        text_read_digits(p->at + title_length, INT32_MAX, &version) != p->at + p->length) {
        char why[80];
        snprintf(why, sizeof why, "the first line of a tuning must be '" TITLE "%d'", TUNING_VERSION);
        return refuse(p, why);
    }
    if (version != TUNING_VERSION) {
        char why[120];
        snprintf(why, sizeof why, "this tutti reads version %d; run `tutti tune` to write the file anew",
                 TUNING_VERSION);
        return refuse(p, why);
    }
    tuning->version = (int)version;
    return TUTTI_OK;
}

int tuning_parse(const char *text, struct tuning *tuning, struct tutti_error *error)
{
    struct parser p = {.rest = text, .error = error};
    struct tuning read = {0};
    int status = take_title(&p, &read);
    while (status == TUTTI_OK && next_line(&p))
        status = take_line(&p, &read);
    if (status != TUTTI_OK)
        return status;
    for (size_t i = 0; i < CONSTANT_COUNT; i++)
        if (!p.seen[i])
            return error_set(error, TUTTI_ERR_CONFIG,
                             "the tuning ends with line %d and does not give '%s'; run `tutti tune` to write "
                             "the file anew",
                             p.line, constants[i].name);
    *tuning = read;
    return TUTTI_OK;
}

/* ---- Writing -------------------------------------------------------------------------------------- */

static uint64_t to_units(double us)
{
    if (!(us > 0))
        return 0;
    return (uint64_t)llround((us < (double)CONSTANT_MAX ? us : (double)CONSTANT_MAX) * (double)UNITS_PER_US);
}

void tuning_round(struct tuning *tuning)
{
    for (size_t i = 0; i < CONSTANT_COUNT; i++) {
        double *value = (double *)(void *)((char *)tuning + constants[i].offset);
        *value = (double)to_units(*value) / (double)UNITS_PER_US;
    }
}

void tuning_print(const struct tuning *tuning, FILE *out)
{
    fprintf(out, TITLE "%d\n", tuning->version);
    for (size_t i = 0; i < CONSTANT_COUNT; i++) {
        const double *value = (const double *)(const void *)((const char *)tuning + constants[i].offset);
        uint64_t units = to_units(*value), fraction = units % UNITS_PER_US;
        char digits[UNIT_DIGITS + 1];
        for (int digit = UNIT_DIGITS - 1; digit >= 0; digit--, fraction /= 10)
            digits[digit] = (char)('0' + fraction % 10);
        int shown = UNIT_DIGITS;
        while (shown > 1 && digits[shown - 1] == '0')
            shown--;
        fprintf(out, "%s %llu.%.*s\n", constants[i].name, (unsigned long long)(units / UNITS_PER_US), shown,
                digits);
    }
}

bool tuning_default_path(settings_getenv read, void *context, char *path, size_t size)
{
    /* The base directory specification has relative paths ignored. */
    const char *config = read(context, "XDG_CONFIG_HOME"), *home = read(context, "HOME");
    int length = -1;
    if (config && config[0] == '/')
        length = snprintf(path, size, "%s/tutti/tuning", config);
    else if (home && home[0] == '/')
        length = snprintf(path, size, "%s/.config/tutti/tuning", home);
    return length >= 0 && (size_t)length < size;
}
