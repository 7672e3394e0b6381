/* What the files that make up the reduction tables share. */
#ifndef TUTTI_TENSOR_REDUCE_KERNELS_H
#define TUTTI_TENSOR_REDUCE_KERNELS_H

/* A multiplication and an addition that are contracted into one instruction round once instead of twice:
 * products of complex numbers would differ between processors. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

#include <stdint.h>
#include "tensor/float16.h"
#include "tensor/reduce.h"

/* Every element type, once: what the kernels in plain C, their declarations and their rows are made from.
 *
 * FLOAT and HALF: `widen` makes a `calculated`, which is float or double, of what is stored; `round` the
 * other way.
 *
 * INTEGER: sums and products are those of `wrapping`, which is unsigned, since those of signed integers that
 * overflow are undefined, and no narrower than int, which it would be promoted to; quotients are made of
 * `calculated`. */
#define REDUCE_SAME(x) (x)

/* FLOAT(type, name, stored, calculated, widen, round), HALF likewise,
 * INTEGER(type, name, stored, wrapping, calculated), BOOL(type, name), COMPLEX(type, name) */
#define REDUCE_TYPES(FLOAT, HALF, INTEGER, BOOL, COMPLEX)                                                    \
    FLOAT(TUTTI_FLOAT32, float32, float, float, REDUCE_SAME, REDUCE_SAME)                                    \
    FLOAT(TUTTI_FLOAT64, float64, double, double, REDUCE_SAME, REDUCE_SAME)                                  \
    HALF(TUTTI_FLOAT16, float16, uint16_t, float, float16_widen, float16_round)                              \
    HALF(TUTTI_BFLOAT16, bfloat16, uint16_t, float, bfloat16_widen, bfloat16_round)                          \
    INTEGER(TUTTI_INT8, int8, int8_t, uint32_t, int)                                                         \
    INTEGER(TUTTI_UINT8, uint8, uint8_t, uint32_t, int)                                                      \
    INTEGER(TUTTI_INT16, int16, int16_t, uint32_t, int)                                                      \
    INTEGER(TUTTI_INT32, int32, int32_t, uint32_t, int32_t)                                                  \
    INTEGER(TUTTI_UINT32, uint32, uint32_t, uint32_t, uint32_t)                                              \
    INTEGER(TUTTI_INT64, int64, int64_t, uint64_t, int64_t)                                                  \
    INTEGER(TUTTI_UINT64, uint64, uint64_t, uint64_t, uint64_t)                                              \
    BOOL(TUTTI_BOOL, bool)                                                                                   \
    COMPLEX(TUTTI_COMPLEX64, complex64)

/* The kernels of one type in struct reduce_table, by the first part of their names.  Of integers, kernels for
 * which the sign makes no difference and those for which it does. */
#define REDUCE_FLOAT_ROW(name)                                                                               \
    {                                                                                                        \
        [TUTTI_SUM] = name##_sum, [TUTTI_PRODUCT] = name##_product, [TUTTI_MIN] = name##_min,                \
        [TUTTI_MAX] = name##_max, [TUTTI_AVG] = name##_sum, [TUTTI_PREMULTIPLIED_SUM] = name##_sum           \
    }
#define REDUCE_INTEGER_ROW(name, ordered)                                                                    \
    {                                                                                                        \
        [TUTTI_SUM] = name##_sum, [TUTTI_PRODUCT] = name##_product, [TUTTI_MIN] = ordered##_min,             \
        [TUTTI_MAX] = ordered##_max, [TUTTI_AVG] = name##_sum, [TUTTI_BIT_AND] = name##_bit_and,             \
        [TUTTI_BIT_OR] = name##_bit_or, [TUTTI_BIT_XOR] = name##_bit_xor,                                    \
        [TUTTI_LOGICAL_AND] = name##_logical_and, [TUTTI_LOGICAL_OR] = name##_logical_or                     \
    }
