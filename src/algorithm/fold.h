/* Recursive doubling and halving need a power of two.  Where the size is none, the first ranks fold in pairs:
 * the odd one hands its vector to the even one before it and waits for the result.  The others, renumbered in
 * order, are a power of two: ranks 0, 2, 4, 5, 6 of 6 ranks become 0, 1, 2, 3. */
#ifndef TUTTI_ALGORITHM_FOLD_H
#define TUTTI_ALGORITHM_FOLD_H

#include "algorithm/powers.h"
#include "schedule/schedule.h"

struct fold {
    int pairs;
    int size;     /* of the folded group: a power of two */
    int index;    /* of this rank in it, -1: it hands its vector over */
    bool is_pair; /* this rank stands for the one after it, too */
};

static inline struct fold fold_of(const struct schedule *s)
{
    struct fold fold = {.size = 1 << log2_floor(s->size)};
    fold.pairs = s->size - fold.size;
    if (s->rank >= 2 * fold.pairs) {
        fold.index = s->rank - fold.pairs;
    } else {
        fold.is_pair = s->rank % 2 == 0;
        fold.index = fold.is_pair ? s->rank / 2 : -1;
    }
    return fold;
}

/* The rank that has an index; of fold->size: the size of the whole group. */
static inline int fold_rank(const struct fold *fold, int index)
{
    return index < fold->pairs ? 2 * index : index + fold->pairs;
}

#endif
