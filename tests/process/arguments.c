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
static const size_t counts[2] = {COUNT, COUNT};
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
    const enum tutti_type types[] = {(enum tutti_type)0, (enum tutti_type)14, (enum tutti_type) - 1,
                                     (enum tutti_type)INT_MAX};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        BAD(tutti_all_reduce(comm, a, b, COUNT, types[i], TUTTI_SUM), "type");
        BAD(tutti_broadcast(comm, a, b, COUNT, types[i], 0), "type");
        BAD(tutti_all_gather(comm, a, b, COUNT, types[i]), "type");
        BAD(tutti_gather(comm, a, b, COUNT, types[i], 0), "type");
        BAD(tutti_reduce_scatter(comm, a, b, COUNT, types[i], TUTTI_SUM), "type");
        BAD(tutti_reduce(comm, a, b, COUNT, types[i], TUTTI_SUM, 0), "type");
        BAD(tutti_scatter(comm, a, b, COUNT, types[i], 0), "type");
        BAD(tutti_all_to_all(comm, a, b, COUNT, types[i]), "type");
        BAD(tutti_all_gather_v(comm, a, b, counts, NULL, types[i]), "type");
        BAD(tutti_gather_v(comm, a, COUNT, b, counts, NULL, types[i], 0), "type");
        BAD(tutti_scatter_v(comm, a, counts, NULL, b, COUNT, types[i], 0), "type");
        BAD(tutti_reduce_scatter_v(comm, a, b, counts, types[i], TUTTI_SUM), "type");
        BAD(tutti_all_to_all_v(comm, a, counts, NULL, b, counts, NULL, types[i]), "type");
        BAD(tutti_send(comm, a, COUNT, types[i], 0, 0), "type");
        BAD(tutti_recv(comm, b, COUNT, types[i], 0, 0, NULL), "type");
        CHECK(tutti_type_size(types[i]) == 0);
    }
    const enum tutti_reduction reductions[] = {(enum tutti_reduction)0, (enum tutti_reduction)12,
                                               (enum tutti_reduction) - 1};
    for (size_t i = 0; i < sizeof reductions / sizeof reductions[0]; i++) {
        BAD(tutti_all_reduce(comm, a, b, COUNT, TUTTI_FLOAT32, reductions[i]), "reduction");
        BAD(tutti_reduce_scatter(comm, a, b, COUNT, TUTTI_FLOAT32, reductions[i]), "reduction");
        BAD(tutti_reduce(comm, a, b, COUNT, TUTTI_FLOAT32, reductions[i], 0), "reduction");
        BAD(tutti_reduce_scatter_v(comm, a, b, counts, TUTTI_FLOAT32, reductions[i]), "reduction");
    }
    /* What a type does not take is told with the types that would do. */
    BAD(tutti_all_reduce(comm, a, b, COUNT, TUTTI_FLOAT32, TUTTI_BIT_XOR), "int8");
    BAD(tutti_reduce(comm, a, b, COUNT / 2, TUTTI_COMPLEX64, TUTTI_MAX, 0), "float32");
    BAD(tutti_reduce_scatter(comm, a, b, COUNT, TUTTI_BOOL, TUTTI_AVG), "bool");
    BAD(tutti_all_reduce(comm, a, b, COUNT, TUTTI_FLOAT32, TUTTI_PREMULTIPLIED_SUM), "factor");
    BAD(tutti_reduce(comm, a, b, COUNT, TUTTI_FLOAT32, TUTTI_PREMULTIPLIED_SUM, 0), "factor");
    BAD(tutti_reduce_scatter(comm, a, b, COUNT, TUTTI_FLOAT32, TUTTI_PREMULTIPLIED_SUM), "factor");
    BAD(tutti_reduce_scatter_v(comm, a, b, counts, TUTTI_FLOAT32, TUTTI_PREMULTIPLIED_SUM), "factor");
}

