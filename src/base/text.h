/* Text that people write: numbers, amounts with a unit, and what must not be in it. */
#ifndef TUTTI_BASE_TEXT_H
#define TUTTI_BASE_TEXT_H

#include <stdbool.h>
#include <stdint.h>

/* Line breaks, what steers a terminal, and the like. */
static inline bool text_is_control(char c)
{
    return (unsigned char)c < ' ' || c == 0x7F;
}

bool text_has_control(const char *text);

/* Puts a space in the place of each control character: what a peer or a user wrote must neither look like a
 * second line nor steer a terminal. */
void text_to_one_line(char *text);

/* The decimal digits at the start of `text`, a number up to `max`.  Returns what follows them; NULL, and
 * *number as it was, when there are none or the number is larger. */
const char *text_read_digits(const char *text, uint64_t max, uint64_t *number);

/* The whole text as a number up to `max`: digits alone, so that "4x", "+4" and " 4" are refused. */
bool text_to_number(const char *text, uint64_t max, uint64_t *number);

struct text_unit {
    const char *name;
    uint64_t size;
};

/* From the largest to the smallest, then the empty name that stands for no unit; ends with a NULL name. */
extern const struct text_unit text_byte_units[]; /* "1G", "256K", "4096": bytes */
extern const struct text_unit text_time_units[]; /* "1h", "10s", "500ms", "500": milliseconds */

/* The whole text as a number with or without a unit, up to `max` of the smallest one. */
bool text_to_amount(const char *text, const struct text_unit *units, uint64_t max, uint64_t *amount);

#endif
