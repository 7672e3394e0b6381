#include "tools/bench.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>
#include "tensor/type.h"
#include "tools/bench_peers.h"
#include "tools/ranks.h"
#include "tools/tools.h"

#define COMMAND BENCH_COMMAND

static const char usage[] =
    "Usage: tutti bench OPERATION [OPTIONS]\n"
    "\n"
    "Measures a collective between ranks of this host, which it starts itself, and checks the results.  The\n"
    "columns are those of nccl-tests.  Where several transports or libraries take part they take turns, "
    "batch\n"
    "by batch, so that what changes on the machine from second to second changes for all.\n"
    "\n"
    "Operations: all_reduce, reduce, broadcast, all_gather, gather, scatter, reduce_scatter, all_to_all,\n"
    "barrier.  The size is that of the larger of a rank's two buffers: of an all_gather, the whole vector.\n"
    "\n"
    "Options:\n"
    "      --ranks N          ranks (default: 2)\n"
    "  -b, --minbytes SIZE    the smallest size (default: 4); also 64K, 1M, 1G\n"
    "  -e, --maxbytes SIZE    the largest (default: 64M)\n"
    "  -f, --stepfactor F     from one size to the next (default: 4)\n"
    "  -n, --iters N          calls in a batch (default: what 5 ms have room for, 50 ms with --skew)\n"
    "  -w, --warmup_iters N   calls before a batch, fewer where they would take longer than that (default: "
    "5)\n"
    "      --rounds N         batches of each that takes part, at each size (default: 15)\n"
    "  -d, --datatype TYPE    float32 (default), float64, float16, bfloat16, complex64, int8, uint8, int16,\n"
    "                         int32, uint32, int64, uint64, bool\n"
    "  -o, --op REDUCTION     sum (default), product, min, max, avg, bit_and, bit_or, bit_xor, logical_and,\n"
    "                         logical_or, premultiplied_sum; not every type takes each\n"
    "  -r, --root RANK        of broadcast, reduce, gather and scatter (default: 0)\n"
    "      --place WHERE      in, out or both (default): does a rank's result replace its input?\n"
    "      --transports LIST  each of them takes part: shm,uds,tcp (default: one, as the environment says)\n"
    "      --symmetric        tutti's buffers are symmetric memory (tutti_alloc)\n"
    "      --vs LIST          who else takes part: openmpi (as it is, without CMA, and with malloc told to "
    "keep\n"
    "                         its memory), mpich; and limit, a program that does nothing but an all_reduce "
    "in\n"
    "                         memory that two processes share.  Adds a table of ratios.\n"
    "      --skew US          each rank comes to each call 0 to US microseconds late, at random; the time "
    "is\n"
    "                         that from the last arrival to the last return\n"
    "  -a, --algorithm NAME   that one, instead of the one that would be chosen\n"
    "      --algorithms       measure each of them beside the choice: a table of how good the choice is\n"
    "                         (default: 7 rounds)\n"
    "      --bind             give each rank its own share of the processors\n"
    "  -J, --json FILE        write one JSON object a line for each result, too\n"
    "  -h, --help             show this help\n"
    "\n"
    "Processors: how the first two lie to each other, by a flag that goes to and fro before and after each\n"
    "batch: smt, near, between or far.  Where enough batches of everyone had them alike, only those count.\n"
    "\n"
    "Exit status: 1 when a result of tutti's was wrong.\n";

enum {
    OPTION_RANKS = 256,
    OPTION_TRANSPORTS,
    OPTION_BIND,
    OPTION_ALGORITHMS,
    OPTION_ROUNDS,
    OPTION_PLACE,
    OPTION_SYMMETRIC,
    OPTION_VS,
    OPTION_SKEW,
    OPTION_SERVE,
    OPTION_WORKER
};

static const struct option long_options[] = {
    {"ranks", required_argument, NULL, OPTION_RANKS},
    {"minbytes", required_argument, NULL, 'b'},
    {"maxbytes", required_argument, NULL, 'e'},
    {"stepfactor", required_argument, NULL, 'f'},
    {"iters", required_argument, NULL, 'n'},
    {"warmup_iters", required_argument, NULL, 'w'},
    {"datatype", required_argument, NULL, 'd'},
    {"op", required_argument, NULL, 'o'},
    {"root", required_argument, NULL, 'r'},
    {"algorithm", required_argument, NULL, 'a'},
    {"algorithms", no_argument, NULL, OPTION_ALGORITHMS},
    {"rounds", required_argument, NULL, OPTION_ROUNDS},
    {"transports", required_argument, NULL, OPTION_TRANSPORTS},
    {"bind", no_argument, NULL, OPTION_BIND},
    {"json", required_argument, NULL, 'J'},
    {"place", required_argument, NULL, OPTION_PLACE},
    {"symmetric", no_argument, NULL, OPTION_SYMMETRIC},
    {"vs", required_argument, NULL, OPTION_VS},
    {"skew", required_argument, NULL, OPTION_SKEW},
    {"serve", required_argument, NULL, OPTION_SERVE}, /* the ranks get one of these two */
    {"worker", no_argument, NULL, OPTION_WORKER},
    {"help", no_argument, NULL, 'h'},
    {0},
};

