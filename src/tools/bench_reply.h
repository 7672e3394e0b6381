/* The lines between `tutti bench` and the ranks of a contestant, tutti's own or a rival's.
 *
 * PROGRAM DIR MAX_BYTES: rank r opens DIR/r.in to read and then DIR/r.out to write, and writes "ready TEXT",
 * where TEXT says what it is.  Then it does what each line says and answers with one line, until it reads
 * "quit" or the end.
 *
 *     run OP BYTES TYPE REDUCTION ROOT IN_PLACE ITERATIONS WARMUP SINGLE CHECK SKEW_US SEED
 *
 * Names are tutti's; BYTES are as of bench_bytes().  The rank makes WARMUP calls, a barrier, then ITERATIONS
 * calls.  SINGLE 1: the clock is read after each of them, too; a call begins where the one before ended.  Of
 * operations with a root, which some ranks leave before others have begun, and with a skew, each call is
 * preceded by a barrier, a wait (bench_skew.h) and a reading of the clock, and SINGLE is 1.  CHECK 1: one
 * more call with fresh input, whose result is looked at.
 *
 *     ok MEAN_US CPU_S WRONG COUNT BASE_NS S1 D1 S2 D2 ...
 *     error SENTENCE
 *
 * The mean time of a call, the processor time of the ITERATIONS calls, wrong elements.  COUNT is ITERATIONS
 * or, with SINGLE 0, 0; then come, of each call, when it began, in nanoseconds since BASE_NS of a clock that
 * is the same for all ranks, and how long it took. */
#ifndef TUTTI_TOOLS_BENCH_REPLY_H
#define TUTTI_TOOLS_BENCH_REPLY_H

#include "tools/bench.h"

struct bench_order {
    const struct bench_case *which; /* its rank does not matter */
    size_t bytes;
    int iterations, warmup;
    bool single, check;
    int skew_us;
    uint64_t seed;
};

#define BENCH_ORDER_BYTES 256 /* of its line, at most */

/* Writes the line, with its end, and a 0. */
void bench_order_print(const struct bench_order *order, char line[BENCH_ORDER_BYTES]);

/* Reads a line without its end into *order and the case that it points to, whose rank and size are set;
 * false: that is no such line. */
bool bench_order_parse(const char *line, struct bench_order *order, struct bench_case *which);

/* What all ranks answered. */
struct bench_reply {
    double mean_us; /* of the slowest rank */
    double cpu_s;   /* of all */
    int64_t wrong;  /* likewise */
    int ranks;      /* that have answered */
    int count;      /* of calls that were timed one by one */
    /* Of each: the longest that a rank was in it; and when the last rank began and ended. */
    double longest_us[BENCH_SINGLES_MAX];
    int64_t last_begin_ns[BENCH_SINGLES_MAX], last_end_ns[BENCH_SINGLES_MAX];
};

/* Adds a rank's line to *reply, which was all zero before the first.  TUTTI_OK, or an error whose message
 * says what the rank said or what is wrong with that. */
int bench_reply_add(struct bench_reply *reply, const char *line, struct tutti_error *error);

/* The time of call `i`: from the arrival of the last rank to the departure of the last, where ranks were made
 * late; else the longest that any was in it. */
double bench_reply_call_us(const struct bench_reply *reply, int i, bool is_skewed);

#endif
