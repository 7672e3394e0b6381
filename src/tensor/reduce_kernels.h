/* What the files that make up the reduction tables share. */
#ifndef TUTTI_TENSOR_REDUCE_KERNELS_H
#define TUTTI_TENSOR_REDUCE_KERNELS_H

#include <stdint.h>
#include "tensor/float16.h"
#include "tensor/reduce.h"

/* Every element type, once: what the kernels in plain C, their declarations and their rows are made from.
 *
 * FLOAT: `widen` makes a `calculated`, which is float or double, of what is stored; `round` the other way.
 *
 * INTEGER: sums and products are those of `wrapping`, since those of signed integers that overflow are
 * undefined; quotients are made of `calculated`. */
#define REDUCE_SAME(x) (x)

/* FLOAT(type, name, stored, calculated, widen, round) INTEGER(type, name, stored, wrapping, calculated) */
#define REDUCE_TYPES(FLOAT, INTEGER)                                                                         \
    FLOAT(TUTTI_FLOAT32, float32, float, float, REDUCE_SAME, REDUCE_SAME)                                    \
    FLOAT(TUTTI_FLOAT64, float64, double, double, REDUCE_SAME, REDUCE_SAME)                                  \
    FLOAT(TUTTI_FLOAT16, float16, uint16_t, float, float16_widen, float16_round)                             \
    FLOAT(TUTTI_BFLOAT16, bfloat16, uint16_t, float, bfloat16_widen, bfloat16_round)                         \
    INTEGER(TUTTI_INT8, int8, int8_t, uint8_t, int)                                                          \
    INTEGER(TUTTI_UINT8, uint8, uint8_t, uint8_t, int)                                                       \
    INTEGER(TUTTI_INT32, int32, int32_t, uint32_t, int32_t)                                                  \
    INTEGER(TUTTI_INT64, int64, int64_t, uint64_t, int64_t)

/* The kernels of one type, in struct reduce_table. */
#define REDUCE_ROW(sum, product, min, max)                                                                   \
    {                                                                                                        \
        [TUTTI_SUM] = sum, [TUTTI_PRODUCT] = product, [TUTTI_MIN] = min, [TUTTI_MAX] = max,                  \
        [TUTTI_AVG] = sum                                                                                    \
    }

#define REDUCE_DECLARE_SCALAR(type, name, ...)                                                               \
    void scalar_##name##_sum(void *target, const void *left, const void *right, size_t count);               \
    void scalar_##name##_product(void *target, const void *left, const void *right, size_t count);           \
    void scalar_##name##_min(void *target, const void *left, const void *right, size_t count);               \
    void scalar_##name##_max(void *target, const void *left, const void *right, size_t count);               \
    void scalar_##name##_divide(void *target, size_t count, int divisor);
REDUCE_TYPES(REDUCE_DECLARE_SCALAR, REDUCE_DECLARE_SCALAR)

/* What a table begins with: its name and all of plain C, of which it overrides what its instruction set does
 * better. */
#define REDUCE_SCALAR_ROW(type, name, ...)                                                                   \
    ,                                                                                                        \
        .reduce[type] = REDUCE_ROW(scalar_##name##_sum, scalar_##name##_product, scalar_##name##_min,        \
                                   scalar_##name##_max),                                                     \
        .divide[type] = scalar_##name##_divide
#define REDUCE_SCALAR_TABLE(label) .name = label REDUCE_TYPES(REDUCE_SCALAR_ROW, REDUCE_SCALAR_ROW)

/* NULL where the compiler had no AVX2.  Data, so that no code of that file runs before the processor was
 * asked. */
extern const struct reduce_table *const reduce_avx2_kernels;

#endif
