#include "tools/tune.h"

#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>
#include "algorithm/fit.h"
#include "base/settings.h"
#include "engine/wait.h"
#include "tools/ranks.h"
#include "tools/tools.h"
#include "tools/tuning_file.h"

#define COMMAND       TUNE_COMMAND
#define RANKS_MIN     4 /* fewer do not tell latency from overhead: a round is a message */
#define RANKS_MAX     64
#define CROWDED_CORES 2 /* that ranks share while it is measured what sharing costs */
#define ROUNDS_MAX    101
#define TRANSPORTS    (LOCAL_SHM + 1)

static const char usage[] =
    "Usage: tutti tune [OPTIONS]\n"
    "\n"
    "Measures what messages, bytes, reductions and copies cost on this host, between ranks that it starts\n"
    "itself, and stores the constants where the library looks for them.  Algorithms are chosen by them from\n"
    "then on; those between hosts stay as they are.  The host must be idle for the minute that it takes.\n"
    "\n"
    "Options:\n"
    "  -o, --output FILE      store them there, for TUTTI_TUNING=FILE (default: tutti/tuning in\n"
    "                         $XDG_CONFIG_HOME or ~/.config); -: nowhere\n"
    "      --ranks N          measure with 2, 4, 8, ... up to N ranks (default: 8)\n"
    "      --transports LIST  measure these alone: shm,uds,tcp\n"
    "      --rounds N         in which the algorithms take turns (default: 7)\n"
    "  -h, --help             show this help\n";

enum { OPTION_RANKS = 256, OPTION_TRANSPORTS, OPTION_ROUNDS, OPTION_WORKER };

static const struct option long_options[] = {
    {"output", required_argument, NULL, 'o'},
    {"ranks", required_argument, NULL, OPTION_RANKS},
    {"transports", required_argument, NULL, OPTION_TRANSPORTS},
    {"rounds", required_argument, NULL, OPTION_ROUNDS},
    {"worker", required_argument, NULL, OPTION_WORKER}, /* the ranks get it, with the file of results */
    {"help", no_argument, NULL, 'h'},
    {0},
};

struct options {
    char output[TUNING_PATH_BYTES]; /* "-": nowhere */
    int ranks_max, rounds;
    bool wanted[TRANSPORTS]; /* by enum local_transport */
    const char *worker;      /* the file of results; NULL: this is no rank */
};

struct samples {
    struct fit_sample list[TUNE_SAMPLES_MAX];
    size_t count;
};

/* What has been measured over one transport. */
struct measurement {
    const char *transport;
    struct samples links, direct; /* of schedules; of the direct collectives in shared memory */
    int results;                  /* a file in memory, to which rank 0 appends */
};

/* ---- The ranks ---------------------------------------------------------------------------------- */

/* Adds the samples in the file of results, and empties it. */
static bool take_results(struct measurement *measurement, const struct select_group *group)
{
    char operation[32], algorithm[32];
    size_t bytes, before = measurement->links.count;
    double us;
    int copy = dup(measurement->results);
    FILE *file = copy >= 0 && lseek(copy, 0, SEEK_SET) == 0 ? fdopen(copy, "r") : NULL;
    while (file && fscanf(file, "%31s %31s %zu %lf", operation, algorithm, &bytes, &us) == 4) {
        struct select_call call = {.operation = operation_from_name(operation),
                                   .type = TUTTI_FLOAT32,
                                   .reduction = TUTTI_SUM,
                                   .bytes = bytes};
        const struct algorithm *found = algorithm_find(call.operation, algorithm);
        if (!found || us <= 0)
            continue;
        struct samples *samples = algorithm_is_shared(found) ? &measurement->direct : &measurement->links;
        if (samples->count < TUNE_SAMPLES_MAX)
            samples->list[samples->count++] = (struct fit_sample){*group, call, found, us};
    }
    if (file)
        fclose(file);
    bool emptied = ftruncate(measurement->results, 0) == 0;
    if (measurement->links.count == before)
        complain(COMMAND, "the ranks have reported nothing");
    return measurement->links.count > before && emptied;
}

