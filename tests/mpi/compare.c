#include "oracle.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define BLOCK 32768 /* elements compared at a time */

static MPI_Datatype mpi_type(enum tutti_type type)
{
    switch (type) {
    case TUTTI_FLOAT32:
        return MPI_FLOAT;
    case TUTTI_FLOAT64:
        return MPI_DOUBLE;
    case TUTTI_INT8:
        return MPI_INT8_T;
    case TUTTI_UINT8:
        return MPI_UINT8_T;
    case TUTTI_INT16:
        return MPI_INT16_T;
    case TUTTI_INT32:
        return MPI_INT32_T;
    case TUTTI_UINT32:
        return MPI_UINT32_T;
    case TUTTI_INT64:
        return MPI_INT64_T;
    case TUTTI_UINT64:
        return MPI_UINT64_T;
    case TUTTI_BOOL:
        return MPI_C_BOOL;
    case TUTTI_COMPLEX64: /* compared as pairs of float32, but for products */
        return MPI_FLOAT;
    case TUTTI_FLOAT16:
    case TUTTI_BFLOAT16:
        break;
    }
    return MPI_DATATYPE_NULL; /* Open MPI 4 has neither of the 16-bit types */
}

static MPI_Op mpi_operation(enum tutti_reduction reduction)
{
    switch (reduction) {
    case TUTTI_PRODUCT:
        return MPI_PROD;
    case TUTTI_MIN:
        return MPI_MIN;
    case TUTTI_MAX:
        return MPI_MAX;
    case TUTTI_BIT_AND:
        return MPI_BAND;
    case TUTTI_BIT_OR:
        return MPI_BOR;
    case TUTTI_BIT_XOR:
        return MPI_BXOR;
    case TUTTI_LOGICAL_AND:
        return MPI_LAND;
    case TUTTI_LOGICAL_OR:
        return MPI_LOR;
    default:
        return MPI_SUM;
    }
}

/* What MPI calls a reduction of truth values. */
static MPI_Op mpi_operation_of_truth(enum tutti_reduction reduction)
{
    switch (reduction) {
    case TUTTI_PRODUCT:
    case TUTTI_MIN:
    case TUTTI_BIT_AND:
    case TUTTI_LOGICAL_AND:
        return MPI_LAND;
    case TUTTI_BIT_XOR:
        return MPI_LXOR;
    default:
        return MPI_LOR;
    }
}

static void report_element(const struct oracle *o, size_t index, const void *got, const char *expected)
{
    uint64_t bits = 0;
    size_t bytes = tutti_type_size(o->input.type);
    memcpy(&bits, got, bytes);
    fprintf(stderr, "element %zu: tutti has 0x%0*llx, %s\n  contributions:", index, (int)bytes * 2,
            (unsigned long long)bits, expected);
    for (int r = 0; r < o->size; r++) {
        uint64_t input = input_bits(&o->input, r, index);
        fprintf(stderr, " 0x%0*llx", (int)bytes * 2,
                (unsigned long long)(bytes == 8 ? input : input & ((1ull << bytes * 8) - 1)));
    }
    fprintf(stderr, "\n");
    die(o, "the reduction differs from MPI's");
}

/* ---- Integers ------------------------------------------------------------------------------------ */

/* Its value, as int64_t; of uint64 the same bits. */
static int64_t integer_at(const void *buffer, size_t i, enum tutti_type type)
{
    switch (type) {
    case TUTTI_INT8:
        return ((const int8_t *)buffer)[i];
    case TUTTI_UINT8:
    case TUTTI_BOOL:
        return ((const uint8_t *)buffer)[i];
    case TUTTI_INT16:
        return ((const int16_t *)buffer)[i];
    case TUTTI_INT32:
        return ((const int32_t *)buffer)[i];
    case TUTTI_UINT32:
        return ((const uint32_t *)buffer)[i];
    default:
        return ((const int64_t *)buffer)[i];
    }
}

