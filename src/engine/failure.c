/* The failure rule: a group works until its first failure, and then it is dead on every rank.
 *
 * comm_fail() and its siblings are the only way in.  The first cause is kept, the abort word that spinners
 * read is raised, the doorbell that sleepers poll is rung, and what is queued fails (if somebody is moving
 * data at this moment, the holder of the token fails it, so that nothing writes to a buffer after its call
 * has returned).  Then the loop tells the neighbours, who pass it on. */
#include <errno.h>
#include <sys/eventfd.h>
#include "base/error.h"
#include "engine/clock.h"
#include "engine/comm.h"
#include "group/cause.h"

#define EXPLANATION_NS (200 * NS_PER_MS)  /* how long a broken data link may wait for the reason */
#define ABORT_SENT_NS  (1000 * NS_PER_MS) /* how long a failed call waits for the abort to leave */

bool comm_has_failed(const tutti_comm *comm)
{
    return atomic_load_explicit(&comm->failed, memory_order_acquire) != 0;
}

void comm_wait_changed(tutti_comm *comm, int64_t until_ns)
{
    struct timespec until = {.tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000};
    pthread_cond_timedwait(&comm->changed, &comm->lock, &until); /* on CLOCK_MONOTONIC */
}

void comm_fail_pending(tutti_comm *comm)
{
    while (comm->head)
        progress_complete_head(comm, comm->failure.code);
    pthread_cond_broadcast(&comm->changed);
}

const struct operation *comm_operation_under_way(const tutti_comm *comm)
{
    const tutti_request *head = comm->head;
    size_t current = head ? atomic_load_explicit(&head->current, memory_order_relaxed) : 0;
    return head && current < head->count ? &head->executors[current].operation : NULL;
}

static void fail(tutti_comm *comm, const struct tutti_error *cause, bool noticed_here)
{
    pthread_mutex_lock(&comm->lock);
    bool first = !comm_has_failed(comm) && comm->phase != COMM_FINALIZED;
    if (first) {
        comm->failure = *cause;
        comm->failure.struct_size = sizeof comm->failure;
        cause_complete(&comm->failure, &comm->place, comm->host_name, comm_operation_under_way(comm),
                       noticed_here);
        atomic_store_explicit(&comm->failed, 1, memory_order_release);
        if (comm->doorbell >= 0)
            eventfd_write(comm->doorbell, 1);
        if (comm->token == TOKEN_FREE)
            comm_fail_pending(comm);
        pthread_cond_broadcast(&comm->changed);
    }
    pthread_mutex_unlock(&comm->lock);
    if (first) {
        log_debug(&comm->log, "the group has failed: %s", cause->message);
        if (comm->worker)
            worker_post(comm->worker, &comm->abort_task);
    }
}

void comm_fail(tutti_comm *comm, const struct tutti_error *cause)
{
    fail(comm, cause, true);
}

void comm_fail_as_told(tutti_comm *comm, const struct tutti_error *cause)
{
    fail(comm, cause, false);
}

/* Waits until the group has failed, for this reason or a better one, but no longer than until `until_ns`. */
static void await_failure(tutti_comm *comm, int64_t until_ns)
{
    worker_post(comm->worker, &comm->drain_task);
    pthread_mutex_lock(&comm->lock);
    while (!comm_has_failed(comm) && clock_now_ns() < until_ns)
        comm_wait_changed(comm, until_ns);
    pthread_mutex_unlock(&comm->lock);
}

bool comm_fail_from_link(tutti_comm *comm, const struct tutti_error *cause, bool on_loop)
{
    if (comm->link_error_until_ns == 0) {
        comm->link_error = *cause;
        comm->link_error_until_ns =
            clock_now_ns() + (cause->code == TUTTI_ERR_PEER_LOST ? EXPLANATION_NS : 0);
        if (on_loop)
            ring_drain(comm);
    }
    if (!on_loop)
        await_failure(comm, comm->link_error_until_ns);
    if (on_loop && !comm_has_failed(comm) && clock_now_ns() < comm->link_error_until_ns)
        return false;
    comm_fail(comm, &comm->link_error);
    return true;
}

int comm_refuse_if_dead(tutti_comm *comm)
{
    if (comm_has_failed(comm))
        return comm->failure.code;
    if (comm->phase != COMM_ACTIVE)
        return error_set(&comm->local_error, TUTTI_ERR_FINALIZED,
                         "this communicator is finalized: call tutti_init() for a new one");
    return TUTTI_OK;
}

void comm_await_abort_sent(tutti_comm *comm)
{
    if (comm->place.size < 2 || !comm_has_failed(comm))
        return;
    pthread_mutex_lock(&comm->lock);
    int64_t until_ns = clock_now_ns() + ABORT_SENT_NS;
    while (!comm->abort_sent && clock_now_ns() < until_ns)
        comm_wait_changed(comm, until_ns);
    pthread_mutex_unlock(&comm->lock);
}

int comm_local_error(tutti_comm *comm, const struct tutti_error *error)
{
    pthread_mutex_lock(&comm->lock);
    comm->local_error = *error;
    pthread_mutex_unlock(&comm->lock);
    return error->code;
}
