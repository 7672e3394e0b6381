/* Element types, reductions and operations: sizes, names and what an operation takes. */
#ifndef TUTTI_TENSOR_TYPE_H
#define TUTTI_TENSOR_TYPE_H

#include <stdbool.h>
#include "tutti/tutti.h"

#define TYPE_COUNT      14 /* one more than the largest value of enum tutti_type */
#define REDUCTION_COUNT 12 /* likewise of enum tutti_reduction */
#define OPERATION_COUNT 17 /* likewise of enum tutti_operation */

/* All take any integer, also one read from the wire. */
bool type_is_valid(int type);
bool reduction_is_valid(int reduction);
bool operation_is_valid(int operation);
const char *type_name(int type);           /* "float32"; "unknown type" */
const char *reduction_name(int reduction); /* "sum" */
const char *operation_name(int operation); /* "all_reduce" */
bool type_takes(int type, int reduction);  /* as tutti.h says; of valid ones */
bool type_is_half(int type);               /* float16, bfloat16: combined in float32 */
/* Of every operation, the _v included unless said. */
bool operation_reduces(int operation);  /* takes a reduction: all_reduce, reduce, reduce_scatter */
bool operation_has_root(int operation); /* takes a root: broadcast, reduce, gather, scatter */
bool operation_gathers(int operation);  /* input is this rank's part of the work vector: gather, all_gather */
bool operation_scatters(int operation); /* output is: scatter, reduce_scatter */
bool operation_has_counts(int operation); /* parts of different lengths: the _v */
bool operation_is_message(int operation); /* send, recv */
int operation_plain(int operation);       /* TUTTI_ALL_GATHER for TUTTI_ALL_GATHER_V; others: themselves */
int type_from_name(const char *name);     /* 0 when there is none */
int reduction_from_name(const char *name);
int operation_from_name(const char *name);

#endif
