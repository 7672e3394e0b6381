#include <getopt.h>
#include <stdlib.h>
#include "group/endpoint.h"
#include "group/rendezvous.h"
#include "tools/hosts.h"
#include "tools/ranks.h"
#include "tools/tools.h"

#define COMMAND "run"

static const char usage[] =
    "Usage: tutti run [-n N] [OPTIONS] [--] PROGRAM [ARGUMENTS]\n"
    "\n"
    "Starts PROGRAM N times, as the ranks of one job, and serves the rendezvous where they meet.  Each\n"
    "finds TUTTI_RANK, TUTTI_SIZE and TUTTI_RENDEZVOUS in its environment; for torch RANK, WORLD_SIZE,\n"
    "LOCAL_RANK and LOCAL_WORLD_SIZE, and MASTER_ADDR and MASTER_PORT unless they are set; and\n"
    "OMP_NUM_THREADS=1 unless it is set.\n"
    "Rank 0 alone has the standard input.\n"
    "\n"
    "Options:\n"
    "  -n, --ranks N          ranks on each host (default: 1)\n"
    "      --bind             give each rank its own share of the processors\n"
    "      --transports LIST  which may be used, in order of preference: shm,uds,tcp\n"
    "      --keep-going       when a rank fails, let the others go on: for programs that re-form their "
    "group\n"
    "      --no-prefix        do not put \"[rank] \" before each line of output; pass it straight on\n"
    "  -h, --help             show this help\n"
    "\n"
    "Several hosts, started by hand or by a batch system, the same command on each:\n"
    "      --nnodes K         the number of hosts\n"
    "      --node-rank R      which of them this is, from 0; it has the ranks from R * N on\n"
    "      --rendezvous ADDRESS\n"
    "                         HOST:PORT on host 0, which serves it\n"
    "\n"
    "Several hosts, started from here by ssh:\n"
    "      --hosts A,B        run on each of them, with the program and working directory of this one;\n"
    "                         --rendezvous HOST:PORT, where A is not a name by which the others reach it.\n"
    "                         TUTTI_RUN_SSH names another program to use for ssh.\n"
    "\n"
    "Exit status: 0 when every rank ended with 0, else that of the first that failed (128 + N when signal N\n"
    "killed it).  When a rank fails, the others get 10 s to end, then SIGTERM, then SIGKILL after 5 s more.\n"
    "With --keep-going they go on, and the status is 0 when any rank ended with 0.\n"
    "127: PROGRAM cannot be executed.  2: the command line is wrong.\n";

struct options {
    int count, nodes, node;
    const char *rendezvous, *transports;
    char *hosts;
    bool bind, keep_going, prefix, tethered, help;
};

enum {
    OPTION_NNODES = 256,
    OPTION_NODE_RANK,
    OPTION_RENDEZVOUS,
    OPTION_HOSTS,
    OPTION_BIND,
    OPTION_KEEP_GOING,
    OPTION_TRANSPORTS,
    OPTION_NO_PREFIX,
    OPTION_TETHERED
};

static const struct option long_options[] = {
    {"ranks", required_argument, NULL, 'n'},
    {"nnodes", required_argument, NULL, OPTION_NNODES},
    {"node-rank", required_argument, NULL, OPTION_NODE_RANK},
    {"rendezvous", required_argument, NULL, OPTION_RENDEZVOUS},
    {"hosts", required_argument, NULL, OPTION_HOSTS},
    {"bind", no_argument, NULL, OPTION_BIND},
    {"transports", required_argument, NULL, OPTION_TRANSPORTS},
    {"keep-going", no_argument, NULL, OPTION_KEEP_GOING},
    {"no-prefix", no_argument, NULL, OPTION_NO_PREFIX},
    {"tethered", no_argument, NULL, OPTION_TETHERED}, /* --hosts gives it to those it starts */
    {"help", no_argument, NULL, 'h'},
    {0},
};

