/* Chunk arithmetic: cutting a vector into nearly equal parts. */
#ifndef TUTTI_TENSOR_CHUNK_H
#define TUTTI_TENSOR_CHUNK_H

#include <stddef.h>

/* The first element of part `index` of `parts` when `total` elements are cut so that the first total % parts
 * parts have one element more.  chunk_begin(total, parts, parts) is `total`. */
static inline size_t chunk_begin(size_t total, size_t parts, size_t index)
{
    size_t rest = total % parts;
    return total / parts * index + (index < rest ? index : rest);
}

static inline size_t chunk_count(size_t total, size_t parts, size_t index)
{
    return total / parts + (index < total % parts);
}

#endif
