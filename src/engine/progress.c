/* Progress: who moves the data of a communicator, and when.
 *
 * Collectives queue as requests and are moved strictly in the order of issue; only the head moves.  Messages
 * move beside them.  Whoever holds the token moves all: a thread in a blocking call or a wait takes the token
 * and polls the links itself, for waking another thread would cost more than most calls; otherwise the worker
 * loop does, woken by uv_poll.  The loop takes the token only inside a callback and never sleeps with it, so
 * a caller always gets it soon.  A caller that leaves with work still queued posts `drive_task`.  A caller
 * that sleeps is nudged when there is something new. */
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include "base/error.h"
#include "engine/clock.h"
#include "engine/colocation.h"
#include "engine/comm.h"
#include "engine/motion.h"
#include "engine/polls.h"
#include "engine/quick.h"
#include "engine/stripes.h"

#define SLEEP_MS_MAX   100             /* a sleeper looks around at least this often */
#define LOOP_LINGER_NS (50 * 1000)     /* the loop yields this long before it arms its polls */
#define LOOP_SHARE_NS  (5 * NS_PER_MS) /* in one callback: heartbeats and other communicators wait */

/* ---- Completing -------------------------------------------------------------------------------- */

void progress_complete(tutti_comm *comm, tutti_request *request, int status)
{
    request->status = status;
    if (request->signals) {
        comm->unfetched++;
        if (comm->completion_fd >= 0)
            eventfd_write(comm->completion_fd, 1);
    }
    if (atomic_load_explicit(&comm->waiters, memory_order_relaxed) > 0)
        pthread_cond_broadcast(&comm->changed);
    if (comm->lane_of) {
        atomic_fetch_add(&comm->lane_of->lanes_done, 1);
        comm_nudge(comm->lane_of);
        worker_post(comm->lane_of->worker, &comm->lane_of->drive_task);
    }
}

void progress_complete_head(tutti_comm *comm, int status)
{
    tutti_request *request = comm->head;
    comm->head = request->next;
    if (!comm->head)
        comm->tail = &comm->head;
    atomic_fetch_sub_explicit(&comm->queue_count, 1, memory_order_relaxed);
    if (status == TUTTI_OK)
        comm->completed = request->operations[request->count - 1].operation.sequence;
    progress_complete(comm, request, status);
}

/* ---- The caller's thread ----------------------------------------------------------------------- */

/* Is there something that came after the last look?  Once `sleeps` is set, what comes later nudges. */
static bool has_news(const tutti_comm *comm, const struct motion *motion)
{
    return atomic_load(&comm->fresh_count) > 0 || (!motion->head && atomic_load(&comm->queue_count) > 0) ||
           comm->posted != NULL || atomic_load(&comm->lanes_done) != motion->lanes_seen;
}

/* Once `sleeps` is set, what comes later nudges. */
static bool goes_to_sleep(tutti_comm *comm, const struct motion *motion)
{
    pthread_mutex_lock(&comm->lock);
    atomic_store(&comm->sleeps, true);
    bool news = has_news(comm, motion);
    pthread_mutex_unlock(&comm->lock);
    return !news;
}

/* What to poll for it.  true: it can go on at once. */
static bool watch_link(const struct watched *watched, struct pollfd *fd)
{
    struct link *link = watched->link;
    bool ready = link->ops->arm && link->ops->arm(link); /* which may change the ops */
    *fd = (struct pollfd){.fd = link->ops->descriptor(link),
                          .events = watched->out && !link->ops->arm ? POLLOUT : POLLIN};
    return ready;
}