/* Elements begin .. begin + count of the reduced vector; `got` is NULL on a rank which does not hold them. */
static void compare_integers(const struct oracle *o, size_t begin, size_t count, const void *got)
{
    static uint64_t input[BLOCK], expected[BLOCK];
    enum tutti_type type = o->input.type;
    size_t bytes = tutti_type_size(type);
    MPI_Op op = mpi_operation(o->input.reduction);
    input_fill(&o->input, o->rank, begin, count, input);
    if (type == TUTTI_BOOL) {
        op = mpi_operation_of_truth(o->input.reduction);
        for (size_t i = 0; i < count; i++)
            ((uint8_t *)input)[i] = ((uint8_t *)input)[i] != 0;
    }
    MPI_Allreduce(input, expected, (int)count, mpi_type(type), op, o->mpi);
    for (size_t i = 0; got != NULL && i < count; i++) {
        int64_t value = integer_at(expected, i, type);
        bool logical = o->input.reduction == TUTTI_LOGICAL_AND || o->input.reduction == TUTTI_LOGICAL_OR;
        if (o->input.reduction == TUTTI_AVG)
            value = type == TUTTI_UINT64 ? (int64_t)((uint64_t)value / (uint64_t)o->size) : value / o->size;
        else if (logical) /* in a group of one MPI leaves the element as it is */
            value = value != 0;
        if (integer_at(got, i, type) != value) {
            char text[64];
            snprintf(text, sizeof text, "MPI has %lld", (long long)value);
            report_element(o, begin + i, (const char *)got + i * bytes, text);
        }
    }
}

/* ---- Floats -------------------------------------------------------------------------------------- */

/* What a block of numbers should be, widened, and how far off it may be. */
struct reference {
    double value[2 * BLOCK], bound[2 * BLOCK];
};

/* MPI's reduction of the block: in the type itself where MPI has it, else of the widened input. */
static void reduce_by_mpi(const struct oracle *o, size_t count, const void *input, const double *wide,
                          double *value)
{
    static uint64_t same[BLOCK];
    MPI_Datatype type = mpi_type(o->input.type);
    MPI_Op op = mpi_operation(o->input.reduction);
    if (type == MPI_DATATYPE_NULL || o->input.reduction == TUTTI_PREMULTIPLIED_SUM) {
        MPI_Allreduce(wide, value, (int)count, MPI_DOUBLE, op, o->mpi);
        return;
    }
    MPI_Allreduce(input, same, (int)count, type, op, o->mpi);
    for (size_t i = 0; i < count; i++)
        value[i] = widen(same, i, o->input.type);
}

/* Of `count` numbers. */
static void reference_floats(const struct oracle *o, size_t count, const void *input, struct reference *out)
{
    static double wide[2 * BLOCK], flags[2 * BLOCK], magnitude[2 * BLOCK];
    const struct format *f = format_of(o->input.type);
    enum tutti_reduction reduction = o->input.reduction;
    bool rounds = reduction != TUTTI_MIN && reduction != TUTTI_MAX;
    bool multiplied = reduction == TUTTI_PREMULTIPLIED_SUM;
    double u = format_roundoff(f), g = (o->size - 1) * u / (1 - (o->size - 1) * u);
    double sides = mpi_type(o->input.type) == MPI_DATATYPE_NULL ? 1 : 2;

    for (size_t i = 0; i < count; i++)
        wide[i] = widen(input, i, o->input.type) * (multiplied ? input_factor(o->rank) : 1);
    reduce_by_mpi(o, count, input, wide, out->value);
    /* Magnitudes for the bound, or which elements have a NaN. */
    for (size_t i = 0; i < count; i++)
        flags[i] = rounds ? fabs(wide[i]) : isnan(wide[i]);
    MPI_Allreduce(flags, magnitude, (int)count, MPI_DOUBLE, rounds ? mpi_operation(reduction) : MPI_MAX,
                  o->mpi);
    for (size_t i = 0; i < count; i++) {
        out->bound[i] = 0;
        if (!rounds) {
            out->value[i] = magnitude[i] > 0 ? NAN : out->value[i];
            continue;
        }
        /* One percent for the roundings of the bound itself and, beside 16-bit types, of float64. */
        out->bound[i] = 1.01 * sides * g * magnitude[i];
        if (reduction == TUTTI_AVG) {
            out->bound[i] =
                (out->bound[i] + 1.01 * sides * u * fabs(out->value[i])) / o->size + format_smallest(f);
            out->value[i] /= o->size;
        }
    }
}

