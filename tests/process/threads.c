/* Ranks as threads of one process: several communicators share the worker loops, and threads meet in one
 * communicator in every way that tutti.h allows.  The harness for ThreadSanitizer (label threads). */
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tutti/tutti.h"

#define SIZE       4
#define COUNT      1000
#define ROUNDS     300
#define LIVES      10 /* groups that are made and ended by an abort */
#define MAILS_MAX  8
#define ABORTER    2
#define LATE_COMER 3

struct member {
    int rank;
    tutti_comm *comm;
    const struct scenario *scenario;
};

/* What every rank does; ends with the group alive (it is finalized) or dead. */
struct scenario {
    const char *name;
    void (*run)(struct member *member);
    bool ends_alive;
};

static char rendezvous[100];
static pthread_barrier_t all_ranks;

/* Threads cannot fail a test by a jump, so the process ends. */
static _Noreturn void fail(const struct member *member, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static _Noreturn void fail(const struct member *member, int line, const char *format, ...)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    va_list arguments;
    fprintf(stderr, "threads.c:%d: %s: rank %d: ", line, member->scenario->name, member->rank);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    tutti_get_error(member->comm, &error);
    fprintf(stderr, " (%s: %s)\n", tutti_error_name(error.code), error.message);
    exit(1);
}

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            fail(member, __LINE__, "not true: %s", #condition);                                              \
    } while (0)
#define EXPECT(wanted, call)                                                                                 \
    do {                                                                                                     \
        int status_ = (call);                                                                                \
        if (status_ != (wanted))                                                                             \
            fail(member, __LINE__, "%s returned %s", #call, tutti_error_name(status_));                      \
    } while (0)

static struct tutti_call sum_call(float *x)
{
    return (struct tutti_call){.op = TUTTI_ALL_REDUCE,
                               .send = x,
                               .recv = x,
                               .count = COUNT,
                               .type = TUTTI_FLOAT32,
                               .reduction = TUTTI_SUM};
}

static void fill(float *x, float value)
{
    for (int i = 0; i < COUNT; i++)
        x[i] = value + (float)i;
}

static void check_sum(const struct member *member, const float *x, float value)
{
    for (int i = 0; i < COUNT; i++)
        CHECK(x[i] == SIZE * (value + (float)i));
}

/* ---- Scenarios --------------------------------------------------------------------------------- */

static void blocking_and_asynchronous_calls_mix(struct member *member)
{
    static float x[SIZE][COUNT], y[SIZE][COUNT];
    int64_t z[3], all[3 * SIZE];
    for (int round = 0; round < ROUNDS; round++) {
        tutti_request *first, *second;
        struct tutti_call calls[2] = {sum_call(x[member->rank]), sum_call(y[member->rank])};
        fill(x[member->rank], (float)round);
        fill(y[member->rank], (float)(round + 1));
        for (int i = 0; i < 3; i++)
            z[i] = member->rank + round;
        EXPECT(TUTTI_OK, tutti_start(member->comm, &calls[0], 1, &first));
        EXPECT(TUTTI_OK, tutti_all_gather(member->comm, z, all, 3, TUTTI_INT64));
        EXPECT(TUTTI_OK, tutti_start(member->comm, &calls[1], 1, &second));
        EXPECT(TUTTI_OK, tutti_wait(&first, -1));
        EXPECT(TUTTI_OK, tutti_barrier(member->comm));
        EXPECT(TUTTI_OK, tutti_wait(&second, -1));
        check_sum(member, x[member->rank], (float)round);
        check_sum(member, y[member->rank], (float)(round + 1));
        for (int i = 0; i < 3 * SIZE; i++)
            CHECK(all[i] == i / 3 + round);
    }
}

/* Requests on their way from the thread that starts them to the thread that waits for them. */
struct mailbox {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    tutti_request *requests[MAILS_MAX];
    int put, taken;
    const struct member *member;
};

static void mailbox_put(struct mailbox *box, tutti_request *request)
{
    pthread_mutex_lock(&box->lock);
    while (box->put - box->taken == MAILS_MAX)
        pthread_cond_wait(&box->changed, &box->lock);
    box->requests[box->put++ % MAILS_MAX] = request;
    pthread_cond_broadcast(&box->changed);
    pthread_mutex_unlock(&box->lock);
}

static void *wait_for_mail(void *argument)
{
    struct mailbox *box = argument;
    const struct member *member = box->member;
    for (int round = 0; round < ROUNDS; round++) {
        struct tutti_error error = TUTTI_ERROR_INIT;
        pthread_mutex_lock(&box->lock);
        while (box->put == box->taken)
            pthread_cond_wait(&box->changed, &box->lock);
        tutti_request *request = box->requests[box->taken++ % MAILS_MAX];
        pthread_cond_broadcast(&box->changed);
        pthread_mutex_unlock(&box->lock);
        int status;
        while ((status = tutti_wait(&request, 1)) == TUTTI_PENDING)
            EXPECT(TUTTI_OK, tutti_get_error(member->comm, &error));
        EXPECT(TUTTI_OK, status);
        CHECK(request == NULL && error.code == TUTTI_OK);
    }
    return NULL;
}

/* As torch's DDP does: one thread issues, another waits. */
static void a_request_is_waited_for_in_another_thread(struct member *member)
{
    static float x[SIZE][ROUNDS][COUNT];
    struct mailbox box = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, {NULL}, 0, 0, member};
    pthread_t waiter;
    CHECK(pthread_create(&waiter, NULL, wait_for_mail, &box) == 0);
    for (int round = 0; round < ROUNDS; round++) {
        tutti_request *request;
        struct tutti_call call = sum_call(x[member->rank][round]);
        fill(x[member->rank][round], (float)round);
        EXPECT(TUTTI_OK, tutti_start(member->comm, &call, 1, &request));
        mailbox_put(&box, request);
        if (round % 7 == 0)
            EXPECT(TUTTI_OK, tutti_barrier(member->comm));
    }
    pthread_join(waiter, NULL);
    for (int round = 0; round < ROUNDS; round++)
        check_sum(member, x[member->rank][round], (float)round);
}

