#include <string.h>
#include "tensor/type.h"

/* Which reductions a type takes goes by its kind. */
enum kind { FLOAT = 1, INTEGER = 2, BOOL = 4, COMPLEX = 8 };

static const struct {
    const char *name;
    size_t size;
    enum kind kind;
} types[TYPE_COUNT] = {
    [TUTTI_FLOAT32] = {"float32", 4, FLOAT},       [TUTTI_FLOAT64] = {"float64", 8, FLOAT},
    [TUTTI_FLOAT16] = {"float16", 2, FLOAT},       [TUTTI_BFLOAT16] = {"bfloat16", 2, FLOAT},
    [TUTTI_INT8] = {"int8", 1, INTEGER},           [TUTTI_UINT8] = {"uint8", 1, INTEGER},
    [TUTTI_INT16] = {"int16", 2, INTEGER},         [TUTTI_INT32] = {"int32", 4, INTEGER},
    [TUTTI_UINT32] = {"uint32", 4, INTEGER},       [TUTTI_INT64] = {"int64", 8, INTEGER},
    [TUTTI_UINT64] = {"uint64", 8, INTEGER},       [TUTTI_BOOL] = {"bool", 1, BOOL},
    [TUTTI_COMPLEX64] = {"complex64", 8, COMPLEX},
};

static const struct {
    const char *name;
    unsigned kinds; /* that it takes */
} reductions[REDUCTION_COUNT] = {
    [TUTTI_SUM] = {"sum", FLOAT | INTEGER | BOOL | COMPLEX},
    [TUTTI_PRODUCT] = {"product", FLOAT | INTEGER | BOOL | COMPLEX},
    [TUTTI_MIN] = {"min", FLOAT | INTEGER | BOOL},
    [TUTTI_MAX] = {"max", FLOAT | INTEGER | BOOL},
    [TUTTI_AVG] = {"avg", FLOAT | INTEGER | COMPLEX},
    [TUTTI_BIT_AND] = {"bit_and", INTEGER | BOOL},
    [TUTTI_BIT_OR] = {"bit_or", INTEGER | BOOL},
    [TUTTI_BIT_XOR] = {"bit_xor", INTEGER | BOOL},
    [TUTTI_LOGICAL_AND] = {"logical_and", INTEGER | BOOL},
    [TUTTI_LOGICAL_OR] = {"logical_or", INTEGER | BOOL},
    [TUTTI_PREMULTIPLIED_SUM] = {"premultiplied_sum", FLOAT | COMPLEX},
};

static const struct {
    const char *name;
    int plain; /* the operation whose parts are all of one length; 0: this one */
} operations[OPERATION_COUNT] = {
    [TUTTI_ALL_REDUCE] = {"all_reduce", 0},
    [TUTTI_BROADCAST] = {"broadcast", 0},
    [TUTTI_ALL_GATHER] = {"all_gather", 0},
    [TUTTI_GATHER] = {"gather", 0},
    [TUTTI_REDUCE_SCATTER] = {"reduce_scatter", 0},
    [TUTTI_BARRIER] = {"barrier", 0},
    [TUTTI_REDUCE] = {"reduce", 0},
    [TUTTI_SCATTER] = {"scatter", 0},
    [TUTTI_ALL_TO_ALL] = {"all_to_all", 0},
    [TUTTI_ALL_GATHER_V] = {"all_gather_v", TUTTI_ALL_GATHER},
    [TUTTI_GATHER_V] = {"gather_v", TUTTI_GATHER},
    [TUTTI_SCATTER_V] = {"scatter_v", TUTTI_SCATTER},
    [TUTTI_REDUCE_SCATTER_V] = {"reduce_scatter_v", TUTTI_REDUCE_SCATTER},
    [TUTTI_ALL_TO_ALL_V] = {"all_to_all_v", TUTTI_ALL_TO_ALL},
    [TUTTI_SEND] = {"send", 0},
    [TUTTI_RECV] = {"recv", 0},
};

bool type_is_valid(int type)
{
    return type > 0 && type < TYPE_COUNT;
}

bool reduction_is_valid(int reduction)
{
    return reduction > 0 && reduction < REDUCTION_COUNT;
}

bool operation_is_valid(int operation)
{
    return operation > 0 && operation < OPERATION_COUNT;
}

size_t tutti_type_size(enum tutti_type type)
{
    return type_is_valid((int)type) ? types[type].size : 0;
}

const char *type_name(int type)
{
    return type_is_valid(type) ? types[type].name : "unknown type";
}

const char *reduction_name(int reduction)
{
    return reduction_is_valid(reduction) ? reductions[reduction].name : "unknown reduction";
}

const char *operation_name(int operation)
{
    return operation_is_valid(operation) ? operations[operation].name : "unknown operation";
}

bool type_takes(int type, int reduction)
{
    return (types[type].kind & reductions[reduction].kinds) != 0;
}

bool type_is_half(int type)
{
    return type == TUTTI_FLOAT16 || type == TUTTI_BFLOAT16;
}

int operation_plain(int operation)
{
    return operation_has_counts(operation) ? operations[operation].plain : operation;
}

bool operation_has_counts(int operation)
{
    return operation_is_valid(operation) && operations[operation].plain != 0;
}

bool operation_reduces(int operation)
{
    int plain = operation_plain(operation);
    return plain == TUTTI_ALL_REDUCE || plain == TUTTI_REDUCE || plain == TUTTI_REDUCE_SCATTER;
}

bool operation_has_root(int operation)
{
    int plain = operation_plain(operation);
    return plain == TUTTI_BROADCAST || plain == TUTTI_REDUCE || plain == TUTTI_GATHER ||
           plain == TUTTI_SCATTER;
}

bool operation_gathers(int operation)
{
    int plain = operation_plain(operation);
    return plain == TUTTI_GATHER || plain == TUTTI_ALL_GATHER;
}

bool operation_scatters(int operation)
{
    int plain = operation_plain(operation);
    return plain == TUTTI_SCATTER || plain == TUTTI_REDUCE_SCATTER;
}

bool operation_is_message(int operation)
{
    return operation == TUTTI_SEND || operation == TUTTI_RECV;
}

int type_from_name(const char *name)
{
    for (int type = 1; type < TYPE_COUNT; type++) {
        if (strcmp(types[type].name, name) == 0)
            return type;
    }
    return 0;
}

int reduction_from_name(const char *name)
{
    for (int reduction = 1; reduction < REDUCTION_COUNT; reduction++) {
        if (strcmp(reductions[reduction].name, name) == 0)
            return reduction;
    }
    return 0;
}

int operation_from_name(const char *name)
{
    for (int operation = 1; operation < OPERATION_COUNT; operation++) {
        if (strcmp(operations[operation].name, name) == 0)
            return operation;
    }
    return 0;
}
