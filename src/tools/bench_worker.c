#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "tensor/type.h"
#include "tools/bench.h"
#include "tools/tools.h"

#define SIZE_SECONDS   0.3   /* measured for a size, where -n does not say otherwise */
#define ITERATIONS_MIN 5     /* likewise */
#define ITERATIONS_MAX 20000 /* likewise */
#define ALIGNMENT      4096
#define POISON         0xA5  /* in an output that is about to be checked */
#define BATCH_SECONDS  0.004 /* of rivals that take turns */
#define BATCH_MAX      200   /* likewise */
#define FINALIZE_MS    10000
#define EXTRAS         2 /* CPU time and wrong elements, gathered behind the times */

static double now_s(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int report(tutti_comm *comm, int status)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    if (status < 0) {
        tutti_get_error(comm, &error);
        complain(BENCH_COMMAND, "rank %d: %s", tutti_rank(comm),
                 error.code != TUTTI_OK ? error.message : tutti_strerror(status));
    }
    return status;
}

/* ---- One call ----------------------------------------------------------------------------------- */

/* The buffers of the call: in place, one is a part of the other, as tutti.h says. */
static void buffers_of(const struct bench_worker *worker, const struct bench_case *which, uint8_t **send,
                       uint8_t **recv)
{
    size_t part = which->count * tutti_type_size(which->type) * (size_t)which->rank;
    *send = worker->send;
    *recv = worker->recv;
    if (!which->in_place)
        return;
    if (operation_gathers((int)which->operation))
        *send = worker->recv + part;
    else if (operation_scatters((int)which->operation))
        *recv = worker->send + part;
    else
        *send = worker->recv;
}

static int call(const struct bench_worker *worker, const struct bench_case *which)
{
    uint8_t *send, *recv;
    tutti_request *request;
    buffers_of(worker, which, &send, &recv);
    struct tutti_call call = {.op = which->operation,
                              .send = send,
                              .recv = recv,
                              .count = which->count,
                              .type = which->type,
                              .reduction = which->reduction,
                              .root = which->root,
                              .factor = bench_factor(which, which->rank),
                              .algorithm = which->algorithm};
    return tutti_run(worker->comm, &call, 1, -1, &request);
}

/* Nothing but what the root has is the input: no other rank may have it beforehand. */
static bool has_input(const struct bench_case *which)
{
    bool from_root_only = which->operation == TUTTI_BROADCAST || which->operation == TUTTI_SCATTER;
    return !from_root_only || which->rank == which->root;
}

/* Fresh input, and an output that holds nothing right, then one call whose result is looked at. */
int bench_check(const struct bench_worker *worker, const struct bench_case *which, size_t *wrong)
{
    uint8_t *send, *recv;
    size_t element_bytes = tutti_type_size(which->type);
    buffers_of(worker, which, &send, &recv);
    memset(recv, POISON, bench_recv_count(which) * element_bytes);
    bench_fill(which, send);
    if (!has_input(which))
        memset(send, POISON, bench_send_count(which) * element_bytes);
    int status = call(worker, which);
    *wrong = status == TUTTI_OK ? bench_count_wrong(which, recv) : 0;
    return status;
}

/* ---- Many --------------------------------------------------------------------------------------- */

/* Where a rank may be done before the others have begun, calls would overlap, and a call be measured as
 * shorter than it is. */
static bool needs_barrier(const struct bench_case *which)
{
    return operation_has_root((int)which->operation);
}

int bench_iterate(const struct bench_worker *worker, const struct bench_case *which, int first, int count,
                  double *cpu_s)
{
    int status = tutti_barrier(worker->comm);
    double cpu_start = now_s(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = first; i < first + count && status == TUTTI_OK; i++) {
        if (needs_barrier(which))
            status = tutti_barrier(worker->comm);
        double start = now_s(CLOCK_MONOTONIC);
        if (status == TUTTI_OK)
            status = call(worker, which);
        worker->times[i] = now_s(CLOCK_MONOTONIC) - start;
    }
    *cpu_s += now_s(CLOCK_PROCESS_CPUTIME_ID) - cpu_start;
    return status;
}

static int compare_doubles(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

double bench_median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare_doubles);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

int bench_measure_batch(const struct bench_worker *worker, const struct bench_case *which, int count,
                        double *us)
{
    double cpu_s = 0;
    int status = bench_iterate(worker, which, 0, count, &cpu_s);
    if (status == TUTTI_OK)
        status = tutti_all_reduce(worker->comm, worker->times, worker->times, (size_t)count, TUTTI_FLOAT64,
                                  TUTTI_MAX);
    if (status == TUTTI_OK)
        *us = bench_median(worker->times, count) * 1e6;
    return status;
}

