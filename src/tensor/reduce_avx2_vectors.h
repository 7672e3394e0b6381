/* AVX2, FMA and F16C vectors: how elements in memory become registers and back, and the operations on them
 * that are not one instruction.  Only for files that are compiled for these instructions. */
#ifndef TUTTI_TENSOR_REDUCE_AVX2_VECTORS_H
#define TUTTI_TENSOR_REDUCE_AVX2_VECTORS_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

/* ---- Parts of vectors ---------------------------------------------------------------------------- */

/* Two pieces of a power of two bytes hold any size up to their sum: the one at the beginning, and the one at
 * the end, which begins with a whole element and may overlap. */
static inline __m128i load_below_16(const unsigned char *in, size_t size)
{
    uint32_t low = 0, high = 0;
    if (size >= 8)
        return _mm_unpacklo_epi64(_mm_loadl_epi64((const __m128i_u *)(const void *)in),
                                  _mm_loadl_epi64((const __m128i_u *)(const void *)(in + size - 8)));
    if (size >= 4) {
        memcpy(&low, in, 4);
        memcpy(&high, in + size - 4, 4);
        return _mm_cvtsi64_si128((long long)((uint64_t)high << 32 | low));
    }
    if (size >= 2) {
        memcpy(&low, in, 2);
        memcpy(&high, in + size - 2, 2);
        return _mm_cvtsi32_si128((int)(high << 16 | low));
    }
    return _mm_cvtsi32_si128(size > 0 ? *in : 0);
}

static inline void store_below_16(unsigned char *out, __m128i x, size_t size)
{
    uint64_t bytes = (uint64_t)_mm_cvtsi128_si64(x);
    if (size >= 8) {
        _mm_storel_epi64((__m128i_u *)(void *)out, x);
        _mm_storel_epi64((__m128i_u *)(void *)(out + size - 8), _mm_unpackhi_epi64(x, x));
    } else if (size >= 4) {
        uint32_t low = (uint32_t)bytes, high = (uint32_t)(bytes >> 32);
        memcpy(out, &low, 4);
        memcpy(out + size - 4, &high, 4);
    } else if (size >= 2) {
        uint16_t low = (uint16_t)bytes, high = (uint16_t)(bytes >> 16);
        memcpy(out, &low, 2);
        memcpy(out + size - 2, &high, 2);
    } else if (size > 0) {
        *out = (unsigned char)bytes;
    }
}

/* ---- Vectors of integers ------------------------------------------------------------------------- */

#define integer_BYTES 32
typedef __m256i integer_vector;

static inline __m256i integer_load(const unsigned char *in)
{
    return _mm256_loadu_si256((const __m256i_u *)(const void *)in);
}

static inline void integer_store(unsigned char *out, __m256i x)
{
    _mm256_storeu_si256((__m256i_u *)(void *)out, x);
}

static inline __m256i integer_load_part(const unsigned char *in, size_t size)
{
    __m256i x = _mm256_setzero_si256();
    if (size < 16)
        return _mm256_inserti128_si256(x, load_below_16(in, size), 0);
    x = _mm256_inserti128_si256(x, _mm_loadu_si128((const __m128i_u *)(const void *)in), 0);
    const __m128i_u *end = (const __m128i_u *)(const void *)(in + size - 16);
    return _mm256_inserti128_si256(x, _mm_loadu_si128(end), 1);
}

static inline void integer_store_part(unsigned char *out, __m256i x, size_t size)
{
    if (size < 16) {
        store_below_16(out, _mm256_castsi256_si128(x), size);
        return;
    }
    _mm_storeu_si128((__m128i_u *)(void *)out, _mm256_castsi256_si128(x));
    _mm_storeu_si128((__m128i_u *)(void *)(out + size - 16), _mm256_extracti128_si256(x, 1));
}

/* ---- Vectors of 8 float32, and of 8 float16 as float32 ------------------------------------------- */

#define float32_BYTES 32
typedef __m256 float32_vector;

static inline __m256 float32_load(const unsigned char *in)
{
    return _mm256_loadu_ps((const float *)(const void *)in);
}

static inline void float32_store(unsigned char *out, __m256 x)
{
    _mm256_storeu_ps((float *)(void *)out, x);
}

