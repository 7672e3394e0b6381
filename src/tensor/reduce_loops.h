/* The loops of vectorised kernels, whatever the vectors.  A `family` is how elements in memory become
 * registers, by these names, of which the file that includes this one defines those of its instruction set:
 *
 *     family_BYTES                       of a vector in memory
 *     family_vector                      the same in registers, perhaps as wider elements
 *     family_load(in), family_store(out, x)
 *     family_load_part(in, size), family_store_part(out, x, size)    the first size < family_BYTES bytes,
 *                                        always of whole elements; nothing beyond them is touched
 *
 * at any alignment.  A vector of which only a part was loaded holds zeros or elements of that part otherwise.
 *
 * What is left behind the last whole vector is not looped over: the last vector's worth of bytes is combined
 * first, while no source has been overwritten yet, and stored last.  Where that overlaps with the vector
 * before it, both store the same. */
#ifndef TUTTI_TENSOR_REDUCE_LOOPS_H
#define TUTTI_TENSOR_REDUCE_LOOPS_H

#include "tensor/reduce_kernels.h"

#ifndef REDUCE_LINKAGE /* of the kernels; a file may define it as nothing */
#define REDUCE_LINKAGE static
#endif

/* A reduce_kernel.  `target` may be `left` or `right`, which rules out `restrict`. */
#define REDUCE_LOOP(name, element_bytes, family, operate)                                                    \
    REDUCE_LINKAGE void name(void *target, const void *left, const void *right, size_t count)                \
    {                                                                                                        \
        const size_t vector = family##_BYTES, size = count * (element_bytes);                                \
        unsigned char *out = target;                                                                         \
        const unsigned char *a = left, *b = right;                                                           \
        if (size < vector) {                                                                                 \
            family##_vector x = family##_load_part(a, size), y = family##_load_part(b, size);                \
            family##_store_part(out, operate(x, y), size);                                                   \
            return;                                                                                          \
        }                                                                                                    \
        const size_t end = size - vector;                                                                    \
        const family##_vector last = operate(family##_load(a + end), family##_load(b + end));                \
        size_t i = 0;                                                                                        \
        for (; i + vector < end; i += 2 * vector) {                                                          \
            family##_vector x = operate(family##_load(a + i), family##_load(b + i));                         \
            family##_vector y = operate(family##_load(a + i + vector), family##_load(b + i + vector));       \
            family##_store(out + i, x);                                                                      \
            family##_store(out + i + vector, y);                                                             \
        }                                                                                                    \
        if (i < end)                                                                                         \
            family##_store(out + i, operate(family##_load(a + i), family##_load(b + i)));                    \
        family##_store(out + end, last);                                                                     \
    }

/* A many_kernel: all sources in one pass, what has been combined stays in registers.  Several vectors at
 * once, so that the operations on one need not wait for each other. */
#define REDUCE_MANY_LOOP(name, element_bytes, family, operate)                                               \
    static inline family##_vector name##_at(const unsigned char *const *in, int source_count, size_t i)      \
    {                                                                                                        \
        family##_vector x = family##_load(in[0] + i);                                                        \
        for (int s = 1; s < source_count; s++)                                                               \
            x = operate(x, family##_load(in[s] + i));                                                        \
        return x;                                                                                            \
    }                                                                                                        \
    REDUCE_LINKAGE void name(void *target, const void *const *sources, int source_count, size_t count)       \
    {                                                                                                        \
        const size_t vector = family##_BYTES, size = count * (element_bytes);                                \
        unsigned char *out = target;                                                                         \
        const unsigned char *const *in = (const unsigned char *const *)sources;                              \
        if (size < vector) {                                                                                 \
            family##_vector x = family##_load_part(in[0], size);                                             \
            for (int s = 1; s < source_count; s++)                                                           \
                x = operate(x, family##_load_part(in[s], size));                                             \
            family##_store_part(out, x, size);                                                               \
            return;                                                                                          \
        }                                                                                                    \
        const size_t end = size - vector;                                                                    \
        const family##_vector last = name##_at(in, source_count, end);                                       \
        size_t i = 0;                                                                                        \
        for (; i + 3 * vector < end; i += 4 * vector) {                                                      \
            const unsigned char *at = in[0] + i;                                                             \
            family##_vector x = family##_load(at), y = family##_load(at + vector),                           \
                            z = family##_load(at + 2 * vector), w = family##_load(at + 3 * vector);          \
            for (int s = 1; s < source_count; s++) {                                                         \
                at = in[s] + i;                                                                              \
                x = operate(x, family##_load(at));                                                           \
                y = operate(y, family##_load(at + vector));                                                  \
                z = operate(z, family##_load(at + 2 * vector));                                              \
                w = operate(w, family##_load(at + 3 * vector));                                              \
            }                                                                                                \
            family##_store(out + i, x);                                                                      \
            family##_store(out + i + vector, y);                                                             \
            family##_store(out + i + 2 * vector, z);                                                         \
            family##_store(out + i + 3 * vector, w);                                                         \
        }                                                                                                    \
        for (; i < end; i += vector)                                                                         \
            family##_store(out + i, name##_at(in, source_count, i));                                         \
        family##_store(out + end, last);                                                                     \
    }

/* Both of one operation. */
#define REDUCE_LOOPS(name, element_bytes, family, operate)                                                   \
    REDUCE_LOOP(name, element_bytes, family, operate)                                                        \
    REDUCE_MANY_LOOP(name##_many, element_bytes, family, operate)

/* A divide_kernel or scale_kernel, by `argument`, which is int or double: each element with one number. */
#define APPLY_LOOP(name, argument, element_bytes, family, broadcast, operate)                                \
    REDUCE_LINKAGE void name(void *target, size_t count, argument number)                                    \
    {                                                                                                        \
        const size_t vector = family##_BYTES, size = count * (element_bytes);                                \
        unsigned char *out = target;                                                                         \
        const family##_vector by = broadcast(number);                                                        \
        if (size < vector) {                                                                                 \
            family##_store_part(out, operate(family##_load_part(out, size), by), size);                      \
            return;                                                                                          \
        }                                                                                                    \
        const size_t end = size - vector;                                                                    \
        const family##_vector last = operate(family##_load(out + end), by);                                  \
        for (size_t i = 0; i < end; i += vector)                                                             \
            family##_store(out + i, operate(family##_load(out + i), by));                                    \
        family##_store(out + end, last);                                                                     \
    }

#endif
