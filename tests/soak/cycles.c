/* One rank that joins and leaves a group again and again, and tells what it holds after some cycles of
 * warm-up and at the end; cycles.py compares.  Rank and rendezvous come from the environment. cycles finalize
 * COUNT WARM_UP   each group does one operation and ends in peace cycles reform COUNT WARM_UP     each group
 * is aborted, re-formed, and then ends in peace */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "observe.h"

#define ELEMENTS   1000
#define TIMEOUT_MS 60000
#define TELL_EVERY 50

/* Ends the process unless the call returned what it should. */
static void check(tutti_comm *comm, const char *what, int wanted, int status)
{
    if (status == wanted)
        return;
    say_failure(what, comm, status, 0);
    exit(3);
}

static int add_up(tutti_comm *comm)
{
    float x[ELEMENTS];
    int size = tutti_size(comm);
    for (int i = 0; i < ELEMENTS; i++)
        x[i] = (float)(i + tutti_rank(comm));
    struct tutti_call call = {.op = TUTTI_ALL_REDUCE,
                              .send = x,
                              .recv = x,
                              .count = ELEMENTS,
                              .type = TUTTI_FLOAT32,
                              .reduction = TUTTI_SUM};
    tutti_request *request = NULL;
    int status = tutti_start(comm, &call, 1, &request);
    if (status == TUTTI_OK)
        status = tutti_wait(&request, TIMEOUT_MS);
    for (int i = 0; i < ELEMENTS && status == TUTTI_OK; i++)
        if (x[i] != (float)(size * i + size * (size - 1) / 2)) {
            say("problem message=element %d is %g", i, (double)x[i]);
            exit(5);
        }
    return status;
}

/* One rank aborts, another in each cycle; the others find out in this call or in the next. */
static tutti_comm *abort_and_reform(tutti_comm *comm, int cycle)
{
    tutti_comm *survivors = NULL;
    int status = add_up(comm);
    if (status == TUTTI_OK && tutti_rank(comm) == cycle % tutti_size(comm))
        check(comm, "abort-failed", TUTTI_OK, tutti_abort(comm, "the cycle wants it"));
    if (status == TUTTI_OK)
        status = tutti_barrier(comm);
    check(comm, "not-aborted", TUTTI_ERR_ABORTED, status);
    status = tutti_reform(comm, TIMEOUT_MS, &survivors);
    check(survivors, "reform-failed", TUTTI_OK, status);
    tutti_free(comm);
    return survivors;
}

static void run_cycle(int cycle, bool reform)
{
    struct tutti_config config = TUTTI_CONFIG_INIT;
    tutti_comm *comm = NULL;
    char job[32];
    snprintf(job, sizeof job, "cycle-%d", cycle);
    config.job = job;
    int status = tutti_init(&config, &comm);
    check(comm, "init-failed", TUTTI_OK, status);
    if (tutti_fd(comm) < 0)
        check(comm, "fd-failed", TUTTI_OK, tutti_fd(comm));
    if (reform)
        comm = abort_and_reform(comm, cycle);
    check(comm, "all-reduce-failed", TUTTI_OK, add_up(comm));
    check(comm, "finalize-failed", TUTTI_OK, tutti_finalize(comm, TIMEOUT_MS));
    tutti_free(comm);
}

static void tell(const char *what, int cycle)
{
    struct holdings holdings;
    holdings_measure(&holdings);
    say("%s cycle=%d rss_kib=%ld mapped_kib=%ld descriptors=%d threads=%d mappings=%d", what, cycle,
        holdings.rss_kib, holdings.mapped_kib, holdings.descriptors, holdings.threads, holdings.mappings);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: cycles finalize|reform COUNT WARM_UP\n");
        return 2;
    }
    bool reform = strcmp(argv[1], "reform") == 0;
    int count = atoi(argv[2]), warm_up = atoi(argv[3]);
    for (int cycle = 1; cycle <= count; cycle++) {
        run_cycle(cycle, reform);
        if (cycle == warm_up)
            tell("warm", cycle);
        else if (cycle % TELL_EVERY == 0)
            tell("cycle", cycle);
    }
    tell("end", count);
    return 0;
}
