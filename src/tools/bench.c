#include "tools/bench.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>
#include "tensor/type.h"
#include "tools/ranks.h"
#include "tools/tools.h"

#define COMMAND BENCH_COMMAND

static const char usage[] =
    "Usage: tutti bench OPERATION [OPTIONS]\n"
    "\n"
    "Measures a collective between ranks of this host, which it starts itself, and checks every result.  "
    "The\n"
    "columns are those of nccl-tests.\n"
    "\n"
    "Operations: all_reduce, reduce, broadcast, all_gather, gather, scatter, reduce_scatter, all_to_all,\n"
    "barrier\n"
    "\n"
    "Options:\n"
    "      --ranks N          ranks (default: 2)\n"
    "  -b, --minbytes SIZE    the smallest size, of the larger buffer (default: 4); also 64K, 1M, 1G\n"
    "  -e, --maxbytes SIZE    the largest (default: 64M)\n"
    "  -f, --stepfactor F     from one size to the next (default: 4)\n"
    "  -n, --iters N          iterations of each size (default: what 0.3 s have room for, 5 at least)\n"
    "  -w, --warmup_iters N   iterations before those (default: 5)\n"
    "  -d, --datatype TYPE    float32 (default), float64, float16, bfloat16, complex64, int8, uint8, int16,\n"
    "                         int32, uint32, int64, uint64, bool\n"
    "  -o, --op REDUCTION     sum (default), product, min, max, avg, bit_and, bit_or, bit_xor, logical_and,\n"
    "                         logical_or, premultiplied_sum; not every type takes each\n"
    "  -r, --root RANK        of broadcast, reduce, gather and scatter (default: 0)\n"
    "  -a, --algorithm NAME   that one, instead of the one that would be chosen\n"
    "      --algorithms       measure each of them beside the choice, by turns: a table of how good the "
    "choice\n"
    "                         is\n"
    "      --rounds N         in which they take turns (default: 7)\n"
    "      --transports LIST  measures each of them in turn: uds,tcp\n"
    "      --bind             give each rank its own share of the processors\n"
    "  -J, --json FILE        write one JSON object a line for each result, too\n"
    "  -h, --help             show this help\n"
    "\n"
    "Exit status: 1 when a result was wrong.\n";

enum { OPTION_RANKS = 256, OPTION_TRANSPORTS, OPTION_BIND, OPTION_ALGORITHMS, OPTION_ROUNDS, OPTION_WORKER };

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
    {"worker", no_argument, NULL, OPTION_WORKER}, /* the ranks get it */
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
    if (options->min_bytes > options->max_bytes)
        return usage_error(COMMAND, "-b %zu is more than -e %zu", options->min_bytes, options->max_bytes);
    if (options->root >= options->ranks)
        return usage_error(COMMAND, "-r %d: there are %d ranks, from 0 to %d", options->root, options->ranks,
                           options->ranks - 1);
    return 0;
}

/* ---- The ranks ---------------------------------------------------------------------------------- */

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
static int start(const struct bench_options *options, int argc, char **argv)
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
                                    .rounds = 7,
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
    return options.worker ? bench_work(&options) : start(&options, argc, argv);
}
