/* Every algorithm beside the one that is chosen: how good is the choice?
 *
 * The machine's speed changes from second to second, so all take turns, in short batches, for several rounds;
 * and a ratio is the median of the ratios within a round. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "algorithm/algorithm.h"
#include "tensor/type.h"
#include "tools/bench.h"
#include "tools/bench_batch.h"
#include "tools/bench_statistics.h"

#define CANDIDATES_MAX 18  /* the choice, and the algorithms of one operation */
#define HOPELESS       4.0 /* times slower than the best: not measured where it is predicted so, too */
#define ROUNDS         7

struct candidate {
    const char *name; /* NULL: as chosen */
    double predicted_us;
    double round_us[BENCH_ROUNDS_MAX];
    double median_us; /* 0: not measured */
    double before;    /* how many times slower than the best it was at the size before; 0: unknown */
};

struct comparison {
    struct bench_worker *worker;
    struct candidate candidates[CANDIDATES_MAX];
    int count; /* the first is the choice */
    int rounds;
    struct tutti_choice choice; /* for this size */
    double log_ratios, worst_ratio;
    size_t worst_bytes;
    int sizes;
};

/* ---- One size ----------------------------------------------------------------------------------- */

static struct tutti_call call_of(const struct bench_worker *worker, const struct bench_case *which,
                                 const char *name)
{
    return (struct tutti_call){.op = which->operation,
                               .send = worker->send,
                               .recv = worker->recv,
                               .count = which->count,
                               .type = which->type,
                               .reduction = which->reduction,
                               .root = which->root,
                               .algorithm = name};
}

/* What the model says of each; an algorithm that may not be used here is left out. */
static void predict(struct comparison *comparison, const struct bench_case *which)
{
    struct bench_worker *worker = comparison->worker;
    for (int i = 0; i < comparison->count; i++) {
        struct candidate *candidate = &comparison->candidates[i];
        struct tutti_call call = call_of(worker, which, candidate->name);
        struct tutti_choice choice = TUTTI_CHOICE_INIT;
        bool usable = tutti_get_choice(worker->comm, &call, &choice) == TUTTI_OK;
        candidate->predicted_us = usable ? choice.predicted_us : -1;
        candidate->median_us = 0;
        if (i == 0)
            comparison->choice = choice;
    }
}

static bool is_measured(const struct comparison *comparison, const struct candidate *candidate)
{
    bool hopeless =
        candidate->before > HOPELESS && candidate->predicted_us > HOPELESS * comparison->choice.predicted_us;
    return candidate->predicted_us >= 0 && (!candidate->name || !hopeless);
}

/* A result that is right, links that are open and a first impression of the time. */
static int warm_up(struct comparison *comparison, const struct bench_case *which, double *us)
{
    struct bench_worker *worker = comparison->worker;
    uint8_t *send, *recv;
    bench_buffers(which, worker->send, worker->recv, &send, &recv);
    bench_fill_for_check(which, send, recv);
    int status = bench_call(worker->comm, which, send, recv);
    int64_t wrong = status == TUTTI_OK ? (int64_t)bench_count_wrong(which, recv) : 0;
    if (status == TUTTI_OK)
        status = tutti_all_reduce(worker->comm, &wrong, &wrong, 1, TUTTI_INT64, TUTTI_SUM);
    worker->wrong += wrong;
    return status == TUTTI_OK ? bench_measure_batch(worker, which, 1, us) : status;
}

static int measure_rounds(struct comparison *comparison, struct bench_case *which)
{
    int batch[CANDIDATES_MAX], status = TUTTI_OK;
    for (int i = 0; i < comparison->count && status == TUTTI_OK; i++) {
        double us = 0;
        which->algorithm = comparison->candidates[i].name;
        if (is_measured(comparison, &comparison->candidates[i]))
            status = warm_up(comparison, which, &us);
        batch[i] = bench_batch_for(us);
    }
    for (int round = 0; round < comparison->rounds; round++) {
        for (int turn = 0; turn < comparison->count && status == TUTTI_OK; turn++) {
            int i = (turn + round) % comparison->count;
            struct candidate *candidate = &comparison->candidates[i];
            which->algorithm = candidate->name;
            if (is_measured(comparison, candidate))
                status =
                    bench_measure_batch(comparison->worker, which, batch[i], &candidate->round_us[round]);
        }
    }
    return status;
}

/* ---- Results ------------------------------------------------------------------------------------ */

/* Sets the medians; returns the fastest of those that were named. */
static const struct candidate *summarize(struct comparison *comparison)
{
    const struct candidate *best = NULL;
    for (int i = 0; i < comparison->count; i++) {
        struct candidate *candidate = &comparison->candidates[i];
        double sorted[BENCH_ROUNDS_MAX];
        memcpy(sorted, candidate->round_us, sizeof sorted);
        if (!is_measured(comparison, candidate))
            continue;
        candidate->median_us = bench_median(sorted, (size_t)comparison->rounds);
        if (candidate->name && (!best || candidate->median_us < best->median_us))
            best = candidate;
    }
    for (int i = 0; i < comparison->count && best; i++) {
        struct candidate *candidate = &comparison->candidates[i];
        if (candidate->median_us > 0)
            candidate->before = candidate->median_us / best->median_us;
    }
    return best;
}

/* Of the choice's time to that of the best. */
static double ratio_of(const struct comparison *comparison, const struct candidate *best)
{
    double ratios[BENCH_ROUNDS_MAX];
    for (int round = 0; round < comparison->rounds; round++)
        ratios[round] = comparison->candidates[0].round_us[round] / best->round_us[round];
    return bench_median(ratios, (size_t)comparison->rounds);
}

