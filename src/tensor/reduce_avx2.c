/* Reduction kernels for x86-64 processors with AVX2 and F16C (Intel since Haswell, AMD since Excavator).
 *
 * A kernel is a loop over vectors of elements in memory.  What is left at the end goes through the same
 * vector operation in a padded buffer, so that there is one definition of each operation. */
#include "tensor/reduce_kernels.h"

#if defined(__AVX2__) && defined(__F16C__)

#include <string.h>
#include "tensor/reduce_avx2_vectors.h"

#define VECTOR_BYTES 32

/* `load` and `store` move a vector of `bytes` bytes between memory of any alignment and registers.  `target`
 * may be `left` or `right`. */
#define REDUCE_KERNEL(name, element_bytes, bytes, load, store, operate)                                      \
    static void name(void *target, const void *left, const void *right, size_t count)                        \
    {                                                                                                        \
        unsigned char *out = target;                                                                         \
        const unsigned char *a = left, *b = right;                                                           \
        size_t size = count * (element_bytes);                                                               \
        for (; size >= 2 * (bytes); size -= 2 * (bytes)) {                                                   \
            store(out, operate(load(a), load(b)));                                                           \
            store(out + (bytes), operate(load(a + (bytes)), load(b + (bytes))));                             \
            out += 2 * (bytes), a += 2 * (bytes), b += 2 * (bytes);                                          \
        }                                                                                                    \
        while (size > 0) {                                                                                   \
            unsigned char padded[2][VECTOR_BYTES] = {{0}};                                                   \
            size_t part = size < (bytes) ? size : (bytes);                                                   \
            memcpy(padded[0], a, part);                                                                      \
            memcpy(padded[1], b, part);                                                                      \
            store(padded[0], operate(load(padded[0]), load(padded[1])));                                     \
            memcpy(out, padded[0], part);                                                                    \
            out += part, a += part, b += part, size -= part;                                                 \
        }                                                                                                    \
    }

/* Combines each element with one number. */
#define APPLY_KERNEL(name, argument, element_bytes, bytes, load, store, vector, broadcast, operate)          \
    static void name(void *target, size_t count, argument number)                                            \
    {                                                                                                        \
        unsigned char *out = target;                                                                         \
        size_t size = count * (element_bytes);                                                               \
        const vector by = broadcast(number);                                                                 \
        for (; size >= (bytes); size -= (bytes), out += (bytes))                                             \
            store(out, operate(load(out), by));                                                              \
        if (size > 0) {                                                                                      \
            unsigned char padded[VECTOR_BYTES] = {0};                                                        \
            memcpy(padded, out, size);                                                                       \
            store(padded, operate(load(padded), by));                                                        \
            memcpy(out, padded, size);                                                                       \
        }                                                                                                    \
    }

/* All sources in one pass: what has been added stays in registers, in the precision of `vector`.  Several
 * vectors at once, so that the additions of one need not wait for each other. */
#define SUM_MANY_KERNEL(name, element_bytes, bytes, load, store, vector, add)                                \
    static void name(void *target, const void *const *sources, int source_count, size_t count)               \
    {                                                                                                        \
        unsigned char *out = target;                                                                         \
        const unsigned char *const *in = (const unsigned char *const *)sources;                              \
        size_t size = count * (element_bytes), i = 0;                                                        \
        for (; size - i >= 4 * (bytes); i += 4 * (bytes)) {                                                  \
            const unsigned char *x = in[0] + i;                                                              \
            vector a = load(x), b = load(x + (bytes)), c = load(x + 2 * (bytes)), d = load(x + 3 * (bytes)); \
            for (int s = 1; s < source_count; s++) {                                                         \
                x = in[s] + i;                                                                               \
                a = add(a, load(x));                                                                         \
                b = add(b, load(x + (bytes)));                                                               \
                c = add(c, load(x + 2 * (bytes)));                                                           \
                d = add(d, load(x + 3 * (bytes)));                                                           \
            }                                                                                                \
            store(out + i, a);                                                                               \
            store(out + i + (bytes), b);                                                                     \
            store(out + i + 2 * (bytes), c);                                                                 \
            store(out + i + 3 * (bytes), d);                                                                 \
        }                                                                                                    \
        for (; size - i >= (bytes); i += (bytes)) {                                                          \
            vector a = load(in[0] + i);                                                                      \
            for (int s = 1; s < source_count; s++)                                                           \
                a = add(a, load(in[s] + i));                                                                 \
            store(out + i, a);                                                                               \
        }                                                                                                    \
        if (size > i) {                                                                                      \
            unsigned char padded[VECTOR_BYTES] = {0};                                                        \
            memcpy(padded, in[0] + i, size - i);                                                             \
            vector a = load(padded);                                                                         \
            for (int s = 1; s < source_count; s++) {                                                         \
                memcpy(padded, in[s] + i, size - i);                                                         \
                a = add(a, load(padded));                                                                    \
            }                                                                                                \
            store(padded, a);                                                                                \
            memcpy(out + i, padded, size - i);                                                               \
        }                                                                                                    \
    }

