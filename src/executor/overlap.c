#include "executor/overlap.h"

#include <string.h>

/* ---- Sorting ----------------------------------------------------------------------------------- */

/* A merge of the runs that are there already: the buffers of a model, listed in the order in which they were
 * allocated, are one run or two, and a thousand of them are sorted in a few microseconds. */

static size_t run_end(const struct memory_use *uses, size_t begin, size_t count)
{
    size_t end = begin + 1;
    while (end < count && uses[end - 1].begin <= uses[end].begin)
        end++;
    return end;
}

static void merge(struct memory_use *target, const struct memory_use *left, size_t left_count,
                  const struct memory_use *right, size_t right_count)
{
    while (left_count > 0 && right_count > 0) {
        if (right->begin < left->begin) {
            *target++ = *right++;
            right_count--;
        } else {
            *target++ = *left++;
            left_count--;
        }
    }
    memcpy(target, left, left_count * sizeof *left);
    memcpy(target + left_count, right, right_count * sizeof *right);
}

/* Sorts by `begin`, to and fro between `from` and `to`; where the result is. */
static const struct memory_use *sort(struct memory_use *from, struct memory_use *to, size_t count)
{
    while (count > 0 && run_end(from, 0, count) < count) {
        for (size_t begin = 0, end; begin < count; begin = end) {
            size_t middle = run_end(from, begin, count);
            end = middle < count ? run_end(from, middle, count) : count;
            merge(to + begin, from + begin, middle - begin, from + middle, end - middle);
        }
        struct memory_use *other = from;
        from = to;
        to = other;
    }
    return from;
}

/* ---- Looking ----------------------------------------------------------------------------------- */

/* The uses of one kind that reach furthest so far, of two different owners: the next use can belong to one.
 */
struct furthest {
    const struct memory_use *use[2];
};

static bool reaches_further(const struct memory_use *use, const struct memory_use *than)
{
    return !than || use->begin + use->bytes > than->begin + than->bytes;
}

static void remember(struct furthest *furthest, const struct memory_use *use)
{
    const struct memory_use **first = &furthest->use[0], **second = &furthest->use[1];
    if (*first && (*first)->owner == use->owner) {
        if (reaches_further(use, *first))
            *first = use;
    } else if (reaches_further(use, *first)) {
        *second = *first;
        *first = use;
    } else if (reaches_further(use, *second)) {
        *second = use;
    }
}

static const struct memory_use *find_conflict(const struct furthest *furthest, const struct memory_use *use)
{
    for (int i = 0; i < 2; i++) {
        const struct memory_use *other = furthest->use[i];
        if (other && other->owner != use->owner &&
            memory_overlaps(other->begin, other->bytes, use->begin, use->bytes))
            return other;
    }
    return NULL;
}

/* Does each begin where the one before ends, or later? */
static bool are_apart(const struct memory_use *sorted, size_t count)
{
    for (size_t i = 1; i < count; i++)
        if (sorted[i].begin < sorted[i - 1].begin + sorted[i - 1].bytes)
            return false;
    return true;
}

bool memory_uses_conflict(struct memory_use *uses, size_t count, struct memory_use conflict[2])
{
    const struct memory_use *sorted = sort(uses, uses + count, count);
    struct furthest written = {{NULL, NULL}}, read = {{NULL, NULL}};
    if (are_apart(sorted, count))
        return false;
    for (size_t i = 0; i < count; i++) {
        const struct memory_use *use = &sorted[i], *other = find_conflict(&written, use);
        if (!other && use->writes)
            other = find_conflict(&read, use);
        if (other) {
            conflict[0] = *other;
            conflict[1] = *use;
            return true;
        }
        remember(use->writes ? &written : &read, use);
    }
    return false;
}
