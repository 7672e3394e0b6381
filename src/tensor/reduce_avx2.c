/* Reduction kernels for x86-64 processors with AVX2 and F16C (Intel since Haswell, AMD since Excavator).
 *
 * A kernel is a loop over vectors of elements in memory.  What is left at the end goes through the same
 * vector operation in a padded buffer, so that there is one definition of each operation. */
#include "tensor/reduce_kernels.h"

#if defined(__AVX2__) && defined(__F16C__)

#include <immintrin.h>
#include <string.h>

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

#define DIVIDE_KERNEL(name, element_bytes, bytes, load, store, vector, broadcast, divide)                    \
    static void name(void *target, size_t count, int divisor)                                                \
    {                                                                                                        \
        unsigned char *out = target;                                                                         \
        size_t size = count * (element_bytes);                                                               \
        const vector by = broadcast(divisor);                                                                \
        for (; size >= (bytes); size -= (bytes), out += (bytes))                                             \
            store(out, divide(load(out), by));                                                               \
        if (size > 0) {                                                                                      \
            unsigned char padded[VECTOR_BYTES] = {0};                                                        \
            memcpy(padded, out, size);                                                                       \
            store(padded, divide(load(padded), by));                                                         \
            memcpy(out, padded, size);                                                                       \
        }                                                                                                    \
    }

/* ---- Vectors of 8 float32, and of 8 float16 as float32 ------------------------------------------- */

static inline __m256 float32_load(const unsigned char *in)
{
    return _mm256_loadu_ps((const float *)(const void *)in);
}

static inline void float32_store(unsigned char *out, __m256 x)
{
    _mm256_storeu_ps((float *)(void *)out, x);
}

static inline __m256 float16_load(const unsigned char *in)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i_u *)(const void *)in));
}

static inline void float16_store(unsigned char *out, __m256 x)
{
    __m128i halves = _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm_storeu_si128((__m128i_u *)(void *)out, halves);
}

/* The instruction returns its second operand when both are zeros; taking both orders finds a -0 on either
 * side.  Where an operand is NaN the result is replaced. */
static inline __m256 lesser_floats(__m256 a, __m256 b)
{
    __m256 least = _mm256_or_ps(_mm256_min_ps(a, b), _mm256_min_ps(b, a));
    __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FC00000));
    return _mm256_blendv_ps(least, nan, _mm256_cmp_ps(a, b, _CMP_UNORD_Q));
}

static inline __m256 greater_floats(__m256 a, __m256 b)
{
    __m256 greatest = _mm256_and_ps(_mm256_max_ps(a, b), _mm256_max_ps(b, a));
    __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FC00000));
    return _mm256_blendv_ps(greatest, nan, _mm256_cmp_ps(a, b, _CMP_UNORD_Q));
}

static inline __m256 broadcast_float(int value)
{
    return _mm256_set1_ps((float)value);
}

REDUCE_KERNEL(float32_sum, 4, 32, float32_load, float32_store, _mm256_add_ps)
REDUCE_KERNEL(float32_product, 4, 32, float32_load, float32_store, _mm256_mul_ps)
REDUCE_KERNEL(float32_min, 4, 32, float32_load, float32_store, lesser_floats)
REDUCE_KERNEL(float32_max, 4, 32, float32_load, float32_store, greater_floats)
DIVIDE_KERNEL(float32_divide, 4, 32, float32_load, float32_store, __m256, broadcast_float, _mm256_div_ps)

REDUCE_KERNEL(float16_sum, 2, 16, float16_load, float16_store, _mm256_add_ps)
REDUCE_KERNEL(float16_product, 2, 16, float16_load, float16_store, _mm256_mul_ps)
DIVIDE_KERNEL(float16_divide, 2, 16, float16_load, float16_store, __m256, broadcast_float, _mm256_div_ps)

/* ---- Vectors of 16 bfloat16, as two vectors of float32 ------------------------------------------- */

struct float_pair {
    __m256 even, odd;
};

static inline struct float_pair bfloat16_load(const unsigned char *in)
{
    __m256i words = _mm256_loadu_si256((const __m256i_u *)(const void *)in);
    __m256i odd = _mm256_and_si256(words, _mm256_set1_epi32((int)0xFFFF0000));
    return (struct float_pair){_mm256_castsi256_ps(_mm256_slli_epi32(words, 16)), _mm256_castsi256_ps(odd)};
}

/* The upper halves are the results.  Rounds to nearest even by adding just under half of the last place that
 * stays, and its parity; but a NaN would become something else by that. */
static inline __m256i round_to_bfloat16(__m256 x)
{
    __m256i bits = _mm256_castps_si256(x);
    __m256i parity = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), parity);
    __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x00400000));
    return _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
}

static inline void bfloat16_store(unsigned char *out, struct float_pair x)
{
    __m256i even = _mm256_srli_epi32(round_to_bfloat16(x.even), 16);
    _mm256_storeu_si256((__m256i_u *)(void *)out, _mm256_blend_epi16(even, round_to_bfloat16(x.odd), 0xAA));
}

