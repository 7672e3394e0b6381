/* Every bad argument of the public interface: the right status, a sentence that says what is wrong, no harm
 * to the group, no sequence number used up.  Run with 2 ranks; only rank 0 makes the mistakes that are local.
 */
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tutti/tutti.h"

#define COUNT 12

static tutti_comm *comm;
static int rank, size;
static float a[4 * COUNT], b[4 * COUNT];
static int mistakes;

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "arguments.c:%d: rank %d: not true: %s\n", __LINE__, rank, #condition);          \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

/* The call must have failed with `wanted`, and the sentence must contain `word`. */
static void mistake(int line, int status, int wanted, const char *word)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    CHECK(tutti_get_error(comm, &error) == TUTTI_OK);
    if (status != wanted || error.code != wanted || strstr(error.message, word) == NULL ||
        strlen(error.message) < 15 || strlen(error.message) >= sizeof error.message) {
        fprintf(stderr,
                "arguments.c:%d: rank %d: returned %s instead of %s; the error is %s: \"%s\", which should "
                "contain \"%s\"\n",
                line, rank, tutti_error_name(status), tutti_error_name(wanted), tutti_error_name(error.code),
                error.message, word);
        exit(1);
    }
    mistakes++;
}
#define BAD(status, word) mistake(__LINE__, status, TUTTI_ERR_ARGUMENT, word)

/* The group is as it was: the next collective works on every rank and gives the right result. */
static void group_works(void)
{
    float value = (float)(rank + 1);
    CHECK(tutti_all_reduce(comm, &value, &value, 1, TUTTI_FLOAT32, TUTTI_SUM) == TUTTI_OK);
    CHECK(value == (float)(size * (size + 1) / 2));
}

static void wrong_types_and_reductions(void)
{
    const enum tutti_type types[] = {(enum tutti_type)0, (enum tutti_type)9, (enum tutti_type) - 1,
                                     (enum tutti_type)INT_MAX};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        BAD(tutti_all_reduce(comm, a, b, COUNT, types[i], TUTTI_SUM), "type");
        BAD(tutti_broadcast(comm, a, b, COUNT, types[i], 0), "type");
        BAD(tutti_all_gather(comm, a, b, COUNT, types[i]), "type");
        BAD(tutti_gather(comm, a, b, COUNT, types[i], 0), "type");
        BAD(tutti_reduce_scatter(comm, a, b, COUNT, types[i], TUTTI_SUM), "type");
        CHECK(tutti_type_size(types[i]) == 0);
    }
    const enum tutti_reduction reductions[] = {(enum tutti_reduction)0, (enum tutti_reduction)6,
                                               (enum tutti_reduction) - 1};
    for (size_t i = 0; i < sizeof reductions / sizeof reductions[0]; i++) {
        BAD(tutti_all_reduce(comm, a, b, COUNT, TUTTI_FLOAT32, reductions[i]), "reduction");
        BAD(tutti_reduce_scatter(comm, a, b, COUNT, TUTTI_FLOAT32, reductions[i]), "reduction");
    }
}

static void wrong_roots(void)
{
    const int roots[] = {-1, size, INT_MAX, INT_MIN};
    for (size_t i = 0; i < sizeof roots / sizeof roots[0]; i++) {
        BAD(tutti_broadcast(comm, a, b, COUNT, TUTTI_FLOAT32, roots[i]), "root");
        BAD(tutti_gather(comm, a, b, COUNT, TUTTI_FLOAT32, roots[i]), "root");
    }
}