static inline __m256 float32_load_part(const unsigned char *in, size_t size)
{
    return _mm256_castsi256_ps(integer_load_part(in, size));
}

static inline void float32_store_part(unsigned char *out, __m256 x, size_t size)
{
    integer_store_part(out, _mm256_castps_si256(x), size);
}

#define float16_BYTES 16
typedef __m256 float16_vector;

static inline __m256 float16_load(const unsigned char *in)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i_u *)(const void *)in));
}

static inline __m128i round_to_float16(__m256 x)
{
    return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline void float16_store(unsigned char *out, __m256 x)
{
    _mm_storeu_si128((__m128i_u *)(void *)out, round_to_float16(x));
}

static inline __m256 float16_load_part(const unsigned char *in, size_t size)
{
    return _mm256_cvtph_ps(load_below_16(in, size));
}

static inline void float16_store_part(unsigned char *out, __m256 x, size_t size)
{
    store_below_16(out, round_to_float16(x), size);
}

/* a + b, rounded once like every sum, with an instruction that AMD's processors run on other units than the
 * conversions, shifts and additions. */
static inline __m256 add_beside_conversions(__m256 a, __m256 b)
{
    return _mm256_fmadd_ps(a, _mm256_set1_ps(1.0f), b);
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

/* ---- Vectors of 16 bfloat16, as two vectors of float32 ------------------------------------------- */

struct float_pair {
    __m256 even, odd;
};

#define bfloat16_BYTES 32
typedef struct float_pair bfloat16_vector;

static inline struct float_pair widen_bfloat16(__m256i words)
{
    __m256i odd = _mm256_and_si256(words, _mm256_set1_epi32((int)0xFFFF0000));
    return (struct float_pair){_mm256_castsi256_ps(_mm256_slli_epi32(words, 16)), _mm256_castsi256_ps(odd)};
}

/* To nearest even: the upper half of each float grows by one where the lower one is more than half a unit of
 * it, or just half and the upper one is odd.  Not for every NaN: only for those with a lower half of zero,
 * which are the ones that arithmetic makes of bfloat16, of integers, and of NAN. */
static inline __m256i round_to_bfloat16(struct float_pair x)
{
    __m256i even = _mm256_castps_si256(x.even), odd = _mm256_castps_si256(x.odd);
    __m256i upper = _mm256_blend_epi16(_mm256_srli_epi32(even, 16), odd, 0xAA);
    __m256i lower = _mm256_blend_epi16(even, _mm256_slli_epi32(odd, 16), 0xAA);
    __m256i is_even = _mm256_andnot_si256(upper, _mm256_set1_epi16(1));
    return _mm256_add_epi16(upper, _mm256_srli_epi16(_mm256_subs_epu16(lower, is_even), 15));
}

static inline struct float_pair bfloat16_load(const unsigned char *in)
{
    return widen_bfloat16(integer_load(in));
}

static inline void bfloat16_store(unsigned char *out, struct float_pair x)
{
    integer_store(out, round_to_bfloat16(x));
}

static inline struct float_pair bfloat16_load_part(const unsigned char *in, size_t size)
{
    return widen_bfloat16(integer_load_part(in, size));
}

static inline void bfloat16_store_part(unsigned char *out, struct float_pair x, size_t size)
{
    integer_store_part(out, round_to_bfloat16(x), size);
}

/* 8 of them, in their order. */
static inline __m256 bfloat16_load_8(const unsigned char *in)
{
    __m128i halves = _mm_loadu_si128((const __m128i_u *)(const void *)in);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

/* The upper halves are the results.  Rounds by adding just under half of the last place that stays, and its
 * parity; but a NaN could become something else by that. */
static inline __m256i round_any_to_bfloat16(__m256 x)
{
    __m256i bits = _mm256_castps_si256(x);
    __m256i parity = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), parity);
    __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x00400000));
    return _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
}

static inline void bfloat16_store_8(unsigned char *out, __m256 x)
{
    __m256i words = _mm256_srli_epi32(round_any_to_bfloat16(x), 16);
    __m128i halves = _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128((__m128i_u *)(void *)out, halves);
}