static inline struct float_pair add_pair(struct float_pair a, struct float_pair b)
{
    return (struct float_pair){_mm256_add_ps(a.even, b.even), _mm256_add_ps(a.odd, b.odd)};
}

static inline struct float_pair multiply_pair(struct float_pair a, struct float_pair b)
{
    return (struct float_pair){_mm256_mul_ps(a.even, b.even), _mm256_mul_ps(a.odd, b.odd)};
}

static inline struct float_pair divide_pair(struct float_pair a, __m256 by)
{
    return (struct float_pair){_mm256_div_ps(a.even, by), _mm256_div_ps(a.odd, by)};
}

REDUCE_KERNEL(bfloat16_sum, 2, 32, bfloat16_load, bfloat16_store, add_pair)
REDUCE_KERNEL(bfloat16_product, 2, 32, bfloat16_load, bfloat16_store, multiply_pair)
DIVIDE_KERNEL(bfloat16_divide, 2, 32, bfloat16_load, bfloat16_store, __m256, broadcast_float, divide_pair)

/* ---- Vectors of 4 float64 ------------------------------------------------------------------------ */

static inline __m256d float64_load(const unsigned char *in)
{
    return _mm256_loadu_pd((const double *)(const void *)in);
}

static inline void float64_store(unsigned char *out, __m256d x)
{
    _mm256_storeu_pd((double *)(void *)out, x);
}

static inline __m256d lesser_doubles(__m256d a, __m256d b)
{
    __m256d least = _mm256_or_pd(_mm256_min_pd(a, b), _mm256_min_pd(b, a));
    __m256d nan = _mm256_castsi256_pd(_mm256_set1_epi64x(0x7FF8000000000000));
    return _mm256_blendv_pd(least, nan, _mm256_cmp_pd(a, b, _CMP_UNORD_Q));
}

static inline __m256d greater_doubles(__m256d a, __m256d b)
{
    __m256d greatest = _mm256_and_pd(_mm256_max_pd(a, b), _mm256_max_pd(b, a));
    __m256d nan = _mm256_castsi256_pd(_mm256_set1_epi64x(0x7FF8000000000000));
    return _mm256_blendv_pd(greatest, nan, _mm256_cmp_pd(a, b, _CMP_UNORD_Q));
}

static inline __m256d broadcast_double(int value)
{
    return _mm256_set1_pd(value);
}

REDUCE_KERNEL(float64_sum, 8, 32, float64_load, float64_store, _mm256_add_pd)
REDUCE_KERNEL(float64_product, 8, 32, float64_load, float64_store, _mm256_mul_pd)
REDUCE_KERNEL(float64_min, 8, 32, float64_load, float64_store, lesser_doubles)
REDUCE_KERNEL(float64_max, 8, 32, float64_load, float64_store, greater_doubles)
DIVIDE_KERNEL(float64_divide, 8, 32, float64_load, float64_store, __m256d, broadcast_double, _mm256_div_pd)

/* ---- Vectors of integers ------------------------------------------------------------------------- */

static inline __m256i integer_load(const unsigned char *in)
{
    return _mm256_loadu_si256((const __m256i_u *)(const void *)in);
}

static inline void integer_store(unsigned char *out, __m256i x)
{
    _mm256_storeu_si256((__m256i_u *)(void *)out, x);
}

/* There are products of 16 bits: the even bytes are the low halves of them, the odd ones are moved there. */
static inline __m256i multiply_bytes(__m256i a, __m256i b)
{
    __m256i low_bytes = _mm256_set1_epi16(0x00FF);
    __m256i even = _mm256_mullo_epi16(a, b);
    __m256i odd = _mm256_mullo_epi16(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8));
    return _mm256_or_si256(_mm256_and_si256(even, low_bytes), _mm256_slli_epi16(odd, 8));
}

/* There are products of 32 by 32 bits: low by low, and the crosswise ones for the upper half; the upper
 * halves together only count beyond 64 bits. */
static inline __m256i multiply_int64(__m256i a, __m256i b)
{
    __m256i low = _mm256_mul_epu32(a, b);
    __m256i cross = _mm256_mullo_epi32(a, _mm256_shuffle_epi32(b, 0xB1));
    __m256i sum = _mm256_add_epi32(cross, _mm256_srli_epi64(cross, 32));
    return _mm256_add_epi64(low, _mm256_slli_epi64(sum, 32));
}

static inline __m256i lesser_int64(__m256i a, __m256i b)
{
    return _mm256_blendv_epi8(a, b, _mm256_cmpgt_epi64(a, b));
}

static inline __m256i greater_int64(__m256i a, __m256i b)
{
    return _mm256_blendv_epi8(b, a, _mm256_cmpgt_epi64(a, b));
}

#define INTEGER_KERNEL(name, element_bytes, operate)                                                         \
    REDUCE_KERNEL(name, element_bytes, 32, integer_load, integer_store, operate)

