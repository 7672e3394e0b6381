/* One rank of the fault tests: it computes, is hurt, re-forms its group and computes on, and checks every
 * element of every result.
 *
 *     survivor [--hold finalize|reform] [--reform-timeout MS] MODE ROUNDS COMMANDS
 *
 * A round is one operation of each kind: blocking, fused and asynchronous, of several types and sizes.  MODE
 * is what it does with its first group: "loop" runs rounds until any rank is told to go on; "idle" runs one,
 * waits until it is told to go on, and runs ROUNDS; "barrier" calls one; "finalize" runs none.  Then it
 * finalizes.  After a failure it re-forms the group (again and again, when told to), runs ROUNDS and
 * finalizes.
 *
 * It is told by lines in the FIFO named COMMANDS:
 *   go          on with what it waits for: as above, or at a --hold, or for another try to re-form
 *   end         do not try to re-form again
 *   reset, half_close    does this to all its connections, behind the back of the library
 *   reset_rendezvous, half_close_rendezvous    likewise, to those with the rendezvous only
 *   hog, release    takes all descriptors that are left, gives them back
 *
 * It tells on standard output, a line for each event (us: the monotonic clock, which a host shares):
 *   started pid=
 *   joined rank= size= generation=
 *   looping, idle, finalizing, holding at=, obeyed command=
 *   noticed us=                an idle group has failed
 *   failed status= rank= operation= sequence= moved= completed= assigned= ms= us= message=
 *   reform_failed status= rank= ms= assigned= message=
 *                              (assigned: the rank that it was given, or -1)
 *   reformed rank= size= generation= previous_rank= everywhere= anywhere= lost= cause_status= cause_rank= ms=
 *            us= message=      (of the cause)
 *   wrong ...                  a broken promise; it ends with 5
 *   done                       it ends with 0; with 3 when it could not join or not re-form */
#include <getopt.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include "elements.h"
#include "harm.h"
#include "tell.h"

#define FINALIZE_MS  15000
#define FAIL_SOON_MS 1000 /* a call on a group that has failed already */
#define TASKS_MAX    4    /* that are under way together */

struct task {
    enum tutti_operation op;
    enum tutti_type type;
    enum tutti_reduction reduction;
    size_t count;
};

static const struct task blocking[] = {
    {TUTTI_ALL_REDUCE, TUTTI_FLOAT32, TUTTI_SUM, 40000}, {TUTTI_ALL_REDUCE, TUTTI_BFLOAT16, TUTTI_SUM, 1001},
    {TUTTI_ALL_REDUCE, TUTTI_INT64, TUTTI_MIN, 7},       {TUTTI_BROADCAST, TUTTI_UINT8, TUTTI_SUM, 30000},
    {TUTTI_ALL_GATHER, TUTTI_INT32, TUTTI_SUM, 3000},    {TUTTI_GATHER, TUTTI_FLOAT64, TUTTI_SUM, 500},
    {TUTTI_REDUCE_SCATTER, TUTTI_INT8, TUTTI_MAX, 2000}, {TUTTI_ALL_REDUCE, TUTTI_FLOAT32, TUTTI_SUM, 0},
    {TUTTI_BARRIER, TUTTI_UINT8, TUTTI_SUM, 0},
};
static const struct task fused[] = {{TUTTI_ALL_REDUCE, TUTTI_FLOAT32, TUTTI_SUM, 100},
                                    {TUTTI_ALL_REDUCE, TUTTI_FLOAT32, TUTTI_SUM, 1},
                                    {TUTTI_ALL_REDUCE, TUTTI_FLOAT32, TUTTI_SUM, 33}};
static const struct task asynchronous[] = {{TUTTI_ALL_REDUCE, TUTTI_FLOAT64, TUTTI_SUM, 20000},
                                           {TUTTI_ALL_GATHER, TUTTI_FLOAT16, TUTTI_SUM, 700},
                                           {TUTTI_BROADCAST, TUTTI_INT32, TUTTI_SUM, 9000}};