static void null_buffers(void)
{
    BAD(tutti_all_reduce(comm, NULL, b, COUNT, TUTTI_FLOAT32, TUTTI_SUM), "send");
    BAD(tutti_all_reduce(comm, a, NULL, COUNT, TUTTI_FLOAT32, TUTTI_SUM), "recv");
    BAD(tutti_broadcast(comm, NULL, b, COUNT, TUTTI_FLOAT32, rank), "send");
    BAD(tutti_broadcast(comm, a, NULL, COUNT, TUTTI_FLOAT32, rank), "recv");
    BAD(tutti_all_gather(comm, NULL, b, COUNT, TUTTI_FLOAT32), "send");
    BAD(tutti_all_gather(comm, a, NULL, COUNT, TUTTI_FLOAT32), "recv");
    BAD(tutti_gather(comm, NULL, b, COUNT, TUTTI_FLOAT32, rank), "send");
    BAD(tutti_gather(comm, a, NULL, COUNT, TUTTI_FLOAT32, rank), "recv");
    BAD(tutti_reduce_scatter(comm, NULL, b, COUNT, TUTTI_FLOAT32, TUTTI_SUM), "send");
    BAD(tutti_reduce_scatter(comm, a, NULL, COUNT, TUTTI_FLOAT32, TUTTI_SUM), "recv");
}

static void counts_that_overflow(void)
{
    BAD(tutti_all_reduce(comm, a, b, SIZE_MAX, TUTTI_INT8, TUTTI_SUM), "count");
    BAD(tutti_all_reduce(comm, a, b, SIZE_MAX / 4 + 1, TUTTI_FLOAT32, TUTTI_SUM), "count");
    BAD(tutti_broadcast(comm, a, b, SIZE_MAX / 2, TUTTI_FLOAT64, 0), "count");
    /* Each part fits, all of them do not. */
    BAD(tutti_all_gather(comm, a, b, SIZE_MAX / 4, TUTTI_FLOAT32), "count");
    BAD(tutti_gather(comm, a, b, SIZE_MAX / 4, TUTTI_FLOAT32, 0), "count");
    BAD(tutti_reduce_scatter(comm, a, b, SIZE_MAX / 4, TUTTI_FLOAT32, TUTTI_SUM), "count");
}

static void buffers_that_overlap(void)
{
    int other = (rank + 1) % size;
    BAD(tutti_all_reduce(comm, a, a + 1, COUNT, TUTTI_FLOAT32, TUTTI_SUM), "overlap");
    BAD(tutti_all_reduce(comm, a + COUNT - 1, a, COUNT, TUTTI_FLOAT32, TUTTI_SUM), "overlap");
    BAD(tutti_all_reduce(comm, a, (char *)a + 1, COUNT, TUTTI_FLOAT32, TUTTI_SUM), "overlap");
    BAD(tutti_broadcast(comm, a, a + 1, COUNT, TUTTI_FLOAT32, rank), "overlap");
    BAD(tutti_all_gather(comm, a + other * COUNT, a, COUNT, TUTTI_FLOAT32), "overlap");
    BAD(tutti_all_gather(comm, a + rank * COUNT + 1, a, COUNT, TUTTI_FLOAT32), "overlap");
    BAD(tutti_gather(comm, a + other * COUNT, a, COUNT, TUTTI_FLOAT32, rank), "overlap");
    BAD(tutti_reduce_scatter(comm, a, a + other * COUNT, COUNT, TUTTI_FLOAT32, TUTTI_SUM), "overlap");
    BAD(tutti_reduce_scatter(comm, a, a + rank * COUNT + 1, COUNT, TUTTI_FLOAT32, TUTTI_SUM), "overlap");
}

static void wrong_calls_and_requests(void)
{
    struct tutti_call good = {.op = TUTTI_ALL_REDUCE,
                              .send = a,
                              .recv = b,
                              .count = COUNT,
                              .type = TUTTI_FLOAT32,
                              .reduction = TUTTI_SUM};
    struct tutti_call calls[3] = {good, good, good};
    tutti_request *request = (tutti_request *)a; /* must be set to NULL whatever was there */

    calls[1].op = (enum tutti_operation)0;
    BAD(tutti_start(comm, calls, 3, &request), "operation");
    CHECK(request == NULL);
    calls[1].op = (enum tutti_operation)77;
    BAD(tutti_run(comm, calls, 3, -1, &request), "operation");
    CHECK(request == NULL);
    calls[1] = good;
    calls[2].type = (enum tutti_type)0;
    BAD(tutti_start(comm, calls, 3, &request), "type");
    BAD(tutti_start(comm, NULL, 1, &request), "calls");
    BAD(tutti_start(comm, &good, 1, NULL), "request");
    BAD(tutti_run(comm, &good, 1, -1, NULL), "request");
    CHECK(tutti_wait(NULL, 0) == TUTTI_ERR_ARGUMENT);
}

