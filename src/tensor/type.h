/* Element types, reductions and operations: sizes, names and what an operation takes. */
#ifndef TUTTI_TENSOR_TYPE_H
#define TUTTI_TENSOR_TYPE_H

#include <stdbool.h>
#include "tutti/tutti.h"

#define TYPE_COUNT      9 /* one more than the largest value of enum tutti_type */
#define REDUCTION_COUNT 6 /* likewise of enum tutti_reduction */
#define OPERATION_COUNT 7 /* likewise of enum tutti_operation */

/* All take any integer, also one read from the wire. */
bool type_is_valid(int type);
bool reduction_is_valid(int reduction);
bool operation_is_valid(int operation);
const char *type_name(int type);           /* "float32"; "unknown type" */
const char *reduction_name(int reduction); /* "sum" */
const char *operation_name(int operation); /* "all_reduce" */
bool operation_reduces(int operation);     /* takes a reduction: all_reduce, reduce_scatter */
bool operation_has_root(int operation);    /* takes a root: broadcast, gather */
bool operation_gathers(int operation);     /* makes size * count elements of count: gather, all_gather */
int type_from_name(const char *name);      /* 0 when there is none */
int reduction_from_name(const char *name);
int operation_from_name(const char *name);

#endif
