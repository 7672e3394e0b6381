/* The oracle: what its parts share.  oracle.c says what is demanded. */
#ifndef TESTS_MPI_ORACLE_H
#define TESTS_MPI_ORACLE_H

#include <mpi.h>
#include "inputs.h"

#define RANKS_MAX 8

/* A group of ranks, known to tutti and to MPI, and the case under way in it. */
struct oracle {
    tutti_comm *comm;
    MPI_Comm mpi;
    int rank, size;
    struct input input;
    const char *operation;
    size_t count;
    int root;
    bool in_place;
    bool symmetric; /* tutti's buffers are of tutti_alloc() */
    long comparisons;
    unsigned char *send, *recv;
    /* Of a _v: the part of each rank, in elements, laid out in the order of the ranks or the reverse. */
    size_t counts[RANKS_MAX], offsets[RANKS_MAX];
};

_Noreturn void die(const struct oracle *o, const char *what);
void expect(const struct oracle *o, int status); /* TUTTI_OK */
void *allocate(size_t bytes);

/* ---- compare.c: collective over the group ---------------------------------------------------------- */

/* Compares the reduction of a vector, of which rank r has, where it has it, the part that begins at element
 * begins[r], with MPI's.  `got` is this rank's part, NULL where it has none. */
void compare_reduced(struct oracle *o, const size_t *begins, const size_t *counts, const void *got);

/* The whole vector of o->count elements, which `got` is; NULL where a rank has none. */
void compare_whole(struct oracle *o, const void *got);

void compare_moved(struct oracle *o, const void *got, const void *expected, size_t bytes);
void same_bits_everywhere(const struct oracle *o, const void *bytes, size_t size);

/* ---- cases.c: collective over the group ------------------------------------------------------------ */

void test_reductions(struct oracle *o, enum tutti_type type, size_t count);
void test_moves(struct oracle *o, enum tutti_type type, size_t count);
void test_large(struct oracle *o);

#endif