/* Products of complex numbers, in the widened type: each multiplication is off by at most sqrt(5) u of the
 * magnitude of its result (Brent, Percival and Zimmermann 2007). */
static void reference_complex_product(const struct oracle *o, size_t count, const void *input,
                                      struct reference *out)
{
    static double wide[2 * BLOCK], size_here[BLOCK], size_of_product[BLOCK];
    double u = format_roundoff(format_of(TUTTI_FLOAT32)), n = o->size - 1;
    for (size_t i = 0; i < 2 * count; i++)
        wide[i] = widen(input, i, TUTTI_FLOAT32);
    for (size_t i = 0; i < count; i++)
        size_here[i] = hypot(wide[2 * i], wide[2 * i + 1]);
    MPI_Allreduce(wide, out->value, (int)count, MPI_C_DOUBLE_COMPLEX, MPI_PROD, o->mpi);
    MPI_Allreduce(size_here, size_of_product, (int)count, MPI_DOUBLE, MPI_PROD, o->mpi);
    for (size_t i = 0; i < count; i++)
        out->bound[2 * i] = out->bound[2 * i + 1] = 1.01 * n * sqrt(5) * u * size_of_product[i];
}

static void compare_floats(const struct oracle *o, size_t begin, size_t count, const void *got)
{
    static struct reference reference;
    static uint64_t input[BLOCK];
    size_t numbers = input_components(&o->input), bytes = tutti_type_size(o->input.type);
    input_fill(&o->input, o->rank, begin, count, input);
    if (numbers == 2 && o->input.reduction == TUTTI_PRODUCT)
        reference_complex_product(o, count, input, &reference);
    else
        reference_floats(o, numbers * count, input, &reference);
    for (size_t i = 0; got != NULL && i < numbers * count; i++) {
        double value = widen(got, i, o->input.type), expected = reference.value[i];
        bool right = isnan(expected)   ? isnan(value)
                     : isinf(expected) ? value == expected
                                       : fabs(value - expected) <= reference.bound[i];
        if (!right) {
            char text[128];
            snprintf(text, sizeof text, "which is %.17g; MPI has %.17g, and they may differ by %.3g", value,
                     expected, reference.bound[i]);
            report_element(o, begin + i / numbers, (const char *)got + i / numbers * bytes, text);
        }
    }
}

/* ---- Vectors ------------------------------------------------------------------------------------- */

/* Every rank goes through the same blocks, because the reference is collective too. */
void compare_reduced(struct oracle *o, const size_t *begins, const size_t *counts, const void *got)
{
    size_t bytes = tutti_type_size(o->input.type);
    bool is_integer = format_of(o->input.type)->exponent_bits == 0;
    for (int r = 0; r < o->size; r++)
        for (size_t at = 0, count; at < counts[r]; at += count) {
            count = counts[r] - at < BLOCK ? counts[r] - at : BLOCK;
            const char *here = r == o->rank && got != NULL ? (const char *)got + at * bytes : NULL;
            (is_integer ? compare_integers : compare_floats)(o, begins[r] + at, count, here);
        }
    o->comparisons++;
}

void compare_whole(struct oracle *o, const void *got)
{
    size_t bytes = tutti_type_size(o->input.type);
    bool is_integer = format_of(o->input.type)->exponent_bits == 0;
    for (size_t at = 0, count; at < o->count; at += count) {
        count = o->count - at < BLOCK ? o->count - at : BLOCK;
        (is_integer ? compare_integers : compare_floats)(o, at, count,
                                                         got ? (const char *)got + at * bytes : NULL);
    }
    o->comparisons++;
}

void compare_moved(struct oracle *o, const void *got, const void *expected, size_t bytes)
{
    if (memcmp(got, expected, bytes) != 0)
        die(o, "the data differs from what MPI moved");
    o->comparisons++;
}

void same_bits_everywhere(const struct oracle *o, const void *bytes, size_t size)
{
    uint64_t hash = 0xcbf29ce484222325u, least, most; /* FNV-1a */
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3u;
    MPI_Allreduce(&hash, &least, 1, MPI_UINT64_T, MPI_MIN, o->mpi);
    MPI_Allreduce(&hash, &most, 1, MPI_UINT64_T, MPI_MAX, o->mpi);
    if (least != most)
        die(o, "the ranks have different bits");
}
