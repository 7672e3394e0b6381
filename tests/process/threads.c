/* Ranks as threads of one process: several communicators share the worker loops, and threads meet in one
 * communicator in every way that tutti.h allows.  The harness for ThreadSanitizer (label threads). */
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tutti/tutti.h"

#define SIZE        4
#define COUNT       1000
#define ROUNDS      300
#define LIVES       10 /* groups that are made and ended by an abort */
#define CHILD_LIVES 30
#define MAILS_MAX   8
#define ABORTER     2
#define LATE_COMER  3

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

/* ---- Children ---------------------------------------------------------------------------------- */

/* As `member`, of a communicator that was made of its own: the same ranks, or those with the same parity. */
static struct member child_of(const struct member *member, bool by_parity)
{
    struct member child = *member;
    EXPECT(TUTTI_OK, tutti_split(member->comm, by_parity ? member->rank % 2 : 0, 0, &child.comm));
    return child;
}

static void leave(const struct member *member)
{
    EXPECT(TUTTI_OK, tutti_finalize(member->comm, 30000));
    tutti_free(member->comm);
}

static void *call_among_pairs(void *argument)
{
    const struct member *member = argument;
    for (int round = 0; round < ROUNDS; round++) {
        int32_t part = member->rank + round, both[2];
        EXPECT(TUTTI_OK, tutti_all_gather(member->comm, &part, both, 1, TUTTI_INT32));
        for (int i = 0; i < 2; i++)
            CHECK(both[i] == member->rank % 2 + 2 * i + round);
    }
    return NULL;
}

static void the_root_and_its_children_are_used_by_threads_of_their_own(struct member *member)
{
    struct member all = child_of(member, false), pair = child_of(member, true);
    pthread_t second, third;
    CHECK(pthread_create(&second, NULL, call_alike, &all) == 0);
    CHECK(pthread_create(&third, NULL, call_among_pairs, &pair) == 0);
    call_alike(member);
    pthread_join(second, NULL);
    pthread_join(third, NULL);
    leave(&all);
    leave(&pair);
}

static void *make_use_and_free_children(void *argument)
{
    const struct member *member = argument;
    for (int life = 0; life < CHILD_LIVES; life++) {
        struct member child = child_of(member, life % 2);
        int32_t one = 1;
        EXPECT(TUTTI_OK, tutti_all_reduce(child.comm, &one, &one, 1, TUTTI_INT32, TUTTI_SUM));
        CHECK(one == (life % 2 ? SIZE / 2 : SIZE));
        leave(&child);
    }
    return NULL;
}

static void children_come_and_go_while_the_root_works(struct member *member)
{
    struct member parent = child_of(member, false); /* whose calls are that other thread's */
    pthread_t second;
    CHECK(pthread_create(&second, NULL, make_use_and_free_children, &parent) == 0);
    call_alike(member);
    pthread_join(second, NULL);
    leave(&parent);
}

/* ---- Messages ---------------------------------------------------------------------------------- */

/* One from every rank, this one included, in each round. */
static void *receive_from_anybody(void *argument)
{
    const struct member *member = argument;
    int next_round[SIZE] = {0};
    for (int i = 0; i < ROUNDS * SIZE; i++) {
        int32_t told[2];
        struct tutti_received received;
        EXPECT(TUTTI_OK,
               tutti_recv(member->comm, told, 2, TUTTI_INT32, TUTTI_ANY_SOURCE, TUTTI_ANY_TAG, &received));
        CHECK(received.count == 2 && received.source == told[0] && received.tag == told[1]);
        CHECK(next_round[received.source]++ == told[1]); /* those of one rank in the order of sending */
    }
    return NULL;
}

static void *send_to_everybody(void *argument)
{
    const struct member *member = argument;
    for (int round = 0; round < ROUNDS; round++)
        for (int to = 0; to < SIZE; to++) {
            const int32_t tells[2] = {member->rank, round};
            EXPECT(TUTTI_OK, tutti_send(member->comm, tells, 2, TUTTI_INT32, to, round));
        }
    return NULL;
}

static void one_thread_receives_while_others_send_and_make_collective_calls(struct member *member)
{
    pthread_t receiver, sender;
    CHECK(pthread_create(&receiver, NULL, receive_from_anybody, member) == 0);
    CHECK(pthread_create(&sender, NULL, send_to_everybody, member) == 0);
    call_alike(member);
    pthread_join(sender, NULL);
    pthread_join(receiver, NULL);
}

/* Two threads that could not both go on if a call that waits kept others out. */
static void *answer(void *argument)
{
    const struct member *member = argument;
    for (int round = 0; round < ROUNDS; round++) {
        int32_t x;
        EXPECT(TUTTI_OK, tutti_recv(member->comm, &x, 1, TUTTI_INT32, member->rank, 1, NULL));
        x++;
        EXPECT(TUTTI_OK, tutti_send(member->comm, &x, 1, TUTTI_INT32, member->rank, 2));
    }
    return NULL;
}

static void two_threads_of_a_rank_talk_to_each_other_by_messages(struct member *member)
{
    pthread_t other;
    CHECK(pthread_create(&other, NULL, answer, member) == 0);
    for (int round = 0; round < ROUNDS; round++) {
        int32_t x = round;
        EXPECT(TUTTI_OK, tutti_send(member->comm, &x, 1, TUTTI_INT32, member->rank, 1));
        EXPECT(TUTTI_OK, tutti_recv(member->comm, &x, 1, TUTTI_INT32, member->rank, 2, NULL));
        CHECK(x == round + 1);
    }
    pthread_join(other, NULL);
}

