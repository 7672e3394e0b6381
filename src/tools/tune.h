/* `tutti tune`: what its parts share.  tune.c takes the command line, runs the ranks and fits the constants,
 * tune_worker.c is what each rank does, tune_memory.c measures what needs no ranks. */
#ifndef TUTTI_TOOLS_TUNE_H
#define TUTTI_TOOLS_TUNE_H

#include <stddef.h>
#include "algorithm/select.h"

#define TUNE_COMMAND "tune"

/* Of the largest size that is measured, and room for more than the ranks report. */
#define TUNE_BYTES_MAX   ((size_t)4 << 20)
#define TUNE_SAMPLES_MAX 4096

/* A rank's work: over the transport that TUTTI_TRANSPORTS names, measures every algorithm of some operations
 * and sizes in `rounds` rounds; rank 0 appends a line "OPERATION ALGORITHM BYTES MICROSECONDS" for each to
 * the file `results`.  The exit status. */
int tune_work(const char *results, int rounds);

/* Sets the constants of reductions, copies and stripes.  false: out of memory, or no thread to be had. */
bool tune_measure_memory(size_t slice_bytes, struct tuning *tuning);

#endif
