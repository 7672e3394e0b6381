#include <stdio.h>
#include <string.h>
#include "base/error.h"
#include "base/text.h"

#define MESSAGE_BYTES sizeof(((struct tutti_error *)0)->message)

static const char cut_mark[] = "...";

/* Puts the mark of a message that was cut at the end of `text`, which is full, without leaving a part of a
 * UTF-8 character before it. */
static void mark_as_cut(char *text, size_t text_size)
{
    size_t end = text_size - sizeof cut_mark;
    while (end > 0 && ((unsigned char)text[end] & 0xC0) == 0x80)
        end--;
    memcpy(text + end, cut_mark, sizeof cut_mark);
}

/* The message goes through a buffer of its own, because an argument may be the message of `error` itself:
 * that is how a layer puts its own words around those of the layer below. */
static int error_fill(struct tutti_error *error, int code, const char *suffix, const char *format,
                      va_list arguments) __attribute__((format(printf, 4, 0)));

static int error_fill(struct tutti_error *error, int code, const char *suffix, const char *format,
                      va_list arguments)
{
    if (error == NULL)
        return code;

    char message[MESSAGE_BYTES];
    size_t suffix_length = strnlen(suffix, sizeof message / 2);
    size_t room = sizeof message - suffix_length;
    int length = vsnprintf(message, room, format, arguments);
    if (length < 0)
        message[0] = '\0';
    else if ((size_t)length >= room)
        mark_as_cut(message, room);
    size_t end = strlen(message);
    memcpy(message + end, suffix, suffix_length);
    message[end + suffix_length] = '\0';
    text_to_one_line(message); /* what a user or a peer wrote may be in it */

    memset(error, 0, sizeof *error);
    error->struct_size = sizeof *error;
    error->code = code;
    error->rank = -1;
    memcpy(error->message, message, end + suffix_length + 1);
    return code;
}

int error_set(struct tutti_error *error, int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    error_fill(error, code, "", format, arguments);
    va_end(arguments);
    return code;
}

int error_set_errno(struct tutti_error *error, int error_number, const char *format, ...)
{
    char text[128], suffix[sizeof text + 2];
    snprintf(suffix, sizeof suffix, ": %s", strerror_r(error_number, text, sizeof text));
    va_list arguments;
    va_start(arguments, format);
    error_fill(error, TUTTI_ERR_SYSTEM, suffix, format, arguments);
    va_end(arguments);
    return TUTTI_ERR_SYSTEM;
}
