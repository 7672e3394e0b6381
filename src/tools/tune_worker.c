#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "algorithm/algorithm.h"
#include "tensor/type.h"
#include "tools/bench_batch.h"
#include "tools/bench_statistics.h"
#include "tools/tools.h"
#include "tools/tune.h"

#define CASES_MAX   64
#define ROUNDS_MAX  101
#define ALIGNMENT   4096
#define FINALIZE_MS 10000

/* Collectives that end at the same time on every rank, so that nothing but the call itself is measured. */
static const enum tutti_operation operations[] = {TUTTI_ALL_REDUCE, TUTTI_ALL_GATHER, TUTTI_REDUCE_SCATTER};

/* From where only messages count to where only bytes do. */
static const size_t sizes[] = {4, 4096, 32768, 262144, TUNE_BYTES_MAX};

#define OPERATION_KINDS (sizeof operations / sizeof *operations)
#define SIZE_COUNT      (sizeof sizes / sizeof *sizes)

struct rival {
    struct bench_case which;
    int batch;
    double round_us[ROUNDS_MAX];
};

struct field {
    struct bench_worker worker;
    struct rival rivals[CASES_MAX];
    int count, rounds;
};

static int report(tutti_comm *comm, int status)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    tutti_get_error(comm, &error);
    complain(TUNE_COMMAND, "rank %d: %s", tutti_rank(comm),
             error.code != TUTTI_OK ? error.message : tutti_strerror(status));
    return status;
}

/* ---- The rivals of one size --------------------------------------------------------------------- */

/* Adds an algorithm, unless it may not be used here. */
static void add_rival(struct field *field, struct bench_options *options, const char *name, size_t bytes)
{
    struct bench_worker *worker = &field->worker;
    struct tutti_choice choice = TUTTI_CHOICE_INIT;
    options->algorithm = name;
    struct bench_case which = bench_case_of(options, bytes, worker->rank);
    which.in_place = which.operation == TUTTI_ALL_REDUCE;
    struct tutti_call call = {.op = which.operation,
                              .send = worker->send,
                              .recv = worker->recv,
                              .count = which.count,
                              .type = which.type,
                              .reduction = which.reduction,
                              .algorithm = name};
    if (tutti_get_choice(worker->comm, &call, &choice) == TUTTI_OK && field->count < CASES_MAX)
        field->rivals[field->count++] = (struct rival){.which = which};
}

static void gather_rivals(struct field *field, struct bench_options *options, size_t bytes)
{
    field->count = 0;
    for (size_t k = 0; k < OPERATION_KINDS; k++) {
        options->operation = operations[k];
        for (size_t i = 0; i < algorithm_count; i++)
            if (algorithms[i].operation == (int)operations[k])
                add_rival(field, options, algorithms[i].name, bytes);
        add_rival(field, options, algorithm_shared(operations[k])->name, bytes);
    }
}

static int measure_rivals(struct field *field)
{
    int status = TUTTI_OK;
    for (int i = 0; i < field->count && status == TUTTI_OK; i++) {
        struct rival *rival = &field->rivals[i];
        double us = 0;
        /* The first call opens links; the second gives an impression of the time. */
        for (int k = 0; k < 2 && status == TUTTI_OK; k++)
            status = bench_measure_batch(&field->worker, &rival->which, 1, &us);
        rival->batch = bench_batch_for(us);
    }
    for (int turn = 0; turn < field->rounds * field->count && status == TUTTI_OK; turn++) {
        struct rival *rival = &field->rivals[turn % field->count];
        status = bench_measure_batch(&field->worker, &rival->which, rival->batch,
                                     &rival->round_us[turn / field->count]);
    }
    return status;
}

static void print_rivals(struct field *field, FILE *out)
{
    for (int i = 0; i < field->count; i++) {
        struct rival *rival = &field->rivals[i];
        fprintf(out, "%s %s %zu %.3f\n", operation_name((int)rival->which.operation), rival->which.algorithm,
                bench_bytes(&rival->which), bench_median(rival->round_us, (size_t)field->rounds));
    }
}