/* ---- The command line --------------------------------------------------------------------------- */

/* Our own names, and those of nccl-tests that differ. */
static int take_type(struct bench_options *options)
{
    const char *name = strcmp(optarg, "float") == 0    ? "float32"
                       : strcmp(optarg, "double") == 0 ? "float64"
                       : strcmp(optarg, "half") == 0   ? "float16"
                                                       : optarg;
    options->type = (enum tutti_type)type_from_name(name);
    return options->type != 0 ? 0 : usage_error(COMMAND, "-d: there is no type '%s'", optarg);
}

static int take_reduction(struct bench_options *options)
{
    options->reduction =
        (enum tutti_reduction)reduction_from_name(strcmp(optarg, "prod") == 0 ? "product" : optarg);
    return options->reduction != 0 ? 0 : usage_error(COMMAND, "-o: there is no reduction '%s'", optarg);
}

static int take_place(struct bench_options *options)
{
    options->places = strcmp(optarg, "in") == 0     ? BENCH_IN_PLACE
                      : strcmp(optarg, "out") == 0  ? BENCH_OUT_OF_PLACE
                      : strcmp(optarg, "both") == 0 ? BENCH_IN_PLACE | BENCH_OUT_OF_PLACE
                                                    : 0;
    return options->places != 0 ? 0
                                : usage_error(COMMAND, "--place: '%s' is neither in, out nor both", optarg);
}

static int take_rivals(struct bench_options *options)
{
    char *unknown = bench_peers_unknown(optarg);
    options->rivals = optarg;
    int status =
        unknown ? usage_error(COMMAND, "--vs: '%s' is neither openmpi, mpich nor limit", unknown) : 0;
    free(unknown);
    return status;
}

/* 0, or EXIT_USAGE after a complaint. */
static int take_option(struct bench_options *options, int option, char **argv)
{
    switch (option) {
    case OPTION_RANKS:
        return tools_number(COMMAND, "--ranks", 1, BENCH_RANKS_MAX, &options->ranks);
    case 'b':
        return tools_bytes(COMMAND, "-b", &options->min_bytes);
    case 'e':
        return tools_bytes(COMMAND, "-e", &options->max_bytes);
    case 'f':
        return tools_number(COMMAND, "-f", 2, 1 << 20, &options->factor);
    case 'n':
        return tools_number(COMMAND, "-n", 1, BENCH_ITERATIONS_MAX, &options->iterations);
    case 'w':
        return tools_number(COMMAND, "-w", 1, BENCH_ITERATIONS_MAX, &options->warmup);
    case 'd':
        return take_type(options);
    case 'o':
        return take_reduction(options);
    case 'r':
        return tools_number(COMMAND, "-r", 0, BENCH_RANKS_MAX - 1, &options->root);
    case 'a':
        options->algorithm = optarg;
        return 0;
    case OPTION_ALGORITHMS:
        options->algorithms = true;
        return 0;
    case OPTION_ROUNDS:
        return tools_number(COMMAND, "--rounds", 1, BENCH_ROUNDS_MAX, &options->rounds);
    case OPTION_TRANSPORTS:
        options->transports = optarg;
        return 0;
    case OPTION_BIND:
        options->bind = true;
        return 0;
    case 'J':
        options->json = optarg;
        return 0;
    case OPTION_PLACE:
        return take_place(options);
    case OPTION_SYMMETRIC:
        options->symmetric = true;
        return 0;
    case OPTION_VS:
        return take_rivals(options);
    case OPTION_SKEW:
        return tools_number(COMMAND, "--skew", 0, BENCH_SKEW_US_MAX, &options->skew_us);
    case OPTION_SERVE:
        options->serve = optarg;
        return 0;
    case OPTION_WORKER:
        options->worker = true;
        return 0;
    default:
        return option_error(COMMAND, argv, option);
    }
}