int bench_batch_for(const struct bench_worker *worker, double us)
{
    double fitting = us > 0 ? BATCH_SECONDS * 1e6 / us : 1;
    int most = worker->times_max < BATCH_MAX ? (int)worker->times_max : BATCH_MAX;
    return fitting < 1 ? 1 : fitting < most ? (int)fitting : most;
}

/* How many more, after `done` that took `taken_s`; 0: that was enough.  Grows step by step, since the first
 * calls may tell little about the later ones. */
static int64_t next_batch(const struct bench_options *options, int done, double taken_s)
{
    if (options->iterations > 0)
        return done == 0 ? options->iterations : 0;
    if (done == 0)
        return ITERATIONS_MIN;
    double fitting = (SIZE_SECONDS - taken_s) / (taken_s / done);
    if (!(fitting >= 1))
        return 0;
    int64_t batch = fitting < 2.0 * done ? (int64_t)fitting : 2 * done;
    return batch < ITERATIONS_MAX - done ? batch : ITERATIONS_MAX - done;
}

static int measure_batches(const struct bench_worker *worker, const struct bench_case *which, int *iterations,
                           double *cpu_s)
{
    double taken_s = 0;
    *iterations = 0;
    *cpu_s = 0;
    for (;;) {
        /* Rank 0 decides: every rank must make as many calls. */
        int64_t batch = next_batch(worker->options, *iterations, taken_s);
        int status = tutti_broadcast(worker->comm, &batch, &batch, 1, TUTTI_INT64, 0);
        if (status == TUTTI_OK && batch > 0)
            status = bench_iterate(worker, which, *iterations, (int)batch, cpu_s);
        if (status != TUTTI_OK || batch == 0)
            return status;
        for (int i = 0; i < (int)batch; i++)
            taken_s += worker->times[*iterations + i];
        *iterations += (int)batch;
    }
}

static int warm_up(const struct bench_worker *worker, const struct bench_case *which)
{
    int status = TUTTI_OK;
    for (int i = 0; i < worker->options->warmup && status == TUTTI_OK; i++)
        status = call(worker, which);
    return status;
}

/* On rank 0, from the times of all: an iteration takes as long as its slowest rank. */
static void summarize(const struct bench_worker *worker, int iterations, struct bench_result *result)
{
    size_t stride = (size_t)iterations + EXTRAS;
    double *slowest = worker->all_times;
    *result = (struct bench_result){0};
    for (int rank = 0; rank < worker->size; rank++) {
        const double *times = worker->all_times + (size_t)rank * stride;
        result->cpu_s += times[iterations];
        result->wrong += (int64_t)times[iterations + 1];
        for (int i = 0; i < iterations; i++)
            if (times[i] > slowest[i])
                slowest[i] = times[i];
    }
    int last = (int)((double)iterations * 0.99);
    result->p50_us = bench_median(slowest, iterations) * 1e6;
    result->p99_us = slowest[last < iterations ? last : iterations - 1] * 1e6;
}

static int measure(const struct bench_worker *worker, const struct bench_case *which,
                   struct bench_result *result)
{
    int iterations;
    double cpu_s;
    size_t wrong;
    bench_fill(which, worker->send);
    bench_fill(which, worker->recv);
    int status = warm_up(worker, which);
    if (status == TUTTI_OK)
        status = measure_batches(worker, which, &iterations, &cpu_s);
    if (status == TUTTI_OK)
        status = bench_check(worker, which, &wrong);
    if (status != TUTTI_OK)
        return status;
    worker->times[iterations] = cpu_s;
    worker->times[iterations + 1] = (double)wrong;
    status = tutti_gather(worker->comm, worker->times, worker->all_times, (size_t)iterations + EXTRAS,
                          TUTTI_FLOAT64, 0);
    if (status == TUTTI_OK && worker->rank == 0)
        summarize(worker, iterations, result);
    return status;
}

/* ---- All sizes ---------------------------------------------------------------------------------- */

/* The case of `bytes`, at least one element for each rank. */
struct bench_case bench_case_of(const struct bench_worker *worker, size_t bytes)
{
    const struct bench_options *options = worker->options;
    struct bench_case which = {.operation = options->operation,
                               .type = options->type,
                               .reduction = options->reduction,
                               .root = options->root,
                               .rank = worker->rank,
                               .size = worker->size,
                               .algorithm = options->algorithm,
                               .count = options->operation == TUTTI_BARRIER ? 0 : 1};
    size_t unit = bench_bytes(&which);
    if (unit > 0 && bytes / unit > 1)
        which.count = bytes / unit;
    return which;
}