static inline struct float_pair add_pair(struct float_pair a, struct float_pair b)
{
    return (struct float_pair){add_beside_conversions(a.even, b.even), add_beside_conversions(a.odd, b.odd)};
}

static inline struct float_pair multiply_pair(struct float_pair a, struct float_pair b)
{
    return (struct float_pair){_mm256_mul_ps(a.even, b.even), _mm256_mul_ps(a.odd, b.odd)};
}

static inline struct float_pair divide_pair(struct float_pair a, struct float_pair b)
{
    return (struct float_pair){_mm256_div_ps(a.even, b.even), _mm256_div_ps(a.odd, b.odd)};
}

/* ---- Vectors of 4 complex64 ---------------------------------------------------------------------- */

/* (a + bi)(c + di) = (ac - bd) + (ad + bc)i, as the textbook has it. */
static inline __m256 multiply_complex(__m256 x, __m256 y)
{
    __m256 by_real = _mm256_mul_ps(_mm256_moveldup_ps(x), y);
    __m256 by_imaginary = _mm256_mul_ps(_mm256_movehdup_ps(x), _mm256_permute_ps(y, 0xB1));
    return _mm256_addsub_ps(by_real, by_imaginary);
}

/* ---- Vectors of 4 float64 ------------------------------------------------------------------------ */

#define float64_BYTES 32
typedef __m256d float64_vector;

static inline __m256d float64_load(const unsigned char *in)
{
    return _mm256_loadu_pd((const double *)(const void *)in);
}

static inline void float64_store(unsigned char *out, __m256d x)
{
    _mm256_storeu_pd((double *)(void *)out, x);
}

static inline __m256d float64_load_part(const unsigned char *in, size_t size)
{
    return _mm256_castsi256_pd(integer_load_part(in, size));
}

static inline void float64_store_part(unsigned char *out, __m256d x, size_t size)
{
    integer_store_part(out, _mm256_castpd_si256(x), size);
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

/* ---- Operations on integers ---------------------------------------------------------------------- */

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

/* Only signed integers are compared; turning the sign bit around makes their order that of unsigned ones. */
static inline __m256i is_greater_uint64(__m256i a, __m256i b)
{
    __m256i sign = _mm256_set1_epi64x(INT64_MIN);
    return _mm256_cmpgt_epi64(_mm256_xor_si256(a, sign), _mm256_xor_si256(b, sign));
}

static inline __m256i lesser_uint64(__m256i a, __m256i b)
{
    return _mm256_blendv_epi8(a, b, is_greater_uint64(a, b));
}

static inline __m256i greater_uint64(__m256i a, __m256i b)
{
    return _mm256_blendv_epi8(b, a, is_greater_uint64(a, b));
}

#define LOGICAL_OPERATIONS(bits, broadcast)                                                                  \
    static inline __m256i and_logically_##bits(__m256i a, __m256i b)                                         \
    {                                                                                                        \
        __m256i zero = _mm256_setzero_si256();                                                               \
        __m256i is_false =                                                                                   \
            _mm256_or_si256(_mm256_cmpeq_epi##bits(a, zero), _mm256_cmpeq_epi##bits(b, zero));               \
        return _mm256_andnot_si256(is_false, broadcast(1));                                                  \
    }                                                                                                        \
    static inline __m256i or_logically_##bits(__m256i a, __m256i b)                                          \
    {                                                                                                        \
        __m256i is_false = _mm256_cmpeq_epi##bits(_mm256_or_si256(a, b), _mm256_setzero_si256());            \
        return _mm256_andnot_si256(is_false, broadcast(1));                                                  \
    }

LOGICAL_OPERATIONS(8, _mm256_set1_epi8)
LOGICAL_OPERATIONS(16, _mm256_set1_epi16)
LOGICAL_OPERATIONS(32, _mm256_set1_epi32)
LOGICAL_OPERATIONS(64, _mm256_set1_epi64x)

static inline __m256i xor_logically_8(__m256i a, __m256i b)
{
    __m256i zero = _mm256_setzero_si256();
    __m256i differs = _mm256_xor_si256(_mm256_cmpeq_epi8(a, zero), _mm256_cmpeq_epi8(b, zero));
    return _mm256_and_si256(differs, _mm256_set1_epi8(1));
}

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

#endif
