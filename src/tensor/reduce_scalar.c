/* Plain C for every type and reduction: what other tables fall back to and are compared with. */

#include <math.h>
#include "tensor/reduce_kernels.h"

/* The elements of a loop do not depend on each other, `target` being an operand itself or apart from it.  GCC
 * then vectorises, where it is asked to, without a check at run time that the operands are apart. */
#if defined(__GNUC__) && !defined(__clang__)
#define INDEPENDENT _Pragma("GCC ivdep")
#else
#define INDEPENDENT
#endif

#define ADD(a, b)         ((a) + (b))
#define MULTIPLY(a, b)    ((a) * (b))
#define DIVIDE(a, b)      ((a) / (b))
#define LESSER_INT(a, b)  ((a) < (b) ? (a) : (b))
#define GREATER_INT(a, b) ((a) > (b) ? (a) : (b))
#define BIT_AND(a, b)     ((a) & (b))
#define BIT_OR(a, b)      ((a) | (b))
#define BIT_XOR(a, b)     ((a) ^ (b))
#define LOGICAL_AND(a, b) (((a) != 0) & ((b) != 0))
#define LOGICAL_OR(a, b)  (((a) | (b)) != 0)
#define LOGICAL_XOR(a, b) (((a) != 0) != ((b) != 0))

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
        INDEPENDENT for (size_t i = 0; i < count; i++)                                                       \
        {                                                                                                    \
            stored x, y;                                                                                     \
            memcpy(&x, in_left + i * sizeof x, sizeof x);                                                    \
            memcpy(&y, in_right + i * sizeof y, sizeof y);                                                   \
            calculated a = (calculated)widen(x), b = (calculated)widen(y);                                   \
            x = (stored)narrow(operate(a, b));                                                               \
            memcpy(out + i * sizeof x, &x, sizeof x);                                                        \
        }                                                                                                    \
    }

/* Combines each element with one number. */
#define APPLY_KERNEL(name, argument, stored, calculated, widen, narrow, operate)                             \
    void name(void *target, size_t count, argument number)                                                   \
    {                                                                                                        \
        unsigned char *out = target;                                                                         \
        calculated b = (calculated)number;                                                                   \
        INDEPENDENT for (size_t i = 0; i < count; i++)                                                       \
        {                                                                                                    \
            stored x;                                                                                        \
            memcpy(&x, out + i * sizeof x, sizeof x);                                                        \
            calculated a = widen(x);                                                                         \
            x = (stored)narrow(operate(a, b));                                                               \
            memcpy(out + i * sizeof x, &x, sizeof x);                                                        \
        }                                                                                                    \
    }

