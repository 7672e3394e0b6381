/* `tutti bench`: what its parts share.
 *
 * Who takes part, tutti over each transport and its rivals, is a *contestant* (bench_peer.h): processes of
 * its own that live over the whole run and are told batch by batch what to do, so that contestants take turns
 * without starting anew, and those whose turn it is not sleep.
 *
 * bench.c           the command line
 * bench_contest.c   sizes, rounds and batches; what comes of them
 * bench_peers.c     which contestants there are, and how each is started
 * bench_peer.c      the processes of one, and the lines that go to and fro
 * bench_reply.c     those lines
 * bench_placement.c how two processors lie to each other
 * bench_statistics.c medians and percentiles
 * bench_report.c, bench_ratio.c, bench_json.c  what is printed
 * bench_worker.c    a rank of tutti: its communicator, its buffers, a call
 * bench_serve.c     the loop of a contestant's rank that does what it is told, also of the rivals
 * bench_algorithms.c measures all algorithms beside the one that is chosen, without contestants
 * bench_batch.c     its batches, and those of `tutti tune`
 * bench_data.c      makes and checks the data; the rivals' program uses it, too */
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
#define BENCH_SINGLES_MAX    4096 /* calls of a batch that are timed one by one */
#define BENCH_SKEW_US_MAX    1000000

enum bench_place { BENCH_OUT_OF_PLACE = 1, BENCH_IN_PLACE = 2 };

struct bench_options {
    enum tutti_operation operation;
    enum tutti_type type;
    enum tutti_reduction reduction;
    int root;
    int ranks;
    size_t min_bytes, max_bytes;
    int factor;
    int iterations; /* of a batch; 0: by time */
    int warmup;
    int rounds; /* in which contestants, or algorithms, take turns; 0: the default of either */
    int skew_us;
    unsigned places; /* of enum bench_place */
    bool bind, symmetric;
    const char *transports; /* "uds,tcp": each is a contestant; NULL: one, as the environment says */
    const char *rivals;     /* "openmpi,mpich"; NULL: none */
    const char *json;       /* a file; NULL: none */
    const char *algorithm;  /* instead of the one that is chosen; NULL: choose */
    bool algorithms;        /* measures each of them, and the choice */
    const char *serve;      /* this process is a rank of a contestant; its pipes are there */
    bool worker;            /* this process is a rank of --algorithms */
};

/* All contestants, from the first size to the last; the exit status. */
int bench_contest(const struct bench_options *options);

/* The size after `bytes` (0: the first); 0 after the last. */
size_t bench_next_size(const struct bench_options *options, size_t bytes);

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

/* The size as nccl-tests counts it, of the larger of the two buffers; and the count that makes it at most
 * `bytes`, but at least 1. */
size_t bench_bytes(const struct bench_case *which);
size_t bench_count_for(const struct bench_case *which, size_t bytes);

/* What the rank's input is multiplied by, where the reduction does that. */
double bench_factor(const struct bench_case *which, int rank);

/* This rank's input: small whole numbers, so that every type holds the result exactly. */
void bench_fill(const struct bench_case *which, void *send);

/* Fresh input, and output that holds nothing right: for a call whose result is looked at. */
void bench_fill_for_check(const struct bench_case *which, void *send, void *recv);

/* The elements of this rank's output that are not what they must be. */
size_t bench_count_wrong(const struct bench_case *which, const void *recv);

/* ---- Results ------------------------------------------------------------------------------------ */

/* Of one contestant at one size, in place or not. */
struct bench_row {
    const char *peer;      /* "tutti", "openmpi-nocma": borrowed, as all text here */
    const char *transport; /* "shm", "mpi" */
    struct bench_case which;
    bool symmetric;
    int skew_us;
    double p50_us, p99_us, p999_us;
    double cpu_s; /* of all ranks, in the measured calls */
    int64_t wrong;
    int batches;        /* that the figures are from */
    const char *placed; /* how the processors lay in these; "any" where it changed too often to choose */
};

double bench_algbw(const struct bench_row *row); /* GB/s */
double bench_busbw(const struct bench_row *row); /* likewise */

void bench_print_columns(const struct bench_options *options);
void bench_print_row(const struct bench_row *row);

/* ---- A rank ------------------------------------------------------------------------------------- */

struct bench_worker {
    const struct bench_options *options;
    tutti_comm *comm;
    int rank, size;
    char transport[16]; /* of the link to the next rank; "none" without one */
    uint8_t *send, *recv;
    int64_t wrong; /* of all ranks, on rank 0 */
    FILE *json;    /* rank 0 of --algorithms, when asked for */
};

/* A rank's work, of a contestant or of --algorithms; the exit status. */
int bench_work(const struct bench_options *options);

/* The case of `bytes`, at least one element for each rank; out of place. */
struct bench_case bench_case_of(const struct bench_options *options, size_t bytes, int rank);

/* Where input and output of the call lie in two buffers. */
void bench_buffers(const struct bench_case *which, uint8_t *first, uint8_t *second, uint8_t **send,
                   uint8_t **recv);

/* A status of tutti's. */
int bench_call(tutti_comm *comm, const struct bench_case *which, const void *send, void *recv);

/* Says on standard error what such a status means, unless it is no error; returns it. */
int bench_complain_of(tutti_comm *comm, int status);

/* Measures all algorithms of every size beside the choice; prints a table, and a JSON object for each size;
 * a status of tutti's. */
int bench_compare_algorithms(struct bench_worker *worker);

#endif
