/* The contest.  For every size, in place and not, each contestant is first asked how long a call takes; then
 * come the rounds, in each of which every contestant has a batch of some 5 ms, the first turn going round. So
 * what changes on the machine from second to second changes for all, and what moves in the middle shows: a
 * probe looks before and after each batch at how the processors lie, and where enough batches of every
 * contestant had them alike, only these count.
 *
 * A contestant's time at one size is the median, over its batches, of the mean time of a call on the slowest
 * rank.  Its 99th percentile is that of all calls that were timed one by one: those of the batches, or, where
 * reading a clock would take as long as the call, those of a second and shorter pass behind each batch. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/error.h"
#include "tensor/type.h"
#include "tools/bench.h"
#include "tools/bench_json.h"
#include "tools/bench_peers.h"
#include "tools/bench_placement.h"
#include "tools/bench_ratio.h"
#include "tools/bench_statistics.h"
#include "tools/child.h"
#include "tools/tools.h"

#define ROUNDS             15
#define BATCH_US           5000
#define SKEWED_BATCH_US    50000 /* the 99.9th percentile wants many calls */
#define TRIAL_US           2000  /* of asking how long a call takes */
#define FIRST_TRIAL_US     200000 /* of a contestant: libraries need a while until they are what they will be */
#define TRIAL_GROWTH       32     /* from one step of it to the next */
#define TRIAL_STEPS_MIN    3      /* the median counts: a call may be interrupted */
#define TRIAL_STEPS_MAX    64
#define LONG_BATCHES       4   /* times as long as it should be: the next gets half as many calls */
#define SHORT_US           5   /* of a call: then its second pass */
#define SHORT_PASS         500 /* calls in that */
#define ENOUGH_SHARE       3   /* a third of the batches must have been alike, to leave out the others */
#define ENOUGH_BATCHES_MIN 3

struct batch {
    double mean_us;
    enum bench_placement placement;
    size_t first_call, calls; /* of those timed one by one */
};

struct entry {
    struct bench_peer *peer;
    bool is_out;    /* a rival that had to be left out */
    bool is_warm;   /* has had its first trial */
    int iterations; /* of a batch */
    int warmup;     /* before each */
    bool single;
    struct batch *batches; /* of this size, one a round */
    double *calls_us;      /* likewise */
    size_t calls, calls_max;
    double cpu_s;      /* likewise */
    int64_t wrong;     /* likewise */
    int64_t all_wrong; /* of all sizes */
    double busbw_sum;
    int measurements;
};

struct contest {
    const struct bench_options *options;
    struct bench_peers peers;
    struct entry entries[BENCH_PEERS_MAX];
    struct bench_probe *probe;
    struct bench_reply reply; /* large */
    struct bench_ratio ratio;
    int rounds;
    FILE *json;
    int placements[BENCH_PLACEMENTS]; /* how many batches */
};

/* ---- One run ------------------------------------------------------------------------------------ */

/* Leaves the rival out from now on; a failure of ours is the end.  The status. */
static int complain_of_peer(struct entry *entry, int status, const struct tutti_error *error)
{
    struct bench_peer *peer = entry->peer;
    if (status == TUTTI_ERR_ABORTED)
        return status;
    if (peer->is_ours) {
        complain(BENCH_COMMAND, "tutti %s: %s", peer->transport, error->message);
        return status;
    }
    complain(BENCH_COMMAND, "without %s from here on: %s", peer->name, error->message);
    entry->is_out = true;
    return bench_peer_end(peer, false, NULL);
}

/* The result is in contest->reply, unless the contestant is out. */
static int run(struct contest *contest, struct entry *entry, const struct bench_order *order)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    int status = bench_peer_run(entry->peer, order, &contest->reply, &error);
    if (status != TUTTI_OK)
        return complain_of_peer(entry, status, &error);
    entry->wrong += contest->reply.wrong;
    return TUTTI_OK;
}

static bool is_timed_singly(const struct bench_options *options)
{
    return options->skew_us > 0 || operation_has_root((int)options->operation);
}

/* The calls that `us` microseconds have room for. */
static int fitting_calls(const struct bench_options *options, double us, double call_us)
{
    int most = is_timed_singly(options) ? BENCH_SINGLES_MAX : BENCH_ITERATIONS_MAX;
    double fitting = us / (call_us + options->skew_us + 1e-3);
    return fitting < 1 ? 1 : fitting < most ? (int)fitting : most;
}

