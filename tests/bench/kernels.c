/* Times each reduction kernel of each instruction set, beside the scalar one: GB/s of elements of its type,
 * counted once however many operands there are.
 *
 *     cmake --workflow --preset release
 *     cc -std=c11 -O2 -D_GNU_SOURCE -Iinclude -Isrc tests/bench/kernels.c build/release/src/libtutti.a \
 *        -o build/kernels && build/kernels [BYTES [TYPE]]
 *
 * BYTES is the size of each operand, 131072 (three of them stay in a second-level cache) unless given; for
 * many sources, 65536 does.  Where it is below 1024, the figures are nanoseconds per call instead.  A figure
 * is the best of many short runs, because a shared machine only ever makes a run slower.  TYPE is one type
 * instead of all. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "tensor/reduce.h"

#define RUNS        25
#define RUN_SECONDS 0.002
#define SOURCES_MAX 8
#define SMALL_BYTES 1024 /* below, a call is timed rather than its bytes */
#define TABLES      3
#define BATCH_BYTES 16384 /* between two looks at the clock */

/* What is timed beside the reductions of two operands; those of many sources are SUM_OF or MIN_OF plus their
 * number. */
enum {
    DIVIDE = REDUCTION_COUNT,
    SCALE,
    WIDEN,
    NARROW,
    SUM_OF,
    MIN_OF = SUM_OF + SOURCES_MAX,
    KERNELS = MIN_OF + SOURCES_MAX + 1
};

struct operands {
    unsigned char *target;
    const void *sources[SOURCES_MAX];
    float *floats; /* of a half type */
    size_t size;
};

static double now_seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static bool has_kernel(int type, int kernel)
{
    if (kernel < REDUCTION_COUNT) /* TUTTI_AVG and TUTTI_PREMULTIPLIED_SUM are sums */
        return kernel != TUTTI_AVG && kernel != TUTTI_PREMULTIPLIED_SUM && type_takes(type, kernel);
    if (kernel == DIVIDE)
        return type_takes(type, TUTTI_AVG);
    if (kernel == SCALE)
        return type_takes(type, TUTTI_PREMULTIPLIED_SUM);
    if (kernel == WIDEN || kernel == NARROW)
        return type_is_half(type);
    if (kernel == MIN_OF + 4)
        return type_takes(type, TUTTI_MIN);
    return kernel == SUM_OF + 2 || kernel == SUM_OF + 3 || kernel == SUM_OF + 4 || kernel == SUM_OF + 8;
}

static const char *kernel_name(int kernel)
{
    static const char *const names[KERNELS] = {
        [DIVIDE] = "divide",       [SCALE] = "scale",         [WIDEN] = "widen",
        [NARROW] = "narrow",       [SUM_OF + 2] = "sum of 2", [SUM_OF + 3] = "sum of 3",
        [SUM_OF + 4] = "sum of 4", [SUM_OF + 8] = "sum of 8", [MIN_OF + 4] = "min of 4",
    };
    return kernel < REDUCTION_COUNT ? reduction_name(kernel) : names[kernel];
}

static void call_kernel(const struct reduce_table *table, int type, int kernel,
                        const struct operands *operands)
{
    size_t count = operands->size / tutti_type_size((enum tutti_type)type);
    if (kernel < REDUCTION_COUNT)
        table->reduce[type][kernel](operands->target, operands->sources[0], operands->sources[1], count);
    else if (kernel == DIVIDE)
        table->divide[type](operands->target, count, 1);
    else if (kernel == SCALE)
        table->scale[type](operands->target, count, 1.0);
    else if (kernel == WIDEN)
        table->widen[type](operands->floats, operands->sources[0], count);
    else if (kernel == NARROW)
        table->narrow[type](operands->target, operands->floats, count);
    else if (kernel <= MIN_OF)
        reduce_many(table, type, TUTTI_SUM, operands->target, operands->sources, kernel - SUM_OF, count);
    else
        reduce_many(table, type, TUTTI_MIN, operands->target, operands->sources, kernel - MIN_OF, count);
}

