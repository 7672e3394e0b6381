/* The oracle: every collective of tutti against Open MPI on the same input.
 *
 * What is demanded of tutti's results, where n is the number of ranks, u the unit roundoff of the type (half
 * an ULP of one), A the sum (product) of the magnitudes, and g = (n-1)u / (1 - (n-1)u), which bounds n-1
 * roundings in any order: (n-1)/2 to n-1 ULP of A (Higham, Accuracy and Stability of Numerical Algorithms,
 * 4.2).  One percent is added for the roundings of the bounds themselves. */
/* clang-format off */
/*   moved data, integers, minimum,     the same as MPI's; MPI leaves open what a minimum of NaN is, tutti.h
 *   maximum                            promises NaN
 *   sum, product of float32, float64   MPI's result of the same type within 2 g A, because each of the two may
 *                                      be off by g A
 *   sum, product of float16, bfloat16  MPI's result of the input widened to float64, within g A
 *   average of integers                MPI's sum divided by n, truncated towards zero
 *   average of floats                  MPI's sum divided by n, within (2 or 1)(g A + u |sum|)/n, as above, and
 *                                      one smallest denormal: the division rounds once more
 */
/* clang-format on */
/* Every all_reduce, all_gather and broadcast must leave the same bits on every rank.
 *
 *     mpirun -n 4 oracle [--large]; TUTTI_TEST_SEED=... repeats a run. */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "inputs.h"

#define BLOCK 65536 /* elements compared at a time */

struct oracle {
    tutti_comm *comm;
    int rank, size;
    struct input input; /* of the case under way */
    const char *operation;
    size_t count;
    int root;
    bool in_place;
    long comparisons;
    unsigned char *send, *recv; /* of the case under way */
};

static void die(const struct oracle *o, const char *what)
{
    fprintf(stderr, "rank %d of %d: %s\n", o->rank, o->size, what);
    fprintf(
        stderr,
        "  in %s, count %zu, type %s, reduction %d, root %d, %s, %s input, TUTTI_TEST_SEED=%llu, case %llu\n",
        o->operation, o->count, format_of(o->input.type)->name, (int)o->input.reduction, o->root,
        o->in_place ? "in place" : "out of place", input_names[o->input.kind],
        (unsigned long long)o->input.seed, (unsigned long long)o->input.number);
    MPI_Abort(MPI_COMM_WORLD, 1);
}

static void expect(const struct oracle *o, int status)
{
    if (status == TUTTI_OK)
        return;
    struct tutti_error error = TUTTI_ERROR_INIT;
    tutti_get_error(o->comm, &error);
    fprintf(stderr, "%s: %s\n", tutti_error_name(status), error.message);
    die(o, "tutti failed");
}