/* How long a call takes; *call_us stays as it was where the contestant is out. */
static int try_out(struct contest *contest, struct entry *entry, const struct bench_case *which,
                   double *call_us)
{
    const struct bench_options *options = contest->options;
    struct bench_order order = {.which = which,
                                .bytes = bench_bytes(which),
                                .iterations = options->iterations > 0 ? entry->iterations : 1,
                                .warmup = options->warmup,
                                .single = is_timed_singly(options),
                                .check = true,
                                .skew_us = options->skew_us};
    double trial_us = entry->is_warm ? TRIAL_US : FIRST_TRIAL_US, taken_us = 0, means_us[TRIAL_STEPS_MAX];
    size_t steps = 0;
    do {
        int status = run(contest, entry, &order);
        if (status != TUTTI_OK || entry->is_out)
            return status;
        double mean_us = contest->reply.mean_us;
        means_us[steps++] = mean_us;
        taken_us += (mean_us + options->skew_us) * order.iterations;
        int fitting = fitting_calls(options, trial_us, mean_us), grown = order.iterations * TRIAL_GROWTH;
        order.iterations = fitting < grown ? fitting : grown;
        order.warmup = 0;
        order.check = false;
    } while (options->iterations == 0 && steps < TRIAL_STEPS_MAX &&
             (taken_us < trial_us || steps < TRIAL_STEPS_MIN));
    entry->is_warm = true;
    *call_us = bench_median(means_us, steps);
    return TUTTI_OK;
}

/* Asks how long a call takes, and looks at the result; then the batches of this size are planned. */
static int prepare(struct contest *contest, struct entry *entry, const struct bench_case *which)
{
    const struct bench_options *options = contest->options;
    int most = is_timed_singly(options) ? BENCH_SINGLES_MAX : BENCH_ITERATIONS_MAX;
    double call_us = 0, batch_us = options->skew_us > 0 ? SKEWED_BATCH_US : BATCH_US;
    entry->calls = 0;
    entry->cpu_s = 0;
    entry->wrong = 0;
    entry->iterations = options->iterations < most ? options->iterations : most;
    int status = try_out(contest, entry, which, &call_us);
    if (entry->iterations == 0)
        entry->iterations = fitting_calls(options, batch_us, call_us);
    entry->single =
        is_timed_singly(options) || (call_us >= SHORT_US && entry->iterations <= BENCH_SINGLES_MAX);
    int fitting = fitting_calls(options, batch_us, call_us);
    entry->warmup = fitting < options->warmup ? fitting : options->warmup;
    return status;
}

/* ---- A batch ------------------------------------------------------------------------------------ */

static int keep_calls(struct contest *contest, struct entry *entry)
{
    const struct bench_reply *reply = &contest->reply;
    if (entry->calls + (size_t)reply->count > entry->calls_max) {
        size_t more = 2 * entry->calls_max + (size_t)reply->count;
        double *larger = realloc(entry->calls_us, more * sizeof *larger);
        if (!larger) {
            complain(BENCH_COMMAND, "out of memory for the times of %zu calls", more);
            return TUTTI_ERR_MEMORY;
        }
        entry->calls_us = larger;
        entry->calls_max = more;
    }
    for (int i = 0; i < reply->count; i++)
        entry->calls_us[entry->calls++] = bench_reply_call_us(reply, i, contest->options->skew_us > 0);
    return TUTTI_OK;
}