#define COUNT(array) ((int)(sizeof(array) / sizeof(array)[0]))

enum manner { BLOCKING, FUSED, ASYNCHRONOUS };

/* A call and its memory: `send`, and behind it `recv`. */
struct work {
    struct work *next; /* of those that failed */
    struct tutti_call call;
    size_t send_bytes, recv_count;
    uint8_t *buffer, *copy; /* as it was when the call failed */
};

static struct {
    const char *hold;
    int reform_timeout_ms, rounds;
} options = {.hold = "", .reform_timeout_ms = 15000};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int go; /* times it was told and has not gone on yet */
    bool end;
} told = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct work *kept; /* of calls that failed: nothing may write there any more */
static int64_t call_began_us;
static unsigned round_number;

/* ---- Telling and being told -------------------------------------------------------------------- */

static int since_ms(int64_t began_us)
{
    return (int)((now_us() - began_us) / 1000);
}

static _Noreturn void wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));

static _Noreturn void wrong(const char *format, ...)
{
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    say("wrong %s", text);
    exit(5);
}

static bool is_told(void)
{
    pthread_mutex_lock(&told.lock);
    bool result = told.go > 0;
    pthread_mutex_unlock(&told.lock);
    return result;
}

/* False: told to end instead, or the group failed while this rank waited with nothing else to do. */
static bool await_go(tutti_comm *comm)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    bool failed = false;
    pthread_mutex_lock(&told.lock);
    while (told.go == 0 && !told.end && !failed) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 5000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&told.changed, &told.lock, &until);
        failed = comm && tutti_get_error(comm, &error) == TUTTI_OK && error.code < 0;
    }
    bool went = told.go > 0;
    if (went)
        told.go--;
    pthread_mutex_unlock(&told.lock);
    if (failed && !went)
        say("noticed us=%lld", (long long)now_us());
    return went;
}

static void hold_at(const char *point)
{
    if (strcmp(options.hold, point) != 0)
        return;
    options.hold = ""; /* the first time only */
    say("holding at=%s", point);
    await_go(NULL);
}

/* ---- Commands ----------------------------------------------------------------------------------- */

static void obey(const char *command)
{
    if (strcmp(command, "go") == 0 || strcmp(command, "end") == 0) {
        pthread_mutex_lock(&told.lock);
        told.go += command[0] == 'g';
        told.end |= command[0] == 'e';
        pthread_cond_broadcast(&told.changed);
        pthread_mutex_unlock(&told.lock);
        return;
    }
    do_harm(command, getenv("TUTTI_RENDEZVOUS"));
    say("obeyed command=%s", command);
}

/* Nobody is left to tell it anything when the test has been killed: then it ends, too. */
static _Noreturn void *listen_to_commands(void *path)
{
    char command[64];
    FILE *file = fopen(path, "re");
    while (file && fgets(command, sizeof command, file)) {
        command[strcspn(command, "\n")] = '\0';
        obey(command);
    }
    _exit(4);
}

/* ---- Operations that are checked --------------------------------------------------------------- */

static int value(int rank, size_t index)
{
    return (int)(((size_t)rank * 3 + index + (size_t)round_number * 7) % 11);
}

static int reduced(int size, size_t index, enum tutti_reduction reduction)
{
    int result = value(0, index);
    for (int rank = 1; rank < size; rank++) {
        int other = value(rank, index);
        if (reduction == TUTTI_SUM)
            result += other;
        else if (reduction == TUTTI_MIN ? other < result : other > result)
            result = other;
    }
    return result;
}

static int expected(const struct tutti_call *call, int rank, int size, size_t index)
{
    switch (call->op) {
    case TUTTI_ALL_REDUCE:
        return reduced(size, index, call->reduction);
    case TUTTI_REDUCE_SCATTER:
        return reduced(size, (size_t)rank * call->count + index, call->reduction);
    case TUTTI_BROADCAST:
        return value(call->root, index);
    default:
        return value((int)(index / call->count), index % call->count);
    }
}

