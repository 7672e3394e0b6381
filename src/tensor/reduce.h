/* Reduction kernels: a table filled by plain C and overridden by what the processor has. */
#ifndef TUTTI_TENSOR_REDUCE_H
#define TUTTI_TENSOR_REDUCE_H

#include "tensor/type.h"

/* target[i] = left[i] op right[i] for i < count.  `target` may be `left` or `right` themselves; no other
 * overlap.  Any alignment of the element's own size or less (a pointer may be unaligned). */
typedef void (*reduce_kernel)(void *target, const void *left, const void *right, size_t count);

/* target[i] = target[i] / divisor, which is at least 1, as TUTTI_AVG asks at the end of a sum. */
typedef void (*divide_kernel)(void *target, size_t count, int divisor);

/* Every table is complete: where an instruction set brings nothing, its table holds the scalar kernel.  All
 * tables give the same bits, but for which NaN a sum, product or quotient of floats is: always a quiet one.
 * The NaN of TUTTI_MIN and TUTTI_MAX is the positive quiet one without payload; -0 is less than +0. */
struct reduce_table {
    const char *name;                                  /* "scalar", "avx2" */
    reduce_kernel reduce[TYPE_COUNT][REDUCTION_COUNT]; /* TUTTI_AVG: as TUTTI_SUM */
    divide_kernel divide[TYPE_COUNT];
};

/* The best table for this processor: always the same one, so ask once and keep it.  Any thread. */
const struct reduce_table *reduce_table(void);

/* The tables of each instruction set; NULL where the build or the processor lacks it. */
const struct reduce_table *reduce_table_scalar(void);
const struct reduce_table *reduce_table_avx2(void);

#endif
