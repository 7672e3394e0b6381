/* What the files that make up the reduction tables share. */
#ifndef TUTTI_TENSOR_REDUCE_KERNELS_H
#define TUTTI_TENSOR_REDUCE_KERNELS_H

#include "tensor/reduce.h"

/* The kernels of one type, in struct reduce_table. */
#define REDUCE_ROW(sum, product, min, max)                                                                   \
    {                                                                                                        \
        [TUTTI_SUM] = sum, [TUTTI_PRODUCT] = product, [TUTTI_MIN] = min, [TUTTI_MAX] = max,                  \
        [TUTTI_AVG] = sum                                                                                    \
    }

/* Integers are divided one by one everywhere: vector units do not divide them. */
void reduce_divide_int8(void *target, size_t count, int divisor);
void reduce_divide_uint8(void *target, size_t count, int divisor);
void reduce_divide_int32(void *target, size_t count, int divisor);
void reduce_divide_int64(void *target, size_t count, int divisor);

/* NULL where the compiler had no AVX2.  Data, so that no code of that file runs before the processor was
 * asked. */
extern const struct reduce_table *const reduce_avx2_kernels;

#endif