#define REDUCE_BOOL_ROW(name)                                                                                \
    {                                                                                                        \
        [TUTTI_SUM] = name##_or, [TUTTI_PRODUCT] = name##_and, [TUTTI_MIN] = name##_and,                     \
        [TUTTI_MAX] = name##_or, [TUTTI_BIT_AND] = name##_and, [TUTTI_BIT_OR] = name##_or,                   \
        [TUTTI_BIT_XOR] = name##_xor, [TUTTI_LOGICAL_AND] = name##_and, [TUTTI_LOGICAL_OR] = name##_or       \
    }
#define REDUCE_COMPLEX_ROW(name)                                                                             \
    {                                                                                                        \
        [TUTTI_SUM] = name##_sum, [TUTTI_PRODUCT] = name##_product, [TUTTI_AVG] = name##_sum,                \
        [TUTTI_PREMULTIPLIED_SUM] = name##_sum                                                               \
    }

/* Likewise of many sources: what matters in shared memory. */
#define REDUCE_MANY_FLOAT_ROW(name)                                                                          \
    {                                                                                                        \
        [TUTTI_SUM] = name##_sum_many, [TUTTI_PRODUCT] = name##_product_many, [TUTTI_MIN] = name##_min_many, \
        [TUTTI_MAX] = name##_max_many, [TUTTI_AVG] = name##_sum_many,                                        \
        [TUTTI_PREMULTIPLIED_SUM] = name##_sum_many                                                          \
    }
#define REDUCE_MANY_INTEGER_ROW(name, ordered)                                                               \
    {                                                                                                        \
        [TUTTI_SUM] = name##_sum_many, [TUTTI_PRODUCT] = name##_product_many,                                \
        [TUTTI_MIN] = ordered##_min_many, [TUTTI_MAX] = ordered##_max_many, [TUTTI_AVG] = name##_sum_many    \
    }
#define REDUCE_MANY_COMPLEX_ROW(name)                                                                        \
    {                                                                                                        \
        [TUTTI_SUM] = name##_sum_many, [TUTTI_PRODUCT] = name##_product_many, [TUTTI_AVG] = name##_sum_many, \
        [TUTTI_PREMULTIPLIED_SUM] = name##_sum_many                                                          \
    }

