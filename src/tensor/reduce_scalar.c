/* Plain C for every type and reduction: what other tables fall back to and are compared with. */
#include <math.h>
#include "tensor/float16.h"
#include "tensor/reduce_kernels.h"

#define SAME(x)           (x)
#define ADD(a, b)         ((a) + (b))
#define MULTIPLY(a, b)    ((a) * (b))
#define LESSER_INT(a, b)  ((a) < (b) ? (a) : (b))
#define GREATER_INT(a, b) ((a) > (b) ? (a) : (b))

static inline float lesser_float(float a, float b)
{
    if (isnan(a) || isnan(b))
        return (float)NAN;
    return a < b || (a == b && signbit(a)) ? a : b;
}

static inline float greater_float(float a, float b)
{
    if (isnan(a) || isnan(b))
        return (float)NAN;
    return a > b || (a == b && !signbit(a)) ? a : b;
}

static inline double lesser_double(double a, double b)
{
    if (isnan(a) || isnan(b))
        return (double)NAN;
    return a < b || (a == b && signbit(a)) ? a : b;
}

static inline double greater_double(double a, double b)
{
    if (isnan(a) || isnan(b))
        return (double)NAN;
    return a > b || (a == b && !signbit(a)) ? a : b;
}

/* One loop over elements that are stored as one type and calculated in another, of which `widen` and `narrow`
 * are the conversions.  The pointers may be unaligned and `target` one of the others; memcpy() says both. */
#define REDUCE_KERNEL(name, stored, calculated, widen, narrow, operate)                                      \
    static void name(void *target, const void *left, const void *right, size_t count)                        \
    {                                                                                                        \
        unsigned char *out = target;                                                                         \
        const unsigned char *in_left = left, *in_right = right;                                              \
        for (size_t i = 0; i < count; i++) {                                                                 \
            stored x, y;                                                                                     \
            memcpy(&x, in_left + i * sizeof x, sizeof x);                                                    \
            memcpy(&y, in_right + i * sizeof y, sizeof y);                                                   \
            calculated a = widen(x), b = widen(y);                                                           \
            x = (stored)narrow(operate(a, b));                                                               \
            memcpy(out + i * sizeof x, &x, sizeof x);                                                        \
        }                                                                                                    \
    }

#define DIVIDE_KERNEL(name, stored, calculated, widen, narrow)                                               \
    void name(void *target, size_t count, int divisor)                                                       \
    {                                                                                                        \
        unsigned char *out = target;                                                                         \
        calculated by = (calculated)divisor;                                                                 \
        for (size_t i = 0; i < count; i++) {                                                                 \
            stored x;                                                                                        \
            memcpy(&x, out + i * sizeof x, sizeof x);                                                        \
            calculated a = widen(x);                                                                         \
            x = (stored)narrow(a / by);                                                                      \
            memcpy(out + i * sizeof x, &x, sizeof x);                                                        \
        }                                                                                                    \
    }

#define FLOAT_KERNELS(type, stored, calculated, widen, narrow)                                               \
    REDUCE_KERNEL(type##_sum, stored, calculated, widen, narrow, ADD)                                        \
    REDUCE_KERNEL(type##_product, stored, calculated, widen, narrow, MULTIPLY)                               \
    REDUCE_KERNEL(type##_min, stored, calculated, widen, narrow, lesser_##calculated)                        \
    REDUCE_KERNEL(type##_max, stored, calculated, widen, narrow, greater_##calculated)                       \
    static DIVIDE_KERNEL(type##_divide, stored, calculated, widen, narrow)

FLOAT_KERNELS(float32, float, float, SAME, SAME)
FLOAT_KERNELS(float64, double, double, SAME, SAME)
FLOAT_KERNELS(float16, uint16_t, float, float16_widen, float16_round)
FLOAT_KERNELS(bfloat16, uint16_t, float, bfloat16_widen, bfloat16_round)

/* Sums and products of signed integers are those of unsigned ones, which wrap around instead of being
 * undefined. */
#define UNSIGNED_KERNELS(bits)                                                                               \
    REDUCE_KERNEL(uint##bits##_sum, uint##bits##_t, uint##bits##_t, SAME, SAME, ADD)                         \
    REDUCE_KERNEL(uint##bits##_product, uint##bits##_t, uint##bits##_t, SAME, SAME, MULTIPLY)

#define ORDER_KERNELS(type)                                                                                  \
    REDUCE_KERNEL(type##_min, type##_t, type##_t, SAME, SAME, LESSER_INT)                                    \
    REDUCE_KERNEL(type##_max, type##_t, type##_t, SAME, SAME, GREATER_INT)

UNSIGNED_KERNELS(8)
UNSIGNED_KERNELS(32)
UNSIGNED_KERNELS(64)
ORDER_KERNELS(int8)
ORDER_KERNELS(uint8)
ORDER_KERNELS(int32)
ORDER_KERNELS(int64)

DIVIDE_KERNEL(reduce_divide_int8, int8_t, int, SAME, SAME)
DIVIDE_KERNEL(reduce_divide_uint8, uint8_t, int, SAME, SAME)
DIVIDE_KERNEL(reduce_divide_int32, int32_t, int32_t, SAME, SAME)
DIVIDE_KERNEL(reduce_divide_int64, int64_t, int64_t, SAME, SAME)

static const struct reduce_table scalar_table = {
    .name = "scalar",
    .reduce =
        {
            [TUTTI_FLOAT32] = REDUCE_ROW(float32_sum, float32_product, float32_min, float32_max),
            [TUTTI_FLOAT64] = REDUCE_ROW(float64_sum, float64_product, float64_min, float64_max),
            [TUTTI_FLOAT16] = REDUCE_ROW(float16_sum, float16_product, float16_min, float16_max),
            [TUTTI_BFLOAT16] = REDUCE_ROW(bfloat16_sum, bfloat16_product, bfloat16_min, bfloat16_max),
            [TUTTI_INT8] = REDUCE_ROW(uint8_sum, uint8_product, int8_min, int8_max),
            [TUTTI_UINT8] = REDUCE_ROW(uint8_sum, uint8_product, uint8_min, uint8_max),
            [TUTTI_INT32] = REDUCE_ROW(uint32_sum, uint32_product, int32_min, int32_max),
            [TUTTI_INT64] = REDUCE_ROW(uint64_sum, uint64_product, int64_min, int64_max),
        },
    .divide =
        {
            [TUTTI_FLOAT32] = float32_divide,
            [TUTTI_FLOAT64] = float64_divide,
            [TUTTI_FLOAT16] = float16_divide,
            [TUTTI_BFLOAT16] = bfloat16_divide,
            [TUTTI_INT8] = reduce_divide_int8,
            [TUTTI_UINT8] = reduce_divide_uint8,
            [TUTTI_INT32] = reduce_divide_int32,
            [TUTTI_INT64] = reduce_divide_int64,
        },
};

const struct reduce_table *reduce_table_scalar(void)
{
    return &scalar_table;
}
