/* The ranks of this host as a job: what `tutti run` and `tutti bench` start. */
#ifndef TUTTI_TOOLS_RANKS_H
#define TUTTI_TOOLS_RANKS_H

#include <stdbool.h>

struct ranks {
    const char *command;    /* "run": in messages */
    int count;              /* ranks here */
    int first, size;        /* the rank of the first, and how many there are on all hosts */
    const char *rendezvous; /* where all meet; NULL: at a socket of this process, on this host alone */
    bool serve;             /* this process serves `rendezvous` */
    const char *transports; /* NULL: as the environment says */
    bool bind;              /* each rank to its share of the processors */
    bool keep_going;        /* see supervisor.h */
    bool prefix;            /* "[rank] " before each line of output */
    bool capture;           /* see supervisor.h */
    bool tethered;          /* see supervisor.h */
    char *const *arguments; /* the program and its arguments; ends with NULL */
};

/* Runs them to their end; the exit status, as of supervisor_run(). */
int ranks_run(const struct ranks *ranks);

#endif