static void sleep_on(tutti_comm *comm, const struct motion *motion, int64_t until_ns, int64_t now_ns)
{
    struct watch_list watched;
    struct pollfd few[WATCHED_FEW + 3], *fds = few;
    bool awaits_bell = motion_awaits_bell(comm, motion);
    watch_list_fill(&watched, comm, motion);
    if (watched.count > WATCHED_FEW)
        fds = malloc((watched.count + 3) * sizeof *fds);
    size_t count = fds ? watched.count : WATCHED_FEW;
    fds = fds ? fds : few;
    fds[0] = (struct pollfd){.fd = comm->doorbell, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = comm->nudge, .events = POLLIN};
    fds[2] = (struct pollfd){.fd = awaits_bell ? colocation_bell(comm) : -1, .events = POLLIN};
    bool ready = false;
    for (size_t i = 0; i < count; i++)
        ready = watch_link(&watched.list[i], &fds[i + 3]) || ready;
    int64_t due_ns = motion_next_judgement_ns(comm, motion, now_ns);
    due_ns = due_ns < until_ns ? due_ns : until_ns;
    int64_t left_ms = (due_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS;
    eventfd_t nudges;
    if (!ready && goes_to_sleep(comm, motion) &&
        poll(fds, count + 3,
             left_ms < 0              ? 0
             : left_ms < SLEEP_MS_MAX ? (int)left_ms
                                      : SLEEP_MS_MAX) > 0 &&
        (fds[1].revents & POLLIN) != 0)
        eventfd_read(comm->nudge, &nudges);
    atomic_store(&comm->sleeps, false);
    if (awaits_bell)
        colocation_silence(comm);
    if (fds != few)
        free(fds);
    watch_list_free(&watched);
}

/* `request` NULL: all messages. */
static bool is_done(const tutti_comm *comm, const tutti_request *request)
{
    return request ? request->status != TUTTI_PENDING : !messages_are_pending(comm);
}

/* Looks once more at shared memory after it has said that it sleeps: what changes later rings the bell. */
static bool falls_asleep(tutti_comm *comm, struct motion *motion)
{
    if (!motion_awaits_bell(comm, motion))
        return true;
    arena_fall_asleep(comm->arena);
    return !motion_move(comm, motion);
}

void progress_set_spins(tutti_comm *comm, const struct waiter *waiter)
{
    struct arena *arena = comm->arena;
    if (!arena)
        return;
    arena->spins = waiter_shared_spins(waiter);
    arena->further_spins = comm->wait_policy.further_spins;
    if (arena->further_spins > 0)
        arena_runs_on(arena, wait_core());
}

/* Moves everything until `request` is complete or `until_ns` has come.  Says whether anything moved.  With
 * the token, without the lock. */
static bool drive(tutti_comm *comm, tutti_request *head, const tutti_request *request, int64_t until_ns,
                  bool *messages_moved)
{
    bool moved = false;
    struct waiter waiter = {.policy = &comm->wait_policy};
    struct motion motion = {.head = head, .until = request};
    progress_set_spins(comm, &waiter);
    if (until_ns == 0 && comm->arena) /* whoever only looks has other things to do */
        comm->arena->spins = comm->arena->further_spins = 0;
    for (;;) {
        bool moving = motion_move(comm, &motion);
        moved = moved || moving;
        *messages_moved = *messages_moved || motion.messages_moved;
        if (is_done(comm, request) || comm_has_failed(comm))
            return moved;
        if (until_ns == 0) /* only a look */
            return moved;
        int64_t now_ns = 0;
        enum wait_stage stage = WAIT_YIELD;
        if (moving) { /* but read the clock: steady progress must not put off deadline and time-out */
            waiter_reset(&waiter);
            now_ns = clock_now_ns();
        } else {
            if (motion_awaits_bell(comm, &motion)) /* it has spun */
                waiter_end_spinning(&waiter);
            stage = waiter_turn(&waiter, &now_ns);
        }
        progress_set_spins(comm, &waiter);
        if (stage == WAIT_SPIN)
            continue;
        motion_judge(comm, &motion, now_ns);
        if (now_ns >= until_ns)
            return moved;
        if (stage == WAIT_SLEEP && !comm_has_failed(comm)) {
            bool awaits_bell = motion_awaits_bell(comm, &motion);
            if (falls_asleep(comm, &motion))
                sleep_on(comm, &motion, until_ns, now_ns);
            if (awaits_bell) {
                arena_wake(comm->arena);
                moved = true; /* the bell may have rung for the loop: have it look again */
            }
        }
        motion.takes_in = stage == WAIT_SLEEP && motion_may_take_in(comm);
    }
}

static int64_t until_from_timeout(int timeout_ms)
{
    return timeout_ms < 0 ? INT64_MAX : timeout_ms == 0 ? 0 : clock_now_ns() + timeout_ms * NS_PER_MS;
}

static bool has_work(const tutti_comm *comm)
{
    return comm->head || messages_are_pending(comm);
}

/* Waits for `request`, moving the queue itself when nobody else does.  With the lock. */
static void wait_for(tutti_comm *comm, const tutti_request *request, int64_t until_ns)
{
    while (!is_done(comm, request)) {
        if (comm->token == TOKEN_FREE) {
            tutti_request *head = comm->head;
            comm->token = TOKEN_CALLER;
            pthread_mutex_unlock(&comm->lock);
            bool messages_moved = false, moved = drive(comm, head, request, until_ns, &messages_moved);
            pthread_mutex_lock(&comm->lock);
            comm->token = TOKEN_FREE;
            if (comm_has_failed(comm))
                comm_fail_pending(comm);
            bool rest = comm->head ? moved || !comm->watches_head : messages_moved;
            if (has_work(comm) && (rest || !comm->watches) &&
                (comm->head || !comm->looks_soon)) /* else the loop watches already what is waited for */
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
    if (status < 0 && request->stripes) { /* the lanes have heard of the failure, and stop soon */
        pthread_mutex_unlock(&comm->lock);
        stripes_join(request->stripes);
        pthread_mutex_lock(&comm->lock);
    }
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
        error.rank = comm_root_rank(comm, comm->place.rank);
        comm_fail(comm, &error);
        comm_await_abort_sent(comm);
    }
    return status;
}

static int issue(tutti_comm *comm, const struct tutti_call *calls, size_t count, tutti_request **request)
{
    return operation_is_message(calls[0].op) ? messages_issue(comm, calls, count, request)
                                             : issue_calls(comm, calls, count, request);
}

int progress_run(tutti_comm *comm, const struct tutti_call *calls, size_t count, int timeout_ms,
                 tutti_request **request)
{
    int status;
    pthread_mutex_lock(&comm->lock);
    if (count != 1 || timeout_ms == 0 || !quick_run(comm, calls, &status, request))
        status = issue(comm, calls, count, request);
    else if (status == TUTTI_OK) {
        pthread_mutex_unlock(&comm->lock);
        return TUTTI_OK;
    }
    if (status < 0)
        return not_issued(comm, status);
    int64_t until_ns = until_from_timeout(timeout_ms);
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

/* One turn here and now, so that the first bytes leave without waking the loop. */
static void begin(tutti_comm *comm, tutti_request *request)
{
    request->signals = true;
    if (comm->token == TOKEN_FREE && (request->mails || comm->head == request))
        wait_for(comm, request, 0);
    else
        worker_post(comm->worker, &comm->drive_task);
}

int progress_issue(tutti_comm *comm, const struct tutti_call *calls, size_t count, tutti_request **request)
{
    pthread_mutex_lock(&comm->lock);
    int status = issue(comm, calls, count, request);
    if (status < 0)
        return not_issued(comm, status);
    begin(comm, *request);
    pthread_mutex_unlock(&comm->lock);
    return TUTTI_OK;
}

int progress_post(tutti_comm *comm, const struct tutti_call *call, tutti_request **request)
{
    pthread_mutex_lock(&comm->lock);
    int status = issue(comm, call, 1, request);
    if (status == TUTTI_OK)
        worker_post(comm->worker, &comm->drive_task);
    pthread_mutex_unlock(&comm->lock);
    return status;
}

int progress_collect(tutti_request **request)
{
    tutti_comm *comm = (*request)->comm;
    pthread_mutex_lock(&comm->lock);
    int status = (*request)->status;
    if (status != TUTTI_PENDING) {
        issue_release(*request);
        *request = NULL;
    }
    pthread_mutex_unlock(&comm->lock);
    return status;
}

int progress_start_plan(struct tutti_plan *plan, tutti_request **request)
{
    tutti_comm *comm = plan->comm;
    pthread_mutex_lock(&comm->lock);
    int status = issue_planned(plan, request);
    if (status == TUTTI_OK)
        begin(comm, *request);
    pthread_mutex_unlock(&comm->lock);
    return status;
}

int progress_run_plan(struct tutti_plan *plan, int timeout_ms, tutti_request **request)
{
    tutti_comm *comm = plan->comm;
    int64_t until_ns = until_from_timeout(timeout_ms);
    pthread_mutex_lock(&comm->lock);
    int status = issue_planned(plan, request);
    if (status < 0) {
        pthread_mutex_unlock(&comm->lock);
        return status;
    }
    wait_for(comm, *request, until_ns);
    return finish_wait(comm, request);
}

int progress_drain_messages(tutti_comm *comm, int64_t until_ns)
{
    pthread_mutex_lock(&comm->lock);
    wait_for(comm, NULL, until_ns);
    bool drained = !messages_are_pending(comm);
    pthread_mutex_unlock(&comm->lock);
    struct tutti_error error;
    if (drained || comm_has_failed(comm))
        return comm_has_failed(comm) ? comm->failure.code : TUTTI_OK;
    error_set(&error, TUTTI_ERR_TIMEOUT, "finalize: sends or receives are still under way");
    error.rank = comm_root_rank(comm, comm->place.rank);
    comm_fail(comm, &error);
    return error.code;
}

/* ---- The worker's thread ----------------------------------------------------------------------- */

static void on_deadline(uv_timer_t *timer)
{
    progress_drive_on_loop(timer->data);
}

static void stop_watching(tutti_comm *comm)
{
    polls_stop(comm);
    uv_timer_stop(&comm->ring.deadline);
}

/* Has the loop call again: when the links that are waited for or a deadline say so; soon, where what moves
 * has only had its share. */
static void watch(tutti_comm *comm, const struct motion *motion, bool go_on)
{
    stop_watching(comm);
    if (go_on) {
        worker_post(comm->worker, &comm->drive_task);
        return;
    }
    int64_t now_ns = clock_now_ns(), next_ns = comm->link_error_until_ns;
    if (next_ns == 0) {
        struct watch_list watched;
        watch_list_fill(&watched, comm, motion);
        if (motion_awaits_bell(comm, motion))
            polls_arm_bell(comm);
        bool ready = false;
        for (size_t i = 0; i < watched.count; i++)
            ready = polls_arm(comm, watched.list[i].link, watched.list[i].out) || ready;
        if (ready)
            worker_post(comm->worker, &comm->drive_task);
        watch_list_free(&watched);
        next_ns = motion_next_judgement_ns(comm, motion, now_ns);
    }
    int64_t left_ms = (next_ns - now_ns) / NS_PER_MS + 1;
    uv_timer_start(&comm->ring.deadline, on_deadline, left_ms > 0 ? (uint64_t)left_ms : 1, 0);
}

/* Moves everything and, while callers do not ask for the token, lingers a little where it is blocked: the
 * next slice is often nearer than a way through epoll.  true: it would go on at once. */
static bool move_and_linger(tutti_comm *comm, struct motion *motion)
{
    int64_t blocked_ns = 0, until_ns = clock_now_ns() + LOOP_SHARE_NS;
    for (;;) {
        bool moving = motion_move(comm, motion);
        int64_t now_ns = clock_now_ns();
        if (!motion->head && !messages_are_pending(comm))
            return false;
        if (blocked_ns == 0 || moving)
            blocked_ns = now_ns;
        motion_judge(comm, motion, now_ns);
        if (now_ns >= until_ns || now_ns - blocked_ns > LOOP_LINGER_NS || comm_has_failed(comm) ||
            comm->link_error_until_ns != 0 || atomic_load(&comm->waiters) > 0)
            return moving;
        if (!moving)
            sched_yield();
    }
}

void progress_drive_on_loop(void *argument)
{
    tutti_comm *comm = argument;
    struct motion motion = {.on_loop = true};
    pthread_mutex_lock(&comm->lock);
    comm->looks_soon = comm->token != TOKEN_FREE && messages_are_pending(comm);
    if (comm->token != TOKEN_FREE || !has_work(comm)) {
        comm->watches = false;
        stop_watching(comm);
        if (comm->looks_soon)
            uv_timer_start(&comm->ring.deadline, on_deadline, 1, 0);
        pthread_mutex_unlock(&comm->lock);
        return;
    }
    comm->token = TOKEN_LOOP;
    if (comm->arena) {
        arena_wake(comm->arena);
        colocation_silence(comm);
        comm->arena->spins = comm->arena->further_spins = 0;
    }
    motion.head = comm->head;
    motion.takes_in = motion_may_take_in(comm);
    pthread_mutex_unlock(&comm->lock);
    bool go_on = move_and_linger(comm, &motion);
    if (!go_on && !comm_has_failed(comm))
        go_on = !falls_asleep(comm, &motion);
    pthread_mutex_lock(&comm->lock);
    comm->token = TOKEN_FREE;
    if (comm_has_failed(comm))
        comm_fail_pending(comm);
    /* Under the lock: a caller that takes the token may move the head on and free it. */
    comm->watches = !comm_has_failed(comm) && (motion.head || messages_are_pending(comm));
    comm->watches_head = comm->watches && motion.head;
    if (comm->watches)
        watch(comm, &motion, go_on);
    else
        stop_watching(comm);
    if (!motion.head && comm->head)
        worker_post(comm->worker, &comm->drive_task);
    if (atomic_load_explicit(&comm->waiters, memory_order_relaxed) > 0)
        pthread_cond_broadcast(&comm->changed);
    pthread_mutex_unlock(&comm->lock);
}
