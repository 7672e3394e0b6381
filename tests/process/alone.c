/* A group of one has no ring, and its calls are calls all the same: also those that take longer than the
 * worker loop gives to one of them at a time. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "tutti/tutti.h"

#define COUNT ((size_t)32 << 20)

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "alone.c:%d: not true: %s\n", __LINE__, #condition);                             \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

static float *a, *b;

static void long_calls_complete(tutti_comm *comm)
{
    struct tutti_call call = {.op = TUTTI_ALL_REDUCE,
                              .send = a,
                              .recv = b,
                              .count = COUNT,
                              .type = TUTTI_FLOAT32,
                              .reduction = TUTTI_SUM};
    tutti_request *request;
    for (int by_caller = 0; by_caller < 2; by_caller++) {
        for (size_t i = 0; i < COUNT; i++) {
            a[i] = (float)(i % 1000);
            b[i] = -1;
        }
        int status =
            by_caller ? tutti_run(comm, &call, 1, 1, &request) : tutti_start(comm, &call, 1, &request);
        CHECK(status == TUTTI_OK || status == TUTTI_PENDING);
        int fd = tutti_fd(comm);
        CHECK(fd >= 0);
        CHECK(tutti_wait(&request, 60000) == TUTTI_OK);
        for (size_t i = 0; i < COUNT; i++)
            CHECK(b[i] == (float)(i % 1000));
    }
}

static tutti_comm *join(int rank, const char *rendezvous)
{
    struct tutti_config config = TUTTI_CONFIG_INIT;
    tutti_comm *comm;
    config.size = 2;
    config.rank = rank;
    config.rendezvous = rendezvous;
    config.join_timeout_ms = 20000;
    CHECK(tutti_init(&config, &comm) == TUTTI_OK);
    return comm;
}

static void *leave_at_once(void *rendezvous)
{
    tutti_free(join(1, rendezvous));
    return NULL;
}

static void the_last_survivor_goes_on_alone(void)
{
    char rendezvous[64];
    pthread_t other;
    tutti_comm *survivor;
    snprintf(rendezvous, sizeof rendezvous, "unix:@tutti-test-alone-%ld", (long)getpid());
    CHECK(pthread_create(&other, NULL, leave_at_once, rendezvous) == 0);
    tutti_comm *comm = join(0, rendezvous);
    CHECK(tutti_barrier(comm) < 0);
    pthread_join(other, NULL);
    CHECK(tutti_reform(comm, 20000, &survivor) == TUTTI_OK);
    tutti_free(comm);
    CHECK(tutti_size(survivor) == 1);
    long_calls_complete(survivor);
    CHECK(tutti_finalize(survivor, 10000) == TUTTI_OK);
    tutti_free(survivor);
}

static void a_group_of_one_is_re_formed_as_one(void)
{
    struct tutti_reform_info info = TUTTI_REFORM_INFO_INIT;
    tutti_comm *comm, *again;
    CHECK(tutti_init(NULL, &comm) == TUTTI_OK);
    CHECK(tutti_barrier(comm) == TUTTI_OK);
    CHECK(tutti_abort(comm, "a reason") == TUTTI_OK);
    CHECK(tutti_reform(comm, 0, &again) == TUTTI_OK);
    CHECK(tutti_get_reform(again, &info) == TUTTI_OK);
    CHECK(info.generation == 2 && info.previous_generation == 1 && info.completed_everywhere == 1);
    CHECK(info.cause.code == TUTTI_ERR_ABORTED);
    tutti_comm *twice;
    CHECK(tutti_reform(comm, 0, &twice) == TUTTI_ERR_ARGUMENT); /* the new one lives */
    tutti_free(twice);
    CHECK(tutti_barrier(again) == TUTTI_OK);
    tutti_free(again);
    tutti_free(comm);
}

int main(void)
{
    a = malloc(COUNT * sizeof *a);
    b = malloc(COUNT * sizeof *b);
    CHECK(a && b);
    tutti_comm *comm;
    CHECK(tutti_init(NULL, &comm) == TUTTI_OK);
    long_calls_complete(comm);
    tutti_free(comm);
    the_last_survivor_goes_on_alone();
    a_group_of_one_is_re_formed_as_one();
    free(a);
    free(b);
    puts("ok");
    return 0;
}