static void wrong_questions(void)
{
    struct tutti_link_info link = TUTTI_LINK_INFO_INIT;
    struct tutti_error error = TUTTI_ERROR_INIT;
    BAD(tutti_get_link(comm, -1, &link), "link");
    BAD(tutti_get_link(comm, 2, &link), "link");
    BAD(tutti_get_link(comm, 0, NULL), "info");
    link.struct_size = 0;
    BAD(tutti_get_link(comm, 0, &link), "TUTTI_LINK_INFO_INIT");
    error.struct_size = 0;
    CHECK(tutti_get_error(comm, &error) == TUTTI_ERR_ARGUMENT);
    CHECK(tutti_get_error(comm, NULL) == TUTTI_ERR_ARGUMENT);
}

static void no_communicator(void)
{
    struct tutti_call call = {.op = TUTTI_BARRIER};
    struct tutti_link_info link = TUTTI_LINK_INFO_INIT;
    struct tutti_error error = TUTTI_ERROR_INIT;
    tutti_request *request = NULL;
    CHECK(tutti_init(NULL, NULL) == TUTTI_ERR_ARGUMENT);
    CHECK(tutti_all_reduce(NULL, a, b, COUNT, TUTTI_FLOAT32, TUTTI_SUM) == TUTTI_ERR_ARGUMENT);
    CHECK(tutti_broadcast(NULL, a, b, COUNT, TUTTI_FLOAT32, 0) == TUTTI_ERR_ARGUMENT);
    CHECK(tutti_all_gather(NULL, a, b, COUNT, TUTTI_FLOAT32) == TUTTI_ERR_ARGUMENT);
    CHECK(tutti_gather(NULL, a, b, COUNT, TUTTI_FLOAT32, 0) == TUTTI_ERR_ARGUMENT);
    CHECK(tutti_reduce_scatter(NULL, a, b, COUNT, TUTTI_FLOAT32, TUTTI_SUM) == TUTTI_ERR_ARGUMENT);
    CHECK(tutti_barrier(NULL) == TUTTI_ERR_ARGUMENT);
    CHECK(tutti_start(NULL, &call, 1, &request) == TUTTI_ERR_ARGUMENT && request == NULL);
    CHECK(tutti_run(NULL, &call, 1, -1, &request) == TUTTI_ERR_ARGUMENT && request == NULL);
    CHECK(tutti_fd(NULL) == TUTTI_ERR_ARGUMENT);
    CHECK(tutti_abort(NULL, "no reason") == TUTTI_ERR_ARGUMENT);
    CHECK(tutti_finalize(NULL, 0) == TUTTI_ERR_ARGUMENT);
    CHECK(tutti_get_link(NULL, 0, &link) == TUTTI_ERR_ARGUMENT);
    CHECK(tutti_rank(NULL) == -1 && tutti_size(NULL) == -1);
    CHECK(tutti_get_error(NULL, &error) == TUTTI_OK);
    tutti_free(NULL);
}

/* What looks odd and is right. */
static void good_corner_cases(void)
{
    CHECK(tutti_all_reduce(comm, NULL, NULL, 0, TUTTI_FLOAT32, TUTTI_SUM) == TUTTI_OK);
    CHECK(tutti_all_gather(comm, NULL, NULL, 0, TUTTI_INT8) == TUTTI_OK);
    CHECK(tutti_broadcast(comm, rank == 0 ? a : NULL, b, COUNT, TUTTI_FLOAT32, 0) == TUTTI_OK);
    CHECK(tutti_gather(comm, a, rank == 1 ? b : NULL, COUNT, TUTTI_FLOAT32, 1) == TUTTI_OK);
    /* Neighbours that touch do not overlap. */
    CHECK(tutti_all_reduce(comm, a, a + COUNT, COUNT, TUTTI_FLOAT32, TUTTI_SUM) == TUTTI_OK);
    CHECK(strcmp(tutti_error_name(TUTTI_ERR_TIMEOUT), "TUTTI_ERR_TIMEOUT") == 0);
    CHECK(tutti_error_name(12345) != NULL && tutti_strerror(-12345) != NULL);
    CHECK(strcmp(tutti_version(), "0.1.0") == 0);
}

