#include "base/failpoint.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "base/error.h"
#include "base/text.h"

#define FAILPOINT_NAME(name, text) #name,
static const char *const point_names[] = {FAILPOINT_MAP(FAILPOINT_NAME)};
static const char *const action_names[] = {FAILPOINT_ACTION_MAP(FAILPOINT_NAME)};
#undef FAILPOINT_NAME

#define ACTION_COUNT (int)(sizeof action_names / sizeof *action_names)

/* The index of the first `length` bytes of `text` among the names; -1 when it is none of them. */
static int find(const char *const *names, int count, const char *text, size_t length)
{
    for (int i = 0; i < count; i++) {
        if (strlen(names[i]) == length && memcmp(names[i], text, length) == 0)
            return i;
    }
    return -1;
}

static const char *list(const char *const *names, int count, char *text, size_t text_size)
{
    size_t used = 0;
    for (int i = 0; i < count && used < text_size; i++)
        used += (size_t)snprintf(text + used, text_size - used, "%s%s", i > 0 ? ", " : "", names[i]);
    return text;
}

static int refuse(const char *entry, size_t length, const char *why, struct tutti_error *error)
{
    char points[400], actions[300];
    return error_set(
        error, TUTTI_ERR_CONFIG,
        "TUTTI_FAILPOINTS holds \"%.*s\", %s: write NAME=ACTION or NAME=ACTION@HIT, separated by "
        "commas; the names are %s; the actions are %s",
        length < 80 ? (int)length : 80, entry, why, list(point_names, FAILPOINT_COUNT, points, sizeof points),
        list(action_names, ACTION_COUNT, actions, sizeof actions));
}

/* "12" of "die@12", up to the end of the entry. */
static bool read_hit(const char *text, const char *end, uint32_t *hit)
{
    uint64_t number;
    if (text_read_digits(text, UINT32_MAX, &number) != end || number == 0)
        return false;
    *hit = (uint32_t)number;
    return true;
}

static int parse_entry(struct failpoints *failpoints, const char *entry, size_t length,
                       struct tutti_error *error)
{
    const char *end = entry + length, *equals = memchr(entry, '=', length);
    if (!equals)
        return refuse(entry, length, "which has no \"=\"", error);
    int point = find(point_names, FAILPOINT_COUNT, entry, (size_t)(equals - entry));
    if (point < 0)
        return refuse(entry, length, "whose name is unknown", error);
    const char *action_text = equals + 1, *at = memchr(action_text, '@', (size_t)(end - action_text));
    int action = find(action_names, ACTION_COUNT, action_text, (size_t)((at ? at : end) - action_text));
    if (action < 0)
        return refuse(entry, length, "whose action is unknown", error);
    uint32_t hit = 1;
    if (at && !read_hit(at + 1, end, &hit))
        return refuse(entry, length, "whose hit is no number from 1 to 4294967295", error);
    if (failpoints->points[point].countdown > 0)
        return refuse(entry, length, "but that name has been given before", error);
    failpoints->points[point].countdown = hit;
    failpoints->points[point].action = (enum failpoint_action)(action + 1); /* after FAIL_NOT */
    return TUTTI_OK;
}

int failpoints_parse(struct failpoints *failpoints, const char *text, struct tutti_error *error)
{
    struct failpoints parsed = {.act = failpoints->act, .context = failpoints->context};
    bool more = *text != '\0';
    while (more) {
        size_t length = strcspn(text, ",");
        int status = parse_entry(&parsed, text, length, error);
        if (status < 0)
            return status;
        more = text[length] == ',';
        text += length + 1;
    }
    *failpoints = parsed;
    return TUTTI_OK;
}

#ifdef TUTTI_FAILPOINTS
enum failpoint_action failpoint_hit(struct failpoints *failpoints, enum failpoint point)
{
    if (!failpoints || failpoints->points[point].countdown == 0)
        return FAIL_NOT;
    if (--failpoints->points[point].countdown > 0)
        return FAIL_NOT;
    enum failpoint_action action = failpoints->points[point].action;
    if (failpoints->act && (action == FAIL_die || action == FAIL_stop))
        failpoints->act(failpoints->context, action);
    return action;
}
#endif
