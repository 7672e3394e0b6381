#include "inputs.h"
#include <assert.h>
#include <math.h>
#include <string.h>

const char *const input_names[INPUT_KINDS] = {"plain", "special", "nan", "bits"};

const struct format formats[FORMATS] = {
    {TUTTI_FLOAT32, "float32", 8, 23},
    {TUTTI_FLOAT64, "float64", 11, 52},
    {TUTTI_FLOAT16, "float16", 5, 10},
    {TUTTI_BFLOAT16, "bfloat16", 8, 7},
    {TUTTI_INT8, "int8", 0, 0},
    {TUTTI_UINT8, "uint8", 0, 0},
    {TUTTI_INT32, "int32", 0, 0},
    {TUTTI_INT64, "int64", 0, 0},
    {TUTTI_UINT32, "uint32", 0, 0},
    {TUTTI_UINT64, "uint64", 0, 0},
    {TUTTI_INT16, "int16", 0, 0},
    {TUTTI_BOOL, "bool", 0, 0},
    {TUTTI_COMPLEX64, "complex64", 8, 23},
};

const struct format *format_of(enum tutti_type type)
{
    for (int i = 0; i < FORMATS; i++)
        if (formats[i].type == type)
            return &formats[i];
    assert(false);
    return NULL;
}

bool format_takes(const struct format *format, enum tutti_reduction reduction)
{
    bool is_integer = format->exponent_bits == 0;
    switch (reduction) {
    case TUTTI_SUM:
    case TUTTI_PRODUCT:
        return true;
    case TUTTI_MIN:
    case TUTTI_MAX:
        return format->type != TUTTI_COMPLEX64;
    case TUTTI_AVG:
        return format->type != TUTTI_BOOL;
    case TUTTI_PREMULTIPLIED_SUM:
        return !is_integer;
    default:
        return is_integer;
    }
}

size_t input_components(const struct input *input)
{
    return input->type == TUTTI_COMPLEX64 ? 2 : 1;
}

double input_factor(int rank)
{
    static const double factors[] = {2, -1, 4, 1};
    return factors[rank % 4];
}

double format_roundoff(const struct format *format)
{
    return ldexp(1, -format->fraction_bits - 1);
}

static int format_bias(const struct format *format)
{
    return (1 << (format->exponent_bits - 1)) - 1;
}

double format_smallest(const struct format *format)
{
    return ldexp(1, 1 - format_bias(format) - format->fraction_bits);
}

/* The finaliser of splitmix64: every bit of the input changes half of the output. */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t float_bits(const struct input *input, const struct format *f, uint64_t random)
{
    bool product = input->reduction == TUTTI_PRODUCT;
    uint64_t fraction = random & ((1ull << f->fraction_bits) - 1);
    uint64_t choice = (random >> 52) & 15, sign = random >> 63;
    uint64_t largest = (1ull << f->exponent_bits) - 1;
    /* [0.5, 2) for products, so that those of 8 stay normal in every type; [2^-6, 4) for the rest. */
    uint64_t spread = (random >> 56) & 7;
    uint64_t exponent = (uint64_t)format_bias(f) + (product ? spread % 2 : spread) - (product ? 1 : 6);

    if (input->kind == INPUT_NAN && choice < 3) {
        exponent = largest;
        fraction |= 1ull << (f->fraction_bits - 1);
    } else if (input->kind == INPUT_SPECIAL && choice == 0) {
        exponent = largest;
        fraction = 0;
    } else if (input->kind == INPUT_SPECIAL && choice <= 2) {
        exponent = 0;
        fraction = 0;
    } else if (input->kind == INPUT_SPECIAL && choice <= 6 && !product) {
        exponent = 0;
    }
    return sign << (f->exponent_bits + f->fraction_bits) | exponent << f->fraction_bits | fraction;
}

/* Number `index` of the vector, of which a complex element has two. */
static uint64_t number_bits(const struct input *input, int rank, size_t index)
{
    const struct format *f = format_of(input->type);
    uint64_t random = mix(mix(mix(input->seed ^ input->number << 32) ^ (uint64_t)rank) ^ index);
    /* In some positions every rank has the same class of value, so that denormals meet denormals and negative
     * zeros negative zeros: the choice comes from the position alone. */
    if (input->kind == INPUT_SPECIAL && index % 3 == 0)
        random = (random & ~(0x80full << 52)) | (mix(input->number ^ index) & (0x80full << 52));
    if (input->type == TUTTI_BOOL &&
        input->kind != INPUT_BITS) /* as often false, or true in one of its forms */
        return random >> 63 ? 0 : 1 + random % 255;
    if (f->exponent_bits == 0 || input->kind == INPUT_BITS) {
        bool sparse = input->reduction == TUTTI_LOGICAL_AND || input->reduction == TUTTI_LOGICAL_OR;
        return sparse && random % 3 == 0 ? 0 : random;
    }
    return float_bits(input, f, random);
}

uint64_t input_bits(const struct input *input, int rank, size_t index)
{
    if (input_components(input) == 1)
        return number_bits(input, rank, index);
    return (number_bits(input, rank, 2 * index) & UINT32_MAX) | number_bits(input, rank, 2 * index + 1) << 32;
}

void input_fill(const struct input *input, int rank, size_t begin, size_t count, void *buffer)
{
    size_t bytes = tutti_type_size(input->type);
    for (size_t i = 0; i < count; i++) {
        uint64_t bits = input_bits(input, rank, begin + i);
        memcpy((char *)buffer + i * bytes, &bits, bytes);
    }
}

double widen(const void *buffer, size_t index, enum tutti_type type)
{
    if (type == TUTTI_FLOAT64)
        return ((const double *)buffer)[index];
    if (type == TUTTI_FLOAT32 || type == TUTTI_COMPLEX64)
        return ((const float *)buffer)[index];

    const struct format *f = format_of(type);
    assert(type == TUTTI_FLOAT16 || type == TUTTI_BFLOAT16);
    unsigned bits = ((const uint16_t *)buffer)[index];
    int exponent = (int)(bits >> f->fraction_bits & ((1u << f->exponent_bits) - 1));
    double fraction = bits & ((1u << f->fraction_bits) - 1);
    double value;
    if (exponent == (1 << f->exponent_bits) - 1)
        value = fraction != 0 ? NAN : INFINITY;
    else if (exponent == 0)
        value = fraction * format_smallest(f);
    else
        value = (ldexp(1, f->fraction_bits) + fraction) * format_smallest(f) * ldexp(1, exponent - 1);
    return bits >> 15 ? -value : value;
}