static int run_batch(struct contest *contest, struct entry *entry, const struct bench_case *which, int round)
{
    struct batch *batch = &entry->batches[round];
    struct bench_order order = {.which = which,
                                .bytes = bench_bytes(which),
                                .iterations = entry->iterations,
                                .warmup = entry->warmup,
                                .single = entry->single,
                                .check = round == contest->rounds - 1,
                                .skew_us = contest->options->skew_us,
                                .seed = (uint64_t)round + 1};
    batch->first_call = entry->calls;
    enum bench_placement before = bench_probe_look(contest->probe);
    int status = run(contest, entry, &order);
    if (status != TUTTI_OK || entry->is_out)
        return status;
    batch->mean_us = contest->reply.mean_us;
    entry->cpu_s += contest->reply.cpu_s;
    bool is_long = batch->mean_us * order.iterations > (double)LONG_BATCHES * BATCH_US;
    if (is_long && contest->options->iterations == 0 && contest->options->skew_us == 0 &&
        entry->iterations > 1)
        entry->iterations /= 2;
    if (!order.single) {
        order.iterations = order.iterations < SHORT_PASS ? order.iterations : SHORT_PASS;
        order.single = true;
        order.check = false;
        status = run(contest, entry, &order);
    }
    if (status == TUTTI_OK && !entry->is_out)
        status = keep_calls(contest, entry);
    enum bench_placement after = bench_probe_look(contest->probe);
    batch->calls = entry->calls - batch->first_call;
    batch->placement = before == after ? before : BENCH_PLACED_MOVED;
    contest->placements[batch->placement]++;
    return status;
}

static int run_rounds(struct contest *contest, const struct bench_case *which)
{
    int status = TUTTI_OK, count = contest->peers.count;
    for (int round = 0; round < contest->rounds; round++) {
        for (int turn = 0; turn < count && status == TUTTI_OK; turn++) {
            struct entry *entry = &contest->entries[(turn + round) % count];
            if (!entry->is_out)
                status = run_batch(contest, entry, which, round);
        }
    }
    return status;
}

/* ---- Results ------------------------------------------------------------------------------------ */

static int batches_placed(const struct contest *contest, const struct entry *entry,
                          enum bench_placement placement)
{
    int count = 0;
    for (int round = 0; round < contest->rounds; round++)
        count += entry->batches[round].placement == placement;
    return count;
}

/* The placement of which every contestant has enough batches, most of all; BENCH_PLACEMENTS: there is none.
 */
static enum bench_placement choose_placement(const struct contest *contest)
{
    int enough = contest->rounds / ENOUGH_SHARE, most = 0;
    enum bench_placement chosen = BENCH_PLACEMENTS;
    enough = enough < ENOUGH_BATCHES_MIN ? ENOUGH_BATCHES_MIN : enough;
    enough = enough < contest->rounds ? enough : contest->rounds;
    for (int placement = 0; placement < BENCH_PLACED_MOVED; placement++) {
        int least = contest->rounds;
        for (int i = 0; i < contest->peers.count; i++) {
            int placed = batches_placed(contest, &contest->entries[i], (enum bench_placement)placement);
            if (!contest->entries[i].is_out && placed < least)
                least = placed;
        }
        if (least >= enough && least > most) {
            most = least;
            chosen = (enum bench_placement)placement;
        }
    }
    return chosen;
}

/* From the batches of that placement, or from all. */
static struct bench_row summarize(const struct contest *contest, struct entry *entry,
                                  const struct bench_case *which, enum bench_placement placement)
{
    struct bench_row row = {.peer = entry->peer->name,
                            .transport = entry->peer->transport,
                            .which = *which,
                            .symmetric = entry->peer->is_ours && contest->options->symmetric,
                            .skew_us = contest->options->skew_us,
                            .cpu_s = entry->cpu_s,
                            .wrong = entry->wrong};
    double means_us[BENCH_ROUNDS_MAX];
    size_t calls = 0;
    for (int round = 0; round < contest->rounds; round++) {
        const struct batch *batch = &entry->batches[round];
        if (placement != BENCH_PLACEMENTS && batch->placement != placement)
            continue;
        means_us[row.batches++] = batch->mean_us;
        /* Never ahead of what is still to be read. */
        memmove(entry->calls_us + calls, entry->calls_us + batch->first_call, batch->calls * sizeof(double));
        calls += batch->calls;
    }
    row.placed = placement == BENCH_PLACEMENTS ? "any" : bench_placement_name(placement);
    row.p99_us = bench_percentile(entry->calls_us, calls, 0.99);
    row.p999_us = bench_percentile(entry->calls_us, calls, 0.999);
    if (row.skew_us > 0)
        row.p50_us = bench_percentile(entry->calls_us, calls, 0.5);
    else
        row.p50_us = bench_median(means_us, (size_t)row.batches);
    /* Calls that are very slow and rarer than one in a hundred may lift the means above that percentile. */
    row.p99_us = row.p99_us > row.p50_us ? row.p99_us : row.p50_us;
    row.p999_us = row.p999_us > row.p99_us ? row.p999_us : row.p99_us;
    return row;
}

