#include "algorithm/algorithm.h"

#include <assert.h>
#include <string.h>

/* ring_exchange sends bytes * (size - 1) from each rank in half the rounds of ring, which sends at most twice
 * the vector.  It wins while those bytes cost less than the rounds that they save. */
#define RING_EXCHANGE_SENT_BYTES_MAX ((size_t)48 << 10)

const struct algorithm algorithms[] = {
    {TUTTI_ALL_REDUCE, "ring", ring_all_reduce},
    {TUTTI_ALL_REDUCE, "ring_exchange", ring_exchange_all_reduce},
    {TUTTI_BROADCAST, "ring", ring_broadcast},
    {TUTTI_ALL_GATHER, "ring", ring_all_gather},
    {TUTTI_GATHER, "ring", ring_gather},
    {TUTTI_REDUCE_SCATTER, "ring", ring_reduce_scatter},
    {TUTTI_BARRIER, "ring", ring_barrier},
};

const size_t algorithm_count = sizeof algorithms / sizeof *algorithms;

static const struct algorithm *find(int operation, const char *name)
{
    for (size_t i = 0; i < algorithm_count; i++) {
        if (algorithms[i].operation == operation && strcmp(algorithms[i].name, name) == 0)
            return &algorithms[i];
    }
    assert(!"every operation has a ring algorithm");
    return NULL;
}

const struct algorithm *algorithm_select(int operation, int size, size_t bytes)
{
    if (operation == TUTTI_ALL_REDUCE && size > 1 &&
        bytes <= RING_EXCHANGE_SENT_BYTES_MAX / (size_t)(size - 1))
        return find(operation, "ring_exchange");
    return find(operation, "ring");
}
