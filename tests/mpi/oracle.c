/* The oracle: every collective and message of tutti against Open MPI on the same input.
 *
 * What is demanded of tutti's results, where n is the number of ranks, u the unit roundoff of the type (half
 * an ULP of one), A the sum (product) of the magnitudes, and g = (n-1)u / (1 - (n-1)u), which bounds n-1
 * roundings in any order: (n-1)/2 to n-1 ULP of A (Higham, Accuracy and Stability of Numerical Algorithms,
 * 4.2).  One percent is added for the roundings of the bounds themselves. */
/* clang-format off */
/*   moved data, integers, truth        the same as MPI's; MPI leaves open what a minimum of NaN is, tutti.h
 *   values, minimum, maximum           promises NaN
 *   sum, product of float32, float64;  MPI's result of the same type within 2 g A, because each of the two may
 *   sum of complex64, by component     be off by g A
 *   sum, product of float16, bfloat16  MPI's result of the input widened to float64, within g A
 *   product of complex64               MPI's result of the input widened, each component within
 *                                      sqrt(5) (n-1) u of the product of the magnitudes
 *   pre-multiplied sum                 MPI's sum of the products, which are exact, of the input widened
 *   average of integers                MPI's sum divided by n, truncated towards zero
 *   average of floats                  MPI's sum divided by n, within (2 or 1)(g A + u |sum|)/n, as above, and
 *                                      one smallest denormal: the division rounds once more
 */
/* clang-format on */
/* In the whole group, and in those that tutti_split() and MPI_Comm_split() make of it alike.  Every
 * all_reduce, all_gather and broadcast must leave the same bits on every rank.
 *
 *     mpirun -n 4 oracle [--large | --symmetric]; TUTTI_TEST_SEED=... repeats a run. */
#include "oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

void die(const struct oracle *o, const char *what)
{
    fprintf(stderr, "rank %d of %d: %s\n", o->rank, o->size, what);
    fprintf(
        stderr,
        "  in %s, count %zu, type %s, reduction %d, root %d, %s, %s input, TUTTI_TEST_SEED=%llu, case %llu\n",
        o->operation, o->count, format_of(o->input.type)->name, (int)o->input.reduction, o->root,
        o->in_place ? "in place" : "out of place", input_names[o->input.kind],
        (unsigned long long)o->input.seed, (unsigned long long)o->input.number);
    MPI_Abort(MPI_COMM_WORLD, 1);
    exit(1);
}

void expect(const struct oracle *o, int status)
{
    if (status == TUTTI_OK)
        return;
    struct tutti_error error = TUTTI_ERROR_INIT;
    tutti_get_error(o->comm, &error);
    fprintf(stderr, "%s: %s\n", tutti_error_name(status), error.message);
    die(o, "tutti failed");
}

void *allocate(size_t bytes)
{
    void *memory = malloc(bytes + 1); /* never NULL for no bytes */
    if (memory == NULL) {
        perror("malloc");
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    return memory;
}

static void test_all(struct oracle *o)
{
    size_t n = (size_t)o->size;
    const size_t counts[] = {0, 1, n - 1, n, n + 1, 7, 1009, 65537};
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++)
        for (int f = 0; f < FORMATS; f++) {
            if (counts[c] > 1009 && formats[f].type != TUTTI_FLOAT32)
                continue;
            test_reductions(o, formats[f].type, counts[c]);
            test_moves(o, formats[f].type, counts[c]);
        }
    expect(o, tutti_barrier(o->comm));
}

/* Two groups, each in the reverse order, made by both libraries in the same way. */
static void test_split(struct oracle *whole)
{
    struct oracle part = *whole;
    part.operation = "split";
    expect(whole, tutti_split(whole->comm, whole->rank % 2, -whole->rank, &part.comm));
    MPI_Comm_split(whole->mpi, whole->rank % 2, -whole->rank, &part.mpi);
    part.rank = tutti_rank(part.comm);
    part.size = tutti_size(part.comm);
    int rank, size;
    MPI_Comm_rank(part.mpi, &rank);
    MPI_Comm_size(part.mpi, &size);
    if (part.rank != rank || part.size != size)
        die(&part, "tutti_split() gave another rank or size than MPI_Comm_split()");
    static const size_t counts[] = {1, 1009};
    for (int c = 0; c < 2; c++)
        for (int f = 0; f < FORMATS; f++) {
            test_reductions(&part, formats[f].type, counts[c]);
            test_moves(&part, formats[f].type, counts[c]);
        }
    expect(&part, tutti_finalize(part.comm, 60000));
    tutti_free(part.comm);
    MPI_Comm_free(&part.mpi);
    whole->comparisons = part.comparisons;
}

static uint64_t choose_seed(void)
{
    const char *given = getenv("TUTTI_TEST_SEED");
    uint64_t seed = 1;
    if (given != NULL)
        seed = strtoull(given, NULL, 10);
    else if (getrandom(&seed, 4, 0) != 4)
        perror("getrandom");
    MPI_Bcast(&seed, 1, MPI_UINT64_T, 0, MPI_COMM_WORLD);
    return seed;
}

int main(int argc, char **argv)
{
    struct oracle o = {0};
    o.input.type = TUTTI_FLOAT32;
    o.operation = "start-up";
    MPI_Init(&argc, &argv);
    o.mpi = MPI_COMM_WORLD;
    o.input.seed = choose_seed();
    expect(&o, tutti_init(NULL, &o.comm));
    o.rank = tutti_rank(o.comm);
    o.size = tutti_size(o.comm);
    int mpi_rank, mpi_size;
    MPI_Comm_rank(MPI_COMM_WORLD, &mpi_rank);
    MPI_Comm_size(MPI_COMM_WORLD, &mpi_size);
    if (o.rank != mpi_rank || o.size != mpi_size)
        die(&o, "tutti did not take rank and size from Open MPI's variables");
    if (o.size > RANKS_MAX)
        die(&o, "there are more ranks than this test has room for");

    o.symmetric = argc > 1 && strcmp(argv[1], "--symmetric") == 0;
    if (argc > 1 && strcmp(argv[1], "--large") == 0) {
        test_large(&o);
    } else {
        test_all(&o);
        test_split(&o);
    }

    expect(&o, tutti_finalize(o.comm, 60000));
    tutti_free(o.comm);
    if (o.rank == 0)
        printf("%d ranks: %ld comparisons with MPI, TUTTI_TEST_SEED=%llu\n", o.size, o.comparisons,
               (unsigned long long)o.input.seed);
    MPI_Finalize();
    return 0;
}
