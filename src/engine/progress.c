/* Progress: who moves the data of a communicator, and when.
 *
 * Calls queue as requests and are moved strictly in the order of issue; only the head moves.  Whoever holds
 * the token moves it: a thread in a blocking call or a wait takes the token and polls the links itself, for
 * waking another thread would cost more than most calls; otherwise the worker loop does, woken by uv_poll.
 * The loop takes the token only inside a callback and never sleeps with it, so a caller always gets it
 * soon.  A caller that leaves with work still queued posts `drive_task`. */
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include "engine/clock.h"
#include "engine/comm.h"

#define SLEEP_MS_MAX   100             /* a sleeper looks around at least this often */
#define LOOP_LINGER_NS (50 * 1000)     /* the loop yields this long before it arms its polls */
#define LOOP_SHARE_NS  (5 * NS_PER_MS) /* in one callback: heartbeats and other communicators wait */

/* ---- Moving ------------------------------------------------------------------------------------ */

void progress_complete_head(tutti_comm *comm, int status)
{
    tutti_request *request = comm->head;
    comm->head = request->next;
    if (!comm->head)
        comm->tail = &comm->head;
    request->status = status;
    if (status == TUTTI_OK)
        comm->completed = request->executors[request->count - 1].operation.sequence;
    if (request->signals) {
        comm->unfetched++;
        if (comm->completion_fd >= 0)
            eventfd_write(comm->completion_fd, 1);
    }
    if (atomic_load_explicit(&comm->waiters, memory_order_relaxed) > 0)
        pthread_cond_broadcast(&comm->changed);
}

/* Not blocked: progress() has only had its share of turns. */
static bool can_go_on(const struct operation *operation)
{
    return !operation->wait.receive && !operation->wait.send;
}

/* Moves the queue, without the lock and with the token, until `until` is complete (NULL: until the queue is
 * empty) or the head is blocked.  Returns the blocked head, or NULL.  A failure of the group completes
 * everything. */
static tutti_request *move_queue(tutti_comm *comm, tutti_request *head, const tutti_request *until,
                                 bool on_loop)
{
    struct tutti_error error; /* filled by progress() when it fails; too large to clear on every turn */
    while (head) {
        int status = TUTTI_OK;
        if (comm->link_error_until_ns != 0) {
            status = comm->link_error.code;
        } else if (!comm_has_failed(comm)) {
            struct operation *operation = &head->executors[head->current].operation;
            status = operation->progress(operation, &error);
            if (status == TUTTI_PENDING)
                return head;
            failpoint_hit(&comm->failpoints, FAILPOINT_operation_done);
            if (status == TUTTI_OK &&
                atomic_fetch_add_explicit(&head->current, 1, memory_order_relaxed) + 1 < head->count)
                continue;
        }
        if (status < 0 && !comm_fail_from_link(comm, &error, on_loop))
            return head;
        pthread_mutex_lock(&comm->lock);
        bool stop = head == until;
        if (comm_has_failed(comm))
            comm_fail_pending(comm);
        else
            progress_complete_head(comm, TUTTI_OK);
        head = stop ? NULL : comm->head;
        pthread_mutex_unlock(&comm->lock);
    }
    return NULL;
}

/* ---- Lateness ---------------------------------------------------------------------------------- */

static struct lateness_view view_of(const tutti_comm *comm, const tutti_request *head)
{
    return (struct lateness_view){
        .operation = &head->executors[head->current].operation,
        .due_ns = atomic_load_explicit(&head->due_ns, memory_order_relaxed),
        .straggler_after_ns = comm->settings.values.straggler_after_ms * NS_PER_MS,
        .membership = comm->place.size > 1 ? &comm->ring.membership : NULL,
    };
}

/* The head of the queue is blocked: tells the neighbours, warns, asks or ends the group when it is late. With
 * the token. */
