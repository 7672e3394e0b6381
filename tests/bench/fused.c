/* What fusing is worth: 1,000 all_reduces of 1 KiB that are issued at once, beside a single one of as many
 * bytes. tutti run -n 2 -- fused All take turns, because the machine's own speed changes from moment to
 * moment; rank 0 prints the medians of the rounds' times, and of their ratios. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "tutti/tutti.h"

#define CALLS  1000
#define COUNT  256 /* float32 in each call: 1 KiB */
#define STRIDE 300 /* float32 from buffer to buffer where they lie apart */
#define ROUNDS 101

static tutti_comm *comm;

static void succeed(int status)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    if (status >= 0)
        return;
    tutti_get_error(comm, &error);
    fprintf(stderr, "rank %d: %s\n", tutti_rank(comm), error.message);
    exit(1);
}

static double now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int compare_numbers(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts the numbers. */
static double median(double *numbers)
{
    qsort(numbers, ROUNDS, sizeof *numbers, compare_numbers);
    return numbers[ROUNDS / 2];
}

/* In place: `count` calls whose buffers begin `stride` elements after each other. */
static void fill_calls(struct tutti_call *calls, int count, float *x, size_t each, size_t stride)
{
    for (int i = 0; i < count; i++)
        calls[i] = (struct tutti_call){.op = TUTTI_ALL_REDUCE,
                                       .send = x + (size_t)i * stride,
                                       .recv = x + (size_t)i * stride,
                                       .count = each,
                                       .type = TUTTI_FLOAT32,
                                       .reduction = TUTTI_SUM};
}

static double time_us(const struct tutti_call *calls, size_t count)
{
    tutti_request *request;
    succeed(tutti_barrier(comm));
    double begin = now_us();
    succeed(tutti_run(comm, calls, count, -1, &request));
    return now_us() - begin;
}

static void measure(float *x)
{
    static struct tutti_call apart[CALLS], adjacent[CALLS], one;
    double apart_us[ROUNDS], adjacent_us[ROUNDS], one_us[ROUNDS], apart_ratio[ROUNDS], adjacent_ratio[ROUNDS];
    fill_calls(apart, CALLS, x, COUNT, STRIDE);
    fill_calls(adjacent, CALLS, x, COUNT, COUNT);
    fill_calls(&one, 1, x, (size_t)CALLS * COUNT, 0);
    for (int i = 0; i < ROUNDS; i++) {
        apart_us[i] = time_us(apart, CALLS);
        adjacent_us[i] = time_us(adjacent, CALLS);
        one_us[i] = time_us(&one, 1);
        apart_ratio[i] = apart_us[i] / one_us[i];
        adjacent_ratio[i] = adjacent_us[i] / one_us[i];
    }
    if (tutti_rank(comm) != 0)
        return;
    printf("fused all_reduce of float32, %d ranks, in place; medians of %d interleaved rounds\n",
           tutti_size(comm), ROUNDS);
    printf("%-48s%10s%10s\n", "", "us", "ratio");
    printf("%-48s%10.1f\n", "one of 1,000 KiB", median(one_us));
    printf("%-48s%10.1f%10.2f\n", "1,000 of 1 KiB, buffers apart", median(apart_us), median(apart_ratio));
    printf("%-48s%10.1f%10.2f\n", "1,000 of 1 KiB, one buffer behind the other", median(adjacent_us),
           median(adjacent_ratio));
}

int main(void)
{
    /* Zeros, which stay what they are however often they are added up. */
    float *x = calloc((size_t)CALLS * STRIDE, sizeof *x);
    if (!x)
        return 1;
    succeed(tutti_init(NULL, &comm));
    measure(x);
    succeed(tutti_finalize(comm, 0));
    tutti_free(comm);
    free(x);
    return 0;
}
