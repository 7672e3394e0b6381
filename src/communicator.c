/* The public interface: checks arguments and hands over to the engine. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>
#include "base/error.h"
#include "base/hash.h"
#include "engine/clock.h"
#include "engine/comm.h"
#include "executor/arguments.h"

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

/* ---- Joining ----------------------------------------------------------------------------------- */

static const char *read_environment(void *context, const char *name)
{
    (void)context;
    return getenv(name);
}

/* Two processes are on one host when the kernel that runs them was booted once. */
static void read_boot_id(char *text, size_t size)
{
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (!file || !fgets(text, (int)size, file))
        gethostname(text, size);
    if (file)
        fclose(file);
    text[strcspn(text, "\n")] = '\0';
}

/* The same name gives the same id: FNV-1a in two lanes, for identity and not for secrecy. */
static void name_to_member_id(const char *name, uint8_t id[MEMBER_ID_BYTES])
{
    uint64_t lanes[2] = {FNV1A_START, ~FNV1A_START};
    for (; *name; name++)
        for (int lane = 0; lane < 2; lane++)
            lanes[lane] = fnv1a_add(lanes[lane], (uint8_t)*name);
    memcpy(id, lanes, sizeof lanes);
}

static int random_member_id(uint8_t id[MEMBER_ID_BYTES], struct tutti_error *error)
{
    if (getrandom(id, MEMBER_ID_BYTES, 0) != MEMBER_ID_BYTES)
        return error_set_errno(error, errno, "the kernel gave no random numbers");
    return TUTTI_OK;
}

static int find_identity(tutti_comm *comm, struct tutti_error *error)
{
    const struct tutti_config *values = &comm->settings.values;
    if (values->host)
        snprintf(comm->host, sizeof comm->host, "%s", values->host);
    else
        read_boot_id(comm->host, sizeof comm->host);
    gethostname(comm->host_name, sizeof comm->host_name - 1);
    if (!values->member)
        return random_member_id(comm->member_id, error);
    name_to_member_id(values->member, comm->member_id);
    return TUTTI_OK;
}

static enum log_level level_from_name(const char *name)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    for (int i = 0; i < 4; i++)
        if (strcmp(name, names[i]) == 0)
            return (enum log_level)(LOG_LEVEL_ERROR + i);
    return LOG_LEVEL_WARNING;
}

static tutti_comm *comm_new(void)
{
    tutti_comm *comm = calloc(1, sizeof *comm);
    if (!comm)
        return NULL;
    comm->log = (struct log){LOG_LEVEL_WARNING, -1};
    comm->rank = comm->size = -1;
    comm->peers[0].rank = comm->peers[1].rank = -1;
    comm->doorbell = comm->completion_fd = -1;
    comm->tail = &comm->head;
    comm->failure = comm->local_error = (struct tutti_error)TUTTI_ERROR_INIT;
    comm->drive_task = (struct worker_task){.run = progress_drive_on_loop, .context = comm};
    comm->abort_task = (struct worker_task){.run = ring_send_abort, .context = comm};
    comm->heartbeat_task = (struct worker_task){.run = ring_send_heartbeats, .context = comm};
    comm->drain_task = (struct worker_task){.run = ring_drain, .context = comm};
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&comm->lock, NULL);
    pthread_cond_init(&comm->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    return comm;
}

static void group_of_one(tutti_comm *comm)
{
    comm->rank = 0;
    comm->size = comm->local_size = 1;
    comm->log.rank = 0;
    comm->generation = 1;
}

static int comm_join(tutti_comm *comm, const struct tutti_config *config, struct tutti_error *error)
{
    if (settings_resolve(&comm->settings, config, read_environment, NULL, error) < 0)
        return error->code;
    const struct tutti_config *values = &comm->settings.values;
    comm->log.level = level_from_name(values->log);
    if (launch_resolve(&comm->launch, config, (unsigned)geteuid(), read_environment, NULL, error) < 0 ||
        find_identity(comm, error) < 0)
        return error->code;
    comm->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (comm->doorbell < 0)
        return error_set_errno(error, errno, "cannot make an eventfd");
    comm->worker = worker_acquire(error);
    if (!comm->worker)
        return error->code;
    if (comm->launch.size == 1)
        group_of_one(comm);
    else if (join_group(comm, error) < 0)
        return error->code;
    comm->group = (struct executor_group){
        .in = comm->in,
        .out = comm->out,
        .instance = comm->instance,
        .generation = comm->generation,
        .slice_bytes = (uint32_t)values->slice_bytes,
        .checksum = values->checksum != 0,
        .kernels = reduce_table(),
    };
    comm->wait_policy = wait_policy_for(values->wait, comm->local_size);
    comm->joined = true;
    return TUTTI_OK;
}

int tutti_init(const struct tutti_config *config, tutti_comm **result)
{
    if (!result)
        return TUTTI_ERR_ARGUMENT;
    tutti_comm *comm = *result = comm_new();
    if (!comm)
        return TUTTI_ERR_MEMORY;
    struct tutti_error error = TUTTI_ERROR_INIT;
    int status = comm_join(comm, config, &error);
    if (status < 0)
        comm_fail(comm, &error);
    return status;
}