static void wrong_roots(void)
{
    const int roots[] = {-1, size, INT_MAX, INT_MIN};
    for (size_t i = 0; i < sizeof roots / sizeof roots[0]; i++) {
        BAD(tutti_broadcast(comm, a, b, COUNT, TUTTI_FLOAT32, roots[i]), "root");
        BAD(tutti_gather(comm, a, b, COUNT, TUTTI_FLOAT32, roots[i]), "root");
        BAD(tutti_reduce(comm, a, b, COUNT, TUTTI_FLOAT32, TUTTI_SUM, roots[i]), "root");
        BAD(tutti_scatter(comm, a, b, COUNT, TUTTI_FLOAT32, roots[i]), "root");
        BAD(tutti_gather_v(comm, a, COUNT, b, counts, NULL, TUTTI_FLOAT32, roots[i]), "root");
        BAD(tutti_scatter_v(comm, a, counts, NULL, b, COUNT, TUTTI_FLOAT32, roots[i]), "root");
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
    BAD(tutti_reduce(comm, a, NULL, COUNT, TUTTI_FLOAT32, TUTTI_SUM, rank), "recv");
    BAD(tutti_scatter(comm, NULL, b, COUNT, TUTTI_FLOAT32, rank), "send");
    BAD(tutti_all_to_all(comm, a, NULL, COUNT, TUTTI_FLOAT32), "recv");
    BAD(tutti_all_gather_v(comm, NULL, b, counts, NULL, TUTTI_FLOAT32), "send");
    BAD(tutti_all_gather_v(comm, a, b, NULL, NULL, TUTTI_FLOAT32), "counts");
    BAD(tutti_gather_v(comm, a, COUNT, b, NULL, NULL, TUTTI_FLOAT32, rank), "counts");
    BAD(tutti_scatter_v(comm, a, NULL, NULL, b, COUNT, TUTTI_FLOAT32, rank), "counts");
    BAD(tutti_reduce_scatter_v(comm, a, b, NULL, TUTTI_FLOAT32, TUTTI_SUM), "counts");
    BAD(tutti_all_to_all_v(comm, a, counts, NULL, b, NULL, NULL, TUTTI_FLOAT32), "recv_counts");
    BAD(tutti_send(comm, NULL, COUNT, TUTTI_FLOAT32, rank, 0), "send");
    BAD(tutti_recv(comm, NULL, COUNT, TUTTI_FLOAT32, rank, 0, NULL), "recv");
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
    BAD(tutti_all_to_all(comm, a, b, SIZE_MAX / 4, TUTTI_FLOAT32), "count");
    BAD(tutti_scatter(comm, a, b, SIZE_MAX / 4, TUTTI_FLOAT32, 0), "count");
    BAD(tutti_send(comm, a, SIZE_MAX / 2, TUTTI_FLOAT32, rank, 0), "count");
    BAD(tutti_recv(comm, a, SIZE_MAX, TUTTI_INT8, rank, 0, NULL), "count");
    const size_t half[2] = {SIZE_MAX / 4, SIZE_MAX / 4}, far[2] = {0, SIZE_MAX / 4};
    BAD(tutti_all_gather_v(comm, a, b, half, NULL, TUTTI_INT16), "recv_counts");
    BAD(tutti_all_gather_v(comm, a, b, counts, far, TUTTI_INT16), "recv_offsets[1]");
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

static void counts_that_contradict(void)
{
    const size_t more[2] = {COUNT + 1, COUNT + 1}, same[2] = {0, 1};
    BAD(tutti_gather_v(comm, a, COUNT, b, more, NULL, TUTTI_FLOAT32, rank), "recv_counts");
    BAD(tutti_scatter_v(comm, a, more, NULL, b, COUNT, TUTTI_FLOAT32, rank), "send_counts");
    BAD(tutti_all_to_all_v(comm, a, counts, NULL, b, more, NULL, TUTTI_FLOAT32), "itself");
    BAD(tutti_all_gather_v(comm, a, b, counts, same, TUTTI_FLOAT32), "recv_offsets");
    BAD(tutti_all_to_all_v(comm, a, counts, NULL, a, counts, NULL, TUTTI_FLOAT32), "in place");
}

static void wrong_messages(void)
{
    BAD(tutti_send(comm, a, 1, TUTTI_FLOAT32, size, 0), "ranks");
    BAD(tutti_send(comm, a, 1, TUTTI_FLOAT32, TUTTI_ANY_SOURCE, 0), "ranks");
    BAD(tutti_send(comm, a, 1, TUTTI_FLOAT32, rank, TUTTI_ANY_TAG), "tag");
    BAD(tutti_recv(comm, a, 1, TUTTI_FLOAT32, -2, 0, NULL), "TUTTI_ANY_SOURCE");
    BAD(tutti_recv(comm, a, 1, TUTTI_FLOAT32, rank, -2, NULL), "TUTTI_ANY_TAG");
    const struct tutti_call calls[2] = {
        {.op = TUTTI_SEND, .send = a, .count = 1, .type = TUTTI_FLOAT32, .peer = rank},
        {.op = TUTTI_BARRIER}};
    tutti_request *request = NULL;
    BAD(tutti_start(comm, calls, 2, &request), "together");
    CHECK(request == NULL);
}

static void wrong_algorithms_and_choices(void)
{
    struct tutti_call call = {.op = TUTTI_ALL_REDUCE,
                              .send = a,
                              .recv = a,
                              .count = COUNT,
                              .type = TUTTI_FLOAT32,
                              .reduction = TUTTI_SUM,
                              .algorithm = "magic"};
    struct tutti_choice choice = TUTTI_CHOICE_INIT;
    tutti_request *request = NULL;
    BAD(tutti_run(comm, &call, 1, -1, &request), "magic");
    BAD(tutti_get_choice(comm, &call, &choice), "magic");
    call.algorithm = "pairwise"; /* another operation's */
    BAD(tutti_start(comm, &call, 1, &request), "recursive_doubling");
    call.algorithm = NULL;
    BAD(tutti_get_choice(comm, &call, NULL), "tutti_get_choice");
    BAD(tutti_get_choice(comm, NULL, &choice), "tutti_get_choice");
    CHECK(tutti_get_choice(comm, &call, &choice) == TUTTI_OK && choice.algorithm[0] != '\0' &&
          choice.channels >= 1 && choice.predicted_us > 0);
    choice.struct_size = 0;
    BAD(tutti_get_choice(comm, &call, &choice), "TUTTI_CHOICE_INIT");
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
    BAD(tutti_get_link(comm, 1000, &link), "link");
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
    CHECK(tutti_reduce(NULL, a, b, COUNT, TUTTI_FLOAT32, TUTTI_SUM, 0) == TUTTI_ERR_ARGUMENT);
    CHECK(tutti_scatter(NULL, a, b, COUNT, TUTTI_FLOAT32, 0) == TUTTI_ERR_ARGUMENT);
    CHECK(tutti_all_to_all(NULL, a, b, COUNT, TUTTI_FLOAT32) == TUTTI_ERR_ARGUMENT);
    CHECK(tutti_all_gather_v(NULL, a, b, counts, NULL, TUTTI_FLOAT32) == TUTTI_ERR_ARGUMENT);
    CHECK(tutti_send(NULL, a, 1, TUTTI_FLOAT32, 0, 0) == TUTTI_ERR_ARGUMENT);
    CHECK(tutti_recv(NULL, a, 1, TUTTI_FLOAT32, 0, 0, NULL) == TUTTI_ERR_ARGUMENT);
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
    CHECK(tutti_reduce(comm, a, rank == 1 ? b : NULL, COUNT, TUTTI_FLOAT32, TUTTI_SUM, 1) == TUTTI_OK);
    CHECK(tutti_scatter(comm, rank == 1 ? a : NULL, b, COUNT, TUTTI_FLOAT32, 1) == TUTTI_OK);
    CHECK(tutti_gather_v(comm, a, COUNT, rank == 0 ? b : NULL, rank == 0 ? counts : NULL, NULL, TUTTI_FLOAT32,
                         0) == TUTTI_OK);
    CHECK(tutti_all_to_all(comm, a, a, COUNT, TUTTI_FLOAT32) == TUTTI_OK);
    CHECK(tutti_send(comm, NULL, 0, TUTTI_FLOAT32, rank, 0) == TUTTI_OK);
    CHECK(tutti_recv(comm, NULL, 0, TUTTI_FLOAT32, rank, 0, NULL) == TUTTI_OK);
    /* Neighbours that touch do not overlap. */
    CHECK(tutti_all_reduce(comm, a, a + COUNT, COUNT, TUTTI_FLOAT32, TUTTI_SUM) == TUTTI_OK);
    CHECK(strcmp(tutti_error_name(TUTTI_ERR_TIMEOUT), "TUTTI_ERR_TIMEOUT") == 0);
    CHECK(tutti_error_name(12345) != NULL && tutti_strerror(-12345) != NULL);
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", TUTTI_VERSION_MAJOR, TUTTI_VERSION_MINOR,
             TUTTI_VERSION_PATCH);
    CHECK(strcmp(tutti_version(), version) == 0);
}

/* A configuration that cannot be: a dead handle which says why and refuses everything else. */
static void bad_configuration(struct tutti_config config, const char *word)
{
    tutti_comm *dead = NULL;
    struct tutti_error error = TUTTI_ERROR_INIT;
    int status = tutti_init(&config, &dead);
    CHECK(dead != NULL);
    CHECK(tutti_get_error(dead, &error) == TUTTI_OK && error.code == status);
    if ((status != TUTTI_ERR_CONFIG && status != TUTTI_ERR_ARGUMENT) || strstr(error.message, word) == NULL) {
        fprintf(stderr, "the error %s: \"%s\" should be about the configuration and contain \"%s\"\n",
                tutti_error_name(status), error.message, word);
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
    WITH("magic", c.algorithm = "all_reduce:magic");
    WITH("deterministic", c.deterministic = 7);
    WITH("channels", c.channels = -1);
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
        counts_that_contradict,
        wrong_messages,
        wrong_algorithms_and_choices,
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