/* A configuration that cannot be: a dead handle which says why and refuses everything else. */
static void bad_configuration(struct tutti_config config, const char *word)
{
    tutti_comm *dead = NULL;
    struct tutti_error error = TUTTI_ERROR_INIT;
    int status = tutti_init(&config, &dead);
    CHECK(status == TUTTI_ERR_CONFIG || status == TUTTI_ERR_ARGUMENT);
    CHECK(dead != NULL);
    CHECK(tutti_get_error(dead, &error) == TUTTI_OK && error.code == status);
    if (strstr(error.message, word) == NULL) {
        fprintf(stderr, "the error \"%s\" should contain \"%s\"\n", error.message, word);
        exit(1);
    }
    CHECK(tutti_rank(dead) == -1 && tutti_size(dead) == -1);
    CHECK(tutti_barrier(dead) < 0);
    CHECK(tutti_fd(dead) < 0);
    tutti_free(dead);
    mistakes++;
}

static void bad_configurations(void)
{
    const struct tutti_config unset = TUTTI_CONFIG_INIT;
    struct tutti_config c;
#define WITH(word, ...)                                                                                      \
    do {                                                                                                     \
        c = unset;                                                                                           \
        __VA_ARGS__;                                                                                         \
        bad_configuration(c, word);                                                                          \
    } while (0)
    WITH("rank", c.size = 2, c.rank = 2, c.rendezvous = "unix:@tutti-test-nowhere");
    WITH("rank", c.size = 2, c.rank = -2, c.rendezvous = "unix:@tutti-test-nowhere");
    WITH("size", c.size = -1);
    WITH("rendezvous", c.size = 2, c.rank = 0, c.rendezvous = "nowhere");
    WITH("pigeon", c.transports = "pigeon");
    WITH("port_range", c.port_range = "9-1");
    WITH("join_timeout_ms", c.join_timeout_ms = -5);
    WITH("checksum", c.checksum = 7);
    WITH("slice_bytes", c.slice_bytes = 1);
    WITH("struct_size", c.struct_size = 0);
#undef WITH
}

static void finalized_communicator(void)
{
    tutti_request *request = NULL;
    struct tutti_call call = {.op = TUTTI_BARRIER};
    struct tutti_error error = TUTTI_ERROR_INIT;
    CHECK(tutti_finalize(comm, 10000) == TUTTI_OK);
    CHECK(tutti_barrier(comm) == TUTTI_ERR_FINALIZED);
    CHECK(tutti_all_reduce(comm, a, b, COUNT, TUTTI_FLOAT32, TUTTI_SUM) == TUTTI_ERR_FINALIZED);
    CHECK(tutti_start(comm, &call, 1, &request) == TUTTI_ERR_FINALIZED && request == NULL);
    CHECK(tutti_run(comm, &call, 1, -1, &request) == TUTTI_ERR_FINALIZED && request == NULL);
    CHECK(tutti_get_error(comm, &error) == TUTTI_OK);
    CHECK(error.code == TUTTI_ERR_FINALIZED && strstr(error.message, "finalize") != NULL);
}

int main(void)
{
    static void (*const groups[])(void) = {
        wrong_types_and_reductions,
        wrong_roots,
        null_buffers,
        counts_that_overflow,
        buffers_that_overlap,
        wrong_calls_and_requests,
        wrong_questions,
        no_communicator,
    };
    CHECK(tutti_init(NULL, &comm) == TUTTI_OK);
    rank = tutti_rank(comm);
    size = tutti_size(comm);
    CHECK(size == 2);
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        if (rank == 0) /* alone: a mistake that used up a sequence number would make the ranks differ */
            groups[i]();
        group_works();
        groups[i]();
        group_works();
    }
    good_corner_cases();
    bad_configurations();
    group_works();
    finalized_communicator();
    tutti_free(comm);
    if (rank == 0)
        printf("%d mistakes answered\n", mistakes);
    return 0;
}
