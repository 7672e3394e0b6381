/* float16 and bfloat16 as bits: exact to float32, and back rounded to nearest even.  NaN stays NaN and
 * becomes quiet, as the processor's own conversions do it. */
#ifndef TUTTI_TENSOR_FLOAT16_H
#define TUTTI_TENSOR_FLOAT16_H

#include <stdint.h>
#include <string.h>

#define FLOAT32_INFINITY 0x7F800000u
#define FLOAT32_QUIET    0x00400000u

static inline float float32_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t float32_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float bfloat16_widen(uint16_t half)
{
    return float32_from_bits((uint32_t)half << 16);
}

static inline uint16_t bfloat16_round(float value)
{
    uint32_t bits = float32_bits(value);
    if ((bits & ~0x80000000u) > FLOAT32_INFINITY)
        return (uint16_t)((bits | FLOAT32_QUIET) >> 16);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static inline float float16_widen(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = half >> 10 & 0x1F;
    uint32_t fraction = half & 0x3FF;
    if (exponent == 0) {
        float magnitude = (float)fraction * 0x1p-24f;
        return float32_from_bits(sign | float32_bits(magnitude));
    }
    if (exponent == 0x1F)
        return float32_from_bits(sign | FLOAT32_INFINITY | (fraction != 0 ? FLOAT32_QUIET : 0) |
                                 fraction << 13);
    return float32_from_bits(sign | (exponent + (127 - 15)) << 23 | fraction << 13);
}

static inline uint16_t float16_round(float value)
{
    uint32_t bits = float32_bits(value);
    uint32_t sign = bits >> 16 & 0x8000;
    bits &= ~0x80000000u;

    if (bits > FLOAT32_INFINITY)
        return (uint16_t)(sign | 0x7E00 | (bits >> 13 & 0x3FF));
    if (bits >= float32_bits(65520.0f)) /* halfway between the largest float16 and the next power of two */
        return (uint16_t)(sign | 0x7C00);
    if (bits < float32_bits(0x1p-14f)) {
        /* A denormal counts in steps of 2^-24, which is what float32 has from 0.5 on: the addition rounds. */
        float shifted = float32_from_bits(bits) + 0.5f;
        return (uint16_t)(sign | (float32_bits(shifted) - float32_bits(0.5f)));
    }
    bits += 0xFFF + (bits >> 13 & 1);
    return (uint16_t)(sign | (bits - ((127 - 15) << 23)) >> 13);
}

#endif