#define REDUCE_DECLARE(name) void name(void *target, const void *left, const void *right, size_t count);
#define REDUCE_DECLARE_COMPLEX(type, name, ...)                                                              \
    REDUCE_DECLARE(scalar_##name##_sum)                                                                      \
    REDUCE_DECLARE(scalar_##name##_product)                                                                  \
    void scalar_##name##_divide(void *target, size_t count, int divisor);                                    \
    void scalar_##name##_scale(void *target, size_t count, double factor);
#define REDUCE_DECLARE_FLOAT(type, name, ...)                                                                \
    REDUCE_DECLARE_COMPLEX(type, name)                                                                       \
    REDUCE_DECLARE(scalar_##name##_min)                                                                      \
    REDUCE_DECLARE(scalar_##name##_max)
#define REDUCE_DECLARE_HALF(type, name, ...)                                                                 \
    REDUCE_DECLARE_FLOAT(type, name)                                                                         \
    void scalar_##name##_widen(float *target, const void *source, size_t count);                             \
    void scalar_##name##_narrow(void *target, const float *source, size_t count);
#define REDUCE_DECLARE_INTEGER(type, name, ...)                                                              \
    REDUCE_DECLARE(scalar_##name##_sum)                                                                      \
    REDUCE_DECLARE(scalar_##name##_product)                                                                  \
    REDUCE_DECLARE(scalar_##name##_min)                                                                      \
    REDUCE_DECLARE(scalar_##name##_max)                                                                      \
    REDUCE_DECLARE(scalar_##name##_bit_and)                                                                  \
    REDUCE_DECLARE(scalar_##name##_bit_or)                                                                   \
    REDUCE_DECLARE(scalar_##name##_bit_xor)                                                                  \
    REDUCE_DECLARE(scalar_##name##_logical_and)                                                              \
    REDUCE_DECLARE(scalar_##name##_logical_or)                                                               \
    void scalar_##name##_divide(void *target, size_t count, int divisor);
#define REDUCE_DECLARE_BOOL(type, name)                                                                      \
    REDUCE_DECLARE(scalar_##name##_and)                                                                      \
    REDUCE_DECLARE(scalar_##name##_or)                                                                       \
    REDUCE_DECLARE(scalar_##name##_xor)
REDUCE_TYPES(REDUCE_DECLARE_FLOAT, REDUCE_DECLARE_HALF, REDUCE_DECLARE_INTEGER, REDUCE_DECLARE_BOOL,
             REDUCE_DECLARE_COMPLEX)

/* What a table begins with: its name and all of plain C, of which it overrides what its instruction set does
 * better. */
#define REDUCE_SCALAR_FLOAT(type, name, ...)                                                                 \
    , .reduce[type] = REDUCE_FLOAT_ROW(scalar_##name), .divide[type] = scalar_##name##_divide,               \
      .scale[type] = scalar_##name##_scale
#define REDUCE_SCALAR_HALF(type, name, ...)                                                                  \
    REDUCE_SCALAR_FLOAT(type, name), .widen[type] = scalar_##name##_widen,                                   \
                                     .narrow[type] = scalar_##name##_narrow
#define REDUCE_SCALAR_INTEGER(type, name, ...)                                                               \
    , .reduce[type] = REDUCE_INTEGER_ROW(scalar_##name, scalar_##name), .divide[type] = scalar_##name##_divide
#define REDUCE_SCALAR_BOOL(type, name) , .reduce[type] = REDUCE_BOOL_ROW(scalar_##name)
#define REDUCE_SCALAR_COMPLEX(type, name)                                                                    \
    , .reduce[type] = REDUCE_COMPLEX_ROW(scalar_##name), .divide[type] = scalar_##name##_divide,             \
      .scale[type] = scalar_##name##_scale
#define REDUCE_SCALAR_TABLE(label)                                                                           \
    .name = label REDUCE_TYPES(REDUCE_SCALAR_FLOAT, REDUCE_SCALAR_HALF, REDUCE_SCALAR_INTEGER,               \
                               REDUCE_SCALAR_BOOL, REDUCE_SCALAR_COMPLEX)

/* The kernels of AVX-512: KERNEL(type, reduction, name) */
#define REDUCE_AVX512_KERNELS(KERNEL)                                                                        \
    KERNEL(TUTTI_BFLOAT16, TUTTI_SUM, bfloat16_sum)                                                          \
    KERNEL(TUTTI_BFLOAT16, TUTTI_AVG, bfloat16_sum)                                                          \
    KERNEL(TUTTI_BFLOAT16, TUTTI_PREMULTIPLIED_SUM, bfloat16_sum)                                            \
    KERNEL(TUTTI_BFLOAT16, TUTTI_PRODUCT, bfloat16_product)                                                  \
    KERNEL(TUTTI_FLOAT32, TUTTI_MIN, float32_min)                                                            \
    KERNEL(TUTTI_FLOAT32, TUTTI_MAX, float32_max)                                                            \
    KERNEL(TUTTI_FLOAT64, TUTTI_MIN, float64_min)                                                            \
    KERNEL(TUTTI_FLOAT64, TUTTI_MAX, float64_max)                                                            \
    KERNEL(TUTTI_INT64, TUTTI_PRODUCT, int64_product)                                                        \
    KERNEL(TUTTI_UINT64, TUTTI_PRODUCT, int64_product)                                                       \
    KERNEL(TUTTI_INT64, TUTTI_MIN, int64_min)                                                                \
    KERNEL(TUTTI_INT64, TUTTI_MAX, int64_max)                                                                \
    KERNEL(TUTTI_UINT64, TUTTI_MIN, uint64_min)                                                              \
    KERNEL(TUTTI_UINT64, TUTTI_MAX, uint64_max)
#define REDUCE_DECLARE_AVX512(type, reduction, name)                                                         \
    REDUCE_DECLARE(avx512_##name)                                                                            \
    void avx512_##name##_many(void *target, const void *const *sources, int source_count, size_t count);
REDUCE_AVX512_KERNELS(REDUCE_DECLARE_AVX512)

/* NULL where the compiler had no such instructions.  Data, so that no code of those files runs before the
 * processor was asked. */
extern const struct reduce_table *const reduce_avx2_kernels;
extern const struct reduce_table *const reduce_avx512_kernels;

#endif
