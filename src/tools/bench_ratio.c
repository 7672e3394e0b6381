#include "tools/bench_ratio.h"

#include <stdlib.h>
#include <string.h>
#include "tools/bench_statistics.h"

#define LIMIT "limit"

struct bench_ratio_time {
    const char *peer, *transport;
    bool is_ours, in_place;
    size_t bytes;
    double us;
};

/* Ratios of one contestant of ours to one of the others, or to the best of them. */
struct ratios {
    double *values;
    size_t count;
    double least;
    size_t least_bytes;
};

bool bench_ratio_add(struct bench_ratio *ratio, const struct bench_row *row, bool is_ours)
{
    if (ratio->count == ratio->room) {
        size_t room = ratio->room > 0 ? 2 * ratio->room : 64;
        struct bench_ratio_time *larger = realloc(ratio->times, room * sizeof *larger);
        if (!larger)
            return false;
        ratio->times = larger;
        ratio->room = room;
    }
    ratio->times[ratio->count++] = (struct bench_ratio_time){.peer = row->peer,
                                                             .transport = row->transport,
                                                             .is_ours = is_ours,
                                                             .in_place = row->which.in_place,
                                                             .bytes = bench_bytes(&row->which),
                                                             .us = row->p50_us};
    return true;
}

void bench_ratio_free(struct bench_ratio *ratio)
{
    free(ratio->times);
    *ratio = (struct bench_ratio){0};
}

static bool is_limit(const struct bench_ratio_time *time)
{
    return strcmp(time->peer, LIMIT) == 0;
}

/* Of that size, and in place or not as ours: that of the contestant `peer`, or (NULL) of the fastest rival.
 */
static const struct bench_ratio_time *find(const struct bench_ratio *ratio,
                                           const struct bench_ratio_time *ours, const char *peer)
{
    const struct bench_ratio_time *found = NULL;
    for (size_t i = 0; i < ratio->count; i++) {
        const struct bench_ratio_time *time = &ratio->times[i];
        if (time->is_ours || time->bytes != ours->bytes || time->in_place != ours->in_place)
            continue;
        bool is_meant = peer ? strcmp(time->peer, peer) == 0 : !is_limit(time);
        if (is_meant && (!found || time->us < found->us))
            found = time;
    }
    return found;
}

/* Is this the first of its kind, the transport of ours (or the name of another) and the place? */
static bool is_first(const struct bench_ratio *ratio, size_t index, bool by_place)
{
    const struct bench_ratio_time *time = &ratio->times[index];
    for (size_t i = 0; i < index; i++) {
        const struct bench_ratio_time *other = &ratio->times[i];
        bool is_same = strcmp(other->peer, time->peer) == 0 && strcmp(other->transport, time->transport) == 0;
        if (is_same && (!by_place || other->in_place == time->in_place))
            return false;
    }
    return true;
}

static bool is_same_series(const struct bench_ratio_time *a, const struct bench_ratio_time *b)
{
    return a->is_ours && b->is_ours && a->in_place == b->in_place && strcmp(a->transport, b->transport) == 0;
}

/* Of all sizes of the series that begins with `first`; `values` has room for them. */
static struct ratios gather(const struct bench_ratio *ratio, const struct bench_ratio_time *first,
                            const char *peer, double *values)
{
    struct ratios ratios = {.values = values};
    for (size_t i = 0; i < ratio->count; i++) {
        const struct bench_ratio_time *ours = &ratio->times[i];
        const struct bench_ratio_time *other = is_same_series(ours, first) ? find(ratio, ours, peer) : NULL;
        if (!other || !(ours->us > 0) || !(other->us > 0))
            continue;
        double value = other->us / ours->us;
        if (ratios.count == 0 || value < ratios.least) {
            ratios.least = value;
            ratios.least_bytes = ours->bytes;
        }
        values[ratios.count++] = value;
    }
    return ratios;
}

static void print_means(const char *whom, const struct ratios *ratios)
{
    if (ratios->count > 0)
        printf("# ratio to %-20s: geometric mean %.3f, min %.3f at %zu bytes\n", whom,
               bench_geometric_mean(ratios->values, ratios->count), ratios->least, ratios->least_bytes);
}

static void print_series(const struct bench_ratio *ratio, const struct bench_ratio_time *first,
                         double *values)
{
    printf("#\n# tutti %s, %s place; ratio: the best rival's time to tutti's\n", first->transport,
           first->in_place ? "in" : "out of");
    printf("# %12s %12s %12s  %-16s %8s\n", "size (B)", "tutti (us)", "best (us)", "who", "ratio");
    for (size_t i = 0; i < ratio->count; i++) {
        const struct bench_ratio_time *ours = &ratio->times[i];
        const struct bench_ratio_time *best = is_same_series(ours, first) ? find(ratio, ours, NULL) : NULL;
        if (best)
            printf("# %12zu %12.2f %12.2f  %-16s %8.3f\n", ours->bytes, ours->us, best->us, best->peer,
                   ours->us > 0 ? best->us / ours->us : 0);
    }
    for (size_t i = 0; i < ratio->count; i++) {
        const struct bench_ratio_time *other = &ratio->times[i];
        if (other->is_ours || !is_first(ratio, i, false))
            continue;
        struct ratios ratios = gather(ratio, first, other->peer, values);
        print_means(other->peer, &ratios);
    }
    struct ratios ratios = gather(ratio, first, NULL, values);
    print_means("the best rival", &ratios);
}

void bench_ratio_print(const struct bench_ratio *ratio)
{
    double *values = calloc(ratio->count + 1, sizeof *values);
    for (size_t i = 0; i < ratio->count && values; i++)
        if (ratio->times[i].is_ours && is_first(ratio, i, true))
            print_series(ratio, &ratio->times[i], values);
    free(values);
    fflush(stdout);
}
