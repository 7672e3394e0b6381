/* What goes over the wire, counted by the links: tutti run -n 8 -- traffic */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tutti/tutti.h"

#define HEADER_BYTES 64
#define LARGE_COUNT  ((size_t)1 << 20) /* elements of float32 that each rank contributes */

static tutti_comm *comm;
static int rank, size;

static void check(int ok, const char *what, double value)
{
    if (ok)
        return;
    fprintf(stderr, "rank %d of %d: %s: %g\n", rank, size, what, value);
    exit(1);
}

static void succeed(int status)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    if (status >= 0)
        return;
    tutti_get_error(comm, &error);
    fprintf(stderr, "rank %d of %d: %s\n", rank, size, error.message);
    exit(1);
}

/* By this rank, on all its links. */
static double sent_bytes(void)
{
    struct tutti_link_info info = TUTTI_LINK_INFO_INIT;
    double sum = 0;
    for (int index = 0; tutti_get_link(comm, index, &info) == TUTTI_OK; index++)
        sum += (double)info.sent_bytes;
    return sum;
}

static double bytes_of(const struct tutti_call *call)
{
    tutti_request *request;
    double before = sent_bytes();
    succeed(tutti_run(comm, call, 1, -1, &request));
    return sent_bytes() - before;
}

static double sum_over_ranks(double x)
{
    double sum = 0;
    succeed(tutti_all_reduce(comm, &x, &sum, 1, TUTTI_FLOAT64, TUTTI_SUM));
    return sum;
}

static double rounds_up(double x)
{
    double log = 0;
    for (double reach = 1; reach < x; reach *= 2)
        log++;
    return log;
}

static void reduce_scatter_moves_half_the_bytes_of_all_reduce(float *x, float *y)
{
    const struct tutti_call all_reduce = {.op = TUTTI_ALL_REDUCE,
                                          .send = x,
                                          .recv = y,
                                          .count = LARGE_COUNT * (size_t)size,
                                          .type = TUTTI_FLOAT32,
                                          .reduction = TUTTI_SUM};
    struct tutti_call reduce_scatter = all_reduce;
    reduce_scatter.op = TUTTI_REDUCE_SCATTER;
    reduce_scatter.count = LARGE_COUNT;
    double whole = sum_over_ranks(bytes_of(&all_reduce)), half = sum_over_ranks(bytes_of(&reduce_scatter));
    double least = 4.0 * (double)LARGE_COUNT * (size - 1) * size;
    check(half < 0.505 * whole, "reduce_scatter sent this share of the bytes of all_reduce", half / whole);
    check(half >= least && half < 1.01 * least, "reduce_scatter sent so many times the least bytes",
          half / least);
}

/* The same number of messages, each to another rank, whatever the count. */
static void recursive_doubling_takes_logarithmic_steps(float *x)
{
    const struct tutti_call call = {.op = TUTTI_ALL_REDUCE,
                                    .send = x,
                                    .recv = x,
                                    .count = 1,
                                    .type = TUTTI_FLOAT32,
                                    .reduction = TUTTI_SUM,
                                    .algorithm = "recursive_doubling"};
    double messages = bytes_of(&call) / (HEADER_BYTES + sizeof(float));
    check(messages <= rounds_up(size) + 1, "messages of recursive_doubling", messages);
}

/* Of the algorithm that is chosen when none is asked for: a rank sends to all others in one round, or to few.
 */
static void the_choice_for_one_element_takes_few_messages(float *x)
{
    const struct tutti_call call = {.op = TUTTI_ALL_REDUCE,
                                    .send = x,
                                    .recv = x,
                                    .count = 1,
                                    .type = TUTTI_FLOAT32,
                                    .reduction = TUTTI_SUM};
    struct tutti_choice choice = TUTTI_CHOICE_INIT;
    succeed(tutti_get_choice(comm, &call, &choice));
    double messages = bytes_of(&call) / (HEADER_BYTES + sizeof(float));
    char what[80];
    snprintf(what, sizeof what, "messages of %s, which was chosen", choice.algorithm);
    if (strcmp(choice.algorithm, "exchange") == 0)
        check(messages == size - 1, what, messages);
    else
        check(messages > 0 && messages <= 2 * rounds_up(size), what, messages);
}

static void fused_calls_move_the_bytes_of_one(float *x, float *y)
{
    enum { CALLS = 100, COUNT = 256 };
    struct tutti_call calls[CALLS];
    for (int i = 0; i < CALLS; i++)
        calls[i] = (struct tutti_call){.op = TUTTI_ALL_REDUCE,
                                       .send = x + i * COUNT,
                                       .recv = y + i * COUNT,
                                       .count = COUNT,
                                       .type = TUTTI_FLOAT32,
                                       .reduction = TUTTI_SUM};
    struct tutti_call one = calls[0];
    one.count = (size_t)CALLS * COUNT;
    double single = bytes_of(&one), before = sent_bytes();
    tutti_request *request;
    succeed(tutti_run(comm, calls, CALLS, -1, &request));
    double fused = sent_bytes() - before;
    check(fused == single, "fused calls sent so many times the bytes of one", fused / single);
}

int main(void)
{
    succeed(tutti_init(NULL, &comm));
    rank = tutti_rank(comm);
    size = tutti_size(comm);
    float *x = calloc(LARGE_COUNT * (size_t)size, sizeof *x),
          *y = calloc(LARGE_COUNT * (size_t)size, sizeof *y);
    if (!x || !y)
        return 1;
    succeed(tutti_barrier(comm));
    reduce_scatter_moves_half_the_bytes_of_all_reduce(x, y);
    recursive_doubling_takes_logarithmic_steps(x);
    the_choice_for_one_element_takes_few_messages(x);
    fused_calls_move_the_bytes_of_one(x, y);
    succeed(tutti_finalize(comm, 0));
    tutti_free(comm);
    free(x);
    free(y);
    return 0;
}