static void print_json(const struct comparison *comparison, const struct bench_case *which,
                       const struct candidate *best, double ratio)
{
    const struct bench_worker *worker = comparison->worker;
    FILE *out = worker->json;
    fprintf(out,
            "{\"op\": \"%s\", \"transport\": \"%s\", \"ranks\": %d, \"bytes\": %zu, \"type\": \"%s\", "
            "\"selected\": \"%s\", \"channels\": %d, \"selected_us\": %.3f, \"predicted_us\": %.3f, "
            "\"best\": \"%s\", \"best_us\": %.3f, \"ratio\": %.4f, \"algorithms\": {",
            operation_name((int)which->operation), worker->transport, which->size, bench_bytes(which),
            type_name((int)which->type), comparison->choice.algorithm, comparison->choice.channels,
            comparison->candidates[0].median_us, comparison->choice.predicted_us, best->name, best->median_us,
            ratio);
    const char *separator = "";
    for (int i = 1; i < comparison->count; i++) {
        const struct candidate *candidate = &comparison->candidates[i];
        if (candidate->median_us <= 0)
            continue;
        fprintf(out, "%s\"%s\": {\"us\": %.3f, \"predicted_us\": %.3f}", separator, candidate->name,
                candidate->median_us, candidate->predicted_us);
        separator = ", ";
    }
    fputs("}}\n", out);
}

static void print_row(struct comparison *comparison, const struct bench_case *which,
                      const struct candidate *best)
{
    double ratio = ratio_of(comparison, best);
    comparison->log_ratios += log(ratio);
    comparison->sizes++;
    if (ratio > comparison->worst_ratio) {
        comparison->worst_ratio = ratio;
        comparison->worst_bytes = bench_bytes(which);
    }
    printf("%12zu %-19s %3d %11.1f %11.1f   %-19s %11.1f %7.2f\n", bench_bytes(which),
           comparison->choice.algorithm, comparison->choice.channels, comparison->choice.predicted_us,
           comparison->candidates[0].median_us, best->name, best->median_us, ratio);
    fflush(stdout);
    if (comparison->worker->json)
        print_json(comparison, which, best, ratio);
}

static void print_header(const struct comparison *comparison)
{
    const struct bench_worker *worker = comparison->worker;
    printf("# tutti bench %s --algorithms: n = %d ranks on this host, transport %s, %s, version %s\n",
           operation_name((int)worker->options->operation), worker->size, worker->transport,
           type_name((int)worker->options->type), tutti_version());
    printf("# time: median of %d rounds in which all algorithms take turns; ratio: median of the rounds' "
           "ratios\n",
           comparison->rounds);
    printf("# %10s %-19s %3s %11s %11s   %-19s %11s %7s\n", "size (B)", "chosen", "ch", "predicted",
           "time (us)", "best", "time (us)", "ratio");
    fflush(stdout);
}

static void print_totals(const struct comparison *comparison)
{
    printf("# ratio: geometric mean %.3f, worst %.2f at %zu bytes\n",
           exp(comparison->log_ratios / comparison->sizes), comparison->worst_ratio, comparison->worst_bytes);
    printf("# Out of bounds values : %lld %s\n#\n", (long long)comparison->worker->wrong,
           comparison->worker->wrong == 0 ? "OK" : "FAILED");
    fflush(stdout);
}

/* ---- All sizes ---------------------------------------------------------------------------------- */

/* In place where that is how one calls it. */
static bool is_in_place(enum tutti_operation operation)
{
    return operation == TUTTI_ALL_REDUCE || operation == TUTTI_REDUCE || operation == TUTTI_BROADCAST;
}

static int compare_size(struct comparison *comparison, size_t bytes)
{
    struct bench_case which = bench_case_of(comparison->worker->options, bytes, comparison->worker->rank);
    which.in_place = is_in_place(which.operation);
    predict(comparison, &which);
    int status = measure_rounds(comparison, &which);
    if (status != TUTTI_OK)
        return status;
    const struct candidate *best = summarize(comparison);
    if (comparison->worker->rank == 0 && best)
        print_row(comparison, &which, best);
    return status;
}

int bench_compare_algorithms(struct bench_worker *worker)
{
    struct comparison *comparison = calloc(1, sizeof *comparison);
    if (!comparison)
        return TUTTI_ERR_MEMORY;
    comparison->worker = worker;
    comparison->rounds = worker->options->rounds > 0 ? worker->options->rounds : ROUNDS;
    comparison->count = 1;
    for (size_t i = 0; i < algorithm_count && comparison->count < CANDIDATES_MAX; i++)
        if (algorithms[i].operation == (int)worker->options->operation)
            comparison->candidates[comparison->count++].name = algorithms[i].name;
    const struct algorithm *shared = algorithm_shared((int)worker->options->operation);
    if (shared && comparison->count < CANDIDATES_MAX)
        comparison->candidates[comparison->count++].name = shared->name;
    if (worker->rank == 0)
        print_header(comparison);
    int status = TUTTI_OK;
    for (size_t bytes = bench_next_size(worker->options, 0); status == TUTTI_OK && bytes > 0;
         bytes = bench_next_size(worker->options, bytes))
        status = compare_size(comparison, bytes);
    if (status == TUTTI_OK && worker->rank == 0 && comparison->sizes > 0)
        print_totals(comparison);
    free(comparison);
    return status;
}