/* 0, or EXIT_USAGE after a complaint. */
static int take_option(struct options *options, int option, char **argv)
{
    switch (option) {
    case 'n':
        return tools_number(COMMAND, "-n", 1, RENDEZVOUS_SIZE_MAX, &options->count);
    case OPTION_NNODES:
        return tools_number(COMMAND, "--nnodes", 1, RENDEZVOUS_SIZE_MAX, &options->nodes);
    case OPTION_NODE_RANK:
        return tools_number(COMMAND, "--node-rank", 0, RENDEZVOUS_SIZE_MAX - 1, &options->node);
    case OPTION_RENDEZVOUS:
        options->rendezvous = optarg;
        return 0;
    case OPTION_HOSTS:
        options->hosts = optarg;
        return 0;
    case OPTION_BIND:
        options->bind = true;
        return 0;
    case OPTION_KEEP_GOING:
        options->keep_going = true;
        return 0;
    case OPTION_TRANSPORTS:
        options->transports = optarg;
        return 0;
    case OPTION_NO_PREFIX:
        options->prefix = false;
        return 0;
    case OPTION_TETHERED:
        options->tethered = true;
        return 0;
    case 'h':
        options->help = true;
        return 0;
    default:
        return option_error(COMMAND, argv, option);
    }
}

static int check_rendezvous(const struct options *options)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    struct endpoint endpoint;
    if (!options->rendezvous)
        return 0;
    if (endpoint_parse(options->rendezvous, &endpoint, &error) < 0)
        return usage_error(COMMAND, "--rendezvous: %s", error.message);
    if (endpoint.kind == ENDPOINT_TCP && endpoint.port == 0)
        return usage_error(COMMAND, "--rendezvous: the other hosts must know the port; write HOST:PORT");
    if (endpoint.kind == ENDPOINT_FILE)
        return usage_error(COMMAND, "--rendezvous: a file is for ranks that start by themselves; write "
                                    "HOST:PORT or unix:PATH");
    return 0;
}

/* 0, or EXIT_USAGE after a complaint. */
static int check(const struct options *options, int remaining)
{
    if (remaining == 0)
        return usage_error(COMMAND, "which program? write `tutti run -n %d PROGRAM`", options->count);
    if (options->hosts && (options->nodes > 0 || options->node >= 0))
        return usage_error(COMMAND,
                           "--hosts starts every host by itself: leave out --nnodes and --node-rank");
    if (options->nodes == 0 && options->node >= 0)
        return usage_error(COMMAND, "--node-rank needs --nnodes, the number of hosts");
    if (options->nodes > 1 && options->node < 0)
        return usage_error(COMMAND, "--nnodes needs --node-rank: which of the hosts this is, from 0");
    if (options->nodes > 1 && !options->rendezvous)
        return usage_error(COMMAND, "--nnodes needs --rendezvous HOST:PORT, where HOST is the host with "
                                    "--node-rank 0");
    if (options->nodes > 0 && options->node >= options->nodes)
        return usage_error(COMMAND, "--node-rank %d: with --nnodes %d it goes from 0 to %d", options->node,
                           options->nodes, options->nodes - 1);
    if ((long)options->count * options->nodes > RENDEZVOUS_SIZE_MAX)
        return usage_error(COMMAND, "%d hosts with %d ranks each are more than %d ranks", options->nodes,
                           options->count, RENDEZVOUS_SIZE_MAX);
    return check_rendezvous(options);
}

int run_command(int argc, char **argv)
{
    struct options options = {.count = 1, .node = -1, .prefix = true};
    opterr = 0;
    for (int option; (option = getopt_long(argc, argv, "+:n:h", long_options, NULL)) != -1;)
        if (take_option(&options, option, argv) != 0)
            return EXIT_USAGE;
    if (options.help)
        return tools_help(COMMAND, usage);
    if (check(&options, argc - optind) != 0)
        return EXIT_USAGE;
    if (options.hosts) {
        struct hosts hosts = {.list = options.hosts,
                              .count = options.count,
                              .rendezvous = options.rendezvous,
                              .transports = options.transports,
                              .bind = options.bind,
                              .keep_going = options.keep_going,
                              .prefix = options.prefix,
                              .arguments = argv + optind};
        return hosts_run(&hosts);
    }
    int nodes = options.nodes > 0 ? options.nodes : 1, node = options.node > 0 ? options.node : 0;
    struct ranks ranks = {.command = COMMAND,
                          .count = options.count,
                          .first = node * options.count,
                          .size = nodes * options.count,
                          .rendezvous = options.rendezvous,
                          .serve = node == 0,
                          .transports = options.transports,
                          .bind = options.bind,
                          .keep_going = options.keep_going,
                          .prefix = options.prefix,
                          .capture = options.prefix,
                          .tethered = options.tethered,
                          .arguments = argv + optind};
    return ranks_run(&ranks);
}
