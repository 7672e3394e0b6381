#include <string.h>
#include "tensor/type.h"

/* Which reductions a type takes goes by its kind. */
enum kind { FLOAT = 1, INTEGER = 2, BOOL = 4, COMPLEX = 8 };

static const struct {
    const char *name;
    enum kind kind;
} types[TYPE_COUNT] = {
    [TUTTI_FLOAT32] = {"float32", FLOAT},       [TUTTI_FLOAT64] = {"float64", FLOAT},
    [TUTTI_FLOAT16] = {"float16", FLOAT},       [TUTTI_BFLOAT16] = {"bfloat16", FLOAT},
    [TUTTI_INT8] = {"int8", INTEGER},           [TUTTI_UINT8] = {"uint8", INTEGER},
    [TUTTI_INT16] = {"int16", INTEGER},         [TUTTI_INT32] = {"int32", INTEGER},
    [TUTTI_UINT32] = {"uint32", INTEGER},       [TUTTI_INT64] = {"int64", INTEGER},
    [TUTTI_UINT64] = {"uint64", INTEGER},       [TUTTI_BOOL] = {"bool", BOOL},
    [TUTTI_COMPLEX64] = {"complex64", COMPLEX},
};

const uint8_t type_sizes[TYPE_COUNT] = {
    [TUTTI_FLOAT32] = 4, [TUTTI_FLOAT64] = 8, [TUTTI_FLOAT16] = 2,   [TUTTI_BFLOAT16] = 2, [TUTTI_INT8] = 1,
    [TUTTI_UINT8] = 1,   [TUTTI_INT16] = 2,   [TUTTI_INT32] = 4,     [TUTTI_UINT32] = 4,   [TUTTI_INT64] = 8,
    [TUTTI_UINT64] = 8,  [TUTTI_BOOL] = 1,    [TUTTI_COMPLEX64] = 8,
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

size_t tutti_type_size(enum tutti_type type)
{
    return type_size((int)type);
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

int operation_plain(int operation)
{
    return operation_has_counts(operation) ? operations[operation].plain : operation;
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
