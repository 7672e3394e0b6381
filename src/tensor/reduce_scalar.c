/* Plain C for every type and reduction: what other tables fall back to and are compared with. */
#include <math.h>
#include "tensor/reduce_kernels.h"

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
    void name(void *target, const void *left, const void *right, size_t count)                               \
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

#define FLOAT_KERNELS(type, name, stored, calculated, widen, narrow)                                         \
    REDUCE_KERNEL(scalar_##name##_sum, stored, calculated, widen, narrow, ADD)                               \
    REDUCE_KERNEL(scalar_##name##_product, stored, calculated, widen, narrow, MULTIPLY)                      \
    REDUCE_KERNEL(scalar_##name##_min, stored, calculated, widen, narrow, lesser_##calculated)               \
    REDUCE_KERNEL(scalar_##name##_max, stored, calculated, widen, narrow, greater_##calculated)              \
    DIVIDE_KERNEL(scalar_##name##_divide, stored, calculated, widen, narrow)

#define INTEGER_KERNELS(type, name, stored, wrapping, calculated)                                            \
    REDUCE_KERNEL(scalar_##name##_sum, wrapping, wrapping, REDUCE_SAME, REDUCE_SAME, ADD)                    \
    REDUCE_KERNEL(scalar_##name##_product, wrapping, wrapping, REDUCE_SAME, REDUCE_SAME, MULTIPLY)           \
    REDUCE_KERNEL(scalar_##name##_min, stored, stored, REDUCE_SAME, REDUCE_SAME, LESSER_INT)                 \
    REDUCE_KERNEL(scalar_##name##_max, stored, stored, REDUCE_SAME, REDUCE_SAME, GREATER_INT)                \
    DIVIDE_KERNEL(scalar_##name##_divide, stored, calculated, REDUCE_SAME, REDUCE_SAME)

REDUCE_TYPES(FLOAT_KERNELS, INTEGER_KERNELS)

static const struct reduce_table scalar_table = {REDUCE_SCALAR_TABLE("scalar")};

const struct reduce_table *reduce_table_scalar(void)
{
    return &scalar_table;
}
