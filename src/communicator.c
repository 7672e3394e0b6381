/* The public interface: checks arguments and hands over to the engine. */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include "base/error.h"
#include "engine/life.h"
#include "engine/split.h"
#include "executor/arguments.h"
#include "local/symmetric.h"
#include "tensor/type.h"
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
    int rank = comm_root_rank(comm, comm->place.rank);
    error_set(&error, TUTTI_ERR_ABORTED, "aborted by rank %d: %s", rank,
              reason && *reason ? reason : "no reason given");
    error.rank = rank;
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

int tutti_root_rank(const tutti_comm *comm, int rank)
{
    return comm && rank >= 0 && rank < comm->place.size ? comm_root_rank(comm, rank) : -1;
}

/* Those of the ring first, then what else is open; NULL: there are not so many. */
static const struct link *find_link(const tutti_comm *comm, int index, int *peer)
{
    const struct channel *ring = &comm->channels[CHANNEL_COLLECTIVES];
    int at = 0;
    for (int side = 0; side < 2; side++) {
        *peer = side == 0 ? comm->place.next.rank : comm->place.previous.rank;
        const struct link *link = side == 0 ? ring->out[*peer] : ring->in[*peer];
        if (link && at++ == index)
            return link;
    }
    for (int i = 0; i < CHANNELS; i++)
        for (int way = 0; way < 2 * comm->place.size; way++) {
            bool out = way % 2 == 0;
            *peer = way / 2;
            bool of_ring = i == CHANNEL_COLLECTIVES &&
                           *peer == (out ? comm->place.next.rank : comm->place.previous.rank);
            const struct link *link = out ? comm->channels[i].out[*peer] : comm->channels[i].in[*peer];
            if (link && !of_ring && at++ == index)
                return link;
        }
    return NULL;
}

