/* A job: child processes that live and die together, and their output.
 *
 * Happy path: RUNNING -> all have ended with status 0 -> DRAINING (the rest of their output) -> done.
 * A child that fails: RUNNING -> FAILING (the others get 10 s to end by themselves, since the group tells
 * them)
 * -> ENDING (SIGTERM, 5 s) -> KILLING.
 * SIGINT, SIGTERM or SIGHUP of ours is passed on once; a second one kills. */
#ifndef TUTTI_TOOLS_SUPERVISOR_H
#define TUTTI_TOOLS_SUPERVISOR_H

#include <sched.h>
#include <stdbool.h>
#include <uv.h>

#define SUPERVISOR_WHO_BYTES    280
#define SUPERVISOR_PREFIX_BYTES 20

enum supervisor_input {
    SUPERVISOR_INPUT_NONE,  /* /dev/null */
    SUPERVISOR_INPUT_OURS,  /* our standard input */
    SUPERVISOR_INPUT_TETHER /* a pipe that ends when we do: instead of a signal, for what runs on another host
                             */
};

struct supervisor_process {
    char who[SUPERVISOR_WHO_BYTES];       /* "rank 2": in messages */
    char prefix[SUPERVISOR_PREFIX_BYTES]; /* of each line of its output */
    char *const *arguments;
    char **environment;
    enum supervisor_input input;
    bool bound; /* to `cpus` */
    cpu_set_t cpus;
};

struct supervisor_job {
    const char *command; /* "run": in messages */
    const struct supervisor_process *processes;
    int count;
    bool capture;    /* output goes line by line through us; else straight to where ours goes */
    bool keep_going; /* a child that fails is told of, and the others go on: they can re-form their group */
    bool tethered;   /* the end of our standard input ends the job */
};

/* Runs it to its end on `loop`, which may carry other things.  The exit status: 0 when all ended with 0 (or
 * some, when it keeps going), else that of the first that failed, 128 + N when signal N killed it,
 * EXIT_NOT_RUN when a program could not be executed.  Says on standard error which child failed, and how. */
int supervisor_run(uv_loop_t *loop, const struct supervisor_job *job);

#endif