/* Seconds per call. */
static double measure(const struct reduce_table *table, int type, int kernel, const struct operands *operands)
{
    const size_t batch = operands->size < BATCH_BYTES ? BATCH_BYTES / operands->size : 1;
    double best = 0;
    for (int run = 0; run < RUNS; run++) {
        double start = now_seconds(), elapsed;
        size_t calls = 0;
        do {
            for (size_t i = 0; i < batch; i++)
                call_kernel(table, type, kernel, operands);
            calls += batch;
            elapsed = now_seconds() - start;
        } while (elapsed < RUN_SECONDS);
        double seconds = elapsed / (double)calls;
        best = run == 0 || seconds < best ? seconds : best;
    }
    return best;
}

/* Of all tables, in one line. */
static void print_kernel(const struct reduce_table *const tables[TABLES], int type, int kernel,
                         const struct operands *operands)
{
    printf("%-10s %-11s", type_name(type), kernel_name(kernel));
    for (size_t t = 0; t < TABLES; t++) {
        double seconds = tables[t] != NULL ? measure(tables[t], type, kernel, operands) : 0;
        double figure = operands->size < SMALL_BYTES ? 1e9 * seconds : (double)operands->size / seconds / 1e9;
        if (tables[t] != NULL)
            printf(" %8.2f", figure);
        else
            printf(" %8s", "-");
    }
    printf("\n");
    fflush(stdout);
}

/* Small positive values of whatever type, so that no kernel meets denormals or exceptions.  Operands do not
 * begin at the same place of a page, where loads would seem to depend on stores.  NULL without memory. */
static void *operand_new(size_t size, size_t index)
{
    size_t offset = 192 * index, bytes = (size + offset + 4095) / 4096 * 4096;
    unsigned char *memory = aligned_alloc(4096, bytes);
    if (memory != NULL)
        memset(memory, 0x3C, bytes);
    return memory != NULL ? memory + offset : NULL;
}

/* Never freed: the program ends with them. */
static bool operands_init(struct operands *operands, size_t size)
{
    bool complete = true;
    operands->size = size;
    operands->target = operand_new(size, 0);
    operands->floats = operand_new(2 * size, 1);
    for (size_t i = 0; i < SOURCES_MAX; i++) {
        operands->sources[i] = operand_new(size, 2 + i);
        complete = complete && operands->sources[i] != NULL;
    }
    return complete && operands->target != NULL && operands->floats != NULL;
}

int main(int argc, char **argv)
{
    const struct reduce_table *const tables[TABLES] = {reduce_table_scalar(), reduce_table_avx2(),
                                                       reduce_table_avx512()};
    struct operands operands;
    size_t size = argc > 1 ? strtoull(argv[1], NULL, 10) : 131072;
    int only = argc > 2 ? type_from_name(argv[2]) : 0;
    if (size == 0 || (argc > 2 && only == 0) || !operands_init(&operands, size)) {
        fprintf(stderr, "usage: %s [BYTES [TYPE]], with memory for %d times as many\n", argv[0],
                SOURCES_MAX + 3);
        return 2;
    }

    printf("%zu bytes, %s\n%-10s %-11s", size, size < SMALL_BYTES ? "ns per call" : "GB/s of elements",
           "type", "kernel");
    for (size_t t = 0; t < TABLES; t++)
        printf(" %8s", tables[t] != NULL ? tables[t]->name : "-");
    printf("\n");
    for (int type = 1; type < TYPE_COUNT; type++) {
        for (int kernel = 1; (only == 0 || only == type) && kernel < KERNELS; kernel++) {
            if (has_kernel(type, kernel))
                print_kernel(tables, type, kernel, &operands);
        }
    }
    return 0;
}
