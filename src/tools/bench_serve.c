#include "tools/bench_serve.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include "tensor/type.h"
#include "tools/bench_reply.h"
#include "tools/bench_skew.h"

#define ALIGNMENT  ((size_t)2 << 20) /* a huge page, where the kernel gives any */
#define PATH_BYTES 4096

struct server {
    const struct bench_library *library;
    size_t max_bytes;
    uint8_t *first, *second;
    bool owns_buffers;
    FILE *in, *out;
    struct bench_case filled; /* what the input was made for; at first no operation */
    int64_t begin_ns[BENCH_SINGLES_MAX], time_ns[BENCH_SINGLES_MAX]; /* of calls that are timed one by one */
};

/* What comes of an order, beside the times of single calls. */
struct outcome {
    double mean_us, cpu_s;
    size_t wrong;
};

/* ---- Clocks ------------------------------------------------------------------------------------- */

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static double cpu_s(void) /* of all threads, in user and kernel mode */
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void wait_busily(double us)
{
    for (int64_t until_ns = now_ns() + (int64_t)(us * 1e3); now_ns() < until_ns;)
        ;
}

/* ---- Measuring ---------------------------------------------------------------------------------- */

/* Each of the following makes all calls and returns the mean time of one, in nanoseconds. */

static double iterate_together(const struct bench_library *library, const struct bench_order *order,
                               uint8_t *send, uint8_t *recv)
{
    int64_t begin_ns = now_ns();
    for (int i = 0; i < order->iterations; i++)
        library->call(order->which, send, recv);
    return (double)(now_ns() - begin_ns) / order->iterations;
}

static double iterate_singly(struct server *server, const struct bench_order *order, uint8_t *send,
                             uint8_t *recv)
{
    int64_t begin_ns = now_ns(), end_ns = begin_ns;
    for (int i = 0; i < order->iterations; i++) {
        server->begin_ns[i] = end_ns;
        server->library->call(order->which, send, recv);
        end_ns = now_ns();
        server->time_ns[i] = end_ns - server->begin_ns[i];
    }
    return (double)(end_ns - begin_ns) / order->iterations;
}

static double iterate_apart(struct server *server, const struct bench_order *order, uint8_t *send,
                            uint8_t *recv)
{
    const struct bench_library *library = server->library;
    int64_t sum_ns = 0;
    for (int i = 0; i < order->iterations; i++) {
        library->barrier();
        if (order->skew_us > 0)
            wait_busily(bench_skew_us(order->skew_us, order->seed, library->rank, i));
        server->begin_ns[i] = now_ns();
        library->call(order->which, send, recv);
        server->time_ns[i] = now_ns() - server->begin_ns[i];
        sum_ns += server->time_ns[i];
    }
    return (double)sum_ns / order->iterations;
}

static bool is_same(const struct bench_case *a, const struct bench_case *b)
{
    return a->operation == b->operation && a->type == b->type && a->reduction == b->reduction &&
           a->root == b->root && a->count == b->count && a->in_place == b->in_place;
}

static bool needs_barriers(const struct bench_order *order)
{
    return order->skew_us > 0 || operation_has_root((int)order->which->operation);
}

static void measure(struct server *server, const struct bench_order *order, uint8_t *send, uint8_t *recv,
                    struct outcome *outcome)
{
    const struct bench_library *library = server->library;
    for (int i = 0; i < order->warmup; i++)
        library->call(order->which, send, recv);
    library->barrier();
    double cpu_begin_s = cpu_s(), mean_ns;
    if (needs_barriers(order))
        mean_ns = iterate_apart(server, order, send, recv);
    else if (order->single)
        mean_ns = iterate_singly(server, order, send, recv);
    else
        mean_ns = iterate_together(library, order, send, recv);
    outcome->cpu_s = cpu_s() - cpu_begin_s;
    outcome->mean_us = mean_ns / 1e3;
}

static struct outcome obey(struct server *server, const struct bench_order *order)
{
    const struct bench_library *library = server->library;
    struct outcome outcome = {.wrong = 0};
    uint8_t *send, *recv;
    library->buffers(order->which, server->first, server->second, &send, &recv);
    /* Ordinary numbers, whatever another type has left there; once, since it would take longer than a batch.
     */
    if (!is_same(order->which, &server->filled))
        bench_fill(order->which, send);
    server->filled = *order->which;
    measure(server, order, send, recv, &outcome);
    if (order->check) {
        bench_fill_for_check(order->which, send, recv);
        library->call(order->which, send, recv);
        outcome.wrong = bench_count_wrong(order->which, recv);
    }
    library->barrier(); /* nobody sleeps while another rank needs it */
    return outcome;
}

/* ---- Orders ------------------------------------------------------------------------------------- */

