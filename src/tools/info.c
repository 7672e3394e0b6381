#include <getopt.h>
#include <netinet/in.h>
#include <protobuf-c/protobuf-c.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>
#include "base/settings.h"
#include "tensor/reduce.h"
#include "tensor/type.h"
#include "tools/info.h"
#include "tools/tools.h"
#include "transport/descriptor.h"
#include "transport/shared_memory.h"
#include "transport/socket.h"
#include "wire/frame.h"

#define COMMAND            "info"
#define SHARED_PROBE_BYTES 4096

static const char usage[] =
    "Usage: tutti info [--settings [--markdown]]\n"
    "       tutti info --plan OPERATION [OPTIONS]\n"
    "\n"
    "Shows the version, what the processor offers, and which transports work here.  Or which algorithm "
    "would\n"
    "be chosen for a call, by size, and the time that the cost model expects it to take.\n"
    "\n"
    "Options:\n"
    "      --settings         show every setting instead: field, variable, default and meaning\n"
    "      --markdown         with --settings: as Markdown\n"
    "      --plan OPERATION   show the choice of algorithms: all_reduce, broadcast, ...\n"
    "  -h, --help             show this help\n"
    "\n"
    "With --plan, the settings in the environment count (TUTTI_ALGORITHM, TUTTI_TUNING, ...), and:\n"
    "  -n, --ranks N          ranks (default: 2), which need not exist\n"
    "      --hosts N          on which they are, evenly (default: 1)\n"
    "      --cores N          of each host (default: those of this one)\n"
    "  -d, --type TYPE        of the elements (default: float32)\n"
    "      --transport NAME   within a host: shm, uds or tcp\n"
    "  -b, --minbytes SIZE    the smallest size, of the larger buffer (default: 4); also 64K, 1M, 1G\n"
    "  -e, --maxbytes SIZE    the largest (default: 64M)\n"
    "  -f, --stepfactor F     from one size to the next (default: 4)\n";

enum { OPTION_SETTINGS = 256, OPTION_MARKDOWN, OPTION_PLAN, OPTION_HOSTS, OPTION_CORES, OPTION_TRANSPORT };

static const struct option long_options[] = {
    {"settings", no_argument, NULL, OPTION_SETTINGS},
    {"markdown", no_argument, NULL, OPTION_MARKDOWN},
    {"plan", required_argument, NULL, OPTION_PLAN},
    {"ranks", required_argument, NULL, 'n'},
    {"hosts", required_argument, NULL, OPTION_HOSTS},
    {"cores", required_argument, NULL, OPTION_CORES},
    {"type", required_argument, NULL, 'd'},
    {"transport", required_argument, NULL, OPTION_TRANSPORT},
    {"minbytes", required_argument, NULL, 'b'},
    {"maxbytes", required_argument, NULL, 'e'},
    {"stepfactor", required_argument, NULL, 'f'},
    {"help", no_argument, NULL, 'h'},
    {0},
};

struct options {
    bool settings, markdown;
    const char *of_plan; /* an option that goes with --plan was given: its name */
    struct info_plan plan;
};

/* ---- What there is ------------------------------------------------------------------------------ */

/* A transport is there when a socket of its kind can be listened on (or shared memory be had): `fd`; if not,
 * why. */
static void print_attempt(const char *name, int fd, const char *where, const struct tutti_error *error)
{
    if (fd < 0) {
        printf("  %-17s missing: %s\n", name, error->message);
        return;
    }
    printf("  %-17s available (%s)\n", name, where);
    descriptor_close(fd);
}

/* What the kernel says of huge pages for shared memory: the word in brackets of "always [never] force". */
static void read_huge_pages(char *word, size_t size)
{
    char line[128], *begin = NULL, *end = NULL;
    FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "re");
    if (file && fgets(line, sizeof line, file))
        begin = strchr(line, '[');
    if (begin)
        end = strchr(begin, ']');
    if (file)
        fclose(file);
    if (end)
        snprintf(word, size, "%.*s", (int)(end - begin - 1), begin + 1);
    else
        snprintf(word, size, "unknown");
}

/* Makes and maps a little of it, sealed, as ranks of one host would. */
static void print_shared_memory(void)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    char huge_pages[32], where[128];
    int fd = shared_memory_create(SHARED_PROBE_BYTES, false, &error);
    void *memory = fd >= 0 ? shared_memory_map(fd, 0, SHARED_PROBE_BYTES, true, &error) : NULL;
    if (memory)
        shared_memory_unmap(memory, SHARED_PROBE_BYTES);
    else if (fd >= 0)
        descriptor_close(fd);
    read_huge_pages(huge_pages, sizeof huge_pages);
    snprintf(where, sizeof where, "shared memory, between ranks of one host; huge pages for it: %s",
             huge_pages);
    print_attempt("shm", memory ? fd : -1, where, &error);
}

static void print_transports(void)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    print_shared_memory();
    char name[ENDPOINT_UNIX_PATH_MAX + 1];
    int fd = socket_listen_unix_anywhere(name, sizeof name, &error);
    print_attempt("uds", fd, "Unix domain sockets, between ranks of one host", &error);

    struct sockaddr_storage v4 = {.ss_family = AF_INET}, v6 = {.ss_family = AF_INET6};
    ((struct sockaddr_in *)&v4)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ((struct sockaddr_in6 *)&v6)->sin6_addr = in6addr_loopback;
    fd = socket_listen_tcp(&v4, 0, 0, &error);
    print_attempt("tcp", fd, "IPv4", &error);
    fd = socket_listen_tcp(&v6, 0, 0, &error);
    print_attempt("tcp", fd, "IPv6", &error);
}

