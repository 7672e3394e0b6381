/* How two processors lie to each other.  Virtual processors are moved by the host, for seconds to minutes,
 * between two threads of one core, neighbouring cores and far ones, and a benchmark that mixes these measures
 * nothing. A flag that goes to and fro between the first two processors that this process may use tells which
 * it is. */
#ifndef TUTTI_TOOLS_BENCH_PLACEMENT_H
#define TUTTI_TOOLS_BENCH_PLACEMENT_H

enum bench_placement {
    BENCH_PLACED_UNKNOWN, /* there is one processor only */
    BENCH_PLACED_SMT,     /* two threads of a core: half a round trip below 45 ns */
    BENCH_PLACED_NEAR,    /* below 120 ns */
    BENCH_PLACED_BETWEEN, /* and these two */
    BENCH_PLACED_FAR,     /* above 200 ns */
    BENCH_PLACED_MOVED,   /* in the middle of the batch */
    BENCH_PLACEMENTS
};

const char *bench_placement_name(enum bench_placement placement); /* "near" */

/* Of half a round trip. */
enum bench_placement bench_placement_of(double half_trip_ns);

/* The partner of the flag is a thread, which sleeps between probes. */
struct bench_probe;

/* NULL: out of memory, or no thread to be had.  The calling thread, which alone probes, is bound to the first
 * processor. */
struct bench_probe *bench_probe_new(void);
void bench_probe_free(struct bench_probe *probe); /* NULL is accepted */

/* Takes some 50 to 200 microseconds.  BENCH_PLACED_UNKNOWN of NULL. */
enum bench_placement bench_probe_look(struct bench_probe *probe);

#endif