static void *call_alike(void *argument)
{
    const struct member *member = argument;
    for (int round = 0; round < ROUNDS; round++) {
        int32_t one = 1;
        EXPECT(TUTTI_OK, tutti_all_reduce(member->comm, &one, &one, 1, TUTTI_INT32, TUTTI_SUM));
        CHECK(one == SIZE);
    }
    return NULL;
}

/* Two threads of each rank make the same calls with the same input, so that no order is wrong. */
static void calls_that_overlap_are_serialised(struct member *member)
{
    pthread_t second;
    CHECK(pthread_create(&second, NULL, call_alike, member) == 0);
    call_alike(member);
    pthread_join(second, NULL);
}

static void two_communicators_are_independent(struct member *member)
{
    struct tutti_config config = TUTTI_CONFIG_INIT;
    struct member other = *member;
    pthread_t second;
    char meeting[sizeof rendezvous + 8];
    snprintf(meeting, sizeof meeting, "%s-other", rendezvous);
    config.size = SIZE;
    config.rank = (member->rank + 1) % SIZE;
    config.rendezvous = meeting;
    EXPECT(TUTTI_OK, tutti_init(&config, &other.comm));
    CHECK(tutti_rank(other.comm) == config.rank);
    CHECK(pthread_create(&second, NULL, call_alike, &other) == 0);
    call_alike(member);
    pthread_join(second, NULL);
    EXPECT(TUTTI_OK, tutti_finalize(other.comm, 30000));
    tutti_free(other.comm);
}

static void *abort_group(void *argument)
{
    const struct member *member = argument;
    EXPECT(TUTTI_OK, tutti_abort(member->comm, "the data is corrupt"));
    return NULL;
}

