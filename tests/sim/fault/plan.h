/* What a group calls: drawn from the seed and the generation, so that all ranks draw the same. */
#ifndef TUTTI_TESTS_FAULT_PLAN_H
#define TUTTI_TESTS_FAULT_PLAN_H

#include "algorithm/select.h"
#include "tests/sim/fault/simulation.h"

#define CALLS_MAX   20
#define LETTERS_MAX 3 /* messages from a rank to another in one exchange */

/* How messages go in an exchange. */
enum exchange_way {
    EXCHANGE_SHIFT,     /* to the rank `root` further on, from that `root` before, by source and tag */
    EXCHANGE_ANY_TAG,   /* likewise, from the source whatever the tag */
    EXCHANGE_ANY_SOURCE /* all to the rank `root`, who takes them as they come */
};

/* A collective, or TUTTI_SEND: an exchange of messages. */
struct planned_call {
    uint8_t operation, type, reduction;
    uint8_t way, letters;   /* of an exchange */
    uint32_t root, count;   /* count: of a _v about that of each part */
    unsigned pick;          /* 0: the algorithm is chosen; else which of the eligible ones is asked for */
    bool in_place, inexact; /* inexact: the order of the sum shows in its bits */
    bool asynchronous;
    uint64_t salt; /* distinguishes calls */
};

/* How many calls a group of that generation makes before it finalizes. */
int plan_length(uint64_t seed, uint32_t generation);
int plan_make(const struct simulation *sim, uint32_t generation, int size,
              struct planned_call plan[CALLS_MAX]);

/* The name of the algorithm that such a call asks for in that group, or NULL. */
const char *plan_algorithm(const struct planned_call *planned, const struct select_group *group);

/* Another algorithm of the operation than the one with that name, which a call of this group may ask for; or
 * NULL. */
const char *plan_other_algorithm(const struct planned_call *planned, const struct select_group *group,
                                 const char *name);

#endif