static void a_message_is_waited_for_in_another_thread(struct member *member)
{
    static int32_t x[SIZE][ROUNDS];
    struct mailbox box = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, {NULL}, 0, 0, member};
    pthread_t waiter;
    CHECK(pthread_create(&waiter, NULL, wait_for_mail, &box) == 0);
    for (int round = 0; round < ROUNDS; round++) {
        tutti_request *request;
        const int32_t tells = member->rank + round;
        const struct tutti_call call = {.op = TUTTI_RECV,
                                        .recv = &x[member->rank][round],
                                        .count = 1,
                                        .type = TUTTI_INT32,
                                        .peer = (member->rank + 1) % SIZE,
                                        .tag = round};
        EXPECT(TUTTI_OK, tutti_start(member->comm, &call, 1, &request));
        mailbox_put(&box, request);
        int to = (member->rank + SIZE - 1) % SIZE;
        EXPECT(TUTTI_OK, tutti_send(member->comm, &tells, 1, TUTTI_INT32, to, round));
    }
    pthread_join(waiter, NULL);
    for (int round = 0; round < ROUNDS; round++)
        CHECK(x[member->rank][round] == (member->rank + 1) % SIZE + round);
}

/* ---- Questions --------------------------------------------------------------------------------- */

struct asker {
    const struct member *member;
    atomic_bool enough;
};

static void *ask(void *argument)
{
    struct asker *asker = argument;
    const struct member *member = asker->member;
    uint64_t completed = 0;
    while (!atomic_load(&asker->enough)) {
        struct tutti_choice choice = TUTTI_CHOICE_INIT;
        const struct tutti_call call = {.op = TUTTI_BARRIER};
        CHECK(tutti_completed(member->comm) >= completed);
        completed = tutti_completed(member->comm);
        EXPECT(TUTTI_OK, tutti_get_choice(member->comm, &call, &choice));
        CHECK(tutti_rank(member->comm) == member->rank && tutti_fd(member->comm) >= 0);
    }
    return NULL;
}

static void questions_are_answered_while_calls_are_under_way(struct member *member)
{
    struct asker asker = {.member = member};
    pthread_t second;
    CHECK(pthread_create(&second, NULL, ask, &asker) == 0);
    call_alike(member);
    send_to_everybody(member); /* opens links meanwhile */
    receive_from_anybody(member);
    atomic_store(&asker.enough, true);
    pthread_join(second, NULL);
}

/* ---- Aborts ------------------------------------------------------------------------------------ */

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

static void *receive_what_never_comes(void *argument)
{
    const struct member *member = argument;
    int32_t x;
    check_aborted(member, tutti_recv(member->comm, &x, 1, TUTTI_INT32, TUTTI_ANY_SOURCE, 7, NULL));
    return NULL;
}

/* The others are in a call of the child that the late-comer never makes, or receive on the root; one of them
 * aborts the child. */
static void an_abort_of_a_child_ends_whatever_threads_do_in_the_family(struct member *member)
{
    struct member child = child_of(member, false);
    pthread_t receiver, aborter;
    int32_t x = 1;
    pthread_barrier_wait(&all_ranks); /* every rank has its child */
    CHECK(pthread_create(&receiver, NULL, receive_what_never_comes, member) == 0);
    if (member->rank == ABORTER)
        CHECK(pthread_create(&aborter, NULL, abort_group, &child) == 0);
    if (member->rank != LATE_COMER)
        check_aborted(&child, tutti_all_reduce(child.comm, &x, &x, 1, TUTTI_INT32, TUTTI_SUM));
    pthread_join(receiver, NULL);
    if (member->rank == ABORTER)
        pthread_join(aborter, NULL);
    check_aborted(member, tutti_barrier(member->comm));
    tutti_free(child.comm);
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
        SCENARIO(the_root_and_its_children_are_used_by_threads_of_their_own, true),
        SCENARIO(children_come_and_go_while_the_root_works, true),
        SCENARIO(one_thread_receives_while_others_send_and_make_collective_calls, true),
        SCENARIO(two_threads_of_a_rank_talk_to_each_other_by_messages, true),
        SCENARIO(a_message_is_waited_for_in_another_thread, true),
        SCENARIO(questions_are_answered_while_calls_are_under_way, true),
    };
    static const struct scenario aborted[] = {
        SCENARIO(an_abort_from_another_thread_ends_the_group_for_everyone, false),
        SCENARIO(an_abort_of_a_child_ends_whatever_threads_do_in_the_family, false),
    };
    pthread_barrier_init(&all_ranks, NULL, SIZE);
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
        run(&scenarios[i]);
        printf("ok: %s\n", scenarios[i].name);
    }
    for (size_t i = 0; i < sizeof aborted / sizeof aborted[0]; i++) {
        for (int life = 0; life < LIVES; life++)
            run(&aborted[i]);
        printf("ok: %s, %d times\n", aborted[i].name, LIVES);
    }
    pthread_barrier_destroy(&all_ranks);
    return 0;
}