static void check_aborted(const struct member *member, int status)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    EXPECT(TUTTI_ERR_ABORTED, status);
    EXPECT(TUTTI_OK, tutti_get_error(member->comm, &error));
    CHECK(error.code == TUTTI_ERR_ABORTED && error.rank == ABORTER);
    CHECK(strstr(error.message, "the data is corrupt") != NULL);
}

/* The call cannot complete, for one rank comes only when it is over for the others. */
static void an_abort_from_another_thread_ends_the_group_for_everyone(struct member *member)
{
    float x[COUNT], y[COUNT];
    struct tutti_call call = sum_call(y);
    tutti_request *request = NULL;
    pthread_t aborter;
    fill(x, 0);
    fill(y, 0);
    if (member->rank == ABORTER)
        CHECK(pthread_create(&aborter, NULL, abort_group, member) == 0);
    if (member->rank == LATE_COMER)
        pthread_barrier_wait(&all_ranks);
    int started = tutti_start(member->comm, &call, 1, &request);
    if (started == TUTTI_OK) {
        check_aborted(member, tutti_all_reduce(member->comm, x, x, COUNT, TUTTI_FLOAT32, TUTTI_SUM));
        check_aborted(member, tutti_wait(&request, -1));
    } else {
        check_aborted(member, started);
    }
    CHECK(request == NULL);
    if (member->rank != LATE_COMER)
        pthread_barrier_wait(&all_ranks);
    if (member->rank == ABORTER)
        pthread_join(aborter, NULL);
    check_aborted(member, tutti_barrier(member->comm));
}

/* ---- Running them ------------------------------------------------------------------------------ */

static void *rank_main(void *argument)
{
    struct member *member = argument;
    struct tutti_config config = TUTTI_CONFIG_INIT;
    config.size = SIZE;
    config.rank = member->rank;
    config.rendezvous = rendezvous;
    EXPECT(TUTTI_OK, tutti_init(&config, &member->comm));
    CHECK(tutti_rank(member->comm) == member->rank && tutti_size(member->comm) == SIZE);
    member->scenario->run(member);
    if (member->scenario->ends_alive)
        EXPECT(TUTTI_OK, tutti_finalize(member->comm, 30000));
    tutti_free(member->comm);
    return NULL;
}

static void run(const struct scenario *scenario)
{
    static int groups;
    struct member members[SIZE];
    pthread_t threads[SIZE];
    /* Rank 0 serves at a name that nobody else has. */
    snprintf(rendezvous, sizeof rendezvous, "unix:@tutti-test-threads-%d-%d", (int)getpid(), groups++);
    for (int rank = 0; rank < SIZE; rank++) {
        members[rank] = (struct member){rank, NULL, scenario};
        if (pthread_create(&threads[rank], NULL, rank_main, &members[rank]) != 0)
            abort();
    }
    for (int rank = 0; rank < SIZE; rank++)
        pthread_join(threads[rank], NULL);
}

#define SCENARIO(function, ends_alive)                                                                       \
    {                                                                                                        \
#function, function, ends_alive                                                                      \
    }

int main(void)
{
    static const struct scenario scenarios[] = {
        SCENARIO(blocking_and_asynchronous_calls_mix, true),
        SCENARIO(a_request_is_waited_for_in_another_thread, true),
        SCENARIO(calls_that_overlap_are_serialised, true),
        SCENARIO(two_communicators_are_independent, true),
    };
    static const struct scenario aborted =
        SCENARIO(an_abort_from_another_thread_ends_the_group_for_everyone, false);
    pthread_barrier_init(&all_ranks, NULL, SIZE);
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
        run(&scenarios[i]);
        printf("ok: %s\n", scenarios[i].name);
    }
    for (int life = 0; life < LIVES; life++)
        run(&aborted);
    printf("ok: %s, %d times\n", aborted.name, LIVES);
    pthread_barrier_destroy(&all_ranks);
    return 0;
}
