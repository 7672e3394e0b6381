/* `tutti bench`: what its parts share.  bench.c takes the command line and starts the ranks, bench_worker.c
 * is what each rank does, bench_algorithms.c measures all algorithms beside the one that is chosen,
 * bench_data.c makes and checks the data, bench_report.c prints. */
#ifndef TUTTI_TOOLS_BENCH_H
#define TUTTI_TOOLS_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "tutti/tutti.h"

#define BENCH_COMMAND        "bench"
#define BENCH_ITERATIONS_MAX 1000000
#define BENCH_RANKS_MAX      1024
#define BENCH_ROUNDS_MAX     101

struct bench_options {
    enum tutti_operation operation;
    enum tutti_type type;
    enum tutti_reduction reduction;
    int root;
    int ranks;
    size_t min_bytes, max_bytes;
    int factor;
    int iterations; /* 0: by time */
    int warmup;
    bool bind;
    const char *transports; /* "uds,tcp": each in turn; NULL: as the environment says */
    const char *json;       /* a file; NULL: none */
    const char *algorithm;  /* instead of the one that is chosen; NULL: choose */
    bool algorithms;        /* measures each of them, and the choice */
    int rounds;             /* likewise: in which they take turns */
    bool worker;            /* this process is one of the ranks */
};

/* A rank's work; the exit status. */
int bench_work(const struct bench_options *options);

/* ---- Data --------------------------------------------------------------------------------------- */

/* One collective, as seen by one rank. */
struct bench_case {
    enum tutti_operation operation;
    enum tutti_type type;
    enum tutti_reduction reduction;
    int root, rank, size;
    size_t count;          /* as in the call */
    const char *algorithm; /* likewise */
    bool in_place;
};

bool bench_takes(int operation); /* can it be measured? */

/* Elements of the buffers that the call takes, whether or not this rank uses them. */
size_t bench_send_count(const struct bench_case *which);
size_t bench_recv_count(const struct bench_case *which);

/* What the rank's input is multiplied by, where the reduction does that. */
double bench_factor(const struct bench_case *which, int rank);

/* This rank's input: small whole numbers, so that every type holds the result exactly. */
void bench_fill(const struct bench_case *which, void *send);

/* The elements of this rank's output that are not what they must be. */
size_t bench_count_wrong(const struct bench_case *which, const void *recv);

/* ---- Results ------------------------------------------------------------------------------------ */

struct bench_result {
    double p50_us, p99_us;
    double cpu_s; /* of all ranks, in the measured iterations */
    int64_t wrong;
};

struct bench_row {
    const struct bench_case *which;
    const char *transport;
    struct bench_result out_of_place, in_place; /* a barrier has only the first */
};

struct bench_totals {
    double busbw_sum;
    int measurements;
    int64_t wrong;
};

/* `bytes` as nccl-tests counts them: of the larger of the two buffers. */
size_t bench_bytes(const struct bench_case *which);

void bench_print_header(const struct bench_options *options, const char *transport, int size);
void bench_print_row(const struct bench_row *row, struct bench_totals *totals);
void bench_print_totals(const struct bench_totals *totals);

/* The same row as one JSON object a line for each of the two. */
void bench_print_json(FILE *out, const struct bench_row *row);

/* ---- A rank ------------------------------------------------------------------------------------- */

struct bench_worker {
    const struct bench_options *options;
    tutti_comm *comm;
    int rank, size;
    char transport[16]; /* of the link to the next rank; "none" without one */
    uint8_t *send, *recv;
    double *times;     /* of this rank, in seconds */
    size_t times_max;  /* room for so many */
    double *all_times; /* rank 0: of all */
    struct bench_totals totals;
    FILE *json; /* rank 0, when asked for */
};

/* The size after `bytes` (0: the first); 0 after the last. */
size_t bench_next_size(const struct bench_options *options, size_t bytes);

/* The case of `bytes`, at least one element for each rank; out of place. */
struct bench_case bench_case_of(const struct bench_worker *worker, size_t bytes);

/* The following return a status of tutti's. */

/* `count` calls, whose times go to worker->times from `first` on; the CPU time is added to *cpu_s. */
int bench_iterate(const struct bench_worker *worker, const struct bench_case *which, int first, int count,
                  double *cpu_s);

/* One call with fresh input, whose result is looked at. */
int bench_check(const struct bench_worker *worker, const struct bench_case *which, size_t *wrong);

/* `count` calls; *us becomes the median of the times that the slowest rank took, the same on every rank. */
int bench_measure_batch(const struct bench_worker *worker, const struct bench_case *which, int count,
                        double *us);

/* How many calls of `us` microseconds make a batch, where rivals take turns. */
int bench_batch_for(const struct bench_worker *worker, double us);

double bench_median(double *values, int count); /* sorts them */

/* Measures all algorithms of every size beside the choice; prints a table, and a JSON object for each size.
 */
int bench_compare_algorithms(struct bench_worker *worker);

#endif
