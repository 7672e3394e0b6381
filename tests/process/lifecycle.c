/* The life of a communicator through the public interface alone: how it ends, what is still possible then,
 * and what is left behind.  Each scenario has a group of its own, of all the ranks of the job: tutti run -n 2
 * -- lifecycle */
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "tutti/tutti.h"

#define COUNT    5000
#define CYCLES   200
#define RACES    20
#define REQUESTS 16
#define LONG_MS  600000 /* nothing here may last as long */
#define SOON_MS  2000

static tutti_comm *comm; /* the group of the scenario */
static int rank, size;
static const char *scenario = "start";

/* Any thread: the process ends, and with it the job. */
static _Noreturn void fail(int line, const char *format, ...) __attribute__((format(printf, 2, 3)));

static _Noreturn void fail(int line, const char *format, ...)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    va_list arguments;
    fprintf(stderr, "lifecycle.c:%d: %s: rank %d of %d: ", line, scenario, rank, size);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    tutti_get_error(comm, &error);
    fprintf(stderr, " (%s: %s)\n", tutti_error_name(error.code), error.message);
    exit(1);
}

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            fail(__LINE__, "not true: %s", #condition);                                                      \
    } while (0)
#define EXPECT(wanted, call)                                                                                 \
    do {                                                                                                     \
        int status_ = (call);                                                                                \
        if (status_ != (wanted))                                                                             \
            fail(__LINE__, "%s returned %s and not %s", #call, tutti_error_name(status_),                    \
                 tutti_error_name(wanted));                                                                  \
    } while (0)

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static tutti_comm *join(const char *job)
{
    struct tutti_config config = TUTTI_CONFIG_INIT;
    tutti_comm *joined = NULL;
    config.job = job;
    EXPECT(TUTTI_OK, tutti_init(&config, &joined));
    return joined;
}

static void leave(tutti_comm *left)
{
    EXPECT(TUTTI_OK, tutti_finalize(left, 20000));
    tutti_free(left);
}

static struct tutti_error error_now(void)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    EXPECT(TUTTI_OK, tutti_get_error(comm, &error));
    return error;
}

/* Until another rank has ended the group, without a call of our own. */
static void await_failure(int wanted)
{
    int64_t until_ms = now_ms() + 20000;
    while (error_now().code == TUTTI_OK) {
        CHECK(now_ms() < until_ms);
        sched_yield();
    }
    EXPECT(wanted, error_now().code);
}

static struct tutti_call sum_call(float *x, size_t count, int timeout_ms)
{
    return (struct tutti_call){.op = TUTTI_ALL_REDUCE,
                               .send = x,
                               .recv = x,
                               .count = count,
                               .type = TUTTI_FLOAT32,
                               .reduction = TUTTI_SUM,
                               .timeout_ms = timeout_ms};
}

static void fill(float *x)
{
    for (int i = 0; i < COUNT; i++)
        x[i] = (float)(i + rank);
}

static bool is_sum(const float *x)
{
    for (int i = 0; i < COUNT; i++)
        if (x[i] != (float)(size * i + size * (size - 1) / 2))
            return false;
    return true;
}

/* ---- Finalize and abort ------------------------------------------------------------------------ */

static void finalizing_twice_is_refused(void)
{
    EXPECT(TUTTI_OK, tutti_finalize(comm, 20000));
    for (int i = 0; i < 2; i++) {
        EXPECT(TUTTI_ERR_FINALIZED, tutti_finalize(comm, 20000));
        EXPECT(TUTTI_ERR_FINALIZED, error_now().code);
        CHECK(strstr(error_now().message, "finalized") != NULL);
    }
    CHECK(tutti_fd(comm) == TUTTI_ERR_FINALIZED);
}

static void an_abort_after_finalize_returns_at_once_and_changes_nothing(void)
{
    EXPECT(TUTTI_OK, tutti_finalize(comm, 20000));
    int64_t began_ms = now_ms();
    EXPECT(TUTTI_OK, tutti_abort(comm, "too late"));
    CHECK(now_ms() - began_ms < 500);
    EXPECT(TUTTI_ERR_FINALIZED, tutti_barrier(comm));
    CHECK(strstr(error_now().message, "too late") == NULL);
}

/* A second group of the same ranks, by which they tell one another how far they are. */
static tutti_comm *signals;
static tutti_request *pending;

