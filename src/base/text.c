#include "base/text.h"

#include <stddef.h>
#include <string.h>

const struct text_unit text_byte_units[] = {{"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}, {"", 1}, {NULL}};
const struct text_unit text_time_units[] = {{"h", 3600000}, {"m", 60000}, {"s", 1000},
                                            {"ms", 1},      {"", 1},      {NULL}};

bool text_has_control(const char *text)
{
    for (; *text != '\0'; text++) {
        if (text_is_control(*text))
            return true;
    }
    return false;
}

void text_to_one_line(char *text)
{
    for (; *text != '\0'; text++) {
        if (text_is_control(*text))
            *text = ' ';
    }
}

const char *text_read_digits(const char *text, uint64_t max, uint64_t *number)
{
    if (*text < '0' || *text > '9')
        return NULL;
    uint64_t value = 0;
    for (; *text >= '0' && *text <= '9'; text++) {
        uint64_t digit = (uint64_t)(*text - '0');
        if (digit > max || value > (max - digit) / 10)
            return NULL;
        value = value * 10 + digit;
    }
    *number = value;
    return text;
}

bool text_to_number(const char *text, uint64_t max, uint64_t *number)
{
    uint64_t value;
    const char *end = text_read_digits(text, max, &value);
    if (end == NULL || *end != '\0')
        return false;
    *number = value;
    return true;
}

bool text_to_amount(const char *text, const struct text_unit *units, uint64_t max, uint64_t *amount)
{
    uint64_t value;
    const char *name = text_read_digits(text, max, &value);
    if (name == NULL)
        return false;
    while (units->name != NULL && strcmp(units->name, name) != 0)
        units++;
    if (units->name == NULL || value > max / units->size)
        return false;
    *amount = value * units->size;
    return true;
}
