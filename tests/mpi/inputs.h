/* Input of the oracle.  Each element is a function of (seed, case, rank, index), so that a rank which finds a
 * difference can print what every rank contributed to it. */
#ifndef TESTS_MPI_INPUTS_H
#define TESTS_MPI_INPUTS_H

#include <stdbool.h>
#include "tutti/tutti.h"

enum input_kind {
    INPUT_PLAIN,   /* integers: any bits.  Floats: magnitudes near one */
    INPUT_SPECIAL, /* floats: denormals (not for products), zeros and infinities of both signs among them */
    INPUT_NAN,     /* floats: NaN among them */
    INPUT_BITS     /* any bits at all, for operations that only move them */
};
#define INPUT_KINDS 4
extern const char *const input_names[INPUT_KINDS];

struct input {
    uint64_t seed, number; /* of the run, of the case */
    enum input_kind kind;
    enum tutti_type type; /* a complex number counts as two float32: see input_components() */
    enum tutti_reduction reduction;
};

/* An element type as the oracle sees it. */
struct format {
    enum tutti_type type;
    const char *name;
    int exponent_bits, fraction_bits; /* 0: an integer; of complex numbers those of their parts */
};
extern const struct format formats[];
#define FORMATS 13
const struct format *format_of(enum tutti_type type);

/* As tutti.h says. */
bool format_takes(const struct format *format, enum tutti_reduction reduction);

/* How many numbers an element has: 2 where it is complex.  Indices below count elements. */
size_t input_components(const struct input *input);

/* What the elements of that rank are multiplied by in a pre-multiplied sum: exact in every type. */
double input_factor(int rank);

/* The bits of one element, in the lowest bytes. */
uint64_t input_bits(const struct input *input, int rank, size_t index);

/* Elements begin .. begin + count of what `rank` contributes. */
void input_fill(const struct input *input, int rank, size_t begin, size_t count, void *buffer);

/* The value of number `index` of a buffer of floats or (two each) complex numbers, widened without loss. */
double widen(const void *buffer, size_t index, enum tutti_type type);

/* Unit roundoff (half a unit in the last place of one) and smallest denormal of a float type. */
double format_roundoff(const struct format *format);
double format_smallest(const struct format *format);

#endif