static void *call_while_finalizing(void *argument)
{
    float x[COUNT];
    tutti_request *request = NULL;
    struct tutti_call call = sum_call(x, COUNT, 0);
    (void)argument;
    while (tutti_fd(comm) >= 0) /* a question that is refused from the moment finalize has begun */
        sched_yield();
    memset(x, 0, sizeof x);
    EXPECT(TUTTI_ERR_FINALIZED, tutti_all_reduce(comm, x, x, COUNT, TUTTI_FLOAT32, TUTTI_SUM));
    EXPECT(TUTTI_ERR_FINALIZED, tutti_start(comm, &call, 1, &request));
    EXPECT(TUTTI_ERR_FINALIZED, tutti_finalize(comm, 100));
    CHECK(request == NULL);
    for (int i = 0; i < COUNT; i++)
        CHECK(x[i] == 0);
    EXPECT(TUTTI_OK, tutti_barrier(signals)); /* now the others may come */
    EXPECT(TUTTI_OK, tutti_wait(&pending, 20000));
    return NULL;
}

/* Rank 0 finalizes while the others hold back; what it began before completes, what it begins then does not.
 */
static void a_call_during_finalize_is_refused_and_one_before_it_completes(void)
{
    static float x[COUNT];
    pthread_t caller;
    signals = join("signals");
    fill(x);
    if (rank == 0) {
        struct tutti_call call = sum_call(x, COUNT, 0);
        EXPECT(TUTTI_OK, tutti_start(comm, &call, 1, &pending));
        CHECK(pthread_create(&caller, NULL, call_while_finalizing, NULL) == 0);
    } else {
        EXPECT(TUTTI_OK, tutti_barrier(signals));
        EXPECT(TUTTI_OK, tutti_all_reduce(comm, x, x, COUNT, TUTTI_FLOAT32, TUTTI_SUM));
    }
    EXPECT(TUTTI_OK, tutti_finalize(comm, 20000));
    if (rank == 0)
        pthread_join(caller, NULL);
    CHECK(is_sum(x));
    leave(signals);
}

static void *call_until_the_end(void *argument)
{
    float x[COUNT];
    int status;
    (void)argument;
    for (fill(x); (status = tutti_all_reduce(comm, x, x, COUNT, TUTTI_FLOAT32, TUTTI_SUM)) == TUTTI_OK;
         fill(x))
        CHECK(is_sum(x));
    CHECK(status == TUTTI_ERR_FINALIZED || status == TUTTI_ERR_MISMATCH);
    return NULL;
}

/* The ranks may finalize at different points of their sequence of calls, which is a mismatch and has to be
 * called so; but a call that says it completed has the right result. */
static void calls_that_race_with_finalize_never_give_a_wrong_result(void)
{
    for (int race = 0; race < RACES; race++) {
        pthread_t caller;
        tutti_comm *group = comm;
        if (race > 0)
            comm = join("race");
        CHECK(pthread_create(&caller, NULL, call_until_the_end, NULL) == 0);
        for (int i = 0; i < 10 * race; i++)
            sched_yield();
        int status = tutti_finalize(comm, 20000);
        CHECK(status == TUTTI_OK || status == TUTTI_ERR_MISMATCH);
        pthread_join(caller, NULL);
        if (race > 0) {
            tutti_free(comm);
            comm = group;
        }
    }
}

/* ---- Deadlines --------------------------------------------------------------------------------- */

static void finalize_gives_up_on_a_call_that_the_others_never_make(void)
{
    static float x[COUNT];
    tutti_request *request = NULL;
    if (rank != 0) {
        await_failure(TUTTI_ERR_TIMEOUT);
        return;
    }
    struct tutti_call call = sum_call(x, COUNT, LONG_MS);
    EXPECT(TUTTI_OK, tutti_start(comm, &call, 1, &request));
    int64_t began_ms = now_ms();
    EXPECT(TUTTI_ERR_TIMEOUT, tutti_finalize(comm, 300));
    CHECK(now_ms() - began_ms >= 250 && now_ms() - began_ms < SOON_MS);
    EXPECT(TUTTI_ERR_TIMEOUT, tutti_wait(&request, 0)); /* nothing is pending in a dead group */
    CHECK(request == NULL && error_now().rank == 1);    /* the first of those that are missing */
    CHECK(strstr(error_now().message, "missing: rank 1 ") &&
          strstr(error_now().message, "has made no call yet"));
}

