/* Reduction kernels: a table filled by plain C and overridden by what the processor has. */
#ifndef TUTTI_TENSOR_REDUCE_H
#define TUTTI_TENSOR_REDUCE_H

#include "tensor/type.h"

/* target[i] = left[i] op right[i] for i < count.  `target` may be `left` or `right` themselves; no other
 * overlap.  Any alignment of the element's own size or less (a pointer may be unaligned).  A bool is true
 * when its byte is not 0, and becomes 1. */
typedef void (*reduce_kernel)(void *target, const void *left, const void *right, size_t count);

/* target[i] = target[i] / divisor, which is at least 1, as TUTTI_AVG asks at the end of a sum. */
typedef void (*divide_kernel)(void *target, size_t count, int divisor);

/* target[i] = factor * target[i]: floats, calculated in float32 (float64: in double), to which the factor is
 * rounded first; complex numbers, both parts. */
typedef void (*scale_kernel)(void *target, size_t count, double factor);

/* float32 of a half type and back, rounded to nearest even.  The halves may be unaligned. */
typedef void (*widen_kernel)(float *target, const void *source, size_t count);
typedef void (*narrow_kernel)(void *target, const float *source, size_t count);

/* target[i] = sources[0][i] op sources[1][i] op ..., as reduce_many() says. */
typedef void (*many_kernel)(void *target, const void *const *sources, int source_count, size_t count);

/* Every table is complete: where an instruction set brings nothing, its table holds the scalar kernel.  All
 * tables give the same bits, but for which NaN a sum, product or quotient of floats is: always a quiet one.
 * The NaN of TUTTI_MIN and TUTTI_MAX is the positive quiet one without payload; -0 is less than +0. */
struct reduce_table {
    const char *name; /* "scalar", "avx2", "avx512" */
    /* NULL where type_takes() says no.  TUTTI_AVG, TUTTI_PREMULTIPLIED_SUM: as TUTTI_SUM. */
    reduce_kernel reduce[TYPE_COUNT][REDUCTION_COUNT];
    divide_kernel divide[TYPE_COUNT]; /* where it takes TUTTI_AVG */
    scale_kernel scale[TYPE_COUNT];   /* where it takes TUTTI_PREMULTIPLIED_SUM */
    widen_kernel widen[TYPE_COUNT];   /* of half types */
    narrow_kernel narrow[TYPE_COUNT];
    /* NULL where the table has none: reduce_many() then uses the others, block by block. */
    many_kernel many[TYPE_COUNT][REDUCTION_COUNT];
};

/* target[i] = sources[0][i] op sources[1][i] op ..., from left to right; half types in float32, rounded once.
 * At least 2 sources, each of which may be `target` itself; no other overlap. */
void reduce_many(const struct reduce_table *table, int type, int reduction, void *target,
                 const void *const *sources, int source_count, size_t count);

/* The best table for this processor: always the same one, so ask once and keep it.  Any thread. */
const struct reduce_table *reduce_table(void);

/* The tables of each instruction set; NULL where the build or the processor lacks it. */
const struct reduce_table *reduce_table_scalar(void);
const struct reduce_table *reduce_table_avx2(void);
const struct reduce_table *reduce_table_avx512(void); /* that of AVX2, and what is faster than it */

#endif
