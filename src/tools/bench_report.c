#include "tools/bench.h"

#include "tensor/type.h"

/* What turns bytes a second of the operation into bytes a second of the links. */
static double bus_factor(enum tutti_operation operation, int size)
{
    double n = size;
    switch (operation) {
    case TUTTI_ALL_REDUCE:
        return 2 * (n - 1) / n;
    case TUTTI_ALL_GATHER:
    case TUTTI_REDUCE_SCATTER:
    case TUTTI_SCATTER:
    case TUTTI_GATHER:
    case TUTTI_ALL_TO_ALL:
        return (n - 1) / n;
    default:
        return 1;
    }
}

static const char *bus_factor_text(enum tutti_operation operation)
{
    switch (operation) {
    case TUTTI_ALL_REDUCE:
        return "algbw * 2(n-1)/n";
    case TUTTI_ALL_GATHER:
    case TUTTI_REDUCE_SCATTER:
    case TUTTI_SCATTER:
    case TUTTI_GATHER:
    case TUTTI_ALL_TO_ALL:
        return "algbw * (n-1)/n";
    default:
        return "algbw";
    }
}

double bench_algbw(const struct bench_row *row)
{
    return row->p50_us > 0 ? (double)bench_bytes(&row->which) / row->p50_us / 1e3 : 0;
}

double bench_busbw(const struct bench_row *row)
{
    return bench_algbw(row) * bus_factor(row->which.operation, row->which.size);
}

static void print_meanings(const struct bench_options *options)
{
    if (options->skew_us > 0)
        printf(
            "# time: percentiles of all calls, from the last rank's arrival to the last rank's return; each "
            "rank arrives 0 to %d us late\n",
            options->skew_us);
    else
        printf(
            "# time: p50 is the median over the batches of the mean time of a call on the slowest rank; p99 "
            "is of single calls\n");
    printf("# algbw = size / p50; busbw = %s\n", bus_factor_text(options->operation));
    if (operation_has_root((int)options->operation))
        printf("# a barrier precedes each call, outside of the measured time\n");
    if (options->symmetric)
        printf("# tutti's buffers are symmetric memory\n");
    if (options->algorithm)
        printf("# algorithm: %s\n", options->algorithm);
}

void bench_print_columns(const struct bench_options *options)
{
    bool skewed = options->skew_us > 0;
    print_meanings(options);
    printf("#\n# %12s %12s %9s %8s %5s %5s %-14s %-6s %10s %10s", "size", "count", "type", "redop", "root",
           "place", "library", "over", "p50", "p99");
    if (skewed)
        printf(" %10s", "p99.9");
    printf(" %9s %9s %7s %s\n", "algbw", "busbw", "#wrong", "processors");
    printf("# %12s %12s %9s %8s %5s %5s %-14s %-6s %10s %10s", "(B)", "(elements)", "", "", "", "", "", "",
           "(us)", "(us)");
    if (skewed)
        printf(" %10s", "(us)");
    printf(" %9s %9s\n", "(GB/s)", "(GB/s)");
    fflush(stdout);
}

void bench_print_row(const struct bench_row *row)
{
    const struct bench_case *which = &row->which;
    bool is_barrier = which->operation == TUTTI_BARRIER;
    printf("%14zu %12zu %9s %8s %5d %5s %-14s %-6s %10.2f %10.2f", bench_bytes(which), which->count,
           is_barrier ? "none" : type_name((int)which->type),
           operation_reduces((int)which->operation) ? reduction_name((int)which->reduction) : "none",
           operation_has_root((int)which->operation) ? which->root : -1, which->in_place ? "in" : "out",
           row->peer, row->transport, row->p50_us, row->p99_us);
    if (row->skew_us > 0)
        printf(" %10.2f", row->p999_us);
    printf(" %9.3f %9.3f %7lld %s\n", bench_algbw(row), bench_busbw(row), (long long)row->wrong, row->placed);
    fflush(stdout);
}
