#include "engine/worker.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "base/error.h"
#include "transport/descriptor.h"

struct worker {
    uv_loop_t loop;
    uv_async_t wake;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    struct worker_task *first, **last;
    bool stopping;
    unsigned forks; /* when it was made */
};

static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    struct worker *worker;
    int references;
} pool[WORKERS_MAX];

/* How often this process is the child of a fork() since the first worker was made. */
static atomic_uint forks;

static void lock_pool(void)
{
    pthread_mutex_lock(&pool_lock);
}

static void unlock_pool(void)
{
    pthread_mutex_unlock(&pool_lock);
}

static void begin_as_child(void)
{
    atomic_fetch_add(&forks, 1);
    memset(pool, 0, sizeof pool); /* the parent's */
    pthread_mutex_unlock(&pool_lock);
}

static void watch_forks(void)
{
    pthread_atfork(lock_pool, unlock_pool, begin_as_child);
}

bool worker_is_foreign(const struct worker *worker)
{
    return worker->forks != atomic_load_explicit(&forks, memory_order_relaxed);
}

/* Runs what has been posted so far.  A task may be posted again from within. */
static void run_tasks(uv_async_t *wake)
{
    struct worker *worker = wake->data;
    pthread_mutex_lock(&worker->lock);
    /* Those that are there now: a task that posts itself again must not keep the loop from its other work. */
    struct worker_task **end = worker->last;
    for (bool more = worker->first != NULL; more;) {
        struct worker_task *task = worker->first;
        more = &task->next != end;
        worker->first = task->next;
        if (!worker->first)
            worker->last = &worker->first;
        task->queued = false;
        void (*run)(void *) = task->run; /* the task may be gone once it has run */
        void *context = task->context;
        pthread_mutex_unlock(&worker->lock);
        run(context);
        pthread_mutex_lock(&worker->lock);
    }
    bool stopping = worker->stopping && !worker->first;
    if (worker->first)
        uv_async_send(&worker->wake);
    pthread_mutex_unlock(&worker->lock);
    if (stopping)
        uv_close((uv_handle_t *)&worker->wake, NULL); /* the last handle: uv_run() returns */
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    uv_run(&worker->loop, UV_RUN_DEFAULT);
    return NULL;
}

/* The loop's own descriptors, for the child of a fork(); libuv has no list of them. */
static void for_loop_descriptors(uv_loop_t *loop, void (*what)(int fd))
{
    what(uv_backend_fd(loop));
    what(loop->async_io_watcher.fd);
    what(loop->async_wfd);
    what(loop->signal_pipefd[0]);
    what(loop->signal_pipefd[1]);
}

static void close_loop(uv_loop_t *loop)
{
    for_loop_descriptors(loop, descriptor_forget);
    uv_loop_close(loop);
}

static void worker_destroy(struct worker *worker)
{
    pthread_mutex_destroy(&worker->lock);
    free(worker);
}

/* libuv ends the process where it finds no descriptors for its first loop: two pipes, an epoll, an eventfd.
 */
static bool descriptors_are_left(struct tutti_error *error)
{
    int fds[6], count = 0;
    while (count < 6 && (fds[count] = descriptor_event(0)) >= 0)
        count++;
    if (count < 6)
        error_set_errno(error, errno, "no descriptors for a worker loop; raise the limit (ulimit -n)");
    bool enough = count == 6;
    while (count > 0)
        descriptor_close(fds[--count]);
    return enough;
}

static struct worker *worker_new(struct tutti_error *error)
{
    if (!descriptors_are_left(error))
        return NULL;
    struct worker *worker = calloc(1, sizeof *worker);
    if (!worker) {
        error_set(error, TUTTI_ERR_MEMORY, "no memory for a worker loop");
        return NULL;
    }
    worker->forks = atomic_load(&forks);
    worker->last = &worker->first;
    pthread_mutex_init(&worker->lock, NULL);
    int status = uv_loop_init(&worker->loop);
    if (status == 0) {
        status = uv_async_init(&worker->loop, &worker->wake, run_tasks);
        if (status < 0)
            uv_loop_close(&worker->loop);
        else
            for_loop_descriptors(&worker->loop, descriptor_note);
    }
    if (status < 0) {
        error_set(error, TUTTI_ERR_SYSTEM, "cannot make a worker loop: %s", uv_strerror(status));
        worker_destroy(worker);
        return NULL;
    }
    worker->wake.data = worker;
    /* Signals are the application's: its threads handle them, not ours. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error_number = pthread_create(&worker->thread, NULL, worker_main, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error_number != 0) {
        error_set_errno(error, error_number, "cannot start a worker thread");
        uv_close((uv_handle_t *)&worker->wake, NULL);
        uv_run(&worker->loop, UV_RUN_DEFAULT);
        close_loop(&worker->loop);
        worker_destroy(worker);
        return NULL;
    }
    pthread_setname_np(worker->thread, "tutti-worker");
    return worker;
}

struct worker *worker_acquire(int lane, struct tutti_error *error)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&pool_lock);
    if (!pool[lane].worker)
        pool[lane].worker = worker_new(error);
    struct worker *worker = pool[lane].worker;
    if (worker)
        pool[lane].references++;
    pthread_mutex_unlock(&pool_lock);
    return worker;
}

void worker_share(struct worker *worker)
{
    pthread_mutex_lock(&pool_lock);
    int index = 0;
    while (pool[index].worker != worker)
        index++;
    pool[index].references++;
    pthread_mutex_unlock(&pool_lock);
}

void worker_release(struct worker *worker)
{
    pthread_mutex_lock(&pool_lock);
    int index = 0;
    while (pool[index].worker != worker)
        index++;
    bool last = --pool[index].references == 0;
    if (last)
        pool[index].worker = NULL;
    pthread_mutex_unlock(&pool_lock);
    if (!last)
        return;
    pthread_mutex_lock(&worker->lock);
    worker->stopping = true;
    pthread_mutex_unlock(&worker->lock);
    uv_async_send(&worker->wake);
    pthread_join(worker->thread, NULL);
    close_loop(&worker->loop);
    worker_destroy(worker);
}

uv_loop_t *worker_loop(struct worker *worker)
{
    return &worker->loop;
}

void worker_post(struct worker *worker, struct worker_task *task)
{
    pthread_mutex_lock(&worker->lock);
    bool post = !task->queued;
    if (post) {
        task->queued = true;
        task->next = NULL;
        *worker->last = task;
        worker->last = &task->next;
    }
    pthread_mutex_unlock(&worker->lock);
    if (post)
        uv_async_send(&worker->wake);
}

struct synchronous_call {
    void (*run)(void *);
    void *context;
    uv_sem_t done;
};

static void run_synchronous(void *argument)
{
    struct synchronous_call *call = argument;
    call->run(call->context);
    uv_sem_post(&call->done);
}

void worker_call(struct worker *worker, void (*run)(void *context), void *context)
{
    struct synchronous_call call = {.run = run, .context = context};
    struct worker_task task = {.run = run_synchronous, .context = &call};
    uv_sem_init(&call.done, 0);
    worker_post(worker, &task);
    uv_sem_wait(&call.done);
    uv_sem_destroy(&call.done);
}