#define FLOAT_KERNELS(type, name, stored, calculated, widen, narrow)                                         \
    REDUCE_KERNEL(scalar_##name##_sum, stored, calculated, widen, narrow, ADD)                               \
    REDUCE_KERNEL(scalar_##name##_product, stored, calculated, widen, narrow, MULTIPLY)                      \
    REDUCE_KERNEL(scalar_##name##_min, stored, calculated, widen, narrow, lesser_##calculated)               \
    REDUCE_KERNEL(scalar_##name##_max, stored, calculated, widen, narrow, greater_##calculated)              \
    APPLY_KERNEL(scalar_##name##_divide, int, stored, calculated, widen, narrow, DIVIDE)                     \
    APPLY_KERNEL(scalar_##name##_scale, double, stored, calculated, widen, narrow, MULTIPLY)

#define HALF_KERNELS(type, name, stored, calculated, to_float, to_half)                                      \
    FLOAT_KERNELS(type, name, stored, calculated, to_float, to_half)                                         \
    void scalar_##name##_widen(float *target, const void *source, size_t count)                              \
    {                                                                                                        \
        const unsigned char *in = source;                                                                    \
        INDEPENDENT for (size_t i = 0; i < count; i++)                                                       \
        {                                                                                                    \
            stored half;                                                                                     \
            memcpy(&half, in + i * sizeof half, sizeof half);                                                \
            target[i] = to_float(half);                                                                      \
        }                                                                                                    \
    }                                                                                                        \
    void scalar_##name##_narrow(void *target, const float *source, size_t count)                             \
    {                                                                                                        \
        unsigned char *out = target;                                                                         \
        INDEPENDENT for (size_t i = 0; i < count; i++)                                                       \
        {                                                                                                    \
            stored half = to_half(source[i]);                                                                \
            memcpy(out + i * sizeof half, &half, sizeof half);                                               \
        }                                                                                                    \
    }

#define INTEGER_KERNEL(name, stored, calculated, operate)                                                    \
    REDUCE_KERNEL(name, stored, calculated, REDUCE_SAME, REDUCE_SAME, operate)

#define INTEGER_KERNELS(type, name, stored, wrapping, calculated)                                            \
    INTEGER_KERNEL(scalar_##name##_sum, stored, wrapping, ADD)                                               \
    INTEGER_KERNEL(scalar_##name##_product, stored, wrapping, MULTIPLY)                                      \
    INTEGER_KERNEL(scalar_##name##_min, stored, stored, LESSER_INT)                                          \
    INTEGER_KERNEL(scalar_##name##_max, stored, stored, GREATER_INT)                                         \
    INTEGER_KERNEL(scalar_##name##_bit_and, stored, stored, BIT_AND)                                         \
    INTEGER_KERNEL(scalar_##name##_bit_or, stored, stored, BIT_OR)                                           \
    INTEGER_KERNEL(scalar_##name##_bit_xor, stored, stored, BIT_XOR)                                         \
    INTEGER_KERNEL(scalar_##name##_logical_and, stored, stored, LOGICAL_AND)                                 \
    INTEGER_KERNEL(scalar_##name##_logical_or, stored, stored, LOGICAL_OR)                                   \
    APPLY_KERNEL(scalar_##name##_divide, int, stored, calculated, REDUCE_SAME, REDUCE_SAME, DIVIDE)

/* Bytes, since a _Bool must not hold what users may pass: any value but 0 is true. */
#define BOOL_KERNELS(type, name)                                                                             \
    INTEGER_KERNEL(scalar_##name##_and, uint8_t, uint8_t, LOGICAL_AND)                                       \
    INTEGER_KERNEL(scalar_##name##_or, uint8_t, uint8_t, LOGICAL_OR)                                         \
    INTEGER_KERNEL(scalar_##name##_xor, uint8_t, uint8_t, LOGICAL_XOR)

/* All but the product treats real and imaginary parts alike. */
#define COMPLEX_KERNELS(type, name)                                                                          \
    void scalar_##name##_sum(void *target, const void *left, const void *right, size_t count)                \
    {                                                                                                        \
        scalar_float32_sum(target, left, right, 2 * count);                                                  \
    }                                                                                                        \
    void scalar_##name##_divide(void *target, size_t count, int divisor)                                     \
    {                                                                                                        \
        scalar_float32_divide(target, 2 * count, divisor);                                                   \
    }                                                                                                        \
    void scalar_##name##_scale(void *target, size_t count, double factor)                                    \
    {                                                                                                        \
        scalar_float32_scale(target, 2 * count, factor);                                                     \
    }

REDUCE_TYPES(FLOAT_KERNELS, HALF_KERNELS, INTEGER_KERNELS, BOOL_KERNELS, COMPLEX_KERNELS)

/* The product of the textbook: what is infinite may become NaN, as the vector units have it too.  The complex
 * numbers of C (Annex G) mend that, by tests and at many times the cost. */
void scalar_complex64_product(void *target, const void *left, const void *right, size_t count)
{
    unsigned char *out = target;
    const unsigned char *in_left = left, *in_right = right;
    INDEPENDENT for (size_t i = 0; i < count; i++)
    {
        float a[2], b[2], product[2];
        memcpy(a, in_left + i * sizeof a, sizeof a);
        memcpy(b, in_right + i * sizeof b, sizeof b);
        product[0] = a[0] * b[0] - a[1] * b[1];
        product[1] = a[0] * b[1] + a[1] * b[0];
        memcpy(out + i * sizeof product, product, sizeof product);
    }
}

static const struct reduce_table scalar_table = {REDUCE_SCALAR_TABLE("scalar")};

const struct reduce_table *reduce_table_scalar(void)
{
    return &scalar_table;
}
