/* What a chunk holds, symbolically: the contribution of one rank, a reduction of two expressions or of more,
 * or a finished expression.  Equal expressions have equal numbers, so comparing two orders of reduction is
 * comparing two integers.  For the checker. */
#ifndef TUTTI_SCHEDULE_EXPRESSION_H
#define TUTTI_SCHEDULE_EXPRESSION_H

#include <stdbool.h>
#include <stdint.h>

enum expression_kind {
    EXPRESSION_LEAF,
    EXPRESSION_REDUCTION,    /* left op right, rounded */
    EXPRESSION_ACCUMULATION, /* left op right within a reduction of many, not rounded; never in memory */
    EXPRESSION_ROUNDED,      /* such a reduction, complete */
    EXPRESSION_FINISHED
};

struct expression {
    int kind;  /* enum expression_kind */
    int chunk; /* of which chunk this is a value */
    int left;  /* LEAF: the rank; otherwise an expression */
    int right; /* REDUCTION, ACCUMULATION: an expression; otherwise -1 */
};

/* All fields are private but `list`. */
struct expressions {
    struct expression *list;
    int count, capacity;
    int words;       /* of 64 bits in a set of ranks */
    uint64_t *ranks; /* of each expression, the set of ranks that contribute to it */
    int *table;      /* open addressing; -1: free */
    int table_size;  /* a power of two, at least twice `capacity` */
};

void expressions_init(struct expressions *e, int size);
void expressions_clean_up(struct expressions *e);

/* The number of an expression; -1 when out of memory. */
int expression_leaf(struct expressions *e, int rank, int chunk);
int expression_reduction(struct expressions *e, int left, int right);
int expression_finished(struct expressions *e, int operand);

/* A reduction of many: accumulate the second operand to the first, the third to what comes out, and so on; in
 * the end expression_rounded().  `accumulated` is the first operand, or what the last call returned. */
int expression_accumulation(struct expressions *e, int accumulated, int operand);
int expression_rounded(struct expressions *e, int accumulated);

/* A rank that contributes to both, -1 when there is none; a rank that does not contribute, likewise. */
int expression_common_rank(const struct expressions *e, int a, int b);
int expression_missing_rank(const struct expressions *e, int id, int size);

#endif
