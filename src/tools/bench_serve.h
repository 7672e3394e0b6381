/* A rank of a contestant of `tutti bench`: the loop that does what it is told (bench_reply.h has the lines),
 * the same for tutti and for its rivals, so that all are measured alike.
 *
 * It sleeps in between, so that one library never takes time from another.  Whoever gives the orders has made
 * the pipes, and holds their other ends, before the ranks start: they wait for nobody. */
#ifndef TUTTI_TOOLS_BENCH_SERVE_H
#define TUTTI_TOOLS_BENCH_SERVE_H

#include <stddef.h>
#include <stdint.h>
#include "tools/bench.h"

/* A library that is measured, as one of its ranks sees it. */
struct bench_library {
    const char *name; /* with its version; one line */
    int rank, size;

    /* NULL where the library can do this, else why not; every rank says the same. */
    const char *(*refuse)(const struct bench_case *which);

    /* Where input and output of the call lie in the two buffers. */
    void (*buffers)(const struct bench_case *which, uint8_t *first, uint8_t *second, uint8_t **send,
                    uint8_t **recv);

    /* Both are collective, and end the process when they fail. */
    void (*call)(const struct bench_case *which, void *send, void *recv);
    void (*barrier)(void);

    /* Of MAX_BYTES each, which the caller owns; the same where the library works in place only; NULL:
     * bench_serve() allocates two. */
    uint8_t *first, *second;
};

/* Obeys orders until there are no more; the exit status, after a complaint. */
int bench_serve(const struct bench_library *library, const char *directory, size_t max_bytes);

/* Of a program that does nothing else: MAX_BYTES in its command line, or 0 after a complaint. */
size_t bench_serve_max_bytes(int argc, char **argv);

#endif
