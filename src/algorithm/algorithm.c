#include "algorithm/algorithm.h"

#include <string.h>
#include "algorithm/table.h"

#define IN_ORDER ALGORITHM_RANK_ORDER
#define HOSTS    ALGORITHM_HIERARCHICAL
#define DIRECT   ALGORITHM_DIRECT
#define MIXED    ALGORITHM_MIXED

#define ROW(operation, number, family, name, traits)                                                         \
    {                                                                                                        \
        operation, number, #family, traits, name, name##_cost                                                \
    }

/* Numbers travel in every frame: a row that goes leaves its number unused. */
const struct algorithm algorithms[] = {
    ROW(TUTTI_ALL_REDUCE, 1, ring, ring_all_reduce, 0),
    ROW(TUTTI_ALL_REDUCE, 2, ring_exchange, ring_exchange_all_reduce, IN_ORDER),
    ROW(TUTTI_ALL_REDUCE, 3, exchange, exchange_all_reduce, IN_ORDER),
    ROW(TUTTI_ALL_REDUCE, 4, recursive_doubling, recursive_doubling_all_reduce, 0),
    ROW(TUTTI_ALL_REDUCE, 5, halving_doubling, halving_doubling_all_reduce, 0),
    ROW(TUTTI_ALL_REDUCE, 6, direct, direct_all_reduce, IN_ORDER),
    ROW(TUTTI_ALL_REDUCE, 7, tree, tree_all_reduce, 0),
    ROW(TUTTI_ALL_REDUCE, 8, hierarchical, hierarchical_all_reduce, HOSTS),

    ROW(TUTTI_REDUCE, 1, ring, ring_reduce, 0),
    ROW(TUTTI_REDUCE, 2, linear, linear_reduce, IN_ORDER),
    ROW(TUTTI_REDUCE, 3, tree, tree_reduce, 0),
    ROW(TUTTI_REDUCE, 4, scatter_gather, scatter_gather_reduce, IN_ORDER),

    ROW(TUTTI_BROADCAST, 1, ring, ring_broadcast, IN_ORDER),
    ROW(TUTTI_BROADCAST, 2, tree, tree_broadcast, IN_ORDER),
    ROW(TUTTI_BROADCAST, 3, scatter_gather, scatter_gather_broadcast, IN_ORDER),
    ROW(TUTTI_BROADCAST, 4, hierarchical, hierarchical_broadcast, IN_ORDER | HOSTS),

    ROW(TUTTI_ALL_GATHER, 1, ring, ring_all_gather, IN_ORDER),
    ROW(TUTTI_ALL_GATHER, 2, bruck, bruck_all_gather, IN_ORDER),
    ROW(TUTTI_ALL_GATHER, 3, direct, direct_all_gather, IN_ORDER),
    ROW(TUTTI_ALL_GATHER, 4, hierarchical, hierarchical_all_gather, IN_ORDER | HOSTS),

    ROW(TUTTI_GATHER, 1, ring, ring_gather, IN_ORDER),
    ROW(TUTTI_GATHER, 2, direct, direct_gather, IN_ORDER | DIRECT),
    ROW(TUTTI_GATHER, 3, tree, tree_gather, IN_ORDER),

    ROW(TUTTI_SCATTER, 2, direct, direct_scatter, IN_ORDER | DIRECT),
    ROW(TUTTI_SCATTER, 3, tree, tree_scatter, IN_ORDER),

    ROW(TUTTI_REDUCE_SCATTER, 1, ring, ring_reduce_scatter, 0),
    ROW(TUTTI_REDUCE_SCATTER, 2, direct, direct_reduce_scatter, IN_ORDER),
    ROW(TUTTI_REDUCE_SCATTER, 3, halving, halving_reduce_scatter, 0),
    ROW(TUTTI_REDUCE_SCATTER, 4, hierarchical, hierarchical_reduce_scatter, HOSTS),

    ROW(TUTTI_ALL_TO_ALL, 2, direct, direct_all_to_all, IN_ORDER),
    ROW(TUTTI_ALL_TO_ALL, 3, pairwise, pairwise_all_to_all, IN_ORDER),

    ROW(TUTTI_BARRIER, 1, ring, ring_barrier, IN_ORDER),
    ROW(TUTTI_BARRIER, 2, dissemination, dissemination_barrier, IN_ORDER),
    ROW(TUTTI_BARRIER, 3, hierarchical, hierarchical_barrier, IN_ORDER | HOSTS),
};

const size_t algorithm_count = sizeof algorithms / sizeof *algorithms;

static const struct algorithm mixed[] = {
    ROW(TUTTI_ALL_REDUCE, ALGORITHM_MIXED_NUMBER, hierarchical_shared, mixed_all_reduce, MIXED),
    ROW(TUTTI_ALL_REDUCE, ALGORITHM_MIXED_NUMBER + 1, hierarchical_exchange, mixed_exchange_all_reduce,
        MIXED),
    ROW(TUTTI_BARRIER, ALGORITHM_MIXED_NUMBER, hierarchical_shared, mixed_barrier, IN_ORDER | MIXED),
};

const size_t algorithm_places = (sizeof algorithms + sizeof mixed) / sizeof *algorithms;

const struct algorithm *algorithm_at(size_t place)
{
    return place < algorithm_count ? &algorithms[place] : &mixed[place - algorithm_count];
}

size_t algorithm_place(const struct algorithm *algorithm)
{
    return algorithm_is_mixed(algorithm) ? algorithm_count + (size_t)(algorithm - mixed)
                                         : (size_t)(algorithm - algorithms);
}

#define SHARED(operation) [operation] = {operation, ALGORITHM_SHARED_NUMBER, "shared", IN_ORDER, NULL, NULL}

static const struct algorithm shared[OPERATION_COUNT] = {
    SHARED(TUTTI_ALL_REDUCE), SHARED(TUTTI_BROADCAST),      SHARED(TUTTI_ALL_GATHER),
    SHARED(TUTTI_GATHER),     SHARED(TUTTI_REDUCE_SCATTER), SHARED(TUTTI_BARRIER),
};

const struct algorithm *algorithm_shared(int operation)
{
    bool is_there = operation > 0 && operation < OPERATION_COUNT && shared[operation].name != NULL;
    return is_there ? &shared[operation] : NULL;
}

int algorithm_operation(int operation)
{
    return operation_plain(operation);
}

const struct algorithm *algorithm_find(int operation, const char *name)
{
    for (size_t i = 0; i < algorithm_places; i++) {
        const struct algorithm *algorithm = algorithm_at(i);
        if (algorithm->operation == algorithm_operation(operation) && strcmp(algorithm->name, name) == 0)
            return algorithm;
    }
    const struct algorithm *direct = algorithm_shared(algorithm_operation(operation));
    return direct && strcmp(direct->name, name) == 0 ? direct : NULL;
}

const struct algorithm *algorithm_by_number(int operation, int number)
{
    for (size_t i = 0; i < algorithm_places; i++) {
        const struct algorithm *algorithm = algorithm_at(i);
        if (algorithm->operation == algorithm_operation(operation) && algorithm->number == number)
            return algorithm;
    }
    return number == ALGORITHM_SHARED_NUMBER ? algorithm_shared(algorithm_operation(operation)) : NULL;
}