static void a_short_deadline_counts_for_the_long_calls_before_it(void)
{
    static float x[COUNT], y[COUNT];
    tutti_request *first = NULL, *second = NULL;
    if (rank != 0) {
        await_failure(TUTTI_ERR_TIMEOUT);
        return;
    }
    struct tutti_call patient = sum_call(x, COUNT, LONG_MS), urgent = sum_call(y, COUNT, 200);
    EXPECT(TUTTI_OK, tutti_start(comm, &patient, 1, &first));
    EXPECT(TUTTI_OK, tutti_start(comm, &urgent, 1, &second));
    int64_t began_ms = now_ms();
    EXPECT(TUTTI_ERR_TIMEOUT, tutti_wait(&second, LONG_MS));
    CHECK(now_ms() - began_ms < SOON_MS);
    EXPECT(TUTTI_ERR_TIMEOUT, tutti_wait(&first, 0));
    CHECK(error_now().sequence == 1 && strstr(error_now().message, "behind it") != NULL);
}

static void a_short_deadline_of_a_blocking_call_counts_for_those_before_it(void)
{
    static float x[COUNT], y[COUNT];
    tutti_request *first = NULL, *second = NULL;
    if (rank != 0) {
        await_failure(TUTTI_ERR_TIMEOUT);
        return;
    }
    struct tutti_call patient = sum_call(x, COUNT, LONG_MS), urgent = sum_call(y, COUNT, 200);
    EXPECT(TUTTI_OK, tutti_start(comm, &patient, 1, &first));
    int64_t began_ms = now_ms();
    EXPECT(TUTTI_ERR_TIMEOUT, tutti_run(comm, &urgent, 1, -1, &second));
    CHECK(now_ms() - began_ms >= 150 && now_ms() - began_ms < SOON_MS);
    EXPECT(TUTTI_ERR_TIMEOUT, tutti_wait(&first, 0));
    CHECK(second == NULL);
}

/* The wait ends, the call does not. */
static void a_wait_that_times_out_changes_nothing(void)
{
    static float x[COUNT];
    tutti_request *request = NULL;
    struct tutti_call call = sum_call(x, COUNT, 20000);
    signals = join("signals");
    fill(x);
    if (rank == 0) {
        EXPECT(TUTTI_OK, tutti_start(comm, &call, 1, &request));
        EXPECT(TUTTI_PENDING, tutti_wait(&request, 0));
        EXPECT(TUTTI_PENDING, tutti_wait(&request, 100));
        CHECK(request != NULL && error_now().code == TUTTI_OK);
        EXPECT(TUTTI_OK, tutti_barrier(signals));
    } else {
        EXPECT(TUTTI_OK, tutti_barrier(signals));
        EXPECT(TUTTI_OK, tutti_start(comm, &call, 1, &request));
    }
    EXPECT(TUTTI_OK, tutti_wait(&request, -1));
    CHECK(is_sum(x));
    leave(signals);
}

/* ---- Several calls at once --------------------------------------------------------------------- */

static void start_and_expect_a_mismatch(const size_t *counts, size_t calls_count)
{
    static float x[4][8];
    struct tutti_call calls[4];
    tutti_request *request = NULL;
    for (size_t i = 0; i < calls_count; i++)
        calls[i] = sum_call(x[i], counts[i], 20000);
    int status = tutti_start(comm, calls, calls_count, &request);
    if (status == TUTTI_OK) /* else another rank has noticed first */
        status = tutti_wait(&request, -1);
    EXPECT(TUTTI_ERR_MISMATCH, status);
    CHECK(strstr(error_now().message, "all_reduce") != NULL);
}

static void other_counts_of_the_same_sum_are_a_mismatch_on_every_rank(void)
{
    static const size_t counts[2][2] = {{6, 2}, {2, 6}};
    start_and_expect_a_mismatch(counts[rank > 0], 2);
}

static void fewer_calls_of_the_same_sum_are_a_mismatch_on_every_rank(void)
{
    static const size_t counts[2][4] = {{8}, {3, 0, 4, 1}};
    start_and_expect_a_mismatch(counts[rank > 0], rank > 0 ? 4 : 1);
}

/* The two calls, numbered as in the array, are named. */
static void expect_dependent(const struct tutti_call *calls, size_t count, const char *which)
{
    tutti_request *request = NULL;
    EXPECT(TUTTI_ERR_ARGUMENT, tutti_start(comm, calls, count, &request));
    CHECK(request == NULL);
    EXPECT(TUTTI_ERR_ARGUMENT, tutti_run(comm, calls, count, -1, &request));
    CHECK(request == NULL);
    struct tutti_error error = error_now();
    EXPECT(TUTTI_ERR_ARGUMENT, error.code);
    CHECK(strstr(error.message, which) != NULL);
}