/* ---- The transport ------------------------------------------------------------------------------ */

/* Did the links carry what was measured?  They fall back where shared memory cannot be had. */
static bool check_transport(const struct bench_worker *worker)
{
    const char *wanted = getenv("TUTTI_TRANSPORTS");
    for (int i = 0;; i++) {
        struct tutti_link_info link = TUTTI_LINK_INFO_INIT;
        if (tutti_get_link(worker->comm, i, &link) != TUTTI_OK)
            return true;
        if (!wanted || strcmp(link.transport, wanted) == 0)
            continue;
        complain(TUNE_COMMAND,
                 "rank %d: the link to rank %d is %s where %s was to be measured; the log says why. Leave %s "
                 "out by --transports",
                 worker->rank, link.peer, link.transport, wanted, wanted);
        return false;
    }
}

/* ---- The rank ----------------------------------------------------------------------------------- */

static int measure(struct field *field, struct bench_options *options, FILE *out)
{
    struct bench_worker *worker = &field->worker;
    int status = TUTTI_OK;
    memset(worker->send, 0, TUNE_BYTES_MAX);
    memset(worker->recv, 0, TUNE_BYTES_MAX);
    for (size_t i = 0; i < SIZE_COUNT && status == TUTTI_OK; i++) {
        gather_rivals(field, options, sizes[i]);
        status = measure_rivals(field);
        if (status == TUTTI_OK && out)
            print_rivals(field, out);
    }
    return status;
}

static int work(struct field *field, const char *results)
{
    struct bench_worker *worker = &field->worker;
    struct bench_options options = {.type = TUTTI_FLOAT32, .reduction = TUTTI_SUM};
    FILE *out = NULL;
    worker->options = &options;
    worker->rank = tutti_rank(worker->comm);
    worker->size = options.ranks = tutti_size(worker->comm);
    worker->send = aligned_alloc(ALIGNMENT, TUNE_BYTES_MAX);
    worker->recv = aligned_alloc(ALIGNMENT, TUNE_BYTES_MAX);
    if (!worker->send || !worker->recv) {
        complain(TUNE_COMMAND, "rank %d: out of memory", worker->rank);
        return TUTTI_ERR_MEMORY;
    }
    if (worker->rank == 0 && !(out = fopen(results, "ae"))) {
        complain(TUNE_COMMAND, "cannot write to '%s': %s", results, strerror(errno));
        return TUTTI_ERR_SYSTEM;
    }
    int status = measure(field, &options, out);
    bool as_wanted = check_transport(worker);
    if (status == TUTTI_OK)
        status = tutti_finalize(worker->comm, FINALIZE_MS);
    if (status != TUTTI_OK)
        report(worker->comm, status);
    if (out && fclose(out) != 0 && status == TUTTI_OK) {
        complain(TUNE_COMMAND, "cannot write to '%s': %s", results, strerror(errno));
        status = TUTTI_ERR_SYSTEM;
    }
    return status == TUTTI_OK && !as_wanted ? TUTTI_ERR_UNSUPPORTED : status;
}

int tune_work(const char *results, int rounds)
{
    /* The file that is about to be made need not be there yet. */
    struct tutti_config config = TUTTI_CONFIG_INIT;
    config.tuning = "none";
    struct field *field = calloc(1, sizeof *field);
    if (!field) {
        complain(TUNE_COMMAND, "out of memory");
        return EXIT_FAILURE;
    }
    field->rounds = rounds < ROUNDS_MAX ? rounds : ROUNDS_MAX;
    int status = tutti_init(&config, &field->worker.comm);
    status = status == TUTTI_OK ? work(field, results) : report(field->worker.comm, status);
    tutti_free(field->worker.comm);
    free(field->worker.send);
    free(field->worker.recv);
    free(field);
    return status == TUTTI_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