/* ---- Floats -------------------------------------------------------------------------------------- */

#define broadcast_float(number)  _mm256_set1_ps((float)(number))
#define broadcast_double(number) _mm256_set1_pd((double)(number))

#define FLOAT32_KERNEL(name, operate) REDUCE_KERNEL(name, 4, 32, float32_load, float32_store, operate)
FLOAT32_KERNEL(float32_sum, _mm256_add_ps)
FLOAT32_KERNEL(float32_product, _mm256_mul_ps)
FLOAT32_KERNEL(float32_min, lesser_floats)
FLOAT32_KERNEL(float32_max, greater_floats)
APPLY_KERNEL(float32_divide, int, 4, 32, float32_load, float32_store, __m256, broadcast_float, _mm256_div_ps)
APPLY_KERNEL(float32_scale, double, 4, 32, float32_load, float32_store, __m256, broadcast_float,
             _mm256_mul_ps)
SUM_MANY_KERNEL(float32_sum_many, 4, 32, float32_load, float32_store, __m256, _mm256_add_ps)

REDUCE_KERNEL(complex64_sum, 8, 32, float32_load, float32_store, _mm256_add_ps)
REDUCE_KERNEL(complex64_product, 8, 32, float32_load, float32_store, multiply_complex)
APPLY_KERNEL(complex64_divide, int, 8, 32, float32_load, float32_store, __m256, broadcast_float,
             _mm256_div_ps)
APPLY_KERNEL(complex64_scale, double, 8, 32, float32_load, float32_store, __m256, broadcast_float,
             _mm256_mul_ps)
SUM_MANY_KERNEL(complex64_sum_many, 8, 32, float32_load, float32_store, __m256, _mm256_add_ps)

#define FLOAT64_KERNEL(name, operate) REDUCE_KERNEL(name, 8, 32, float64_load, float64_store, operate)
FLOAT64_KERNEL(float64_sum, _mm256_add_pd)
FLOAT64_KERNEL(float64_product, _mm256_mul_pd)
FLOAT64_KERNEL(float64_min, lesser_doubles)
FLOAT64_KERNEL(float64_max, greater_doubles)
APPLY_KERNEL(float64_divide, int, 8, 32, float64_load, float64_store, __m256d, broadcast_double,
             _mm256_div_pd)
APPLY_KERNEL(float64_scale, double, 8, 32, float64_load, float64_store, __m256d, broadcast_double,
             _mm256_mul_pd)
SUM_MANY_KERNEL(float64_sum_many, 8, 32, float64_load, float64_store, __m256d, _mm256_add_pd)

REDUCE_KERNEL(float16_sum, 2, 16, float16_load, float16_store, _mm256_add_ps)
REDUCE_KERNEL(float16_product, 2, 16, float16_load, float16_store, _mm256_mul_ps)
APPLY_KERNEL(float16_divide, int, 2, 16, float16_load, float16_store, __m256, broadcast_float, _mm256_div_ps)
APPLY_KERNEL(float16_scale, double, 2, 16, float16_load, float16_store, __m256, broadcast_float,
             _mm256_mul_ps)
SUM_MANY_KERNEL(float16_sum_many, 2, 16, float16_load, float16_store, __m256, _mm256_add_ps)

REDUCE_KERNEL(bfloat16_sum, 2, 32, bfloat16_load, bfloat16_store, add_pair)
REDUCE_KERNEL(bfloat16_product, 2, 32, bfloat16_load, bfloat16_store, multiply_pair)
APPLY_KERNEL(bfloat16_divide, int, 2, 32, bfloat16_load, bfloat16_store, __m256, broadcast_float, divide_pair)
APPLY_KERNEL(bfloat16_scale, double, 2, 32, bfloat16_load, bfloat16_store, __m256, broadcast_float,
             scale_pair)
SUM_MANY_KERNEL(bfloat16_sum_many, 2, 32, bfloat16_load, bfloat16_store, struct float_pair, add_pair)

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

#define INTEGER_KERNEL(name, element_bytes, operate)                                                         \
    REDUCE_KERNEL(name, element_bytes, 32, integer_load, integer_store, operate)

