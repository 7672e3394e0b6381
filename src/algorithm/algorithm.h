/* The algorithms: each one small file that emits a schedule and states its cost, and the table of all. */
#ifndef TUTTI_ALGORITHM_ALGORITHM_H
#define TUTTI_ALGORITHM_ALGORITHM_H

#include "algorithm/cost.h"
#include "schedule/schedule.h"
#include "tensor/type.h"

/* Of the direct collectives: far from those of schedules, which count up from 1. */
#define ALGORITHM_SHARED_NUMBER 64

/* The mixed ones count up from here. */
#define ALGORITHM_MIXED_NUMBER 65

enum algorithm_trait {
    /* Each output is one reduction of all contributions in the order of the ranks: the same bits whatever the
     * transport, the channels and the hosts.  Also every algorithm that reduces nothing. */
    ALGORITHM_RANK_ORDER = 1,
    /* Combines hosts and the ranks within them: of use only where there are several hosts with several ranks.
     */
    ALGORITHM_HIERARCHICAL = 2,
    /* Moves each part between its owner and the root without others, so that only these two must know its
     * length: what gather_v and scatter_v need. */
    ALGORITHM_DIRECT = 4,
    /* Over links between hosts, and within each in the memory that its ranks share (local/mixed.h): the
     * schedule is that of the part between hosts, and so is the cost. */
    ALGORITHM_MIXED = 8
};

struct algorithm {
    int operation;    /* enum tutti_operation; never a _v, for which the plain one's serve */
    uint8_t number;   /* from 1, different within an operation; frozen: it travels in every frame */
    const char *name; /* "ring", "recursive_doubling"; the same family has the same name in each operation */
    unsigned traits;  /* enum algorithm_trait */
    schedule_emitter emit; /* NULL of algorithm_shared() */
    algorithm_cost cost;   /* likewise */
};

/* Those that are schedules and nothing else. */
extern const struct algorithm algorithms[];
extern const size_t algorithm_count;

/* All that have a schedule, by place: those of the table above, then the mixed ones. */
extern const size_t algorithm_places;
const struct algorithm *algorithm_at(size_t place);
size_t algorithm_place(const struct algorithm *algorithm);
static inline bool algorithm_is_mixed(const struct algorithm *algorithm)
{
    return (algorithm->traits & ALGORITHM_MIXED) != 0;
}

/* The direct collective in the memory that ranks of one host share (local/direct.h), "shared", which has no
 * schedule and is not in the table above.  NULL: there is none for this operation; never one for a _v. */
const struct algorithm *algorithm_shared(int operation);
static inline bool algorithm_is_shared(const struct algorithm *algorithm)
{
    return algorithm->number == ALGORITHM_SHARED_NUMBER;
}

/* These find "shared" and the mixed ones, too.  NULL when there is none. */
const struct algorithm *algorithm_find(int operation, const char *name);
const struct algorithm *algorithm_by_number(int operation, int number);

/* The operation whose algorithms serve `operation`: TUTTI_ALL_GATHER for TUTTI_ALL_GATHER_V. */
int algorithm_operation(int operation);

#endif