int tutti_get_link(tutti_comm *comm, int index, struct tutti_link_info *info)
{
    int status = check_handle(comm);
    if (status < 0)
        return status;
    if (!info || info->struct_size < sizeof *info)
        return argument_error(
            comm, "tutti_get_link: begin with struct tutti_link_info info = TUTTI_LINK_INFO_INIT");
    pthread_mutex_lock(&comm->lock);
    const struct link *link = NULL;
    int peer = -1;
    if (index >= 0 && comm->place.size > 1 && comm->channels[CHANNEL_COLLECTIVES].in)
        link = find_link(comm, index, &peer);
    pthread_mutex_unlock(&comm->lock);
    if (!link)
        return argument_error(
            comm,
            "tutti_get_link: there is no link %d; a connected group of more than one has 0 (to "
            "the next rank), 1 (from the previous) and those that were opened since",
            index);
    info->peer = peer;
    /* A link through shared memory may fall back to its socket at this moment. */
    const struct link_ops *ops = __atomic_load_n(&link->ops, __ATOMIC_ACQUIRE);
    snprintf(info->transport, sizeof info->transport, "%s", ops->transport);
    snprintf(info->host, sizeof info->host, "%s", comm_member(comm, peer)->host_name);
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

/* ---- Plans ------------------------------------------------------------------------------------- */

int tutti_plan_new(tutti_comm *comm, const struct tutti_call *calls, size_t count, tutti_plan **plan)
{
    if (plan)
        *plan = NULL;
    int status = check_handle(comm);
    if (status < 0)
        return status;
    if (!plan || !calls || count == 0)
        return argument_error(comm, "tutti_plan_new: %s",
                              !plan ? "the place for the plan is NULL" : "there are no calls");
    struct tutti_error error;
    if (arguments_check(comm->place.rank, comm->place.size, calls, count, &error) < 0)
        return comm_local_error(comm, &error);
    if (operation_is_message(calls[0].op))
        return argument_error(comm, "tutti_plan_new: %s cannot be planned: a plan is for collectives",
                              operation_name(calls[0].op));
    tutti_plan *made = calloc(1, sizeof *made);
    if (!made) {
        error_set(&error, TUTTI_ERR_MEMORY, "tutti_plan_new: out of memory");
        return comm_local_error(comm, &error);
    }
    pthread_mutex_lock(&comm->lock);
    status = issue_plan(comm, calls, count, made);
    pthread_mutex_unlock(&comm->lock);
    if (status < 0)
        free(made);
    else
        *plan = made;
    return status;
}

static int check_plan(const tutti_plan *plan)
{
    return plan ? check_handle(plan->comm) : TUTTI_ERR_ARGUMENT;
}

int tutti_plan_start(tutti_plan *plan, tutti_request **request)
{
    if (request)
        *request = NULL;
    int status = check_plan(plan);
    if (status < 0)
        return status;
    if (!request)
        return argument_error(plan->comm, "tutti_plan_start: the place for the request is NULL");
    return progress_start_plan(plan, request);
}

int tutti_plan_run(tutti_plan *plan, int timeout_ms, tutti_request **request)
{
    tutti_request *own;
    if (request)
        *request = NULL;
    int status = check_plan(plan);
    return status < 0 ? status : progress_run_plan(plan, request ? timeout_ms : -1, request ? request : &own);
}

void tutti_plan_free(tutti_plan *plan)
{
    if (!plan || is_of_parent(plan->comm))
        return;
    tutti_comm *comm = plan->comm;
    pthread_mutex_lock(&comm->lock);
    issue_unplan(plan);
    pthread_mutex_unlock(&comm->lock);
    free(plan);
}

/* Of a call whose buffers do not matter. */
static int check_choice(const tutti_comm *comm, const struct tutti_call *call, struct tutti_error *error)
{
    const size_t *counts = call->op == TUTTI_ALL_GATHER_V ? call->recv_counts : call->send_counts;
    bool needs_counts = call->op == TUTTI_ALL_GATHER_V || call->op == TUTTI_REDUCE_SCATTER_V;
    const char *wrong = NULL;
    if (!operation_is_valid(call->op) || operation_is_message(call->op) || comm->place.size < 1)
        wrong = "only collectives of a group have algorithms";
    else if (call->op != TUTTI_BARRIER && !type_is_valid(call->type))
        wrong = "the type is none of enum tutti_type";
    else if (operation_reduces(call->op) &&
             (!reduction_is_valid(call->reduction) || !type_takes(call->type, call->reduction)))
        wrong = "the reduction is none that the type takes";
    else if (needs_counts && !counts)
        wrong = "the counts are NULL";
    return wrong ? error_set(error, TUTTI_ERR_ARGUMENT, "tutti_get_choice: %s", wrong) : TUTTI_OK;
}

int tutti_get_choice(tutti_comm *comm, const struct tutti_call *call, struct tutti_choice *choice)
{
    int status = check_handle(comm);
    if (status < 0)
        return status;
    if (!call || !choice || choice->struct_size < sizeof *choice)
        return argument_error(comm,
                              "tutti_get_choice: give a call, and begin with struct tutti_choice choice = "
                              "TUTTI_CHOICE_INIT");
    struct tutti_error error;
    struct selection selection;
    if (check_choice(comm, call, &error) < 0)
        return comm_local_error(comm, &error);
    pthread_mutex_lock(&comm->lock);
    status = issue_choose(comm, call, &selection, &comm->local_error);
    pthread_mutex_unlock(&comm->lock);
    if (status < 0)
        return status;
    snprintf(choice->algorithm, sizeof choice->algorithm, "%s", selection.algorithm->name);
    choice->channels = selection.channels;
    choice->predicted_us = selection.predicted_us;
    return TUTTI_OK;
}

/* ---- Symmetric memory ---------------------------------------------------------------------------- */

int tutti_alloc(tutti_comm *comm, size_t bytes, void **memory)
{
    if (memory)
        *memory = NULL;
    int status = check_handle(comm);
    if (status < 0)
        return status;
    if (!memory)
        return argument_error(comm, "tutti_alloc: the place for the address is NULL");
    if (bytes == 0)
        return argument_error(comm, "tutti_alloc: 0 bytes; ask for one at least");
    struct tutti_error error;
    *memory = symmetric_heap_alloc(bytes, &error);
    return *memory ? TUTTI_OK : comm_local_error(comm, &error);
}

int tutti_dealloc(void *memory)
{
    return !memory || symmetric_heap_free(memory) ? TUTTI_OK : TUTTI_ERR_ARGUMENT;
}

/* ---- Groups within the group ------------------------------------------------------------------- */

static int check_parent(tutti_comm *comm, tutti_comm **child)
{
    if (child)
        *child = NULL;
    int status = check_handle(comm);
    if (status < 0)
        return status;
    pthread_mutex_lock(&comm->lock);
    status = comm_refuse_if_dead(comm);
    pthread_mutex_unlock(&comm->lock);
    if (status == TUTTI_OK && !child)
        status = argument_error(comm, "the place for the new communicator is NULL");
    return status;
}

int tutti_split(tutti_comm *comm, int color, int key, tutti_comm **child)
{
    int status = check_parent(comm, child);
    if (status < 0)
        return status;
    if (color < 0 && color != TUTTI_NO_COLOR)
        return argument_error(comm, "tutti_split: color is %d: give one from 0, or TUTTI_NO_COLOR", color);
    return split_by_color(comm, color, key, child);
}

/* Ranks of the group, each once, this one among them. */
static int check_ranks(tutti_comm *comm, const int *ranks, int count)
{
    bool here = false;
    if (!ranks || count < 1 || count > comm->place.size)
        return argument_error(comm, "tutti_subgroup: a list of 1 to %d ranks is needed, not of %d",
                              comm->place.size, ranks ? count : 0);
    for (int i = 0; i < count; i++) {
        if (ranks[i] < 0 || ranks[i] >= comm->place.size)
            return argument_error(comm, "tutti_subgroup: %d is no rank of this group, which has 0 to %d",
                                  ranks[i], comm->place.size - 1);
        for (int before = 0; before < i; before++)
            if (ranks[before] == ranks[i])
                return argument_error(comm, "tutti_subgroup: rank %d is in the list twice", ranks[i]);
        here = here || ranks[i] == comm->place.rank;
    }
    return here ? TUTTI_OK
                : argument_error(comm,
                                 "tutti_subgroup: rank %d is not in its own list: only those that are call",
                                 comm->place.rank);
}

int tutti_subgroup(tutti_comm *comm, const int *ranks, int count, tutti_comm **child)
{
    int status = check_parent(comm, child);
    if (status == TUTTI_OK)
        status = check_ranks(comm, ranks, count);
    return status < 0 ? status : split_by_list(comm, ranks, count, child);
}

int tutti_local(tutti_comm *comm, tutti_comm **child)
{
    int status = check_parent(comm, child);
    return status < 0 ? status : split_by_host(comm, child);
}