INTEGER_KERNEL(int8_sum, 1, _mm256_add_epi8)
INTEGER_KERNEL(int8_product, 1, multiply_bytes)
INTEGER_KERNEL(int8_min, 1, _mm256_min_epi8)
INTEGER_KERNEL(int8_max, 1, _mm256_max_epi8)
INTEGER_KERNEL(uint8_min, 1, _mm256_min_epu8)
INTEGER_KERNEL(uint8_max, 1, _mm256_max_epu8)
INTEGER_KERNEL(int32_sum, 4, _mm256_add_epi32)
INTEGER_KERNEL(int32_product, 4, _mm256_mullo_epi32)
INTEGER_KERNEL(int32_min, 4, _mm256_min_epi32)
INTEGER_KERNEL(int32_max, 4, _mm256_max_epi32)
INTEGER_KERNEL(int64_sum, 8, _mm256_add_epi64)
INTEGER_KERNEL(int64_product, 8, multiply_int64)
INTEGER_KERNEL(int64_min, 8, lesser_int64)
INTEGER_KERNEL(int64_max, 8, greater_int64)

/* ---- Order of 16-bit floats ---------------------------------------------------------------------- */

/* As integers, floats of one sign are in order, and negative ones in reverse.  Turning those around makes the
 * order whole, with -0 just below +0; doing it twice undoes it. */
static inline __m256i order_as_integers(__m256i x)
{
    return _mm256_xor_si256(x, _mm256_srli_epi16(_mm256_srai_epi16(x, 15), 1));
}

/* `chosen`, but `nan` where an operand is beyond infinity. */
static inline __m256i replace_nan(__m256i chosen, __m256i a, __m256i b, short infinity, short nan)
{
    __m256i magnitude = _mm256_set1_epi16(0x7FFF);
    __m256i largest = _mm256_max_epi16(_mm256_and_si256(a, magnitude), _mm256_and_si256(b, magnitude));
    __m256i is_nan = _mm256_cmpgt_epi16(largest, _mm256_set1_epi16(infinity));
    return _mm256_blendv_epi8(chosen, _mm256_set1_epi16(nan), is_nan);
}

static inline __m256i lesser_float16(__m256i a, __m256i b)
{
    __m256i chosen = _mm256_min_epi16(order_as_integers(a), order_as_integers(b));
    return replace_nan(order_as_integers(chosen), a, b, 0x7C00, 0x7E00);
}

static inline __m256i greater_float16(__m256i a, __m256i b)
{
    __m256i chosen = _mm256_max_epi16(order_as_integers(a), order_as_integers(b));
    return replace_nan(order_as_integers(chosen), a, b, 0x7C00, 0x7E00);
}

static inline __m256i lesser_bfloat16(__m256i a, __m256i b)
{
    __m256i chosen = _mm256_min_epi16(order_as_integers(a), order_as_integers(b));
    return replace_nan(order_as_integers(chosen), a, b, 0x7F80, 0x7FC0);
}

static inline __m256i greater_bfloat16(__m256i a, __m256i b)
{
    __m256i chosen = _mm256_max_epi16(order_as_integers(a), order_as_integers(b));
    return replace_nan(order_as_integers(chosen), a, b, 0x7F80, 0x7FC0);
}

INTEGER_KERNEL(float16_min, 2, lesser_float16)
INTEGER_KERNEL(float16_max, 2, greater_float16)
INTEGER_KERNEL(bfloat16_min, 2, lesser_bfloat16)
INTEGER_KERNEL(bfloat16_max, 2, greater_bfloat16)

/* Rows of the scalar table are overridden on purpose.  Vector units do not divide integers. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init"
static const struct reduce_table avx2_table = {
    REDUCE_SCALAR_TABLE("avx2"),
    .reduce[TUTTI_FLOAT32] = REDUCE_ROW(float32_sum, float32_product, float32_min, float32_max),
    .reduce[TUTTI_FLOAT64] = REDUCE_ROW(float64_sum, float64_product, float64_min, float64_max),
    .reduce[TUTTI_FLOAT16] = REDUCE_ROW(float16_sum, float16_product, float16_min, float16_max),
    .reduce[TUTTI_BFLOAT16] = REDUCE_ROW(bfloat16_sum, bfloat16_product, bfloat16_min, bfloat16_max),
    .reduce[TUTTI_INT8] = REDUCE_ROW(int8_sum, int8_product, int8_min, int8_max),
    .reduce[TUTTI_UINT8] = REDUCE_ROW(int8_sum, int8_product, uint8_min, uint8_max),
    .reduce[TUTTI_INT32] = REDUCE_ROW(int32_sum, int32_product, int32_min, int32_max),
    .reduce[TUTTI_INT64] = REDUCE_ROW(int64_sum, int64_product, int64_min, int64_max),
    .divide[TUTTI_FLOAT32] = float32_divide,
    .divide[TUTTI_FLOAT64] = float64_divide,
    .divide[TUTTI_FLOAT16] = float16_divide,
    .divide[TUTTI_BFLOAT16] = bfloat16_divide,
};
#pragma GCC diagnostic pop

const struct reduce_table *const reduce_avx2_kernels = &avx2_table;

#else

const struct reduce_table *const reduce_avx2_kernels = NULL;

#endif