/* ---- Leaving ----------------------------------------------------------------------------------- */

/* Says goodbye and waits until both neighbours have. */
static int exchange_goodbyes(tutti_comm *comm, int64_t until_ns)
{
    worker_call(comm->worker, ring_send_goodbye, comm);
    struct tutti_error error = TUTTI_ERROR_INIT;
    pthread_mutex_lock(&comm->lock);
    while (!ring_goodbyes_heard(comm) && !comm_has_failed(comm)) {
        if (clock_now_ns() >= until_ns) {
            int side = comm->ring.goodbye_heard[0] ? 1 : 0;
            error_set(&error, TUTTI_ERR_TIMEOUT, "finalize: %s did not say goodbye in time",
                      comm->peers[side].text);
            error.rank = comm->peers[side].rank;
            break;
        }
        comm_wait_changed(comm, until_ns);
    }
    if (!comm_has_failed(comm) && error.code == TUTTI_OK)
        comm->phase = COMM_FINALIZED;
    pthread_mutex_unlock(&comm->lock);
    if (error.code < 0)
        comm_fail(comm, &error);
    return comm_has_failed(comm) ? comm->failure.code : TUTTI_OK;
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
    if (timeout_ms == 0)
        timeout_ms = comm->settings.values.call_timeout_ms;
    int64_t until_ns = clock_now_ns() + timeout_ms * NS_PER_MS;
    struct tutti_call barrier = {.op = TUTTI_BARRIER, .timeout_ms = timeout_ms};
    /* Calls complete in order, so the barrier completes last. */
    status = progress_run_last(comm, &barrier);
    if (status < 0)
        return status;
    if (comm->size > 1)
        return exchange_goodbyes(comm, until_ns);
    pthread_mutex_lock(&comm->lock);
    comm->phase = COMM_FINALIZED;
    pthread_mutex_unlock(&comm->lock);
    return TUTTI_OK;
}

static void nothing(void *context)
{
    (void)context;
}

static void leave_loop(tutti_comm *comm)
{
    worker_call(comm->worker, ring_close, comm);
    pthread_mutex_lock(&comm->lock);
    while (comm->ring.handles > 0)
        pthread_cond_wait(&comm->changed, &comm->lock);
    pthread_mutex_unlock(&comm->lock);
    worker_call(comm->worker, nothing, NULL); /* tasks that were posted before have run now */
}

void tutti_free(tutti_comm *comm)
{
    if (!comm || is_of_parent(comm))
        return; /* the memory goes with the child; closing anything properly could disturb the parent */
    if (comm->size > 1 && comm->phase != COMM_FINALIZED && !comm_has_failed(comm)) {
        struct tutti_error error;
        error_set(&error, TUTTI_ERR_ABORTED, "rank %d freed its communicator without finalizing it",
                  comm->rank);
        error.rank = comm->rank;
        comm_fail(comm, &error);
    }
    if (comm->worker) {
        if (comm_has_failed(comm))
            comm_await_abort_sent(comm);
        leave_loop(comm);
    }
    for (int rank = 0; rank < comm->size; rank++) {
        if (comm->in && comm->in[rank])
            comm->in[rank]->ops->free(comm->in[rank]);
        if (comm->out && comm->out[rank])
            comm->out[rank]->ops->free(comm->out[rank]);
    }
    free(comm->in);
    free(comm->out);
    if (comm->worker)
        worker_release(comm->worker);
    issue_free(comm);
    if (comm->doorbell >= 0)
        close(comm->doorbell);
    if (comm->completion_fd >= 0)
        close(comm->completion_fd);
    pthread_cond_destroy(&comm->changed);
    pthread_mutex_destroy(&comm->lock);
    settings_clean_up(&comm->settings);
    free(comm);
}

int tutti_abort(tutti_comm *comm, const char *reason)
{
    int status = check_handle(comm);
    if (status < 0)
        return status;
    struct tutti_error error;
    error_set(&error, TUTTI_ERR_ABORTED, "aborted by rank %d: %s", comm->rank,
              reason && *reason ? reason : "no reason given");
    error.rank = comm->rank;
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
        error_set(&current, TUTTI_ERR_MEMORY, "there was no memory for a communicator");
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
    return comm && comm->joined ? comm->rank : -1;
}

int tutti_size(const tutti_comm *comm)
{
    return comm && comm->joined ? comm->size : -1;
}

int tutti_get_link(tutti_comm *comm, int index, struct tutti_link_info *info)
{
    if (!comm)
        return TUTTI_ERR_ARGUMENT;
    if (!info || info->struct_size < sizeof *info)
        return argument_error(
            comm, "tutti_get_link: begin with struct tutti_link_info info = TUTTI_LINK_INFO_INIT");
    const struct comm_peer *peer = &comm->peers[index == 1];
    const struct link *link = NULL;
    if (index >= 0 && index <= 1 && comm->size > 1 && comm->in && comm->out)
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
            comm->completion_fd = eventfd((unsigned)comm->completed, EFD_CLOEXEC | EFD_NONBLOCK);
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
    status = arguments_check(comm->rank, comm->size, calls, count, &error);
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