static void print_info(void)
{
    const struct {
        const char *set;
        const struct reduce_table *table;
    } kernels[] = {
        {"scalar", reduce_table_scalar()}, {"avx2", reduce_table_avx2()}, {"avx512", reduce_table_avx512()}};

    printf("%-19s %s\n", "tutti", tutti_version());
    printf("%-19s %d\n", "wire version", WIRE_VERSION);
    printf("%-19s %s\n", "libuv", uv_version_string());
    printf("%-19s %s\n", "protobuf-c", protobuf_c_version());
    printf("%-19s %u\n", "processors usable", uv_available_parallelism());
    printf("%-19s %s (of", "reduction kernels", reduce_table()->name);
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++)
        printf(" %s%s%s", kernels[i].set, kernels[i].table ? "" : " [not on this processor]",
               i + 1 < sizeof kernels / sizeof *kernels ? "," : ")\n");
    printf("%-19s %s\n", "default transports", setting_find("transports")->default_value);
    printf("transports\n");
    print_transports();
}

/* ---- The command line --------------------------------------------------------------------------- */

static int take_plan(struct info_plan *plan)
{
    plan->operation = operation_from_name(optarg);
    if (plan->operation == 0)
        return usage_error(COMMAND, "--plan: there is no operation '%s'", optarg);
    if (operation_is_message(plan->operation))
        return usage_error(COMMAND, "--plan: %s goes straight to its peer, no algorithm is chosen", optarg);
    return 0;
}

static int take_transport(struct info_plan *plan)
{
    plan->transport = optarg;
    return strcmp(optarg, "shm") == 0 || strcmp(optarg, "uds") == 0 || strcmp(optarg, "tcp") == 0
               ? 0
               : usage_error(COMMAND, "--transport: '%s' is none of shm, uds and tcp", optarg);
}

static int take_type(struct info_plan *plan)
{
    plan->type = type_from_name(optarg);
    return plan->type != 0 ? 0 : usage_error(COMMAND, "-d: there is no type '%s'", optarg);
}

/* 0, or EXIT_USAGE after a complaint. */
static int take_plan_option(struct info_plan *plan, int option, char **argv)
{
    switch (option) {
    case 'n':
        return tools_number(COMMAND, "-n", 1, INFO_RANKS_MAX, &plan->ranks);
    case OPTION_HOSTS:
        return tools_number(COMMAND, "--hosts", 1, INFO_RANKS_MAX, &plan->hosts);
    case OPTION_CORES:
        return tools_number(COMMAND, "--cores", 1, INFO_RANKS_MAX, &plan->cores);
    case OPTION_TRANSPORT:
        return take_transport(plan);
    case 'd':
        return take_type(plan);
    case 'b':
        return tools_bytes(COMMAND, "-b", &plan->min_bytes);
    case 'e':
        return tools_bytes(COMMAND, "-e", &plan->max_bytes);
    case 'f':
        return tools_number(COMMAND, "-f", 2, 1 << 20, &plan->factor);
    default:
        return option_error(COMMAND, argv, option);
    }
}

static int take_option(struct options *options, int option, char **argv)
{
    switch (option) {
    case OPTION_SETTINGS:
        options->settings = true;
        return 0;
    case OPTION_MARKDOWN:
        options->markdown = true;
        return 0;
    case OPTION_PLAN:
        return take_plan(&options->plan);
    default:
        options->of_plan = argv[optind - 1];
        return take_plan_option(&options->plan, option, argv);
    }
}

static int check_options(const struct options *options)
{
    const struct info_plan *plan = &options->plan;
    if (options->markdown && !options->settings)
        return usage_error(COMMAND, "--markdown goes with --settings");
    if (options->settings && plan->operation != 0)
        return usage_error(COMMAND, "--settings and --plan show different things: give one of the two");
    if (options->of_plan && plan->operation == 0)
        return usage_error(COMMAND, "which operation? sizes and ranks go with --plan");
    if (plan->min_bytes > plan->max_bytes)
        return usage_error(COMMAND, "-b %zu is more than -e %zu", plan->min_bytes, plan->max_bytes);
    if (plan->hosts > plan->ranks)
        return usage_error(COMMAND, "--hosts %d: there are only %d ranks", plan->hosts, plan->ranks);
    return 0;
}

int info_command(int argc, char **argv)
{
    struct options options = {.plan = {.ranks = 2,
                                       .hosts = 1,
                                       .type = TUTTI_FLOAT32,
                                       .min_bytes = 4,
                                       .max_bytes = 64u << 20,
                                       .factor = 4}};
    int status = EXIT_SUCCESS;
    opterr = 0;
    for (int option; (option = getopt_long(argc, argv, ":n:d:b:e:f:h", long_options, NULL)) != -1;) {
        if (option == 'h')
            return tools_help(COMMAND, usage);
        if (take_option(&options, option, argv) != 0)
            return EXIT_USAGE;
    }
    if (optind < argc)
        return usage_error(COMMAND, "unexpected '%s'", argv[optind]);
    if (check_options(&options) != 0)
        return EXIT_USAGE;
    if (options.settings)
        settings_print(stdout, options.markdown);
    else if (options.plan.operation != 0)
        status = info_print_plan(&options.plan);
    else
        print_info();
    return finish_output(COMMAND) ? status : EXIT_FAILURE;
}
