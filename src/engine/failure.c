/* The failure rule: a group works until its first failure, and then it is dead on every rank.
 *
 * comm_fail() and its siblings are the only way in.  The first cause is kept, the abort word that spinners
 * read is raised, here and for the ranks of this host, the doorbell that sleepers poll is rung, and what is
 * queued fails (if somebody is moving data at this moment, the holder of the token fails it, so that nothing
 * writes to a buffer after its call has returned).  So it goes with every communicator of the family,
 * whichever of them failed.  Then the loop tells the neighbours of the root, who pass it on. */
#include <errno.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include "base/error.h"
#include "engine/clock.h"
#include "engine/comm.h"
#include "group/cause.h"
#include "local/arena.h"

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
    messages_fail(comm);
    pthread_cond_broadcast(&comm->changed);
}

void comm_nudge(tutti_comm *comm)
{
    if (atomic_load(&comm->sleeps))
        eventfd_write(comm->nudge, 1);
}

const struct operation *comm_operation_under_way(const tutti_comm *comm)
{
    const tutti_request *head = comm->head;
    size_t current = head ? atomic_load_explicit(&head->current, memory_order_relaxed) : 0;
    return head && current < head->count ? &head->operations[current].operation : NULL;
}

/* Adds what is known where it was noticed: in which operation of which communicator.  With the lock of the
 * family. */
static void complete_cause(tutti_comm *comm, const tutti_comm *root, bool noticed_here,
                           struct tutti_error *cause)
{
    pthread_mutex_lock(&comm->lock);
    cause_complete(cause, &root->place, root->host_name, comm_operation_under_way(comm), noticed_here);
    pthread_mutex_unlock(&comm->lock);
    const struct roster *roster = &comm->family->roster;
    if (cause->host[0] == '\0' && comm->hosts.host_of && cause->rank >= 0 && cause->rank < roster->size)
        snprintf(cause->host, sizeof cause->host, "%s", roster->members[cause->rank].host_name);
}

/* With the lock of the family.  Each tells in which operation it was itself. */
static bool take_failure(tutti_comm *comm, const struct tutti_error *cause)
{
    pthread_mutex_lock(&comm->lock);
    bool first = !comm_has_failed(comm) && comm->phase != COMM_FINALIZED;
    if (first) {
        comm->failure = *cause;
        cause_set_operation(&comm->failure, comm_operation_under_way(comm));
        atomic_store_explicit(&comm->failed, 1, memory_order_release);
        if (comm->doorbell >= 0)
            eventfd_write(comm->doorbell, 1);
        if (comm->arena)
            arena_abort(comm->arena);
        if (comm->token == TOKEN_FREE)
            comm_fail_pending(comm);
        pthread_cond_broadcast(&comm->changed);
    }
    pthread_mutex_unlock(&comm->lock);
    return first;
}

static void fail(tutti_comm *comm, const struct tutti_error *cause, bool noticed_here)
{
    struct family *family = comm->family;
    struct tutti_error complete = *cause;
    bool first = false;
    complete.struct_size = sizeof complete;
    pthread_mutex_lock(&family->lock);
    tutti_comm *root = family->root;
    if (root) {
        complete_cause(comm, root, noticed_here, &complete);
        first = take_failure(root, &complete);
    }
    if (first) {
        for (tutti_comm *child = family->children; child; child = child->sibling)
            take_failure(child, &complete);
        log_debug(&root->log, "the group has failed: %s", cause->message);
        if (root->worker)
            worker_post(root->worker, &root->abort_task);
    }
    pthread_mutex_unlock(&family->lock);
}

void comm_share_failure(tutti_comm *child)
{
    struct family *family = child->family;
    pthread_mutex_lock(&family->lock);
    if (!family->root || atomic_load(&family->root->phase) == COMM_FINALIZED)
        comm_fail_orphans(family);
    else if (comm_has_failed(family->root))
        take_failure(child, &family->root->failure);
    pthread_mutex_unlock(&family->lock);
}

void comm_fail_orphans(struct family *family)
{
    struct tutti_error cause;
    error_set(&cause, TUTTI_ERR_FINALIZED,
              "the communicator that this one was made of is finalized or freed: finalize and free it last");
    for (tutti_comm *child = family->children; child; child = child->sibling)
        take_failure(child, &cause);
}

void comm_fail(tutti_comm *comm, const struct tutti_error *cause)
{
    fail(comm, cause, true);
}

void comm_fail_as_told(tutti_comm *comm, const struct tutti_error *cause)
{
    fail(comm, cause, false);
}

/* Has what has come on the control connections of the root read at once. */
static void look_for_reason(tutti_comm *comm)
{
    struct family *family = comm->family;
    pthread_mutex_lock(&family->lock);
    if (family->root)
        worker_post(family->root->worker, &family->root->drain_task);
    pthread_mutex_unlock(&family->lock);
}

/* Waits until the group has failed, for this reason or a better one, but no longer than until `until_ns`. */
static void await_failure(tutti_comm *comm, int64_t until_ns)
{
    pthread_mutex_lock(&comm->lock);
    while (!comm_has_failed(comm) && clock_now_ns() < until_ns)
        comm_wait_changed(comm, until_ns);
    pthread_mutex_unlock(&comm->lock);
}

bool comm_fail_from_link(tutti_comm *comm, const struct tutti_error *cause, bool on_loop)
{
    if (comm->link_error_until_ns == 0) {
        comm->link_error = *cause;
        /* An abort that has shown in shared memory has a cause that the control connections bring. */
        bool has_reason = cause->code == TUTTI_ERR_PEER_LOST || cause->code == TUTTI_ERR_ABORTED;
        comm->link_error_until_ns = clock_now_ns() + (has_reason ? EXPLANATION_NS : 0);
        look_for_reason(comm);
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
    struct family *family = comm->family;
    int size = comm->root_ranks ? family->roster.size : comm->place.size;
    if (!comm_has_failed(comm) || size < 2)
        return;
    int64_t until_ns = clock_now_ns() + ABORT_SENT_NS;
    struct timespec until = {.tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000};
    pthread_mutex_lock(&family->lock);
    while (!family->abort_sent && family->root && comm_has_failed(family->root) && clock_now_ns() < until_ns)
        pthread_cond_timedwait(&family->changed, &family->lock, &until);
    pthread_mutex_unlock(&family->lock);
}

int comm_local_error(tutti_comm *comm, const struct tutti_error *error)
{
    pthread_mutex_lock(&comm->lock);
    comm->local_error = *error;
    pthread_mutex_unlock(&comm->lock);
    return error->code;
}
