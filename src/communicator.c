/* The public interface: checks arguments and hands over to the engine. */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include "base/error.h"
#include "engine/clock.h"
#include "engine/life.h"
#include "executor/arguments.h"
#include "transport/descriptor.h"

#define TEXT2(x) #x
#define TEXT(x)  TEXT2(x)

const char *tutti_version(void)
{
    return TEXT(TUTTI_VERSION_MAJOR) "." TEXT(TUTTI_VERSION_MINOR) "." TEXT(TUTTI_VERSION_PATCH);
}

/* A child of fork() has the communicator's memory, but neither its thread nor a right to its connections. */
static bool is_of_parent(const tutti_comm *comm)
{
    return comm->worker && worker_is_foreign(comm->worker);
}

/* A handle that no call can use. */
static int check_handle(const tutti_comm *comm)
{
    if (!comm)
        return TUTTI_ERR_ARGUMENT;
    return is_of_parent(comm) ? TUTTI_ERR_UNSUPPORTED : TUTTI_OK;
}

static int argument_error(tutti_comm *comm, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int argument_error(tutti_comm *comm, const char *format, ...)
{
    struct tutti_error error;
    char sentence[sizeof error.message];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    error_set(&error, TUTTI_ERR_ARGUMENT, "%s", sentence);
    return comm_local_error(comm, &error);
}

/* ---- Joining and leaving ------------------------------------------------------------------------ */

static const char *read_environment(void *context, const char *name)
{
    (void)context;
    return getenv(name);
}

int tutti_init(const struct tutti_config *config, tutti_comm **comm)
{
    return comm ? life_begin(config, read_environment, comm) : TUTTI_ERR_ARGUMENT;
}

int tutti_finalize(tutti_comm *comm, int timeout_ms)
{
    int status = check_handle(comm);
    if (status < 0)
        return status;
    if (timeout_ms < 0)
        return argument_error(
            comm, "finalize: timeout_ms is %d: give milliseconds, or 0 for the default deadline of a call",
            timeout_ms);
    return life_finalize(comm, timeout_ms == 0 ? comm->settings.values.call_timeout_ms : timeout_ms);
}

void tutti_free(tutti_comm *comm)
{
    if (comm && !is_of_parent(comm)) /* a child's copy goes with the child */
        life_end(comm);
}

int tutti_reform(tutti_comm *failed, int timeout_ms, tutti_comm **survivors)
{
    if (!survivors)
        return TUTTI_ERR_ARGUMENT;
    *survivors = NULL;
    int status = check_handle(failed);
    return status < 0 ? status : life_reform(failed, timeout_ms, survivors);
}

int tutti_abort(tutti_comm *comm, const char *reason)
{
    int status = check_handle(comm);
    if (status < 0)
        return status;
    struct tutti_error error;
    error_set(&error, TUTTI_ERR_ABORTED, "aborted by rank %d: %s", comm->place.rank,
              reason && *reason ? reason : "no reason given");
    error.rank = comm->place.rank;
    comm_fail(comm, &error);
    if (comm->worker)
        comm_await_abort_sent(comm);
    return TUTTI_OK;
}

/* ---- Looking ----------------------------------------------------------------------------------- */

int tutti_get_error(tutti_comm *comm, struct tutti_error *error)
{
    if (!error || error->struct_size < sizeof error->struct_size + sizeof error->code)
        return TUTTI_ERR_ARGUMENT;
    struct tutti_error current = TUTTI_ERROR_INIT;
    if (!comm) {
        error_set(
            &current, TUTTI_ERR_MEMORY,
            "there is no communicator: there was no memory for one, or NULL was given where one is needed");
    } else if (is_of_parent(comm)) {
        error_set(&current, TUTTI_ERR_UNSUPPORTED,
                  "this communicator belongs to the parent process: fork() does not copy it; call "
                  "tutti_init() in the child, or let the child exec");
    } else {
        pthread_mutex_lock(&comm->lock);
        current = comm_has_failed(comm) ? comm->failure : comm->local_error;
        pthread_mutex_unlock(&comm->lock);
    }
    size_t size = error->struct_size < sizeof current ? error->struct_size : sizeof current;
    current.struct_size = error->struct_size;
    memcpy(error, &current, size);
    return TUTTI_OK;
}

int tutti_rank(const tutti_comm *comm)
{
    return comm ? comm->place.rank : -1;
}

int tutti_size(const tutti_comm *comm)
{
    return comm ? comm->place.size : -1;
}

uint64_t tutti_completed(tutti_comm *comm)
{
    if (!comm || is_of_parent(comm))
        return 0;
    pthread_mutex_lock(&comm->lock);
    uint64_t completed = comm->completed;
    pthread_mutex_unlock(&comm->lock);
    return completed;
}

int tutti_get_reform(const tutti_comm *comm, struct tutti_reform_info *info)
{
    if (!comm || !info || info->struct_size < offsetof(struct tutti_reform_info, previous_rank))
        return TUTTI_ERR_ARGUMENT;
    struct tutti_reform_info current = comm->reformed;
    current.generation = comm->place.generation;
    current.struct_size = info->struct_size;
    memcpy(info, &current, current.struct_size < sizeof current ? current.struct_size : sizeof current);
    return TUTTI_OK;
}

int tutti_get_link(tutti_comm *comm, int index, struct tutti_link_info *info)
{
    int status = check_handle(comm);
    if (status < 0)
        return status;
    if (!info || info->struct_size < sizeof *info)
        return argument_error(
            comm, "tutti_get_link: begin with struct tutti_link_info info = TUTTI_LINK_INFO_INIT");
    const struct neighbour *peer = index == 1 ? &comm->place.previous : &comm->place.next;
    const struct link *link = NULL;
    if (index >= 0 && index <= 1 && comm->place.size > 1 && comm->in && comm->out)
        link = index == 0 ? comm->out[peer->rank] : comm->in[peer->rank];
    if (!link)
        return argument_error(
            comm,
            "tutti_get_link: there is no link %d; a connected group of more than one has 0 (to "
            "the next rank) and 1 (from the previous)",
            index);
    info->peer = peer->rank;
    snprintf(info->transport, sizeof info->transport, "%s", link->ops->transport);
    snprintf(info->host, sizeof info->host, "%s", peer->host_name);
    info->sent_bytes = link->sent_bytes;
    info->received_bytes = link->received_bytes;
    return TUTTI_OK;
}

int tutti_fd(tutti_comm *comm)
{
    int status = check_handle(comm);
    if (status < 0)
        return status;
    pthread_mutex_lock(&comm->lock);
    int fd = comm_refuse_if_dead(comm);
    if (fd == TUTTI_OK) {
        if (comm->completion_fd < 0)
            comm->completion_fd = descriptor_event((unsigned)comm->unfetched);
        fd = comm->completion_fd;
        if (fd < 0)
            fd = error_set_errno(&comm->local_error, errno, "tutti_fd: cannot make an eventfd");
    }
    pthread_mutex_unlock(&comm->lock);
    return fd;
}

/* ---- Checking calls ---------------------------------------------------------------------------- */

static int check_calls(tutti_comm *comm, const struct tutti_call *calls, size_t count,
                       tutti_request **request)
{
    int status = check_handle(comm);
    if (status < 0)
        return status;
    if (comm_has_failed(comm) || atomic_load(&comm->phase) != COMM_ACTIVE)
        return TUTTI_OK; /* the engine has the answer */
    if (!request || !calls || count == 0)
        return argument_error(comm, "%s",
                              !request ? "the place for the request is NULL" : "there are no calls to start");
    struct tutti_error error; /* too large to clear for each call */
    status = arguments_check(comm->place.rank, comm->place.size, calls, count, &error);
    return status < 0 ? comm_local_error(comm, &error) : TUTTI_OK;
}

/* ---- Calls ------------------------------------------------------------------------------------- */

int tutti_start(tutti_comm *comm, const struct tutti_call *calls, size_t count, tutti_request **request)
{
    if (request)
        *request = NULL;
    int status = check_calls(comm, calls, count, request);
    return status < 0 ? status : progress_issue(comm, calls, count, request);
}

int tutti_run(tutti_comm *comm, const struct tutti_call *calls, size_t count, int timeout_ms,
              tutti_request **request)
{
    if (request)
        *request = NULL;
    int status = check_calls(comm, calls, count, request);
    return status < 0 ? status : progress_run(comm, calls, count, timeout_ms, request);
}

int tutti_wait(tutti_request **request, int timeout_ms)
{
    if (!request)
        return TUTTI_ERR_ARGUMENT;
    if (!*request)
        return TUTTI_OK;
    return is_of_parent((*request)->comm) ? TUTTI_ERR_UNSUPPORTED : progress_wait(request, timeout_ms);
}

static int run_blocking(tutti_comm *comm, const struct tutti_call *call)
{
    tutti_request *request;
    return tutti_run(comm, call, 1, -1, &request);
}

int tutti_all_reduce(tutti_comm *comm, const void *send, void *recv, size_t count, enum tutti_type type,
                     enum tutti_reduction reduction)
{
    return run_blocking(comm,
                        &(struct tutti_call){TUTTI_ALL_REDUCE, send, recv, count, type, reduction, 0, 0});
}

int tutti_broadcast(tutti_comm *comm, const void *send, void *recv, size_t count, enum tutti_type type,
                    int root)
{
    return run_blocking(comm, &(struct tutti_call){TUTTI_BROADCAST, send, recv, count, type, 0, root, 0});
}

int tutti_all_gather(tutti_comm *comm, const void *send, void *recv, size_t count, enum tutti_type type)
{
    return run_blocking(comm, &(struct tutti_call){TUTTI_ALL_GATHER, send, recv, count, type, 0, 0, 0});
}

int tutti_gather(tutti_comm *comm, const void *send, void *recv, size_t count, enum tutti_type type, int root)
{
    return run_blocking(comm, &(struct tutti_call){TUTTI_GATHER, send, recv, count, type, 0, root, 0});
}

int tutti_reduce_scatter(tutti_comm *comm, const void *send, void *recv, size_t count, enum tutti_type type,
                         enum tutti_reduction reduction)
{
    return run_blocking(comm,
                        &(struct tutti_call){TUTTI_REDUCE_SCATTER, send, recv, count, type, reduction, 0, 0});
}

int tutti_barrier(tutti_comm *comm)
{
    return run_blocking(comm, &(struct tutti_call){.op = TUTTI_BARRIER});
}