/* Runs `count` ranks on the processors that this process may use now. */
static bool run_ranks(const struct options *options, struct measurement *measurement, int count,
                      size_t slice_bytes)
{
    static char name[] = COMMAND, worker[] = "--worker", rounds_option[] = "--rounds";
    char program[4096], results[64], rounds[16];
    size_t program_size = sizeof program;
    int cores = wait_usable_cores();
    if (uv_exepath(program, &program_size) < 0) {
        complain(COMMAND, "cannot tell where this program is");
        return false;
    }
    snprintf(results, sizeof results, "/proc/%ld/fd/%d", (long)getpid(), measurement->results);
    snprintf(rounds, sizeof rounds, "%d", options->rounds);
    char *arguments[] = {program, name, worker, results, rounds_option, rounds, NULL};
    struct ranks ranks = {.command = COMMAND,
                          .count = count,
                          .size = count,
                          .transports = measurement->transport,
                          .arguments = arguments};
    struct select_group group = {.size = count,
                                 .host_count = 1,
                                 .local_min = count,
                                 .local_max = count,
                                 .hosts_consecutive = true,
                                 .local = local_transport_of(measurement->transport),
                                 .channels_max = 1};
    group.slice_bytes = select_slice_bytes(&group, slice_bytes);
    select_share_cores(&group, count, cores);
    printf("# %s: %d ranks on %d core%s\n", measurement->transport, count, cores, cores > 1 ? "s" : "");
    fflush(stdout);
    return ranks_run(&ranks) == EXIT_SUCCESS && take_results(measurement, &group);
}

/* The first CROWDED_CORES of `usable`. */
static cpu_set_t few_of(const cpu_set_t *usable)
{
    cpu_set_t few;
    CPU_ZERO(&few);
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&few) < CROWDED_CORES; cpu++)
        if (CPU_ISSET(cpu, usable))
            CPU_SET(cpu, &few);
    return few;
}

/* 2, 4, 8, ... ranks, each on a core of its own where there are so many; and those that must share two. */
static bool run_all(const struct options *options, struct measurement *measurement, size_t slice_bytes)
{
    cpu_set_t usable;
    if (sched_getaffinity(0, sizeof usable, &usable) < 0) {
        complain(COMMAND, "cannot tell which processors may be used: %s", strerror(errno));
        return false;
    }
    int cores = wait_usable_cores();
    cpu_set_t few = few_of(&usable);
    bool done = true;
    for (int count = 2; count <= options->ranks_max && done; count *= 2) {
        if (count <= cores || cores <= CROWDED_CORES)
            done = run_ranks(options, measurement, count, slice_bytes);
        if (done && count > CROWDED_CORES && cores > CROWDED_CORES) {
            done = sched_setaffinity(0, sizeof few, &few) == 0 &&
                   run_ranks(options, measurement, count, slice_bytes);
            (void)sched_setaffinity(0, sizeof usable, &usable);
        }
    }
    return done;
}

/* Fits the constants and says by what factor predicted and measured times differ, before and after. */
static void fit(const struct measurement *measurement, struct tuning *tuning)
{
    const struct samples *links = &measurement->links, *direct = &measurement->direct;
    double before = fit_error(links->list, links->count, tuning);
    fit_times(links->list, links->count, tuning);
    fit_choice(links->list, links->count, tuning);
    printf("# %s: %zu times; predicted and measured differ by a factor of %.2f on average (%.2f before); "
           "choices are slower than the best by a factor of %.2f\n",
           measurement->transport, links->count, fit_error(links->list, links->count, tuning), before,
           fit_regret(links->list, links->count, tuning));
    if (direct->count == 0)
        return;
    before = fit_error(direct->list, direct->count, tuning);
    fit_times(direct->list, direct->count, tuning);
    printf(
        "# shared: %zu times; predicted and measured differ by a factor of %.2f on average (%.2f before)\n",
        direct->count, fit_error(direct->list, direct->count, tuning), before);
}

static bool measure_transport(const struct options *options, enum local_transport transport,
                              size_t slice_bytes, struct tuning *tuning)
{
    struct measurement *measurement = calloc(1, sizeof *measurement);
    int results = memfd_create("tutti tune", MFD_CLOEXEC);
    bool done = measurement && results >= 0;
    if (done) {
        measurement->transport = local_transport_name(transport);
        measurement->results = results;
        done = run_all(options, measurement, slice_bytes);
    } else {
        complain(COMMAND, "out of memory");
    }
    if (done)
        fit(measurement, tuning);
    if (results >= 0)
        close(results);
    free(measurement);
    return done;
}

/* ---- The constants ------------------------------------------------------------------------------ */

static const char *read_environment(void *context, const char *name)
{
    (void)context;
    return getenv(name);
}

/* The slices that the ranks will use; 0 after a complaint about the settings. */
static size_t find_slice_bytes(void)
{
    struct settings settings;
    struct tutti_error error = TUTTI_ERROR_INIT;
    if (settings_resolve(&settings, NULL, read_environment, NULL, &error) != TUTTI_OK) {
        complain(COMMAND, "%s", error.message);
        return 0;
    }
    size_t slice_bytes = settings.values.slice_bytes;
    settings_clean_up(&settings);
    return slice_bytes;
}

