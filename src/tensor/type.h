/* Element types, reductions and operations: sizes, names and what an operation takes. */
#ifndef TUTTI_TENSOR_TYPE_H
#define TUTTI_TENSOR_TYPE_H

#include <stdbool.h>
#include "tutti/tutti.h"

#define TYPE_COUNT      14 /* one more than the largest value of enum tutti_type */
#define REDUCTION_COUNT 12 /* likewise of enum tutti_reduction */
#define OPERATION_COUNT 17 /* likewise of enum tutti_operation */

/* All take any integer, also one read from the wire. */
static inline bool type_is_valid(int type)
{
    return type > 0 && type < TYPE_COUNT;
}
static inline bool reduction_is_valid(int reduction)
{
    return reduction > 0 && reduction < REDUCTION_COUNT;
}
static inline bool operation_is_valid(int operation)
{
    return operation > 0 && operation < OPERATION_COUNT;
}
const char *type_name(int type);           /* "float32"; "unknown type" */
const char *reduction_name(int reduction); /* "sum" */
const char *operation_name(int operation); /* "all_reduce" */
bool type_takes(int type, int reduction);  /* as tutti.h says; of valid ones */

extern const uint8_t type_sizes[TYPE_COUNT];

/* As tutti_type_size(), for hot paths. */
static inline size_t type_size(int type)
{
    return type_is_valid(type) ? type_sizes[type] : 0;
}

static inline bool type_is_half(int type) /* combined in float32 */
{
    return type == TUTTI_FLOAT16 || type == TUTTI_BFLOAT16;
}

/* What operations are, as sets of them. */
#define OPERATION_SET(operation) (1u << (operation))
#define OPERATIONS_REDUCE                                                                                    \
    (OPERATION_SET(TUTTI_ALL_REDUCE) | OPERATION_SET(TUTTI_REDUCE) | OPERATION_SET(TUTTI_REDUCE_SCATTER) |   \
     OPERATION_SET(TUTTI_REDUCE_SCATTER_V))
#define OPERATIONS_WITH_ROOT                                                                                 \
    (OPERATION_SET(TUTTI_BROADCAST) | OPERATION_SET(TUTTI_REDUCE) | OPERATION_SET(TUTTI_GATHER) |            \
     OPERATION_SET(TUTTI_GATHER_V) | OPERATION_SET(TUTTI_SCATTER) | OPERATION_SET(TUTTI_SCATTER_V))
#define OPERATIONS_GATHER                                                                                    \
    (OPERATION_SET(TUTTI_GATHER) | OPERATION_SET(TUTTI_GATHER_V) | OPERATION_SET(TUTTI_ALL_GATHER) |         \
     OPERATION_SET(TUTTI_ALL_GATHER_V))
#define OPERATIONS_SCATTER                                                                                   \
    (OPERATION_SET(TUTTI_SCATTER) | OPERATION_SET(TUTTI_SCATTER_V) | OPERATION_SET(TUTTI_REDUCE_SCATTER) |   \
     OPERATION_SET(TUTTI_REDUCE_SCATTER_V))
#define OPERATIONS_WITH_COUNTS                                                                               \
    (OPERATION_SET(TUTTI_ALL_GATHER_V) | OPERATION_SET(TUTTI_GATHER_V) | OPERATION_SET(TUTTI_SCATTER_V) |    \
     OPERATION_SET(TUTTI_REDUCE_SCATTER_V) | OPERATION_SET(TUTTI_ALL_TO_ALL_V))

static inline bool operation_is_in(int operation, unsigned set)
{
    return operation_is_valid(operation) && (set >> operation & 1) != 0;
}
static inline bool operation_reduces(int operation) /* takes a reduction */
{
    return operation_is_in(operation, OPERATIONS_REDUCE);
}
static inline bool operation_has_root(int operation)
{
    return operation_is_in(operation, OPERATIONS_WITH_ROOT);
}
static inline bool operation_gathers(int operation) /* input is this rank's part of the work vector */
{
    return operation_is_in(operation, OPERATIONS_GATHER);
}
static inline bool operation_scatters(int operation) /* output is */
{
    return operation_is_in(operation, OPERATIONS_SCATTER);
}
static inline bool operation_has_counts(int operation) /* parts of different lengths: the _v */
{
    return operation_is_in(operation, OPERATIONS_WITH_COUNTS);
}
/* Of these each pair of ranks agrees on the length of what goes between them, and nobody on more. */
static inline bool operation_has_own_counts(int operation)
{
    return operation == TUTTI_GATHER_V || operation == TUTTI_SCATTER_V || operation == TUTTI_ALL_TO_ALL_V;
}
static inline bool operation_is_message(int operation)
{
    return operation == TUTTI_SEND || operation == TUTTI_RECV;
}
int operation_plain(int operation); /* TUTTI_ALL_GATHER for TUTTI_ALL_GATHER_V; others: themselves */

int type_from_name(const char *name); /* 0 when there is none */
int reduction_from_name(const char *name);
int operation_from_name(const char *name);

#endif