#define ORDER_KERNELS(name, element_bytes, lesser, greater)                                                  \
    INTEGER_KERNEL(name##_min, element_bytes, lesser)                                                        \
    INTEGER_KERNEL(name##_max, element_bytes, greater)

/* Those for which the sign makes no difference. */
#define INTEGER_KERNELS(name, bits, add, multiply)                                                           \
    INTEGER_KERNEL(name##_sum, (bits) / 8, add)                                                              \
    INTEGER_KERNEL(name##_product, (bits) / 8, multiply)                                                     \
    INTEGER_KERNEL(name##_bit_and, (bits) / 8, _mm256_and_si256)                                             \
    INTEGER_KERNEL(name##_bit_or, (bits) / 8, _mm256_or_si256)                                               \
    INTEGER_KERNEL(name##_bit_xor, (bits) / 8, _mm256_xor_si256)                                             \
    INTEGER_KERNEL(name##_logical_and, (bits) / 8, and_logically_##bits)                                     \
    INTEGER_KERNEL(name##_logical_or, (bits) / 8, or_logically_##bits)

INTEGER_KERNELS(int8, 8, _mm256_add_epi8, multiply_bytes)
INTEGER_KERNELS(int16, 16, _mm256_add_epi16, _mm256_mullo_epi16)
INTEGER_KERNELS(int32, 32, _mm256_add_epi32, _mm256_mullo_epi32)
INTEGER_KERNELS(int64, 64, _mm256_add_epi64, multiply_int64)

/* A bool is a byte. */
INTEGER_KERNEL(bool_xor, 1, xor_logically_8)
#define bool_and int8_logical_and
#define bool_or  int8_logical_or

ORDER_KERNELS(int8, 1, _mm256_min_epi8, _mm256_max_epi8)
ORDER_KERNELS(uint8, 1, _mm256_min_epu8, _mm256_max_epu8)
ORDER_KERNELS(int16, 2, _mm256_min_epi16, _mm256_max_epi16)
ORDER_KERNELS(int32, 4, _mm256_min_epi32, _mm256_max_epi32)
ORDER_KERNELS(uint32, 4, _mm256_min_epu32, _mm256_max_epu32)
ORDER_KERNELS(int64, 8, lesser_int64, greater_int64)
ORDER_KERNELS(uint64, 8, lesser_uint64, greater_uint64)
ORDER_KERNELS(float16, 2, lesser_float16, greater_float16)
ORDER_KERNELS(bfloat16, 2, lesser_bfloat16, greater_bfloat16)

/* Rows of the scalar table are overridden on purpose.  Vector units do not divide integers. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init"
#define FLOAT_ROWS(type, name)                                                                               \
    .reduce[type] = REDUCE_FLOAT_ROW(name), .divide[type] = name##_divide, .scale[type] = name##_scale,      \
    .sum_many[type] = name##_sum_many
#define HALF_ROWS(type, name)                                                                                \
    FLOAT_ROWS(type, name), .widen[type] = name##_to_floats, .narrow[type] = name##_from_floats
static const struct reduce_table avx2_table = {
    REDUCE_SCALAR_TABLE("avx2"),
    FLOAT_ROWS(TUTTI_FLOAT32, float32),
    FLOAT_ROWS(TUTTI_FLOAT64, float64),
    HALF_ROWS(TUTTI_FLOAT16, float16),
    HALF_ROWS(TUTTI_BFLOAT16, bfloat16),
    .reduce[TUTTI_INT8] = REDUCE_INTEGER_ROW(int8, int8),
    .reduce[TUTTI_UINT8] = REDUCE_INTEGER_ROW(int8, uint8),
    .reduce[TUTTI_INT16] = REDUCE_INTEGER_ROW(int16, int16),
    .reduce[TUTTI_INT32] = REDUCE_INTEGER_ROW(int32, int32),
    .reduce[TUTTI_UINT32] = REDUCE_INTEGER_ROW(int32, uint32),
    .reduce[TUTTI_INT64] = REDUCE_INTEGER_ROW(int64, int64),
    .reduce[TUTTI_UINT64] = REDUCE_INTEGER_ROW(int64, uint64),
    .reduce[TUTTI_BOOL] = REDUCE_BOOL_ROW(bool),
    .reduce[TUTTI_COMPLEX64] = REDUCE_COMPLEX_ROW(complex64),
    .divide[TUTTI_COMPLEX64] = complex64_divide,
    .scale[TUTTI_COMPLEX64] = complex64_scale,
    .sum_many[TUTTI_COMPLEX64] = complex64_sum_many,
};
#pragma GCC diagnostic pop

const struct reduce_table *const reduce_avx2_kernels = &avx2_table;

#else

const struct reduce_table *const reduce_avx2_kernels = NULL;

#endif