/* What is not measured stays as it was in the file that is about to be replaced. */
static struct tuning read_previous(const char *path)
{
    struct tuning tuning;
    char source[TUNING_PATH_BYTES];
    struct tutti_error error = TUTTI_ERROR_INIT;
    const char *setting = access(path, R_OK) == 0 ? path : "none";
    return tuning_file_read(setting, &tuning, source, &error) == TUTTI_OK ? tuning : tuning_default;
}

static bool store(const struct options *options, const struct tuning *tuning)
{
    char comment[200], host[64] = "", date[32] = "";
    struct tutti_error error = TUTTI_ERROR_INIT;
    time_t now = time(NULL);
    struct tm utc;
    tuning_print(tuning, stdout);
    if (strcmp(options->output, "-") == 0)
        return true;
    (void)gethostname(host, sizeof host - 1);
    if (gmtime_r(&now, &utc))
        strftime(date, sizeof date, "%Y-%m-%d", &utc);
    snprintf(comment, sizeof comment, "tutti %s tune, host %s, %s", tutti_version(), host, date);
    if (tuning_file_write(options->output, comment, tuning, &error) != TUTTI_OK) {
        complain(COMMAND, "%s", error.message);
        return false;
    }
    printf("# stored in %s\n", options->output);
    return true;
}

static int tune(const struct options *options)
{
    /* They would forbid what is to be measured. */
    unsetenv("TUTTI_ALGORITHM");
    unsetenv("TUTTI_DETERMINISTIC");
    size_t slice_bytes = find_slice_bytes();
    if (slice_bytes == 0)
        return EXIT_FAILURE;
    struct tuning tuning = read_previous(options->output);
    if (!tune_measure_memory(slice_bytes, &tuning)) {
        complain(COMMAND, "out of memory");
        return EXIT_FAILURE;
    }
    for (int transport = TRANSPORTS - 1; transport >= 0; transport--)
        if (options->wanted[transport] && !measure_transport(options, transport, slice_bytes, &tuning))
            return EXIT_FAILURE;
    tuning_round(&tuning);
    bool stored = store(options, &tuning);
    return finish_output(COMMAND) && stored ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- The command line --------------------------------------------------------------------------- */

static int take_transports(struct options *options)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    if (setting_check_text(setting_find("transports"), "--transports", optarg, &error) != TUTTI_OK)
        return usage_error(COMMAND, "%s", error.message);
    for (int transport = 0; transport < TRANSPORTS; transport++)
        options->wanted[transport] = setting_list_holds(optarg, local_transport_name(transport));
    return 0;
}

/* 0, or EXIT_USAGE after a complaint. */
static int take_option(struct options *options, int option, char **argv)
{
    switch (option) {
    case 'o':
        if (*optarg == '\0' || strlen(optarg) >= sizeof options->output)
            return usage_error(COMMAND, "-o: '%s' is no path of at most %zu bytes", optarg,
                               sizeof options->output - 1);
        memcpy(options->output, optarg, strlen(optarg) + 1);
        return 0;
    case OPTION_RANKS:
        return tools_number(COMMAND, "--ranks", RANKS_MIN, RANKS_MAX, &options->ranks_max);
    case OPTION_TRANSPORTS:
        return take_transports(options);
    case OPTION_ROUNDS:
        return tools_number(COMMAND, "--rounds", 1, ROUNDS_MAX, &options->rounds);
    case OPTION_WORKER:
        options->worker = optarg;
        return 0;
    default:
        return option_error(COMMAND, argv, option);
    }
}

int tune_command(int argc, char **argv)
{
    struct options options = {.ranks_max = 8, .rounds = 7, .wanted = {true, true, true}};
    opterr = 0;
    for (int option; (option = getopt_long(argc, argv, ":o:h", long_options, NULL)) != -1;) {
        if (option == 'h')
            return tools_help(COMMAND, usage);
        if (take_option(&options, option, argv) != 0)
            return EXIT_USAGE;
    }
    if (optind < argc)
        return usage_error(COMMAND, "unexpected '%s'", argv[optind]);
    if (options.worker)
        return tune_work(options.worker, options.rounds);
    if (options.output[0] == '\0' && !tuning_file_default(options.output))
        return usage_error(COMMAND, "neither XDG_CONFIG_HOME nor HOME is set: say where to store by -o");
    return tune(&options);
}