static void judge_lateness(tutti_comm *comm, tutti_request *head, int64_t now_ns)
{
    struct lateness_view view = view_of(comm, head);
    struct tutti_error error;
    for (;;) {
        switch (lateness_judge(&head->lateness, &view, now_ns, &error)) {
        case LATENESS_ANNOUNCE:
            worker_post(comm->worker, &comm->announce_task);
            break;
        case LATENESS_WARN:
            log_warning(&comm->log, "%s", error.message);
            break;
        case LATENESS_ASK:
            atomic_store(&comm->late_sequence, view.operation->sequence);
            worker_post(comm->worker, &comm->ask_task);
            break;
        case LATENESS_EXPIRE:
            comm_fail(comm, &error);
            return;
        case LATENESS_NONE:
            return;
        }
    }
}

static int64_t next_judgement_ns(const tutti_comm *comm, const tutti_request *head, int64_t now_ns)
{
    struct lateness_view view = view_of(comm, head);
    return lateness_next_ns(&head->lateness, &view, now_ns);
}

/* ---- The caller's thread ----------------------------------------------------------------------- */

static void sleep_on(const tutti_comm *comm, const tutti_request *head, int64_t until_ns, int64_t now_ns)
{
    const struct operation *operation = &head->executors[head->current].operation;
    int64_t due_ns = next_judgement_ns(comm, head, now_ns);
    struct pollfd fds[3] = {{.fd = comm->doorbell, .events = POLLIN}};
    nfds_t count = 1;
    const struct link *receive = operation->wait.receive, *send = operation->wait.send;
    if (receive)
        fds[count++] = (struct pollfd){.fd = receive->ops->descriptor(receive), .events = POLLIN};
    if (send)
        fds[count++] = (struct pollfd){.fd = send->ops->descriptor(send), .events = POLLOUT};
    if (due_ns < until_ns)
        until_ns = due_ns;
    int64_t left_ms = (until_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS;
    poll(fds, count, left_ms < 0 ? 0 : left_ms < SLEEP_MS_MAX ? (int)left_ms : SLEEP_MS_MAX);
}

/* Moves the queue until `request` is complete or `until_ns` has come.  With the token, without the lock. */
static void drive(tutti_comm *comm, tutti_request *head, const tutti_request *request, int64_t until_ns)
{
    struct waiter waiter = {.policy = &comm->wait_policy};
    uint64_t moved = 0;
    for (;;) {
        tutti_request *blocked = move_queue(comm, head, request, false);
        if (!blocked)
            return;
        const struct operation *operation = &blocked->executors[blocked->current].operation;
        bool moving = can_go_on(operation) || blocked != head || operation->moved_bytes != moved;
        head = blocked;
        moved = operation->moved_bytes;
        if (until_ns == 0) /* only a look */
            return;
        int64_t now_ns = 0;
        enum wait_stage stage = WAIT_YIELD;
        if (moving) { /* but read the clock: steady progress must not put off deadline and time-out */
            waiter_reset(&waiter);
            now_ns = clock_now_ns();
        } else {
            stage = waiter_turn(&waiter, &now_ns);
        }
        if (stage == WAIT_SPIN)
            continue;
        judge_lateness(comm, blocked, now_ns);
        if (now_ns >= until_ns)
            return;
        if (stage == WAIT_SLEEP && !comm_has_failed(comm))
            sleep_on(comm, blocked, until_ns, now_ns);
    }
}

static int64_t until_from_timeout(int timeout_ms)
{
    return timeout_ms < 0 ? INT64_MAX : timeout_ms == 0 ? 0 : clock_now_ns() + timeout_ms * NS_PER_MS;
}

/* Waits for `request`, moving the queue itself when nobody else does.  With the lock. */
static void wait_for(tutti_comm *comm, const tutti_request *request, int64_t until_ns)
{
    while (request->status == TUTTI_PENDING) {
        if (comm->token == TOKEN_FREE) {
            tutti_request *head = comm->head;
            comm->token = TOKEN_CALLER;
            pthread_mutex_unlock(&comm->lock);
            drive(comm, head, request, until_ns);
            pthread_mutex_lock(&comm->lock);
            comm->token = TOKEN_FREE;
            if (comm_has_failed(comm))
                comm_fail_pending(comm);
            if (comm->head)
                worker_post(comm->worker, &comm->drive_task);
            if (atomic_load_explicit(&comm->waiters, memory_order_relaxed) > 0)
                pthread_cond_broadcast(&comm->changed);
        } else if (until_ns != 0) {
            atomic_fetch_add(&comm->waiters, 1);
            comm_wait_changed(comm, until_ns < INT64_MAX ? until_ns : clock_now_ns() + 1000 * NS_PER_MS);
            atomic_fetch_sub(&comm->waiters, 1);
        }
        if (until_ns == 0 || (until_ns < INT64_MAX && clock_now_ns() >= until_ns))
            return;
    }
}

/* With the lock, which it releases. */
static int finish_wait(tutti_comm *comm, tutti_request **handle)
{
    tutti_request *request = *handle;
    int status = request->status;
    if (status != TUTTI_PENDING) {
        if (request->signals && --comm->unfetched == 0 && comm->completion_fd >= 0) {
            eventfd_t count;
            eventfd_read(comm->completion_fd, &count);
        }
        issue_release(request);
        *handle = NULL;
    }
    pthread_mutex_unlock(&comm->lock);
    if (status < 0)
        comm_await_abort_sent(comm);
    return status;
}

/* A call that could not be issued, with the lock, which it releases.  The other ranks may have issued theirs,
 * so lack of memory for it ends the group. */
static int not_issued(tutti_comm *comm, int status)
{
    struct tutti_error error = comm->local_error;
    pthread_mutex_unlock(&comm->lock);
    if (status == TUTTI_ERR_MEMORY && !comm_has_failed(comm)) {
        error.rank = comm->place.rank;
        comm_fail(comm, &error);
        comm_await_abort_sent(comm);
    }
    return status;
}

int progress_run(tutti_comm *comm, const struct tutti_call *calls, size_t count, int timeout_ms,
                 tutti_request **request)
{
    int64_t until_ns = until_from_timeout(timeout_ms);
    pthread_mutex_lock(&comm->lock);
    int status = issue_calls(comm, calls, count, request);
    if (status < 0)
        return not_issued(comm, status);
    wait_for(comm, *request, until_ns);
    return finish_wait(comm, request);
}

int progress_run_last(tutti_comm *comm, const struct tutti_call *call)
{
    tutti_request *request;
    pthread_mutex_lock(&comm->lock);
    comm->finalizes = true;
    int status = issue_calls(comm, call, 1, &request);
    if (status < 0)
        return not_issued(comm, status);
    atomic_store(&comm->phase, COMM_FINALIZING);
    wait_for(comm, request, INT64_MAX);
    return finish_wait(comm, &request);
}

int progress_wait(tutti_request **request, int timeout_ms)
{
    tutti_comm *comm = (*request)->comm;
    pthread_mutex_lock(&comm->lock);
    if ((*request)->status == TUTTI_PENDING)
        wait_for(comm, *request, until_from_timeout(timeout_ms));
    return finish_wait(comm, request);
}

int progress_issue(tutti_comm *comm, const struct tutti_call *calls, size_t count, tutti_request **request)
{
    pthread_mutex_lock(&comm->lock);
    int status = issue_calls(comm, calls, count, request);
    if (status < 0)
        return not_issued(comm, status);
    (*request)->signals = true;
    /* One turn here and now, so that the first bytes leave without waking the loop. */
    if (comm->token == TOKEN_FREE && comm->head == *request)
        wait_for(comm, *request, 0);
    else
        worker_post(comm->worker, &comm->drive_task);
    pthread_mutex_unlock(&comm->lock);
    return TUTTI_OK;
}

/* ---- The worker's thread ----------------------------------------------------------------------- */

static void on_data_link(uv_poll_t *poll, int status, int events)
{
    (void)status, (void)events; /* whatever it is, the link will tell */
    progress_drive_on_loop(poll->data);
}

static void on_deadline(uv_timer_t *timer)
{
    progress_drive_on_loop(timer->data);
}

static void stop_polls(tutti_comm *comm)
{
    if (comm->ring.polls_made) {
        uv_poll_stop(&comm->ring.readable);
        uv_poll_stop(&comm->ring.writable);
    }
    uv_timer_stop(&comm->ring.deadline);
}

/* Has the loop call again: when the link that the head is blocked on or its deadline says so; soon, where it
 * has only had its share. */
static void arm_polls(tutti_comm *comm, const tutti_request *head)
{
    const struct operation *operation = &head->executors[head->current].operation;
    bool go_on = can_go_on(operation);
    stop_polls(comm);
    if (comm->link_error_until_ns != 0) {
        int64_t left_ms = (comm->link_error_until_ns - clock_now_ns()) / NS_PER_MS + 1;
        uv_timer_start(&comm->ring.deadline, on_deadline, left_ms > 0 ? (uint64_t)left_ms : 0, 0);
        return;
    }
    bool polls = comm->ring.polls_made; /* not in a group of one, which is never blocked */
    if (polls && (go_on || operation->wait.receive))
        uv_poll_start(&comm->ring.readable, UV_READABLE | UV_DISCONNECT, on_data_link);
    if (polls && (go_on || operation->wait.send))
        uv_poll_start(&comm->ring.writable, UV_WRITABLE | UV_DISCONNECT, on_data_link);
    int64_t now_ns = clock_now_ns(), next_ns = next_judgement_ns(comm, head, now_ns);
    int64_t left_ms = go_on ? 1 : next_ns > now_ns ? (next_ns - now_ns) / NS_PER_MS + 1 : 1;
    uv_timer_start(&comm->ring.deadline, on_deadline, (uint64_t)left_ms, 0);
}

/* Moves the queue and, while callers do not ask for the token, lingers a little where it is blocked: the next
 * slice is often nearer than a way through epoll.  Returns the blocked head or NULL. */
static tutti_request *move_and_linger(tutti_comm *comm, tutti_request *head)
{
    int64_t blocked_ns = 0, until_ns = clock_now_ns() + LOOP_SHARE_NS;
    uint64_t moved = 0;
    for (;;) {
        tutti_request *blocked = move_queue(comm, head, NULL, true);
        if (!blocked)
            return NULL;
        const struct operation *operation = &blocked->executors[blocked->current].operation;
        int64_t now_ns = clock_now_ns();
        if (blocked_ns == 0 || blocked != head || operation->moved_bytes != moved)
            blocked_ns = now_ns;
        head = blocked;
        moved = operation->moved_bytes;
        judge_lateness(comm, blocked, now_ns);
        if (now_ns >= until_ns || now_ns - blocked_ns > LOOP_LINGER_NS || comm_has_failed(comm) ||
            comm->link_error_until_ns != 0 || atomic_load(&comm->waiters) > 0)
            return blocked;
        if (!can_go_on(operation))
            sched_yield();
    }
}

void progress_drive_on_loop(void *argument)
{
    tutti_comm *comm = argument;
    pthread_mutex_lock(&comm->lock);
    tutti_request *head = comm->head;
    if (comm->token != TOKEN_FREE || !head) {
        pthread_mutex_unlock(&comm->lock);
        stop_polls(comm); /* whoever holds the token posts again if there is need */
        return;
    }
    comm->token = TOKEN_LOOP;
    pthread_mutex_unlock(&comm->lock);
    head = move_and_linger(comm, head);
    pthread_mutex_lock(&comm->lock);
    comm->token = TOKEN_FREE;
    if (comm_has_failed(comm)) {
        comm_fail_pending(comm);
        head = NULL;
    }
    if (head)
        arm_polls(comm,
                  head); /* under the lock: a caller that takes the token may move `head` on and free it */
    else
        stop_polls(comm);
    if (!head && comm->head)
        worker_post(comm->worker, &comm->drive_task);
    if (atomic_load_explicit(&comm->waiters, memory_order_relaxed) > 0)
        pthread_cond_broadcast(&comm->changed);
    pthread_mutex_unlock(&comm->lock);
}
