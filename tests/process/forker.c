/* One rank of forks.py: it computes while children of fork() come, try to use its communicator, and go.
 *
 *     forker churn      a second thread forks children while the main one computes
 *     forker outlive RANK    that rank forks one child, which lives on; all compute for ever
 *
 * It tells on standard output: started, joined rank=, child pid=, looping, failed status= rank= ms= us=
 * message= (it ends with 3), wrong ... (5), done (0). */
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tell.h"
#include "tutti/tutti.h"

#define COUNT    50000
#define CHILDREN 40
#define EMPTY    127 /* of a child's exit status: exec failed */

static float vector[COUNT];
static tutti_comm *comm;
static tutti_request *pending; /* of an asynchronous call, while children are made */
static atomic_bool enough;

/* ---- The child: it may call only what is safe after fork() in a process with threads, and tutti ---------
 */

static void expect_unsupported(const char *what, int status)
{
    if (status == TUTTI_ERR_UNSUPPORTED)
        return;
    say("wrong %s in a child returned %d", what, status);
    _exit(5);
}

static _Noreturn void be_child(int number)
{
    struct tutti_call call = {.op = TUTTI_BARRIER};
    struct tutti_error error = TUTTI_ERROR_INIT;
    struct tutti_link_info link = TUTTI_LINK_INFO_INIT;
    tutti_request *request = NULL;
    tutti_comm *survivors = NULL;
    float x = 1;
    expect_unsupported("tutti_all_reduce", tutti_all_reduce(comm, &x, &x, 1, TUTTI_FLOAT32, TUTTI_SUM));
    expect_unsupported("tutti_barrier", tutti_barrier(comm));
    expect_unsupported("tutti_start", tutti_start(comm, &call, 1, &request));
    expect_unsupported("tutti_run", tutti_run(comm, &call, 1, -1, &request));
    expect_unsupported("tutti_abort", tutti_abort(comm, "a child does not agree"));
    expect_unsupported("tutti_finalize", tutti_finalize(comm, 1000));
    expect_unsupported("tutti_fd", tutti_fd(comm));
    expect_unsupported("tutti_get_link", tutti_get_link(comm, 0, &link));
    tutti_get_error(comm, &error); /* the sentence that explains it */
    expect_unsupported("what tutti_get_error() tells", error.code);
    expect_unsupported("tutti_reform", tutti_reform(comm, 1000, &survivors));
    if (pending)
        expect_unsupported("tutti_wait", tutti_wait(&pending, 0));
    tutti_free(survivors);
    tutti_free(comm);
    if (number % 4 == 0) {
        execl("/bin/true", "true", (char *)NULL);
        _exit(EMPTY);
    }
    for (int fd = 3; number % 4 == 1 && fd < 1024; fd++)
        close(fd); /* as daemons do */
    _exit(0);
}

/* ---- The parent ---------------------------------------------------------------------------------------- */

static void check(int status, int64_t began_us)
{
    if (status == TUTTI_OK)
        return;
    struct tutti_error error = TUTTI_ERROR_INIT;
    int64_t at_us = now_us();
    tutti_get_error(comm, &error);
    say("failed status=%s rank=%d ms=%d us=%lld message=%s", tutti_error_name(status), error.rank,
        (int)((at_us - began_us) / 1000), (long long)at_us, error.message);
    tutti_free(comm);
    exit(3);
}

static void check_sums(void)
{
    for (size_t i = 0; i < COUNT; i++)
        if (vector[i] != (float)tutti_size(comm)) {
            say("wrong sum: element %zu is %g", i, (double)vector[i]);
            exit(5);
        }
}

static void all_reduce(void)
{
    int64_t began_us = now_us();
    for (size_t i = 0; i < COUNT; i++)
        vector[i] = 1;
    check(tutti_all_reduce(comm, vector, vector, COUNT, TUTTI_FLOAT32, TUTTI_SUM), began_us);
    check_sums();
}

/* So that a child finds a request that is under way. */
static void all_reduce_later(void)
{
    struct tutti_call call = {.op = TUTTI_ALL_REDUCE,
                              .send = vector,
                              .recv = vector,
                              .count = COUNT,
                              .type = TUTTI_FLOAT32,
                              .reduction = TUTTI_SUM};
    int64_t began_us = now_us();
    for (size_t i = 0; i < COUNT; i++)
        vector[i] = 1;
    check(tutti_start(comm, &call, 1, &pending), began_us);
    pid_t child = fork();
    if (child == 0)
        be_child(2);
    check(tutti_wait(&pending, -1), began_us);
    check_sums();
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        say("wrong child: its status is %d", status);
}

static void *fork_and_fork(void *unused)
{
    for (int number = 0; number < CHILDREN; number++) {
        int status = -1;
        pid_t child = fork();
        if (child == 0)
            be_child(number);
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
            say("wrong child %d: its status is %d", number, status);
    }
    atomic_store(&enough, true);
    return unused;
}

/* Until the children of all ranks have come and gone: every rank hears of it by the same operation. */
static void churn(void)
{
    pthread_t forking;
    int32_t all_have = 0;
    if (pthread_create(&forking, NULL, fork_and_fork, NULL) != 0)
        exit(4);
    while (!all_have) {
        int64_t began_us = now_us();
        all_reduce();
        all_have = atomic_load(&enough);
        check(tutti_all_reduce(comm, &all_have, &all_have, 1, TUTTI_INT32, TUTTI_MIN), began_us);
    }
    pthread_join(forking, NULL);
    for (int i = 0; i < 5; i++)
        all_reduce_later();
}

static _Noreturn void outlive(bool forks)
{
    all_reduce();
    if (forks && fork() == 0) {
        say("child pid=%d", (int)getpid());
        for (;;)
            pause(); /* a data loader that waits for work */
    }
    say("looping");
    for (;;)
        all_reduce();
}

int main(int argc, char **argv)
{
    int64_t began_us = now_us();
    say("started pid=%d", (int)getpid());
    check(tutti_init(NULL, &comm), began_us);
    say("joined rank=%d", tutti_rank(comm));
    if (argc > 2 && strcmp(argv[1], "outlive") == 0)
        outlive(tutti_rank(comm) == atoi(argv[2]));
    churn();
    check(tutti_finalize(comm, 10000), now_us());
    tutti_free(comm);
    say("done");
    return 0;
}
