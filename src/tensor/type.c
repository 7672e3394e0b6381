#include <string.h>
#include "tensor/type.h"

struct type {
    const char *name;
    size_t size;
};

static const struct type types[TYPE_COUNT] = {
    [TUTTI_FLOAT32] = {"float32", 4},   [TUTTI_FLOAT64] = {"float64", 8}, [TUTTI_FLOAT16] = {"float16", 2},
    [TUTTI_BFLOAT16] = {"bfloat16", 2}, [TUTTI_INT8] = {"int8", 1},       [TUTTI_UINT8] = {"uint8", 1},
    [TUTTI_INT32] = {"int32", 4},       [TUTTI_INT64] = {"int64", 8},
};

static const char *const reductions[REDUCTION_COUNT] = {
    [TUTTI_SUM] = "sum", [TUTTI_PRODUCT] = "product", [TUTTI_MIN] = "min",
    [TUTTI_MAX] = "max", [TUTTI_AVG] = "avg",
};

static const char *const operations[OPERATION_COUNT] = {
    [TUTTI_ALL_REDUCE] = "all_reduce",         [TUTTI_BROADCAST] = "broadcast",
    [TUTTI_ALL_GATHER] = "all_gather",         [TUTTI_GATHER] = "gather",
    [TUTTI_REDUCE_SCATTER] = "reduce_scatter", [TUTTI_BARRIER] = "barrier",
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
    return reduction_is_valid(reduction) ? reductions[reduction] : "unknown reduction";
}

const char *operation_name(int operation)
{
    return operation_is_valid(operation) ? operations[operation] : "unknown operation";
}

bool operation_reduces(int operation)
{
    return operation == TUTTI_ALL_REDUCE || operation == TUTTI_REDUCE_SCATTER;
}

bool operation_has_root(int operation)
{
    return operation == TUTTI_BROADCAST || operation == TUTTI_GATHER;
}

bool operation_gathers(int operation)
{
    return operation == TUTTI_GATHER || operation == TUTTI_ALL_GATHER;
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
        if (strcmp(reductions[reduction], name) == 0)
            return reduction;
    }
    return 0;
}

int operation_from_name(const char *name)
{
    for (int operation = 1; operation < OPERATION_COUNT; operation++) {
        if (strcmp(operations[operation], name) == 0)
            return operation;
    }
    return 0;
}