static void *allocate(size_t bytes)
{
    void *memory = malloc(bytes + 1); /* never NULL for no bytes */
    if (memory == NULL) {
        perror("malloc");
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    return memory;
}

static MPI_Datatype mpi_type(enum tutti_type type)
{
    switch (type) {
    case TUTTI_FLOAT32:
        return MPI_FLOAT;
    case TUTTI_FLOAT64:
        return MPI_DOUBLE;
    case TUTTI_INT8:
        return MPI_INT8_T;
    case TUTTI_UINT8:
        return MPI_UINT8_T;
    case TUTTI_INT32:
        return MPI_INT32_T;
    case TUTTI_INT64:
        return MPI_INT64_T;
    case TUTTI_FLOAT16:
    case TUTTI_BFLOAT16:
        break;
    }
    return MPI_DATATYPE_NULL; /* Open MPI 4 has neither of the 16-bit types */
}

static MPI_Op mpi_operation(enum tutti_reduction reduction)
{
    return reduction == TUTTI_PRODUCT ? MPI_PROD
           : reduction == TUTTI_MIN   ? MPI_MIN
           : reduction == TUTTI_MAX   ? MPI_MAX
                                      : MPI_SUM;
}

static void report_element(const struct oracle *o, size_t index, const void *got, const char *expected)
{
    uint64_t bits = 0;
    size_t bytes = tutti_type_size(o->input.type);
    memcpy(&bits, got, bytes);
    fprintf(stderr, "element %zu: tutti has 0x%0*llx, %s\n  contributions:", index, (int)bytes * 2,
            (unsigned long long)bits, expected);
    for (int r = 0; r < o->size; r++) {
        uint64_t input = input_bits(&o->input, r, index);
        fprintf(stderr, " 0x%0*llx", (int)bytes * 2,
                (unsigned long long)(bytes == 8 ? input : input & ((1ull << bytes * 8) - 1)));
    }
    fprintf(stderr, "\n");
    die(o, "the reduction differs from MPI's");
}

static int64_t integer_at(const void *buffer, size_t i, enum tutti_type type)
{
    return type == TUTTI_INT8    ? ((const int8_t *)buffer)[i]
           : type == TUTTI_UINT8 ? ((const uint8_t *)buffer)[i]
           : type == TUTTI_INT32 ? ((const int32_t *)buffer)[i]
                                 : ((const int64_t *)buffer)[i];
}

/* Compares elements begin .. begin + count of the reduced vector; `got` is NULL on a rank which does not hold
 * them.  Collective. */
static void compare_integers(const struct oracle *o, size_t begin, size_t count, const void *got)
{
    static uint64_t input[BLOCK], expected[BLOCK];
    enum tutti_type type = o->input.type;
    size_t bytes = tutti_type_size(type);
    input_fill(&o->input, o->rank, begin, count, input);
    MPI_Allreduce(input, expected, (int)count, mpi_type(type), mpi_operation(o->input.reduction),
                  MPI_COMM_WORLD);
    for (size_t i = 0; got != NULL && i < count; i++) {
        int64_t value = integer_at(expected, i, type);
        if (o->input.reduction == TUTTI_AVG)
            value /= o->size;
        if (integer_at(got, i, type) != value) {
            char text[64];
            snprintf(text, sizeof text, "MPI has %lld", (long long)value);
            report_element(o, begin + i, (const char *)got + i * bytes, text);
        }
    }
}

/* What a block of floats should be, widened, and how far off it may be. */
struct reference {
    double value[BLOCK], bound[BLOCK];
};

/* MPI's reduction of the block: in the type itself where MPI has it, else of the widened input. */
static void reduce_by_mpi(const struct oracle *o, size_t count, const void *input, const double *wide,
                          double *value)
{
    static uint64_t same[BLOCK];
    MPI_Datatype type = mpi_type(o->input.type);
    MPI_Op op = mpi_operation(o->input.reduction);
    if (type == MPI_DATATYPE_NULL) {
        MPI_Allreduce(wide, value, (int)count, MPI_DOUBLE, op, MPI_COMM_WORLD);
        return;
    }
    MPI_Allreduce(input, same, (int)count, type, op, MPI_COMM_WORLD);
    for (size_t i = 0; i < count; i++)
        value[i] = widen(same, i, o->input.type);
}

static void reference_floats(const struct oracle *o, size_t begin, size_t count, struct reference *out)
{
    static uint64_t input[BLOCK];
    static double wide[BLOCK], flags[BLOCK], magnitude[BLOCK];
    const struct format *f = format_of(o->input.type);
    enum tutti_reduction reduction = o->input.reduction;
    bool rounds = reduction != TUTTI_MIN && reduction != TUTTI_MAX;
    double u = format_roundoff(f), g = (o->size - 1) * u / (1 - (o->size - 1) * u);
    double sides = mpi_type(o->input.type) == MPI_DATATYPE_NULL ? 1 : 2;

    input_fill(&o->input, o->rank, begin, count, input);
    for (size_t i = 0; i < count; i++)
        wide[i] = widen(input, i, o->input.type);
    reduce_by_mpi(o, count, input, wide, out->value);
    /* Magnitudes for the bound, or which elements have a NaN. */
    for (size_t i = 0; i < count; i++)
        flags[i] = rounds ? fabs(wide[i]) : isnan(wide[i]);
    MPI_Allreduce(flags, magnitude, (int)count, MPI_DOUBLE, rounds ? mpi_operation(reduction) : MPI_MAX,
                  MPI_COMM_WORLD);
    for (size_t i = 0; i < count; i++) {
        out->bound[i] = 0;
        if (!rounds) {
            out->value[i] = magnitude[i] > 0 ? NAN : out->value[i];
            continue;
        }
        /* One percent for the roundings of the bound itself and, beside 16-bit types, of float64. */
        out->bound[i] = 1.01 * sides * g * magnitude[i];
        if (reduction == TUTTI_AVG) {
            out->bound[i] =
                (out->bound[i] + 1.01 * sides * u * fabs(out->value[i])) / o->size + format_smallest(f);
            out->value[i] /= o->size;
        }
    }
}

static void compare_floats(const struct oracle *o, size_t begin, size_t count, const void *got)
{
    static struct reference reference;
    size_t bytes = tutti_type_size(o->input.type);
    reference_floats(o, begin, count, &reference);
    for (size_t i = 0; got != NULL && i < count; i++) {
        double value = widen(got, i, o->input.type), expected = reference.value[i];
        bool right = isnan(expected)   ? isnan(value)
                     : isinf(expected) ? value == expected
                                       : fabs(value - expected) <= reference.bound[i];
        if (!right) {
            char text[128];
            snprintf(text, sizeof text, "which is %.17g; MPI has %.17g, and they may differ by %.3g", value,
                     expected, reference.bound[i]);
            report_element(o, begin + i, (const char *)got + i * bytes, text);
        }
    }
}

/* Compares the reduction of `total` elements with the part [begin, end) of it that this rank has at `got`.
 * Every rank goes through the same blocks, because the reference is collective too; blocks end where
 * the parts of ranks do, every `part` elements. */
static void compare_reduced(struct oracle *o, size_t total, size_t part, size_t begin, const void *got)
{
    size_t bytes = tutti_type_size(o->input.type);
    bool is_integer = format_of(o->input.type)->exponent_bits == 0;
    for (size_t at = 0; at < total;) {
        size_t left = part - at % part, count = left < BLOCK ? left : BLOCK;
        bool mine = at >= begin && at < begin + part;
        const char *here = mine ? (const char *)got + (at - begin) * bytes : NULL;
        (is_integer ? compare_integers : compare_floats)(o, at, count, here);
        at += count;
    }
    o->comparisons++;
}

static void compare_moved(struct oracle *o, const void *got, const void *expected, size_t bytes)
{
    if (memcmp(got, expected, bytes) != 0)
        die(o, "the data differs from what MPI moved");
    o->comparisons++;
}

static void same_bits_everywhere(const struct oracle *o, const unsigned char *bytes, size_t size)
{
    uint64_t hash = 0xcbf29ce484222325u, least, most; /* FNV-1a */
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    MPI_Allreduce(&hash, &least, 1, MPI_UINT64_T, MPI_MIN, MPI_COMM_WORLD);
    MPI_Allreduce(&hash, &most, 1, MPI_UINT64_T, MPI_MAX, MPI_COMM_WORLD);
    if (least != most)
        die(o, "the ranks have different bits");
}

static void begin_case(struct oracle *o, const char *operation, enum tutti_type type,
                       enum tutti_reduction reduction, enum input_kind kind, size_t count, bool in_place)
{
    o->operation = operation;
    o->input.number++;
    o->input.kind = kind;
    o->input.type = type;
    o->input.reduction = reduction;
    o->count = count;
    o->in_place = in_place;
    o->root = (int)(o->input.number % (uint64_t)o->size);
    size_t bytes = (count * (size_t)o->size + 1) * tutti_type_size(type);
    o->send = allocate(bytes);
    o->recv = allocate(bytes);
    memset(o->recv, 0x5a, bytes);
}

static void end_case(struct oracle *o)
{
    free(o->send);
    free(o->recv);
}

static void case_all_reduce(struct oracle *o)
{
    size_t n = o->count;
    unsigned char *from = o->in_place ? o->recv : o->send;
    input_fill(&o->input, o->rank, 0, n, from);
    expect(o, tutti_all_reduce(o->comm, from, o->recv, n, o->input.type, o->input.reduction));
    compare_reduced(o, n, n, 0, o->recv);
    same_bits_everywhere(o, o->recv, n * tutti_type_size(o->input.type));
}

static void case_reduce_scatter(struct oracle *o)
{
    size_t n = o->count, own = (size_t)o->rank * n, total = n * (size_t)o->size;
    unsigned char *to = o->in_place ? o->send + own * tutti_type_size(o->input.type) : o->recv;
    input_fill(&o->input, o->rank, 0, total, o->send);
    expect(o, tutti_reduce_scatter(o->comm, o->send, to, n, o->input.type, o->input.reduction));
    compare_reduced(o, total, n, own, to);
}

static void case_broadcast(struct oracle *o)
{
    size_t bytes = o->count * tutti_type_size(o->input.type);
    unsigned char *from = o->in_place ? o->recv : o->send, *expected = allocate(bytes);
    input_fill(&o->input, o->rank, 0, o->count, from);
    input_fill(&o->input, o->rank, 0, o->count, expected);
    expect(o, tutti_broadcast(o->comm, from, o->recv, o->count, o->input.type, o->root));
    MPI_Bcast(expected, (int)bytes, MPI_BYTE, o->root, MPI_COMM_WORLD);
    compare_moved(o, o->recv, expected, bytes);
    same_bits_everywhere(o, o->recv, bytes);
    free(expected);
}

static void case_all_gather(struct oracle *o)
{
    size_t bytes = o->count * tutti_type_size(o->input.type), all = bytes * (size_t)o->size;
    unsigned char *from = o->in_place ? o->recv + (size_t)o->rank * bytes : o->send;
    unsigned char *mine = allocate(bytes), *expected = allocate(all);
    input_fill(&o->input, o->rank, 0, o->count, from);
    input_fill(&o->input, o->rank, 0, o->count, mine);
    expect(o, tutti_all_gather(o->comm, from, o->recv, o->count, o->input.type));
    MPI_Allgather(mine, (int)bytes, MPI_BYTE, expected, (int)bytes, MPI_BYTE, MPI_COMM_WORLD);
    compare_moved(o, o->recv, expected, all);
    same_bits_everywhere(o, o->recv, all);
    free(mine);
    free(expected);
}

static void case_gather(struct oracle *o)
{
    size_t bytes = o->count * tutti_type_size(o->input.type), all = bytes * (size_t)o->size;
    bool is_root = o->rank == o->root;
    unsigned char *from = o->in_place && is_root ? o->recv + (size_t)o->rank * bytes : o->send;
    unsigned char *mine = allocate(bytes), *expected = allocate(all);
    input_fill(&o->input, o->rank, 0, o->count, from);
    input_fill(&o->input, o->rank, 0, o->count, mine);
    expect(o, tutti_gather(o->comm, from, is_root ? o->recv : NULL, o->count, o->input.type, o->root));
    MPI_Gather(mine, (int)bytes, MPI_BYTE, expected, (int)bytes, MPI_BYTE, o->root, MPI_COMM_WORLD);
    compare_moved(o, is_root ? o->recv : expected, expected, is_root ? all : 0);
    free(mine);
    free(expected);
}

static void test_reductions(struct oracle *o, enum tutti_type type, size_t count)
{
    bool is_float = format_of(type)->exponent_bits != 0;
    for (enum tutti_reduction r = TUTTI_SUM; r <= TUTTI_AVG; r++)
        for (enum input_kind kind = INPUT_PLAIN; kind <= (is_float ? INPUT_NAN : INPUT_PLAIN); kind++)
            for (int in_place = 0; in_place < 2; in_place++) {
                begin_case(o, "all_reduce", type, r, kind, count, in_place == 1);
                case_all_reduce(o);
                end_case(o);
                begin_case(o, "reduce_scatter", type, r, kind, count, in_place == 1);
                case_reduce_scatter(o);
                end_case(o);
            }
}

static void test_moves(struct oracle *o, enum tutti_type type, size_t count)
{
    static const struct {
        const char *name;
        void (*run)(struct oracle *o);
    } moves[] = {{"broadcast", case_broadcast}, {"all_gather", case_all_gather}, {"gather", case_gather}};
    for (size_t m = 0; m < sizeof moves / sizeof moves[0]; m++)
        for (int in_place = 0; in_place < 2; in_place++) {
            begin_case(o, moves[m].name, type, TUTTI_SUM, INPUT_BITS, count, in_place == 1);
            moves[m].run(o);
            end_case(o);
        }
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

static void test_large(struct oracle *o)
{
    for (int in_place = 0; in_place < 2; in_place++) {
        begin_case(o, "all_reduce", TUTTI_FLOAT32, TUTTI_SUM, INPUT_PLAIN, ((size_t)64 << 20) / sizeof(float),
                   in_place == 1);
        case_all_reduce(o);
        end_case(o);
    }
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
    o.input.seed = choose_seed();
    expect(&o, tutti_init(NULL, &o.comm));
    o.rank = tutti_rank(o.comm);
    o.size = tutti_size(o.comm);
    int mpi_rank, mpi_size;
    MPI_Comm_rank(MPI_COMM_WORLD, &mpi_rank);
    MPI_Comm_size(MPI_COMM_WORLD, &mpi_size);
    if (o.rank != mpi_rank || o.size != mpi_size)
        die(&o, "tutti did not take rank and size from Open MPI's variables");

    if (argc > 1 && strcmp(argv[1], "--large") == 0)
        test_large(&o);
    else
        test_all(&o);

    expect(&o, tutti_finalize(o.comm, 60000));
    tutti_free(o.comm);
    if (o.rank == 0)
        printf("%d ranks: %ld comparisons with MPI, TUTTI_TEST_SEED=%llu\n", o.size, o.comparisons,
               (unsigned long long)o.input.seed);
    MPI_Finalize();
    return 0;
}
