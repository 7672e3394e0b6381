/* Reduction kernels for x86-64 processors with AVX2, FMA and F16C: Intel since Haswell, AMD since Excavator.
 */
#include "tensor/reduce_loops.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)

#include <math.h>
#include "tensor/reduce_avx2_vectors.h"

/* ---- Floats -------------------------------------------------------------------------------------- */

/* Any NaN becomes one with a lower half of zero, as round_to_bfloat16() wants it. */
static inline float scaling_factor(double number)
{
    return isnan(number) ? NAN : (float)number;
}

static inline struct float_pair pair_of(float number)
{
    return (struct float_pair){_mm256_set1_ps(number), _mm256_set1_ps(number)};
}

#define floats_of(number)      _mm256_set1_ps((float)(number))
#define doubles_of(number)     _mm256_set1_pd((double)(number))
#define pair_of_int(number)    pair_of((float)(number))
#define pair_of_factor(number) pair_of(scaling_factor(number))

#define FLOAT_LOOPS(name, element_bytes, family, broadcast, broadcast_factor, add, multiply, divide)         \
    REDUCE_LOOPS(name##_sum, element_bytes, family, add)                                                     \
    REDUCE_LOOPS(name##_product, element_bytes, family, multiply)                                            \
    APPLY_LOOP(name##_divide, int, element_bytes, family, broadcast, divide)                                 \
    APPLY_LOOP(name##_scale, double, element_bytes, family, broadcast_factor, multiply)
FLOAT_LOOPS(float32, 4, float32, floats_of, floats_of, _mm256_add_ps, _mm256_mul_ps, _mm256_div_ps)
FLOAT_LOOPS(float64, 8, float64, doubles_of, doubles_of, _mm256_add_pd, _mm256_mul_pd, _mm256_div_pd)
FLOAT_LOOPS(float16, 2, float16, floats_of, floats_of, add_beside_conversions, _mm256_mul_ps, _mm256_div_ps)
FLOAT_LOOPS(bfloat16, 2, bfloat16, pair_of_int, pair_of_factor, add_pair, multiply_pair, divide_pair)

#define ORDER_LOOPS(name, element_bytes, family, lesser, greater)                                            \
    REDUCE_LOOPS(name##_min, element_bytes, family, lesser)                                                  \
    REDUCE_LOOPS(name##_max, element_bytes, family, greater)
ORDER_LOOPS(float32, 4, float32, lesser_floats, greater_floats)
ORDER_LOOPS(float64, 8, float64, lesser_doubles, greater_doubles)
ORDER_LOOPS(float16, 2, integer, lesser_float16, greater_float16)
ORDER_LOOPS(bfloat16, 2, integer, lesser_bfloat16, greater_bfloat16)

REDUCE_LOOPS(complex64_sum, 8, float32, _mm256_add_ps)
REDUCE_LOOPS(complex64_product, 8, float32, multiply_complex)
APPLY_LOOP(complex64_divide, int, 8, float32, floats_of, _mm256_div_ps)
APPLY_LOOP(complex64_scale, double, 8, float32, floats_of, _mm256_mul_ps)

/* What is less than a vector is left to plain C. */
#define HALF_KERNELS(name, load_as_floats, store_of_floats)                                                  \
    static void name##_to_floats(float *target, const void *source, size_t count)                            \
    {                                                                                                        \
        const unsigned char *in = source;                                                                    \
        size_t i = 0;                                                                                        \
        for (; count - i >= 8; i += 8)                                                                       \
            _mm256_storeu_ps(target + i, load_as_floats(in + 2 * i));                                        \
        scalar_##name##_widen(target + i, in + 2 * i, count - i);                                            \
    }                                                                                                        \
    static void name##_from_floats(void *target, const float *source, size_t count)                          \
    {                                                                                                        \
        unsigned char *out = target;                                                                         \
        size_t i = 0;                                                                                        \
        for (; count - i >= 8; i += 8)                                                                       \
            store_of_floats(out + 2 * i, _mm256_loadu_ps(source + i));                                       \
        scalar_##name##_narrow(out + 2 * i, source + i, count - i);                                          \
    }
HALF_KERNELS(float16, float16_load, float16_store)
HALF_KERNELS(bfloat16, bfloat16_load_8, bfloat16_store_8)

/* ---- Integers ------------------------------------------------------------------------------------ */

/* Those for which the sign makes no difference. */
#define INTEGER_LOOPS(name, bits, add, multiply)                                                             \
    REDUCE_LOOPS(name##_sum, (bits) / 8, integer, add)                                                       \
    REDUCE_LOOPS(name##_product, (bits) / 8, integer, multiply)                                              \
    REDUCE_LOOP(name##_bit_and, (bits) / 8, integer, _mm256_and_si256)                                       \
    REDUCE_LOOP(name##_bit_or, (bits) / 8, integer, _mm256_or_si256)                                         \
    REDUCE_LOOP(name##_bit_xor, (bits) / 8, integer, _mm256_xor_si256)                                       \
    REDUCE_LOOP(name##_logical_and, (bits) / 8, integer, and_logically_##bits)                               \
    REDUCE_LOOP(name##_logical_or, (bits) / 8, integer, or_logically_##bits)
INTEGER_LOOPS(int8, 8, _mm256_add_epi8, multiply_bytes)
INTEGER_LOOPS(int16, 16, _mm256_add_epi16, _mm256_mullo_epi16)
INTEGER_LOOPS(int32, 32, _mm256_add_epi32, _mm256_mullo_epi32)
INTEGER_LOOPS(int64, 64, _mm256_add_epi64, multiply_int64)

/* A bool is a byte. */
REDUCE_LOOP(bool_xor, 1, integer, xor_logically_8)
#define bool_and int8_logical_and
#define bool_or  int8_logical_or

ORDER_LOOPS(int8, 1, integer, _mm256_min_epi8, _mm256_max_epi8)
ORDER_LOOPS(uint8, 1, integer, _mm256_min_epu8, _mm256_max_epu8)
ORDER_LOOPS(int16, 2, integer, _mm256_min_epi16, _mm256_max_epi16)
ORDER_LOOPS(int32, 4, integer, _mm256_min_epi32, _mm256_max_epi32)
ORDER_LOOPS(uint32, 4, integer, _mm256_min_epu32, _mm256_max_epu32)
ORDER_LOOPS(int64, 8, integer, lesser_int64, greater_int64)
ORDER_LOOPS(uint64, 8, integer, lesser_uint64, greater_uint64)

/* Rows of the scalar table, and of this one by AVX-512, are overridden on purpose.  Vector units do not
 * divide integers. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init"
#define FLOAT_ROWS(type, name)                                                                               \
    .reduce[type] = REDUCE_FLOAT_ROW(name), .divide[type] = name##_divide, .scale[type] = name##_scale,      \
    .many[type] = REDUCE_MANY_FLOAT_ROW(name)
#define HALF_ROWS(type, name)                                                                                \
    FLOAT_ROWS(type, name), .widen[type] = name##_to_floats, .narrow[type] = name##_from_floats
#define INTEGER_ROWS(type, name, ordered)                                                                    \
    .reduce[type] = REDUCE_INTEGER_ROW(name, ordered), .many[type] = REDUCE_MANY_INTEGER_ROW(name, ordered)
#define AVX2_TABLE(label)                                                                                    \
    REDUCE_SCALAR_TABLE(label), FLOAT_ROWS(TUTTI_FLOAT32, float32), FLOAT_ROWS(TUTTI_FLOAT64, float64),      \
        HALF_ROWS(TUTTI_FLOAT16, float16), HALF_ROWS(TUTTI_BFLOAT16, bfloat16),                              \
        INTEGER_ROWS(TUTTI_INT8, int8, int8), INTEGER_ROWS(TUTTI_UINT8, int8, uint8),                        \
        INTEGER_ROWS(TUTTI_INT16, int16, int16), INTEGER_ROWS(TUTTI_INT32, int32, int32),                    \
        INTEGER_ROWS(TUTTI_UINT32, int32, uint32), INTEGER_ROWS(TUTTI_INT64, int64, int64),                  \
        INTEGER_ROWS(TUTTI_UINT64, int64, uint64),                                                           \
        .reduce[TUTTI_BOOL] = REDUCE_BOOL_ROW(bool),                                                         \
        .reduce[TUTTI_COMPLEX64] = REDUCE_COMPLEX_ROW(complex64),                                            \
        .divide[TUTTI_COMPLEX64] = complex64_divide, .scale[TUTTI_COMPLEX64] = complex64_scale,              \
        .many[TUTTI_COMPLEX64] = REDUCE_MANY_COMPLEX_ROW(complex64)
static const struct reduce_table avx2_table = {AVX2_TABLE("avx2")};

#define AVX512_KERNEL(type, reduction, name)                                                                 \
    , .reduce[type][reduction] = avx512_##name, .many[type][reduction] = avx512_##name##_many
static const struct reduce_table avx512_table = {AVX2_TABLE("avx512") REDUCE_AVX512_KERNELS(AVX512_KERNEL)};
#pragma GCC diagnostic pop

const struct reduce_table *const reduce_avx2_kernels = &avx2_table;
const struct reduce_table *const reduce_avx512_kernels = &avx512_table;

#else

const struct reduce_table *const reduce_avx2_kernels = NULL;
const struct reduce_table *const reduce_avx512_kernels = NULL;

#endif