/* NULL, or what is wrong with the line. */
static const char *parse(const struct server *server, const char *line, struct bench_order *order,
                         struct bench_case *which)
{
    which->rank = server->library->rank;
    which->size = server->library->size;
    if (!bench_order_parse(line, order, which))
        return "that is no order; src/tools/bench_reply.h says what is";
    if (needs_barriers(order) && !order->single)
        return "calls that are preceded by a barrier are timed one by one: SINGLE must be 1";
    if (which->root < 0 || which->root >= which->size)
        return "the root is not one of the ranks";
    which->count = bench_count_for(which, order->bytes);
    if (bench_bytes(which) > server->max_bytes)
        return "it is more than MAX_BYTES";
    return server->library->refuse(which);
}

static void print_outcome(const struct server *server, const struct bench_order *order,
                          const struct outcome *outcome)
{
    FILE *out = server->out;
    fprintf(out, "ok %.4f %.6f %zu", outcome->mean_us, outcome->cpu_s, outcome->wrong);
    if (!order->single) {
        fputs(" 0\n", out);
        return;
    }
    fprintf(out, " %d %lld", order->iterations, (long long)server->begin_ns[0]);
    for (int i = 0; i < order->iterations; i++)
        fprintf(out, " %lld %lld", (long long)(server->begin_ns[i] - server->begin_ns[0]),
                (long long)server->time_ns[i]);
    putc('\n', out);
}

static int serve(struct server *server)
{
    const struct bench_library *library = server->library;
    char line[BENCH_ORDER_BYTES];
    fprintf(server->out, "ready %s\n", library->name);
    while (fflush(server->out) == 0) {
        if (!fgets(line, sizeof line, server->in))
            return EXIT_SUCCESS;
        line[strcspn(line, "\n")] = '\0';
        if (strcmp(line, "quit") == 0)
            return EXIT_SUCCESS;
        struct bench_case which = {.count = 0};
        struct bench_order order;
        const char *fault = parse(server, line, &order, &which);
        if (fault) {
            fprintf(server->out, "error %s\n", fault);
        } else {
            struct outcome outcome = obey(server, &order);
            print_outcome(server, &order, &outcome);
        }
    }
    fprintf(stderr, "rank %d: cannot answer: %s\n", library->rank, strerror(errno));
    return EXIT_FAILURE;
}

/* ---- Setting up --------------------------------------------------------------------------------- */

/* Not to wait at a pipe whose other end is not there: that is an error at once, or the end of the orders. */
static FILE *open_pipe(const char *directory, int rank, const char *suffix, int flags, const char *mode)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%d.%s", directory, rank, suffix);
    int fd = open(path, flags | O_NONBLOCK | O_CLOEXEC);
    FILE *file = fd >= 0 && fcntl(fd, F_SETFL, flags) == 0 ? fdopen(fd, mode) : NULL;
    if (!file) {
        fprintf(stderr, "rank %d: cannot open %s, whose other end whoever starts the ranks must hold: %s\n",
                rank, path, strerror(errno));
        if (fd >= 0)
            close(fd);
    }
    return file;
}

/* Not touched: the calls that warm up do it, and many processes may have buffers of which little is used. */
static uint8_t *allocate(size_t bytes)
{
    return aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
}

static bool set_up(struct server *server, const char *directory)
{
    const struct bench_library *library = server->library;
    server->owns_buffers = !library->first;
    server->first = library->first ? library->first : allocate(server->max_bytes);
    server->second = library->first ? library->second : allocate(server->max_bytes);
    if (!server->first || !server->second) {
        fprintf(stderr, "rank %d: out of memory for two buffers of %zu bytes\n", library->rank,
                server->max_bytes);
        return false;
    }
    server->in = open_pipe(directory, library->rank, "in", O_RDONLY, "r");
    server->out = server->in ? open_pipe(directory, library->rank, "out", O_WRONLY, "w") : NULL;
    return server->out;
}

int bench_serve(const struct bench_library *library, const char *directory, size_t max_bytes)
{
    int status = EXIT_FAILURE;
    struct server *server = calloc(1, sizeof *server);
    if (!server) {
        fprintf(stderr, "rank %d: out of memory\n", library->rank);
        return status;
    }
    server->library = library;
    server->max_bytes = max_bytes;
    if (set_up(server, directory))
        status = serve(server);
    if (server->in)
        fclose(server->in);
    if (server->out && fclose(server->out) != 0)
        status = EXIT_FAILURE;
    if (server->owns_buffers) {
        free(server->first);
        free(server->second);
    }
    free(server);
    return status;
}

size_t bench_serve_max_bytes(int argc, char **argv)
{
    char *end = NULL;
    unsigned long long bytes = argc == 3 ? strtoull(argv[2], &end, 10) : 0;
    if (bytes > 0 && *end == '\0')
        return (size_t)bytes;
    fprintf(stderr, "usage: %s DIR MAX_BYTES, as `tutti bench --vs` starts it\n", argv[0]);
    return 0;
}