/* 0, or EXIT_USAGE after a complaint. */
static int take_operation(struct bench_options *options, int count, char **words)
{
    if (count == 0)
        return usage_error(COMMAND, "which operation? write `tutti bench all_reduce`");
    if (count > 1)
        return usage_error(COMMAND, "unexpected '%s'", words[1]);
    options->operation = (enum tutti_operation)operation_from_name(words[0]);
    if (options->operation == 0)
        return usage_error(COMMAND, "there is no operation '%s'", words[0]);
    if (!bench_takes((int)options->operation))
        return usage_error(COMMAND, "%s is not measured; see the list of operations", words[0]);
    if (operation_reduces((int)options->operation) &&
        !type_takes((int)options->type, (int)options->reduction))
        return usage_error(COMMAND, "-o %s is not defined for -d %s", reduction_name((int)options->reduction),
                           type_name((int)options->type));
    if (options->algorithm && options->algorithms)
        return usage_error(COMMAND, "--algorithms measures all, --algorithm one: give one of the two");
    if (options->algorithms && (options->rivals || options->skew_us > 0))
        return usage_error(COMMAND, "--algorithms goes with neither --vs nor --skew");
    if (options->serve || options->worker)
        return 0; /* the rest has been looked at by who started us */
    if (options->min_bytes > options->max_bytes)
        return usage_error(COMMAND, "-b %zu is more than -e %zu", options->min_bytes, options->max_bytes);
    if (options->root >= options->ranks)
        return usage_error(COMMAND, "-r %d: there are %d ranks, from 0 to %d", options->root, options->ranks,
                           options->ranks - 1);
    return 0;
}

/* ---- The ranks of --algorithms ------------------------------------------------------------------- */

static int run_ranks(const struct bench_options *options, const char *transport, char **arguments)
{
    struct ranks ranks = {.command = COMMAND,
                          .count = options->ranks,
                          .size = options->ranks,
                          .transports = transport,
                          .bind = options->bind,
                          .arguments = arguments};
    return ranks_run(&ranks);
}

/* Each transport alone, in the order given; stops at the first that fails. */
static int run_transports(const struct bench_options *options, char **arguments)
{
    if (!options->transports)
        return run_ranks(options, NULL, arguments);
    char *list = strdup(options->transports), *rest = list, *transport;
    int status = list ? EXIT_SUCCESS : EXIT_FAILURE;
    while (status == EXIT_SUCCESS && (transport = strsep(&rest, ",")))
        status = *transport ? run_ranks(options, transport, arguments)
                            : usage_error(COMMAND, "--transports: a name is empty");
    free(list);
    return status;
}

/* Empties the file, to which the ranks append. */
static bool prepare_json(const char *path)
{
    FILE *file = fopen(path, "we");
    if (file && fclose(file) == 0)
        return true;
    complain(COMMAND, "cannot write to '%s': %s", path, strerror(errno));
    return false;
}

/* The ranks are this program with this command line, and with what tells them that they are ranks. */
static int start_comparison(const struct bench_options *options, int argc, char **argv)
{
    static char name[] = BENCH_COMMAND, worker[] = "--worker";
    char program[4096];
    size_t program_size = sizeof program;
    if (uv_exepath(program, &program_size) < 0) {
        complain(COMMAND, "cannot tell where this program is");
        return EXIT_FAILURE;
    }
    if (options->json && !prepare_json(options->json))
        return EXIT_FAILURE;
    char **arguments = calloc((size_t)argc + 3, sizeof *arguments);
    if (!arguments) {
        complain(COMMAND, "out of memory");
        return EXIT_FAILURE;
    }
    arguments[0] = program;
    arguments[1] = name;
    arguments[2] = worker;
    for (int i = 1; i < argc; i++)
        arguments[i + 2] = argv[i];
    int status = run_transports(options, arguments);
    free(arguments);
    return status;
}

int bench_command(int argc, char **argv)
{
    struct bench_options options = {.type = TUTTI_FLOAT32,
                                    .reduction = TUTTI_SUM,
                                    .ranks = 2,
                                    .min_bytes = 4,
                                    .max_bytes = 64u << 20,
                                    .factor = 4,
                                    .places = BENCH_OUT_OF_PLACE | BENCH_IN_PLACE,
                                    .warmup = 5};
    opterr = 0;
    for (int option;
         (option = getopt_long(argc, argv, ":b:e:f:n:w:d:o:r:a:J:h", long_options, NULL)) != -1;) {
        if (option == 'h')
            return tools_help(COMMAND, usage);
        if (take_option(&options, option, argv) != 0)
            return EXIT_USAGE;
    }
    if (take_operation(&options, argc - optind, argv + optind) != 0)
        return EXIT_USAGE;
    if (options.serve || options.worker)
        return bench_work(&options);
    return options.algorithms ? start_comparison(&options, argc, argv) : bench_contest(&options);
}
