/* Times each reduction kernel of each instruction set, in GB/s of destination, beside the scalar one.
 *
 *     cmake --workflow --preset release
 *     cc -std=c11 -O2 -D_GNU_SOURCE -Iinclude -Isrc tests/bench/kernels.c build/release/src/libtutti.a \
 *        -o build/kernels && build/kernels [BYTES]
 *
 * BYTES is the size of each operand, 131072 (three of them stay in a second-level cache) unless given.  A
 * figure is the best of many short runs, because a shared machine only ever makes a run slower. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "tensor/reduce.h"

#define RUNS        25
#define RUN_SECONDS 0.002

struct operands {
    unsigned char *target, *left, *right;
    size_t size;
};

static double now_seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void call_kernel(const struct reduce_table *table, int type, int reduction, struct operands *operands)
{
    size_t count = operands->size / tutti_type_size((enum tutti_type)type);
    if (reduction < REDUCTION_COUNT)
        table->reduce[type][reduction](operands->target, operands->left, operands->right, count);
    else
        table->divide[type](operands->target, count, 1);
}

static double measure(const struct reduce_table *table, int type, int reduction, struct operands *operands)
{
    double best = 0;
    for (int run = 0; run < RUNS; run++) {
        double start = now_seconds(), elapsed;
        size_t calls = 0;
        do {
            call_kernel(table, type, reduction, operands);
            calls++;
            elapsed = now_seconds() - start;
        } while (elapsed < RUN_SECONDS);
        double rate = (double)calls * (double)operands->size / elapsed / 1e9;
        best = rate > best ? rate : best;
    }
    return best;
}

/* Small positive values of whatever type, so that no kernel meets denormals or exceptions. */
static int operands_new(struct operands *operands, size_t size)
{
    unsigned char **all[] = {&operands->target, &operands->left, &operands->right};
    operands->size = size;
    for (size_t i = 0; i < 3; i++) {
        *all[i] = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
        if (*all[i] == NULL)
            return -1;
        memset(*all[i], 0x3C, size);
    }
    return 0;
}

int main(int argc, char **argv)
{
    const struct reduce_table *tables[] = {reduce_table_scalar(), reduce_table_avx2()};
    struct operands operands;
    size_t size = argc > 1 ? strtoull(argv[1], NULL, 10) : 131072;
    if (size == 0 || operands_new(&operands, size) < 0) {
        fprintf(stderr, "usage: %s [BYTES], with memory for three times as many\n", argv[0]);
        return 2;
    }

    printf("%zu bytes, GB/s of destination\n%-10s %-8s", size, "type", "kernel");
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++)
        printf(" %8s", tables[t] != NULL ? tables[t]->name : "-");
    printf("\n");
    for (int type = 1; type < TYPE_COUNT; type++) {
        for (int reduction = 1; reduction <= REDUCTION_COUNT; reduction++) {
            if (reduction == TUTTI_AVG)
                continue;
            printf("%-10s %-8s", type_name(type),
                   reduction < REDUCTION_COUNT ? reduction_name(reduction) : "divide");
            for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++)
                printf(" %8.2f", tables[t] != NULL ? measure(tables[t], type, reduction, &operands) : 0.0);
            printf("\n");
            fflush(stdout);
        }
    }
    free(operands.target);
    free(operands.left);
    free(operands.right);
    return 0;
}
