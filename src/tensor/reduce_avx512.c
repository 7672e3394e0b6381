/* The kernels that x86-64 processors with AVX-512 (F, BW, DQ, VL) run at least a tenth faster than those of
 * AVX2 (tests/bench/kernels.c), above all where another thread shares the core.  Conversions of float16 are
 * slower in vectors of this width, and everything else waits for memory. */

#define REDUCE_LINKAGE /* the table is in reduce_avx2.c, from which it has the rest */
#include "tensor/reduce_loops.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)

#include <immintrin.h>
#include <math.h>

/* ---- Vectors ------------------------------------------------------------------------------------- */

#define integer_BYTES 64
typedef __m512i integer_vector;

static inline __mmask64 first_bytes(size_t size)
{
    return ((__mmask64)1 << size) - 1;
}

static inline __m512i integer_load(const unsigned char *in)
{
    return _mm512_loadu_si512(in);
}

static inline void integer_store(unsigned char *out, __m512i x)
{
    _mm512_storeu_si512(out, x);
}

static inline __m512i integer_load_part(const unsigned char *in, size_t size)
{
    return _mm512_maskz_loadu_epi8(first_bytes(size), in);
}

static inline void integer_store_part(unsigned char *out, __m512i x, size_t size)
{
    _mm512_mask_storeu_epi8(out, first_bytes(size), x);
}

/* The rest are views of a vector of integers: `view` makes one of it and `integers` undoes that. */
#define FAMILY(name, vector, view, integers)                                                                 \
    enum { name##_BYTES = integer_BYTES };                                                                   \
    typedef vector name##_vector;                                                                            \
    static inline vector name##_load(const unsigned char *in)                                                \
    {                                                                                                        \
        return view(integer_load(in));                                                                       \
    }                                                                                                        \
    static inline void name##_store(unsigned char *out, vector x)                                            \
    {                                                                                                        \
        integer_store(out, integers(x));                                                                     \
    }                                                                                                        \
    static inline vector name##_load_part(const unsigned char *in, size_t size)                              \
    {                                                                                                        \
        return view(integer_load_part(in, size));                                                            \
    }                                                                                                        \
    static inline void name##_store_part(unsigned char *out, vector x, size_t size)                          \
    {                                                                                                        \
        integer_store_part(out, integers(x), size);                                                          \
    }
FAMILY(float32, __m512, _mm512_castsi512_ps, _mm512_castps_si512)
FAMILY(float64, __m512d, _mm512_castsi512_pd, _mm512_castpd_si512)

/* ---- bfloat16, as two vectors of float32 ---------------------------------------------------------- */

struct float_pair {
    __m512 even, odd;
};

static inline struct float_pair widen_bfloat16(__m512i words)
{
    __m512i odd = _mm512_and_si512(words, _mm512_set1_epi32((int)0xFFFF0000));
    return (struct float_pair){_mm512_castsi512_ps(_mm512_slli_epi32(words, 16)), _mm512_castsi512_ps(odd)};
}

/* To nearest even: the upper half of each float grows by one where the lower one is more than half a unit of
 * it.  Just half a unit is made more, by its last bit, where the upper half is odd.  A NaN that arithmetic
 * makes of bfloat16 has a lower half of zero and stays what it is. */
static inline __m512i round_to_bfloat16(struct float_pair x)
{
    const __mmask32 odd_words = 0xAAAAAAAA;
    const __m512i one = _mm512_set1_epi16(1), half = _mm512_set1_epi16(INT16_MIN);
    __m512i even = _mm512_castps_si512(x.even), odd = _mm512_castps_si512(x.odd);
    __m512i upper = _mm512_mask_blend_epi16(odd_words, _mm512_srli_epi32(even, 16), odd);
    __m512i lower = _mm512_mask_blend_epi16(odd_words, even, _mm512_slli_epi32(odd, 16));
    __m512i sticky = _mm512_ternarylogic_epi32(lower, upper, one, 0xF8); /* lower | (upper & one) */
    return _mm512_mask_add_epi16(upper, _mm512_cmpgt_epu16_mask(sticky, half), upper, one);
}
FAMILY(bfloat16, struct float_pair, widen_bfloat16, round_to_bfloat16)

/* As in reduce_avx2_vectors.h. */
static inline __m512 add_beside_conversions(__m512 a, __m512 b)
{
    return _mm512_fmadd_ps(a, _mm512_set1_ps(1.0f), b);
}

static inline struct float_pair add_pair(struct float_pair a, struct float_pair b)
{
    return (struct float_pair){add_beside_conversions(a.even, b.even), add_beside_conversions(a.odd, b.odd)};
}

static inline struct float_pair multiply_pair(struct float_pair a, struct float_pair b)
{
    return (struct float_pair){_mm512_mul_ps(a.even, b.even), _mm512_mul_ps(a.odd, b.odd)};
}

/* ---- Order of floats ------------------------------------------------------------------------------ */

/* The instruction returns its second operand when both are zeros; taking both orders finds a -0, or a +0, on
 * either side.  Where an operand is NaN the result is replaced. */
#define ORDER_OPERATIONS(vector, suffix)                                                                     \
    static inline vector lesser_##suffix(vector a, vector b)                                                 \
    {                                                                                                        \
        vector least = _mm512_or_##suffix(_mm512_min_##suffix(a, b), _mm512_min_##suffix(b, a));             \
        __mmask16 is_nan = _mm512_cmp_##suffix##_mask(a, b, _CMP_UNORD_Q);                                   \
        return _mm512_mask_mov_##suffix(least, is_nan, _mm512_set1_##suffix(NAN));                           \
    }                                                                                                        \
    static inline vector greater_##suffix(vector a, vector b)                                                \
    {                                                                                                        \
        vector greatest = _mm512_and_##suffix(_mm512_max_##suffix(a, b), _mm512_max_##suffix(b, a));         \
        __mmask16 is_nan = _mm512_cmp_##suffix##_mask(a, b, _CMP_UNORD_Q);                                   \
        return _mm512_mask_mov_##suffix(greatest, is_nan, _mm512_set1_##suffix(NAN));                        \
    }
ORDER_OPERATIONS(__m512, ps)
ORDER_OPERATIONS(__m512d, pd)

/* ---- Kernels -------------------------------------------------------------------------------------- */

REDUCE_LOOPS(avx512_bfloat16_sum, 2, bfloat16, add_pair)
REDUCE_LOOPS(avx512_bfloat16_product, 2, bfloat16, multiply_pair)
REDUCE_LOOPS(avx512_float32_min, 4, float32, lesser_ps)
REDUCE_LOOPS(avx512_float32_max, 4, float32, greater_ps)
REDUCE_LOOPS(avx512_float64_min, 8, float64, lesser_pd)
REDUCE_LOOPS(avx512_float64_max, 8, float64, greater_pd)
REDUCE_LOOPS(avx512_int64_product, 8, integer, _mm512_mullo_epi64)
REDUCE_LOOPS(avx512_int64_min, 8, integer, _mm512_min_epi64)
REDUCE_LOOPS(avx512_int64_max, 8, integer, _mm512_max_epi64)
REDUCE_LOOPS(avx512_uint64_min, 8, integer, _mm512_min_epu64)
REDUCE_LOOPS(avx512_uint64_max, 8, integer, _mm512_max_epu64)

#endif