size_t bench_next_size(const struct bench_options *options, size_t bytes)
{
    if (bytes == 0)
        return options->operation == TUTTI_BARRIER ? options->max_bytes : options->min_bytes;
    return bytes > options->max_bytes / (size_t)options->factor ? 0 : bytes * (size_t)options->factor;
}

static int measure_size(struct bench_worker *worker, size_t bytes)
{
    struct bench_case which = bench_case_of(worker, bytes);
    struct bench_row row = {.which = &which, .transport = worker->transport};
    int status = measure(worker, &which, &row.out_of_place);
    which.in_place = true;
    if (status == TUTTI_OK && which.operation != TUTTI_BARRIER)
        status = measure(worker, &which, &row.in_place);
    if (status != TUTTI_OK || worker->rank != 0)
        return status;
    bench_print_row(&row, &worker->totals);
    if (worker->json)
        bench_print_json(worker->json, &row);
    return status;
}

static int measure_sizes(struct bench_worker *worker)
{
    const struct bench_options *options = worker->options;
    struct tutti_link_info link = TUTTI_LINK_INFO_INIT;
    snprintf(worker->transport, sizeof worker->transport, "none");
    if (worker->size > 1 && tutti_get_link(worker->comm, 0, &link) == TUTTI_OK)
        memcpy(worker->transport, link.transport, sizeof worker->transport);
    if (options->algorithms)
        return bench_compare_algorithms(worker);
    if (worker->rank == 0)
        bench_print_header(options, worker->transport, worker->size);
    int status = TUTTI_OK;
    for (size_t bytes = bench_next_size(options, 0); status == TUTTI_OK && bytes > 0;
         bytes = bench_next_size(options, bytes))
        status = measure_size(worker, bytes);
    if (status == TUTTI_OK && worker->rank == 0)
        bench_print_totals(&worker->totals);
    return status;
}

/* ---- Setting up --------------------------------------------------------------------------------- */

static bool allocate(struct bench_worker *worker)
{
    const struct bench_options *options = worker->options;
    struct bench_case least = bench_case_of(worker, 0);
    size_t bytes = bench_bytes(&least) > options->max_bytes ? bench_bytes(&least) : options->max_bytes;
    size_t rounded = (bytes + ALIGNMENT) / ALIGNMENT * ALIGNMENT;
    size_t times = (size_t)(options->iterations > 0 ? options->iterations : ITERATIONS_MAX) + EXTRAS;
    worker->send = aligned_alloc(ALIGNMENT, rounded);
    worker->recv = aligned_alloc(ALIGNMENT, rounded);
    worker->times = calloc(times, sizeof *worker->times);
    worker->times_max = times;
    if (worker->rank == 0)
        worker->all_times = calloc(times * (size_t)worker->size, sizeof *worker->all_times);
    return worker->send && worker->recv && worker->times && (worker->rank != 0 || worker->all_times);
}

static int work(struct bench_worker *worker)
{
    const struct bench_options *options = worker->options;
    if (!allocate(worker)) {
        complain(BENCH_COMMAND, "rank %d: out of memory for two buffers of %zu bytes; give a smaller -e",
                 worker->rank, options->max_bytes);
        return TUTTI_ERR_MEMORY;
    }
    if (worker->rank == 0 && options->json) {
        worker->json = fopen(options->json, "ae");
        if (!worker->json) {
            complain(BENCH_COMMAND, "cannot write to '%s': %s", options->json, strerror(errno));
            return TUTTI_ERR_SYSTEM;
        }
    }
    int status = report(worker->comm, measure_sizes(worker));
    if (worker->json && fclose(worker->json) != 0 && status == TUTTI_OK) {
        complain(BENCH_COMMAND, "cannot write to '%s': %s", options->json, strerror(errno));
        status = TUTTI_ERR_SYSTEM;
    }
    return status;
}

int bench_work(const struct bench_options *options)
{
    struct bench_worker worker = {.options = options};
    struct tutti_config config = TUTTI_CONFIG_INIT;
    int status = tutti_init(&config, &worker.comm);
    if (status == TUTTI_OK) {
        worker.rank = tutti_rank(worker.comm);
        worker.size = tutti_size(worker.comm);
        status = work(&worker);
        if (status == TUTTI_OK)
            status = report(worker.comm, tutti_finalize(worker.comm, FINALIZE_MS));
    } else {
        report(worker.comm, status);
    }
    tutti_free(worker.comm);
    free(worker.send);
    free(worker.recv);
    free(worker.times);
    free(worker.all_times);
    if (!finish_output(BENCH_COMMAND))
        return EXIT_FAILURE;
    return status == TUTTI_OK && worker.totals.wrong == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