static struct work *work_new(const struct task *task, int rank, int size)
{
    struct work *work = calloc(1, sizeof *work);
    size_t element_bytes = tutti_type_size(task->type);
    bool gathers = task->op == TUTTI_ALL_GATHER || task->op == TUTTI_GATHER;
    if (!work)
        exit(4);
    work->call = (struct tutti_call){.op = task->op,
                                     .count = task->count,
                                     .type = task->type,
                                     .reduction = task->reduction,
                                     .root = (int)(round_number % (unsigned)size)};
    size_t send_count = task->count * (task->op == TUTTI_REDUCE_SCATTER ? (size_t)size : 1);
    work->recv_count =
        task->op == TUTTI_GATHER && rank != work->call.root ? 0 : task->count * (gathers ? (size_t)size : 1);
    work->send_bytes = send_count * element_bytes;
    work->buffer = calloc(1, work->send_bytes + work->recv_count * element_bytes + 1);
    if (!work->buffer)
        exit(4);
    for (size_t i = 0; i < send_count; i++)
        element_set(work->buffer, i, task->type, value(rank, i));
    work->call.send = work->buffer;
    work->call.recv = work->buffer + work->send_bytes;
    return work;
}

static void work_check(const struct work *work, int rank, int size)
{
    const struct tutti_call *call = &work->call;
    size_t element_bytes = tutti_type_size(call->type);
    const uint8_t *got = call->recv;
    for (size_t i = 0; i < work->recv_count; i++) {
        double right = 0; /* the largest element */
        element_set(&right, 0, call->type, expected(call, rank, size, i));
        if (memcmp(got + i * element_bytes, &right, element_bytes) != 0)
            wrong("result: element %zu of operation kind %d, count %zu, round %u", i, (int)call->op,
                  call->count, round_number);
    }
}

static void work_free(struct work *work)
{
    free(work->buffer);
    free(work->copy);
    free(work);
}

/* Keeps the memory of a call that has failed, for check_kept(). */
static void work_keep(struct work *work)
{
    size_t bytes = work->send_bytes + work->recv_count * tutti_type_size(work->call.type);
    work->copy = malloc(bytes + 1);
    if (!work->copy)
        exit(4);
    memcpy(work->copy, work->buffer, bytes);
    work->next = kept;
    kept = work;
}

static void check_kept(void)
{
    while (kept) {
        struct work *work = kept;
        size_t bytes = work->send_bytes + work->recv_count * tutti_type_size(work->call.type);
        if (memcmp(work->copy, work->buffer, bytes) != 0)
            wrong("memory: the buffers of operation kind %d, count %zu, changed after the call had failed",
                  (int)work->call.op, work->call.count);
        kept = work->next;
        work_free(work);
    }
}

/* Issues each call as a request of its own, and waits for all: the first error, or TUTTI_OK. */
static int run_one_by_one(tutti_comm *comm, const struct tutti_call *calls, int count)
{
    tutti_request *requests[TASKS_MAX] = {0};
    int status = TUTTI_OK;
    for (int i = 0; i < count && status == TUTTI_OK; i++)
        status = tutti_start(comm, &calls[i], 1, &requests[i]);
    for (int i = 0; i < count; i++) {
        int result = tutti_wait(&requests[i], -1);
        if (status == TUTTI_OK)
            status = result;
    }
    return status;
}

static int run_tasks(tutti_comm *comm, const struct task *tasks, int count, enum manner manner)
{
    int rank = tutti_rank(comm), size = tutti_size(comm), status;
    struct work *works[TASKS_MAX];
    struct tutti_call calls[TASKS_MAX];
    for (int i = 0; i < count; i++) {
        works[i] = work_new(&tasks[i], rank, size);
        calls[i] = works[i]->call;
    }
    call_began_us = now_us();
    if (manner == ASYNCHRONOUS) {
        status = run_one_by_one(comm, calls, count);
    } else {
        tutti_request *request = NULL;
        status = tutti_run(comm, calls, (size_t)count, -1, &request);
    }
    for (int i = 0; i < count; i++)
        if (status < 0) {
            work_keep(works[i]);
        } else {
            work_check(works[i], rank, size);
            work_free(works[i]);
        }
    return status;
}

