/* Sends and receives: requests whose mails the mailbox moves.  They are issued under the lock, posted and
 * moved by the holder of the token. */
#include <stdlib.h>
#include "base/error.h"
#include "engine/clock.h"
#include "engine/comm.h"
#include "engine/mesh.h"

int messages_issue(tutti_comm *comm, const struct tutti_call *calls, size_t count, tutti_request **result)
{
    int status = comm_refuse_if_dead(comm);
    if (status < 0)
        return status;
    tutti_request *request = issue_take_mails(comm, count);
    if (!request)
        return error_set(&comm->local_error, TUTTI_ERR_MEMORY, "no memory for %zu messages", count);
    int64_t now_ns = clock_now_ns();
    int64_t due_ns = now_ns + issue_shortest_timeout_ms(comm, calls, count) * NS_PER_MS;
    for (size_t i = 0; i < count; i++) {
        bool sends = calls[i].op == TUTTI_SEND;
        request->mails[i] = (struct mail){
            .sends = sends,
            .peer = calls[i].peer,
            .tag = calls[i].tag,
            .type = (int)calls[i].type,
            .buffer = sends ? (void *)calls[i].send : calls[i].recv,
            .count = calls[i].count,
            .received = calls[i].received,
            .started_ns = now_ns,
            .deadline_ns = due_ns,
            .owner = request,
        };
        if (sends)
            mesh_want(comm, CHANNEL_MESSAGES, calls[i].peer);
    }
    request->pending = request->mail_count = count;
    atomic_store_explicit(&request->due_ns, due_ns, memory_order_relaxed);
    *comm->posted_tail = request;
    comm->posted_tail = &request->next;
    atomic_fetch_add(&comm->posted_count, 1);
    atomic_fetch_add(&comm->message_count, 1);
    comm->watches = false;
    comm_nudge(comm);
    *result = request;
    return TUTTI_OK;
}

/* What was issued since the last look goes into the mailbox, in that order. */
static bool post_new(tutti_comm *comm)
{
    if (!comm->mailbox)
        comm->mailbox =
            mailbox_new(&comm->channels[CHANNEL_MESSAGES].group, comm->place.rank, comm->place.size);
    if (!comm->mailbox)
        return false;
    if (atomic_load_explicit(&comm->posted_count, memory_order_relaxed) == 0)
        return true;
    pthread_mutex_lock(&comm->lock);
    tutti_request *request = comm->posted;
    comm->posted = NULL;
    comm->posted_tail = &comm->posted;
    atomic_store(&comm->posted_count, 0);
    while (request) {
        tutti_request *next = request->next;
        for (size_t i = 0; i < request->mail_count; i++)
            mailbox_post(comm->mailbox, &request->mails[i]);
        request->next = comm->messages;
        request->link = &comm->messages;
        if (request->next)
            request->next->link = &request->next;
        comm->messages = request;
        request = next;
    }
    pthread_mutex_unlock(&comm->lock);
    return true;
}

/* Takes the request out and completes it.  With the lock. */
static void complete(tutti_comm *comm, tutti_request *request, int status)
{
    *request->link = request->next;
    if (request->next)
        request->next->link = request->link;
    atomic_fetch_sub(&comm->message_count, 1);
    progress_complete(comm, request, status);
}

int messages_move(tutti_comm *comm, bool *moved, struct tutti_error *error)
{
    if (!post_new(comm))
        return error_set(error, TUTTI_ERR_MEMORY, "no memory for messages");
    int status = mailbox_progress(comm->mailbox, moved, error);
    struct mail *mail;
    while ((mail = mailbox_take_complete(comm->mailbox)) != NULL) {
        tutti_request *request = mail->owner;
        *moved = true;
        if (--request->pending > 0)
            continue;
        pthread_mutex_lock(&comm->lock);
        complete(comm, request, TUTTI_OK);
        pthread_mutex_unlock(&comm->lock);
    }
    return status;
}

int64_t messages_due_ns(const tutti_comm *comm)
{
    int64_t due_ns = INT64_MAX;
    for (const tutti_request *request = comm->messages; request; request = request->next) {
        int64_t its_ns = atomic_load_explicit(&request->due_ns, memory_order_relaxed);
        due_ns = its_ns < due_ns ? its_ns : due_ns;
    }
    return due_ns;
}

static const struct mail *first_pending(const tutti_request *request)
{
    for (size_t i = 0; i < request->mail_count; i++)
        if (!request->mails[i].complete)
            return &request->mails[i];
    return NULL;
}

bool messages_judge(tutti_comm *comm, int64_t now_ns, struct tutti_error *error)
{
    int64_t straggler_ns = comm->settings.values.straggler_after_ms * NS_PER_MS;
    for (tutti_request *request = comm->messages; request; request = request->next) {
        const struct mail *mail = first_pending(request);
        char text[192];
        if (!mail)
            continue;
        double seconds = (double)(now_ns - mail->started_ns) / 1e9;
        if (now_ns >= atomic_load_explicit(&request->due_ns, memory_order_relaxed)) {
            error_set(error, TUTTI_ERR_TIMEOUT, "%s did not complete within %.1f s, its deadline: %s",
                      mail_print(mail, text, sizeof text), seconds,
                      mail->sends ? "it was not received" : "no such message has come");
            error->rank = comm_root_rank(comm, mail->peer);
            return true;
        }
        if (!request->lateness.warned && now_ns - mail->started_ns >= straggler_ns) {
            request->lateness.warned = true;
            log_warning(&comm->log, "%s has been under way for %.1f s", mail_print(mail, text, sizeof text),
                        seconds);
        }
    }
    return false;
}

void messages_fail(tutti_comm *comm)
{
    if (comm->mailbox)
        mailbox_forget(comm->mailbox, NULL);
    while (comm->messages)
        complete(comm, comm->messages, comm->failure.code);
    while (comm->posted) {
        tutti_request *request = comm->posted;
        comm->posted = request->next;
        atomic_fetch_sub(&comm->message_count, 1);
        progress_complete(comm, request, comm->failure.code);
    }
    comm->posted_tail = &comm->posted;
    atomic_store(&comm->posted_count, 0);
}

void messages_free(tutti_comm *comm)
{
    mailbox_free(comm->mailbox);
}
