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

size_t bench_bytes(const struct bench_case *which)
{
    size_t send = bench_send_count(which), recv = bench_recv_count(which);
    return (send > recv ? send : recv) * tutti_type_size(which->type);
}

static double algorithm_bandwidth(const struct bench_case *which, const struct bench_result *result)
{
    return result->p50_us > 0 ? (double)bench_bytes(which) / result->p50_us / 1e3 : 0;
}

void bench_print_header(const struct bench_options *options, const char *transport, int size)
{
    printf("# tutti bench %s: n = %d ranks on this host, transport %s, version %s\n",
           operation_name(options->operation), size, transport, tutti_version());
    printf("# time: median over the iterations of the slowest rank's time; algbw = size / time; busbw = %s\n",
           bus_factor_text(options->operation));
    if (operation_has_root((int)options->operation))
        printf("# a barrier precedes each iteration, outside of the measured time\n");
    if (options->algorithm)
        printf("# algorithm: %s\n", options->algorithm);
    printf("#\n# %10s %12s %9s %8s %5s   %-36s   %s\n", "", "", "", "", "", "out of place", "in place");
    printf("# %10s %12s %9s %8s %5s %10s %9s %9s %7s %10s %9s %9s %7s\n", "size", "count", "type", "redop",
           "root", "time", "algbw", "busbw", "#wrong", "time", "algbw", "busbw", "#wrong");
    printf("# %10s %12s %9s %8s %5s %10s %9s %9s %7s %10s %9s %9s %7s\n", "(B)", "(elements)", "", "", "",
           "(us)", "(GB/s)", "(GB/s)", "", "(us)", "(GB/s)", "(GB/s)", "");
    fflush(stdout);
}

static void print_half(const struct bench_case *which, const struct bench_result *result,
                       struct bench_totals *totals)
{
    double algbw = algorithm_bandwidth(which, result);
    double busbw = algbw * bus_factor(which->operation, which->size);
    printf(" %10.2f %9.3f %9.3f %7lld", result->p50_us, algbw, busbw, (long long)result->wrong);
    totals->busbw_sum += busbw;
    totals->measurements++;
    totals->wrong += result->wrong;
}

void bench_print_row(const struct bench_row *row, struct bench_totals *totals)
{
    const struct bench_case *which = row->which;
    bool is_barrier = which->operation == TUTTI_BARRIER;
    printf("%12zu %12zu %9s %8s %5d", bench_bytes(which), which->count,
           is_barrier ? "none" : type_name((int)which->type),
           operation_reduces((int)which->operation) ? reduction_name((int)which->reduction) : "none",
           operation_has_root((int)which->operation) ? which->root : -1);
    print_half(which, &row->out_of_place, totals);
    if (is_barrier)
        printf(" %10s %9s %9s %7s", "N/A", "N/A", "N/A", "N/A");
    else
        print_half(which, &row->in_place, totals);
    putchar('\n');
    fflush(stdout);
}

void bench_print_totals(const struct bench_totals *totals)
{
    printf("# Out of bounds values : %lld %s\n", (long long)totals->wrong,
           totals->wrong == 0 ? "OK" : "FAILED");
    printf("# Avg bus bandwidth    : %.4f\n#\n",
           totals->measurements > 0 ? totals->busbw_sum / totals->measurements : 0);
    fflush(stdout);
}

static void print_object(FILE *out, const struct bench_row *row, bool in_place)
{
    const struct bench_case *which = row->which;
    const struct bench_result *result = in_place ? &row->in_place : &row->out_of_place;
    double algbw = algorithm_bandwidth(which, result);
    fprintf(out,
            "{\"op\": \"%s\", \"peer\": \"tutti\", \"transport\": \"%s\", \"ranks\": %d, \"bytes\": %zu, "
            "\"type\": \"%s\", \"in_place\": %s, \"symmetric\": false, \"p50_us\": %.3f, \"p99_us\": %.3f, "
            "\"algbw_GBps\": %.6f, \"busbw_GBps\": %.6f, \"wrong\": %lld, \"cpu_s\": %.6f}\n",
            operation_name(which->operation), row->transport, which->size, bench_bytes(which),
            which->operation == TUTTI_BARRIER ? "none" : type_name((int)which->type),
            in_place ? "true" : "false", result->p50_us, result->p99_us, algbw,
            algbw * bus_factor(which->operation, which->size), (long long)result->wrong, result->cpu_s);
}

void bench_print_json(FILE *out, const struct bench_row *row)
{
    print_object(out, row, false);
    if (row->which->operation != TUTTI_BARRIER)
        print_object(out, row, true);
}