static void calls_of_one_start_that_write_what_another_uses_are_refused(void)
{
    static float x[3 * COUNT], y[COUNT];
    struct tutti_call calls[3] = {sum_call(x, 100, 0), sum_call(x + 100, 100, 0), sum_call(x + 199, 100, 0)};
    expect_dependent(calls, 3, "calls 1 and 2 of"); /* writes where another writes */
    calls[2] = sum_call(x + 300, 100, 0);
    calls[2].send = x + 50; /* reads what another writes */
    expect_dependent(calls, 3, "calls 0 and 2 of");
    calls[0] = sum_call(x, 100, 0);
    calls[0].recv = y;
    for (size_t begin = 1; begin < 100;
         begin++) { /* in place: another reader of the same must not hide the first */
        calls[1] = sum_call(x + begin, 200, 0);
        expect_dependent(calls, 2, "calls 0 and 1 of");
    }
    calls[0].recv = y; /* they only read the same */
    calls[1] = sum_call(x + 1000, 100, 0);
    tutti_request *request = NULL;
    EXPECT(TUTTI_OK, tutti_start(comm, calls, 3, &request));
    EXPECT(TUTTI_OK, tutti_wait(&request, -1));
    EXPECT(TUTTI_OK, tutti_finalize(comm, 20000)); /* the mistakes were local and did no harm */
}

/* ---- What is left behind ------------------------------------------------------------------------- */

static void start_many(float x[REQUESTS][64])
{
    for (int i = 0; i < REQUESTS; i++) {
        tutti_request *request = NULL;
        struct tutti_call calls[2] = {sum_call(x[i], 32, 20000), sum_call(x[i] + 32, 32, 20000)};
        EXPECT(TUTTI_OK, tutti_start(comm, calls, i % 2 ? 2 : 1, &request));
    }
}

/* The leak check of the sanitizer has the verdict. */
static void requests_that_nobody_waited_for_are_released(void)
{
    static float x[REQUESTS][64];
    start_many(x);
    EXPECT(TUTTI_OK, tutti_finalize(comm, 20000)); /* completes them */
}

static void requests_that_never_completed_are_released(void)
{
    static float x[REQUESTS][64];
    if (rank != 0) {
        await_failure(TUTTI_ERR_ABORTED);
        EXPECT(0, error_now().rank);
        return;
    }
    start_many(x);
    tutti_free(comm); /* without a word */
    comm = NULL;
}

static int open_descriptors(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    CHECK(folder != NULL);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

/* Pieces of shared memory. */
static int count_mappings(void)
{
    char line[512];
    int count = 0;
    FILE *file = fopen("/proc/self/maps", "re");
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file))
        count += strstr(line, "/memfd:tutti") != NULL;
    fclose(file);
    return count;
}

struct held {
    int descriptors, mappings;
};

static struct held held_now(void)
{
    return (struct held){open_descriptors(), count_mappings()};
}

/* Until no more is held than before: what another rank closes is closed here a little later. */
static void await_held(struct held before)
{
    int64_t until_ms = now_ms() + 20000;
    while (open_descriptors() > before.descriptors || count_mappings() > before.mappings) {
        CHECK(now_ms() < until_ms);
        sched_yield();
    }
}

static void many_groups_one_after_another_leave_nothing_behind(void)
{
    struct held before = {0, 0};
    for (int cycle = 0; cycle <= CYCLES; cycle++) {
        float one = 1;
        tutti_request *request = NULL;
        struct tutti_call call = sum_call(&one, 1, 20000);
        tutti_comm *group = join("cycles");
        CHECK(tutti_size(group) == size && tutti_fd(group) >= 0);
        EXPECT(TUTTI_OK, tutti_start(group, &call, 1, &request));
        EXPECT(TUTTI_OK, tutti_wait(&request, -1));
        CHECK(one == (float)size);
        leave(group);
        if (cycle == 0) /* the first may open what the process keeps */
            before = held_now();
    }
    await_held(before);
    EXPECT(TUTTI_OK, tutti_finalize(comm, 20000));
}

/* ---- Links beyond the ring ----------------------------------------------------------------------- */

static void sum_directly(tutti_comm *group)
{
    float one = 1;
    tutti_request *request = NULL;
    struct tutti_call call = sum_call(&one, 1, 20000);
    call.algorithm = "direct";
    EXPECT(TUTTI_OK, tutti_run(group, &call, 1, -1, &request));
    CHECK(one == (float)tutti_size(group));
}

