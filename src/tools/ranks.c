#include "tools/ranks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>
#include "engine/rendezvous_service.h"
#include "group/endpoint.h"
#include "tools/child.h"
#include "tools/environment.h"
#include "tools/supervisor.h"
#include "tools/listen.h"
#include "tools/tools.h"

/* 0, or an exit status after a complaint. */
static int prepare(const struct ranks *ranks, const struct environment_job *environment, int index,
                   struct supervisor_process *process)
{
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
    process->environment = environment_of_rank(environment, ranks, index);
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
    struct environment_job environment;
    environment_choose(&environment, ranks, rendezvous);
    for (int i = 0; i < ranks->count && status == 0; i++)
        status = prepare(ranks, &environment, i, &processes[i]);
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