static int report_size(struct contest *contest, const struct bench_case *which)
{
    enum bench_placement placement = choose_placement(contest);
    for (int i = 0; i < contest->peers.count; i++) {
        struct entry *entry = &contest->entries[i];
        if (entry->is_out)
            continue;
        struct bench_row row = summarize(contest, entry, which, placement);
        bench_print_row(&row);
        if (contest->json)
            bench_json_row(contest->json, &row);
        if (!bench_ratio_add(&contest->ratio, &row, entry->peer->is_ours)) {
            complain(BENCH_COMMAND, "out of memory for the results");
            return TUTTI_ERR_MEMORY;
        }
        entry->all_wrong += row.wrong;
        entry->busbw_sum += bench_busbw(&row);
        entry->measurements++;
    }
    return TUTTI_OK;
}

static void print_totals(const struct contest *contest)
{
    int total = 0;
    for (int i = 0; i < BENCH_PLACEMENTS; i++)
        total += contest->placements[i];
    printf("# processors, by batches:");
    for (int i = 0; i < BENCH_PLACEMENTS && total > 0; i++)
        if (contest->placements[i] > 0)
            printf(" %s %.0f %%", bench_placement_name((enum bench_placement)i),
                   100.0 * contest->placements[i] / total);
    putchar('\n');
    for (int i = 0; i < contest->peers.count; i++) {
        const struct entry *entry = &contest->entries[i];
        if (entry->measurements == 0 || (!entry->peer->is_ours && entry->all_wrong == 0))
            continue;
        printf("# %s %s\n", entry->peer->name, entry->peer->transport);
        printf("# Out of bounds values : %lld %s\n", (long long)entry->all_wrong,
               entry->all_wrong == 0 ? "OK" : "FAILED");
        printf("# Avg bus bandwidth    : %.4f\n#\n", entry->busbw_sum / entry->measurements);
    }
    if (contest->options->rivals)
        bench_ratio_print(&contest->ratio);
}

/* ---- All sizes ---------------------------------------------------------------------------------- */

size_t bench_next_size(const struct bench_options *options, size_t bytes)
{
    if (bytes == 0)
        return options->operation == TUTTI_BARRIER ? options->max_bytes : options->min_bytes;
    return bytes > options->max_bytes / (size_t)options->factor ? 0 : bytes * (size_t)options->factor;
}

static int measure_size(struct contest *contest, size_t bytes, bool in_place)
{
    struct bench_case which = bench_case_of(contest->options, bytes, 0);
    int status = TUTTI_OK;
    which.in_place = in_place;
    for (int i = 0; i < contest->peers.count && status == TUTTI_OK; i++) {
        if (!contest->entries[i].is_out)
            status = prepare(contest, &contest->entries[i], &which);
    }
    if (status == TUTTI_OK)
        status = run_rounds(contest, &which);
    return status == TUTTI_OK ? report_size(contest, &which) : status;
}

static int measure_sizes(struct contest *contest)
{
    const struct bench_options *options = contest->options;
    int status = TUTTI_OK;
    for (size_t bytes = bench_next_size(options, 0); status == TUTTI_OK && bytes > 0;
         bytes = bench_next_size(options, bytes)) {
        if (options->places & BENCH_OUT_OF_PLACE || options->operation == TUTTI_BARRIER)
            status = measure_size(contest, bytes, false);
        if (status == TUTTI_OK && options->places & BENCH_IN_PLACE && options->operation != TUTTI_BARRIER)
            status = measure_size(contest, bytes, true);
    }
    return status;
}

/* ---- Setting up --------------------------------------------------------------------------------- */

/* Tutti says "shm tutti 0.2.0" of itself. */
static void take_transport(struct bench_peer *peer)
{
    char transport[BENCH_PEER_NAME];
    if (sscanf(peer->text, "%15s", transport) == 1)
        snprintf(peer->transport, sizeof peer->transport, "%s", transport);
}