/* To the next rank and from the previous one. */
static void pass_a_message(tutti_comm *group)
{
    int32_t tells = tutti_rank(group), told = -1;
    int next = (tutti_rank(group) + 1) % tutti_size(group);
    int previous = (tutti_rank(group) + tutti_size(group) - 1) % tutti_size(group);
    tutti_request *request = NULL;
    struct tutti_call calls[2] = {
        {.op = TUTTI_SEND, .send = &tells, .count = 1, .type = TUTTI_INT32, .peer = next},
        {.op = TUTTI_RECV, .recv = &told, .count = 1, .type = TUTTI_INT32, .peer = previous},
    };
    EXPECT(TUTTI_OK, tutti_start(group, calls, 2, &request));
    EXPECT(TUTTI_OK, tutti_wait(&request, 20000));
    CHECK(told == previous);
}

struct links {
    int count;
    uint64_t sent_bytes;
};

static struct links count_links(void)
{
    struct links links = {0, 0};
    struct tutti_link_info info = TUTTI_LINK_INFO_INIT;
    for (; tutti_get_link(comm, links.count, &info) == TUTTI_OK; links.count++) {
        CHECK(info.peer >= 0 && info.peer < size && info.peer != rank);
        links.sent_bytes += info.sent_bytes;
    }
    return links;
}

static void links_beyond_the_ring_are_opened_once_and_kept(void)
{
    signals = join("signals"); /* so that no rank counts the links that another needs next */
    struct links at_first = count_links();
    CHECK(at_first.count == 2 && at_first.sent_bytes == 0);
    EXPECT(TUTTI_OK, tutti_barrier(signals));
    sum_directly(comm);
    /* To and from every other rank, those of the ring among them. */
    struct links direct = count_links();
    CHECK(direct.count == 2 * (size - 1) && direct.sent_bytes > 0);
    EXPECT(TUTTI_OK, tutti_barrier(signals));
    pass_a_message(comm); /* by links of its own */
    struct links messages = count_links();
    CHECK(messages.count == direct.count + 2 && messages.sent_bytes > direct.sent_bytes);
    for (int i = 0; i < 10; i++) {
        sum_directly(comm);
        pass_a_message(comm);
    }
    struct links at_last = count_links();
    CHECK(at_last.count == messages.count && at_last.sent_bytes > messages.sent_bytes);
    leave(signals);
    EXPECT(TUTTI_OK, tutti_finalize(comm, 20000));
}

static void use_and_leave_child(int color, int key)
{
    tutti_comm *child = NULL;
    EXPECT(TUTTI_OK, tutti_split(comm, color, key, &child));
    CHECK(tutti_fd(child) >= 0);
    sum_directly(child);
    if (tutti_size(child) > 1)
        pass_a_message(child);
    leave(child);
}

static void many_children_one_after_another_leave_nothing_behind(void)
{
    struct held before = {0, 0};
    for (int cycle = 0; cycle <= CYCLES; cycle++) {
        use_and_leave_child(0, -rank);
        use_and_leave_child(rank % 2, 0);
        if (cycle == 0) /* the first opens links of the parent, which are kept */
            before = held_now();
    }
    await_held(before);
    EXPECT(TUTTI_OK, tutti_finalize(comm, 20000));
}

/* ---- Running them ------------------------------------------------------------------------------ */

static void run(const char *name, void (*play)(void))
{
    scenario = name;
    comm = join(NULL);
    rank = tutti_rank(comm);
    size = tutti_size(comm);
    CHECK(size >= 2);
    play();
    tutti_free(comm);
    comm = NULL;
    if (rank == 0) {
        printf("ok: %s\n", name);
        fflush(stdout);
    }
}

#define RUN(name) run(#name, name)

int main(void)
{
    RUN(finalizing_twice_is_refused);
    RUN(an_abort_after_finalize_returns_at_once_and_changes_nothing);
    RUN(a_call_during_finalize_is_refused_and_one_before_it_completes);
    RUN(calls_that_race_with_finalize_never_give_a_wrong_result);
    RUN(finalize_gives_up_on_a_call_that_the_others_never_make);
    RUN(a_short_deadline_counts_for_the_long_calls_before_it);
    RUN(a_short_deadline_of_a_blocking_call_counts_for_those_before_it);
    RUN(a_wait_that_times_out_changes_nothing);
    RUN(other_counts_of_the_same_sum_are_a_mismatch_on_every_rank);
    RUN(fewer_calls_of_the_same_sum_are_a_mismatch_on_every_rank);
    RUN(calls_of_one_start_that_write_what_another_uses_are_refused);
    RUN(requests_that_nobody_waited_for_are_released);
    RUN(requests_that_never_completed_are_released);
    RUN(many_groups_one_after_another_leave_nothing_behind);
    RUN(links_beyond_the_ring_are_opened_once_and_kept);
    RUN(many_children_one_after_another_leave_nothing_behind);
    return 0;
}
