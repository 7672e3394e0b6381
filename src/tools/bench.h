/* `tutti bench`: what its parts share.  bench.c takes the command line and starts the ranks, bench_worker.c
 * is what each rank does, bench_data.c makes and checks the data, bench_report.c prints. */
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
    size_t count; /* as in the call */
    bool in_place;
};

/* Elements of the buffers that the call takes, whether or not this rank uses them. */
size_t bench_send_count(const struct bench_case *which);
size_t bench_recv_count(const struct bench_case *which);

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

#endif
