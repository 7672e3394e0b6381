#include "tools/bench_reply.h"

#include <stdlib.h>
#include <string.h>
#include "base/error.h"
#include "tensor/type.h"

#define WORD_BYTES 24 /* of a name in an order, with its end */

/* ---- Orders ------------------------------------------------------------------------------------- */

void bench_order_print(const struct bench_order *order, char line[BENCH_ORDER_BYTES])
{
    const struct bench_case *which = order->which;
    bool reduces = operation_reduces((int)which->operation);
    snprintf(line, BENCH_ORDER_BYTES, "run %s %zu %s %s %d %d %d %d %d %d %d %llu\n",
             operation_name((int)which->operation), order->bytes, type_name((int)which->type),
             reduces ? reduction_name((int)which->reduction) : "none", which->root, which->in_place,
             order->iterations, order->warmup, order->single, order->check, order->skew_us,
             (unsigned long long)order->seed);
}

bool bench_order_parse(const char *line, struct bench_order *order, struct bench_case *which)
{
    char operation[WORD_BYTES], type[WORD_BYTES], reduction[WORD_BYTES];
    int in_place, single, check, end = 0;
    unsigned long long bytes, seed;
    int words = sscanf(line, "run %23s %llu %23s %23s %d %d %d %d %d %d %d %llu%n", operation, &bytes, type,
                       reduction, &which->root, &in_place, &order->iterations, &order->warmup, &single,
                       &check, &order->skew_us, &seed, &end);
    if (words != 12 || line[end] != '\0')
        return false;
    which->operation = (enum tutti_operation)operation_from_name(operation);
    which->type = (enum tutti_type)type_from_name(type);
    which->reduction = (enum tutti_reduction)reduction_from_name(reduction);
    which->in_place = in_place != 0;
    order->which = which;
    order->bytes = (size_t)bytes;
    order->single = single != 0;
    order->check = check != 0;
    order->seed = seed;
    bool has_all = which->operation != 0 && which->type != 0 &&
                   (which->reduction != 0 || !operation_reduces((int)which->operation));
    return has_all && bench_takes((int)which->operation) && order->iterations > 0 && order->warmup >= 0 &&
           order->skew_us >= 0 && (!order->single || order->iterations <= BENCH_SINGLES_MAX);
}

/* ---- Replies ------------------------------------------------------------------------------------ */

/* The number at *text, and then *text is behind it; false: there is none. */
static bool read_real(const char **text, double *number)
{
    char *end;
    *number = strtod(*text, &end);
    bool is_there = end != *text;
    *text = end;
    return is_there && *number >= 0;
}

static bool read_whole(const char **text, int64_t *number)
{
    char *end;
    *number = strtoll(*text, &end, 10);
    bool is_there = end != *text;
    *text = end;
    return is_there && *number >= 0;
}

static bool read_calls(struct bench_reply *reply, const char *text, int64_t base_ns)
{
    for (int i = 0; i < reply->count; i++) {
        int64_t begin_ns, time_ns;
        if (!read_whole(&text, &begin_ns) || !read_whole(&text, &time_ns))
            return false;
        begin_ns += base_ns;
        double us = (double)time_ns / 1e3;
        if (reply->ranks == 0 || us > reply->longest_us[i])
            reply->longest_us[i] = us;
        if (reply->ranks == 0 || begin_ns > reply->last_begin_ns[i])
            reply->last_begin_ns[i] = begin_ns;
        if (reply->ranks == 0 || begin_ns + time_ns > reply->last_end_ns[i])
            reply->last_end_ns[i] = begin_ns + time_ns;
    }
    return *text == '\0';
}

int bench_reply_add(struct bench_reply *reply, const char *line, struct tutti_error *error)
{
    static const char refusal[] = "error ", consent[] = "ok ";
    double mean_us, cpu_s;
    int64_t wrong, count, base_ns = 0;
    if (strncmp(line, refusal, strlen(refusal)) == 0)
        return error_set(error, TUTTI_ERR_UNSUPPORTED, "%s", line + strlen(refusal));
    bool is_consent = strncmp(line, consent, strlen(consent)) == 0;
    const char *text = line + (is_consent ? strlen(consent) : 0);
    if (!is_consent || !read_real(&text, &mean_us) || !read_real(&text, &cpu_s) ||
        !read_whole(&text, &wrong) || !read_whole(&text, &count) || count > BENCH_SINGLES_MAX ||
        (reply->ranks > 0 && count != reply->count))
        return error_set(error, TUTTI_ERR_PROTOCOL, "it answered \"%.100s\", which is no result", line);
    reply->count = (int)count;
    if (count > 0 && (!read_whole(&text, &base_ns) || !read_calls(reply, text, base_ns)))
        return error_set(error, TUTTI_ERR_PROTOCOL, "it answered with %d times that cannot be read",
                         (int)count);
    reply->mean_us = mean_us > reply->mean_us ? mean_us : reply->mean_us;
    reply->cpu_s += cpu_s;
    reply->wrong += wrong;
    reply->ranks++;
    return TUTTI_OK;
}

double bench_reply_call_us(const struct bench_reply *reply, int i, bool is_skewed)
{
    int64_t ns = reply->last_end_ns[i] - reply->last_begin_ns[i];
    return is_skewed ? (double)ns / 1e3 : reply->longest_us[i];
}