static int run_round(tutti_comm *comm)
{
    int status = TUTTI_OK;
    round_number++;
    for (int i = 0; i < COUNT(blocking) && status == TUTTI_OK; i++)
        status = run_tasks(comm, &blocking[i], 1, BLOCKING);
    if (status == TUTTI_OK)
        status = run_tasks(comm, fused, COUNT(fused), FUSED);
    if (status == TUTTI_OK)
        status = run_tasks(comm, asynchronous, COUNT(asynchronous), ASYNCHRONOUS);
    return status;
}

static int run_rounds(tutti_comm *comm, int rounds)
{
    int status = TUTTI_OK;
    round_number = 0; /* the same on all ranks, wherever the failure struck */
    for (int i = 0; i < rounds && status == TUTTI_OK; i++)
        status = run_round(comm);
    return status;
}

/* Rounds until any rank has been told to go on: all hear of it by the same operation. */
static int loop(tutti_comm *comm)
{
    for (bool said = false;; said = true) {
        int32_t stop = is_told();
        call_began_us = now_us();
        int status = tutti_all_reduce(comm, &stop, &stop, 1, TUTTI_INT32, TUTTI_MAX);
        if (status < 0 || stop)
            return status;
        status = run_round(comm);
        if (status < 0)
            return status;
        if (!said)
            say("looping");
    }
}

/* ---- The life of a rank ------------------------------------------------------------------------ */

static struct tutti_error error_of(tutti_comm *comm)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    tutti_get_error(comm, &error);
    return error;
}

/* Says what failed, and makes sure that it stays so. */
static void report_failure(tutti_comm *comm, int status)
{
    int ms = since_ms(call_began_us);
    int64_t at_us = now_us();
    struct tutti_error error = error_of(comm);
    uint64_t completed = tutti_completed(comm);
    say("failed status=%s rank=%d operation=%s sequence=%llu moved=%llu completed=%llu assigned=%d ms=%d "
        "us=%lld "
        "message=%s",
        tutti_error_name(status), error.rank, error.operation, (unsigned long long)error.sequence,
        (unsigned long long)error.moved_bytes, (unsigned long long)completed, tutti_rank(comm), ms,
        (long long)at_us, error.message);
    int again = tutti_barrier(comm);
    if (since_ms(at_us) > FAIL_SOON_MS)
        wrong("later call: it took %d ms to fail in a group that had failed already", since_ms(at_us));
    struct tutti_error later = error_of(comm);
    if (error.code != status || again != status || later.rank != error.rank ||
        strcmp(later.message, error.message) != 0 || tutti_completed(comm) != completed)
        wrong("later call: it returned %s and not %s, or with another cause: %s", tutti_error_name(again),
              tutti_error_name(status), later.message);
}

/* Returns the status of tutti_init(); a group that died while it was connected can be re-formed. */
static int join(tutti_comm **comm)
{
    call_began_us = now_us();
    say("started pid=%d", (int)getpid());
    int status = tutti_init(NULL, comm);
    if (status == TUTTI_OK) {
        struct tutti_reform_info info = TUTTI_REFORM_INFO_INIT;
        tutti_get_reform(*comm, &info);
        say("joined rank=%d size=%d generation=%u", tutti_rank(*comm), tutti_size(*comm), info.generation);
    } else if (tutti_rank(*comm) < 0) {
        report_failure(*comm, status);
        tutti_free(*comm);
        exit(3);
    }
    return status;
}