/* Those that cannot start are left out, of rivals. */
static int start_all(struct contest *contest, size_t max_bytes)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    struct rlimit descriptors;
    int status = TUTTI_OK;
    descriptors_raise(&descriptors);
    for (int i = 0; i < contest->peers.count && status == TUTTI_OK; i++) {
        struct entry *entry = &contest->entries[i];
        entry->peer = &contest->peers.list[i];
        entry->batches = calloc((size_t)contest->rounds, sizeof *entry->batches);
        status = entry->batches ? bench_peer_start(entry->peer, max_bytes, &descriptors, &error)
                                : error_set(&error, TUTTI_ERR_MEMORY, "out of memory for its batches");
        if (status != TUTTI_OK)
            status = complain_of_peer(entry, status, &error);
        else if (entry->peer->is_ours)
            take_transport(entry->peer);
    }
    return status;
}

static void print_header(const struct contest *contest)
{
    const struct bench_options *options = contest->options;
    printf("# tutti bench %s: n = %d ranks on this host, %d rounds, version %s\n",
           operation_name((int)options->operation), options->ranks, contest->rounds, tutti_version());
    for (int i = 0; i < contest->peers.count; i++) {
        const struct bench_peer *peer = contest->entries[i].peer;
        if (!contest->entries[i].is_out)
            printf("# %s %s: %s\n", peer->name, peer->transport, peer->text);
    }
    bench_print_columns(options);
}

static int end_all(struct contest *contest, int status)
{
    for (int i = 0; i < contest->peers.count; i++) {
        struct entry *entry = &contest->entries[i];
        struct tutti_error error = TUTTI_ERROR_INIT;
        int ended = bench_peer_end(&contest->peers.list[i], status == TUTTI_OK, &error);
        if (ended != TUTTI_OK) {
            complain(BENCH_COMMAND, "%s %s: %s", entry->peer->name, entry->peer->transport, error.message);
            status = entry->peer->is_ours && status == TUTTI_OK ? ended : status;
        }
        free(entry->batches);
        free(entry->calls_us);
    }
    return status;
}

static int hold(struct contest *contest)
{
    const struct bench_options *options = contest->options;
    struct bench_case least = bench_case_of(options, 0, 0);
    size_t max_bytes = bench_bytes(&least) > options->max_bytes ? bench_bytes(&least) : options->max_bytes;
    int status = start_all(contest, max_bytes);
    if (status == TUTTI_OK) {
        contest->probe = bench_probe_new(); /* binds this thread, so the children come first */
        print_header(contest);
        status = measure_sizes(contest);
        bench_probe_free(contest->probe);
    }
    if (status == TUTTI_OK)
        print_totals(contest);
    return end_all(contest, status);
}

/* ---- The command -------------------------------------------------------------------------------- */

static bool close_json(struct contest *contest)
{
    if (!contest->json || fclose(contest->json) == 0)
        return true;
    complain(BENCH_COMMAND, "cannot write to '%s': %s", contest->options->json, strerror(errno));
    return false;
}

int bench_contest(const struct bench_options *options)
{
    struct contest *contest = calloc(1, sizeof *contest);
    if (!contest) {
        complain(BENCH_COMMAND, "out of memory");
        return EXIT_FAILURE;
    }
    contest->options = options;
    contest->rounds = options->rounds > 0 ? options->rounds : ROUNDS;
    contest->json = options->json ? fopen(options->json, "we") : NULL;
    int status = EXIT_FAILURE;
    if (options->json && !contest->json)
        complain(BENCH_COMMAND, "cannot write to '%s': %s", options->json, strerror(errno));
    else
        status = bench_peers_choose(&contest->peers, options);
    if (status == EXIT_SUCCESS) {
        bench_signals_hold();
        status = hold(contest) == TUTTI_OK ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    for (int i = 0; i < contest->peers.count; i++) {
        if (contest->peers.list[i].is_ours && contest->entries[i].all_wrong > 0)
            status = EXIT_FAILURE;
        (void)bench_peer_end(&contest->peers.list[i], false, NULL); /* those that were not even begun with */
    }
    if (bench_signals_told() != 0)
        status = EXIT_SIGNALED + bench_signals_told();
    if (!close_json(contest) || !finish_output(BENCH_COMMAND))
        status = status == EXIT_SUCCESS ? EXIT_FAILURE : status;
    bench_ratio_free(&contest->ratio);
    free(contest);
    return status;
}
