#include "tools/ranks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>
#include "engine/rendezvous_service.h"
#include "group/endpoint.h"
#include "tools/child.h"
#include "tools/supervisor.h"
#include "tools/listen.h"
#include "tools/tools.h"

#define VARIABLES_MAX  6   /* that a rank's environment has beyond ours */
#define VARIABLE_BYTES 400 /* of one of them, with its name */

struct variables {
    char text[VARIABLES_MAX][VARIABLE_BYTES];
    int count;
};

static void set(struct variables *variables, const char *name, const char *value)
{
    snprintf(variables->text[variables->count++], VARIABLE_BYTES, "%s=%s", name, value);
}

static void set_number(struct variables *variables, const char *name, int value)
{
    char text[16];
    snprintf(text, sizeof text, "%d", value);
    set(variables, name, text);
}

static bool sets(const struct variables *variables, const char *variable)
{
    const char *end = strchr(variable, '=');
    size_t size = end ? (size_t)(end - variable) + 1 : 0;
    for (int i = 0; i < variables->count && size > 0; i++)
        if (strncmp(variables->text[i], variable, size) == 0)
            return true;
    return false;
}

/* What tells a rank who it is.  A value of the user's own wins where it is no part of that. */
static void describe_rank(const struct ranks *ranks, int rank, const char *rendezvous,
                          struct variables *variables)
{
    char job[32] = "run";
    if (!ranks->rendezvous)
        snprintf(job, sizeof job, "run-%ld", (long)getpid());
    variables->count = 0;
    set_number(variables, "TUTTI_RANK", rank);
    set_number(variables, "TUTTI_SIZE", ranks->size);
    set(variables, "TUTTI_RENDEZVOUS", rendezvous);
    if (!getenv("TUTTI_JOB"))
        set(variables, "TUTTI_JOB", job);
    /* As many threads as cores in each rank would fight over the cores. */
    if (!getenv("OMP_NUM_THREADS"))
        set(variables, "OMP_NUM_THREADS", "1");
    if (ranks->transports)
        set(variables, "TUTTI_TRANSPORTS", ranks->transports);
}

/* Our environment with `variables` in it, in one block: the list and the strings of `variables`. */
static char **environment_with(const struct variables *variables)
{
    size_t count = 0, used = 0;
    while (environ[count])
        count++;
    size_t list_bytes = (count + VARIABLES_MAX + 1) * sizeof(char *);
    char **list = malloc(list_bytes + sizeof variables->text);
    if (!list)
        return NULL;
    for (size_t i = 0; i < count; i++)
        if (!sets(variables, environ[i]))
            list[used++] = environ[i];
    char *text = memcpy((char *)list + list_bytes, variables->text, sizeof variables->text);
    for (int i = 0; i < variables->count; i++)
        list[used++] = text + i * VARIABLE_BYTES;
    list[used] = NULL;
    return list;
}

/* 0, or an exit status after a complaint. */
static int prepare(const struct ranks *ranks, const char *rendezvous, int index,
                   struct supervisor_process *process)
{
    struct variables variables;
    int rank = ranks->first + index;
    snprintf(process->who, sizeof process->who, "rank %d", rank);
    if (ranks->prefix)
        snprintf(process->prefix, sizeof process->prefix, "[%d] ", rank);
    process->arguments = ranks->arguments;
    process->input = rank == 0 && !ranks->tethered ? SUPERVISOR_INPUT_OURS : SUPERVISOR_INPUT_NONE;
    process->bound = ranks->bind;
    int error_number = ranks->bind ? cpus_share(index, ranks->count, &process->cpus) : 0;
    if (error_number != 0) {
        complain(ranks->command, "cannot tell which processors may be used: %s", strerror(error_number));
        return EXIT_FAILURE;
    }
    describe_rank(ranks, rank, rendezvous, &variables);
    process->environment = environment_with(&variables);
    if (!process->environment) {
        complain(ranks->command, "out of memory");
        return EXIT_FAILURE;
    }
    return 0;
}

static int run_job(uv_loop_t *loop, const struct ranks *ranks, const char *rendezvous)
{
    int status = 0;
    struct supervisor_process *processes = calloc((size_t)ranks->count, sizeof *processes);
    if (!processes) {
        complain(ranks->command, "out of memory");
        return EXIT_FAILURE;
    }
    for (int i = 0; i < ranks->count && status == 0; i++)
        status = prepare(ranks, rendezvous, i, &processes[i]);
    struct supervisor_job job = {.command = ranks->command,
                                 .processes = processes,
                                 .count = ranks->count,
                                 .capture = ranks->capture,
                                 .keep_going = ranks->keep_going,
                                 .tethered = ranks->tethered};
    if (status == 0)
        status = supervisor_run(loop, &job);
    for (int i = 0; i < ranks->count; i++)
        free(processes[i].environment);
    free(processes);
    return status;
}

/* Opens the sockets to serve on, and says in `rendezvous` where the ranks are to meet. */
static int open_rendezvous(const struct ranks *ranks, struct listen_set *set, char *rendezvous, size_t size,
                           struct tutti_error *error)
{
    struct endpoint endpoint;
    if (!ranks->rendezvous) {
        int status = listen_set_add_anywhere(set, error);
        snprintf(rendezvous, size, "%s", status < 0 ? "" : set->addresses[0]);
        return status;
    }
    snprintf(rendezvous, size, "%s", ranks->rendezvous);
    if (!ranks->serve)
        return TUTTI_OK;
    int status = endpoint_parse(ranks->rendezvous, &endpoint, error);
    return status < 0 ? status : listen_set_add(set, &endpoint, error);
}

int ranks_run(const struct ranks *ranks)
{
    static const struct log log = {.level = LOG_LEVEL_WARNING, .rank = -1};
    struct tutti_error error = TUTTI_ERROR_INIT;
    struct listen_set set = {.count = 0};
    char rendezvous[320];
    if (open_rendezvous(ranks, &set, rendezvous, sizeof rendezvous, &error) < 0) {
        complain(ranks->command, "cannot serve the rendezvous: %s", error.message);
        return EXIT_FAILURE;
    }
    uv_loop_t loop;
    int status = uv_loop_init(&loop);
    if (status < 0) {
        complain(ranks->command, "cannot make an event loop: %s", uv_strerror(status));
        listen_set_close(&set);
        return EXIT_FAILURE;
    }
    struct rendezvous_service *service = NULL;
    if (set.count > 0)
        service = rendezvous_service_new(&loop, set.fds, set.count, false, &log, &error);
    if (set.count > 0 && !service) {
        complain(ranks->command, "cannot serve the rendezvous: %s", error.message);
        status = EXIT_FAILURE;
    } else {
        status = run_job(&loop, ranks, rendezvous);
    }
    if (service)
        rendezvous_service_close(service, NULL, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    listen_set_remove_files(&set);
    return status;
}