static void report_reform(const tutti_comm *comm, int64_t began_us)
{
    struct tutti_reform_info info = TUTTI_REFORM_INFO_INIT;
    if (tutti_get_reform(comm, &info) != TUTTI_OK || info.previous_generation == 0)
        wrong("reform: a group that was re-formed says nothing of how");
    for (char *c = info.lost; *c != '\0'; c++)
        if (*c == ' ')
            *c = '_';
    say("reformed rank=%d size=%d generation=%u previous_rank=%d everywhere=%llu anywhere=%llu lost=%s "
        "cause_status=%s cause_rank=%d ms=%d us=%lld message=%s",
        tutti_rank(comm), tutti_size(comm), info.generation, info.previous_rank,
        (unsigned long long)info.completed_everywhere, (unsigned long long)info.completed_anywhere, info.lost,
        tutti_error_name(info.cause.code), info.cause.rank, since_ms(began_us), (long long)now_us(),
        info.cause.message);
}

/* The group that comes after `failed`, which it frees. */
static tutti_comm *reform(tutti_comm *failed)
{
    hold_at("reform");
    for (;;) {
        tutti_comm *survivors = NULL;
        int64_t began_us = now_us();
        int status = tutti_reform(failed, options.reform_timeout_ms, &survivors);
        if (status == TUTTI_OK) {
            report_reform(survivors, began_us);
            tutti_free(failed);
            return survivors;
        }
        struct tutti_error error = error_of(survivors);
        int assigned = tutti_rank(survivors);
        say("reform_failed status=%s rank=%d ms=%d assigned=%d message=%s", tutti_error_name(status),
            error.rank, since_ms(began_us), assigned, error.message);
        if (assigned >= 0) { /* a new group, dead at birth: its survivors re-form it in turn */
            tutti_free(failed);
            failed = survivors;
            continue;
        }
        tutti_free(survivors);
        if (!await_go(NULL)) {
            tutti_free(failed);
            exit(3);
        }
    }
}

static int run_mode(tutti_comm *comm, const char *mode)
{
    if (strcmp(mode, "loop") == 0)
        return loop(comm);
    if (strcmp(mode, "idle") == 0) {
        int status = run_rounds(comm, 1);
        if (status < 0)
            return status;
        say("idle");
        await_go(comm);
        return run_rounds(comm, options.rounds);
    }
    if (strcmp(mode, "barrier") == 0) {
        hold_at("barrier");
        call_began_us = now_us();
        return tutti_barrier(comm);
    }
    return TUTTI_OK;
}

static int finalize(tutti_comm *comm)
{
    say("finalizing");
    hold_at("finalize");
    call_began_us = now_us();
    return tutti_finalize(comm, FINALIZE_MS);
}

static const char *parse(int argc, char **argv)
{
    static const struct option names[] = {
        {"hold", required_argument, NULL, 'h'}, {"reform-timeout", required_argument, NULL, 't'}, {0}};
    for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;)
        if (option == 'h')
            options.hold = optarg;
        else if (option == 't')
            options.reform_timeout_ms = atoi(optarg);
        else
            exit(2);
    if (argc - optind != 3) {
        fprintf(stderr, "usage: survivor [--hold finalize|reform] [--reform-timeout MS] MODE ROUNDS "
                        "COMMANDS\n");
        exit(2);
    }
    options.rounds = atoi(argv[optind + 1]);
    pthread_t listener;
    pthread_cond_init(&told.changed, NULL);
    if (pthread_create(&listener, NULL, listen_to_commands, argv[optind + 2]) != 0)
        exit(4);
    pthread_detach(listener);
    return argv[optind];
}

int main(int argc, char **argv)
{
    const char *mode = parse(argc, argv);
    tutti_comm *comm;
    int status = join(&comm);
    if (status == TUTTI_OK)
        status = run_mode(comm, mode);
    for (;;) {
        if (status == TUTTI_OK)
            status = finalize(comm);
        if (status == TUTTI_OK)
            break;
        report_failure(comm, status);
        comm = reform(comm);
        status = run_rounds(comm, options.rounds);
    }
    tutti_free(comm);
    check_kept();
    say("done");
    return 0;
}
