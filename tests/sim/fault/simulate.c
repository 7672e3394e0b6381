/* Simulates whole jobs with faults, seed after seed.
 *
 *     simulate [--seed S] [--seeds N] [--verbose]
 *
 * Every choice comes from the seed (TUTTI_TEST_SEED overrides the first), so that a run that fails replays
 * exactly, with all that happens told by --verbose.  --hash prints the hash of each run's events, --twice
 * runs each seed a second time and compares. */
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "tests/sim/fault/allocation.h"
#include "tests/sim/fault/faults.h"
#include "tests/sim/fault/program.h"
#include "tests/sim/fault/server.h"
#include "tests/sim/fault/world.h"

#define EVENTS_MAX  UINT64_C(5000000)
#define TIME_MAX_NS (600 * 1000 * NS_PER_MS)

/* ---- Telling ------------------------------------------------------------------------------------- */

void sim_say(const struct simulation *sim, const struct process *process, const char *format, ...)
{
    va_list arguments;
    printf("%12.3f ms  ", (double)sim->network.now_ns / 1e6);
    if (!process)
        printf("world       ");
    else if (process->program)
        printf("process %-2d  ", process->number);
    else
        printf("rendezvous  ");
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
}

void sim_violated(struct simulation *sim, const char *invariant, const char *format, ...)
{
    va_list arguments;
    size_t used = (size_t)snprintf(sim->violation, sizeof sim->violation, "%s: ", invariant);
    va_start(arguments, format);
    vsnprintf(sim->violation + used, sizeof sim->violation - used, format, arguments);
    va_end(arguments);
    longjmp(sim->broken, 1);
}

/* ---- Drawing ------------------------------------------------------------------------------------- */

static int64_t between(uint64_t *random, int64_t least, int64_t most)
{
    return least + (int64_t)random_below(random, (uint64_t)(most - least + 1));
}

static void draw_options(struct options *o, uint64_t *random)
{
    uint64_t kind = random_below(random, 100);
    o->size = (int)(kind < 60   ? between(random, 2, 5)
                    : kind < 92 ? between(random, 6, 9)
                                : between(random, 10, 16));
    o->hosts = random_chance(random, 40) ? 1 : (int)between(random, 2, o->size < 4 ? o->size : 4);
    o->heartbeat_ms = between(random, 40, 300);
    o->dead_after_ms = o->heartbeat_ms * between(random, 5, 8);
    o->call_timeout_ms = 4 * o->dead_after_ms + between(random, 500, 3000);
    o->straggler_after_ms = o->call_timeout_ms / 3;
    o->join_timeout_ms = 4 * o->dead_after_ms + between(random, 3000, 8000);
    o->missing_after_ms = o->join_timeout_ms / 3;
    o->slice_bytes = 64u << random_below(random, 7);
    o->checksum = random_chance(random, 40);
    o->embedded = random_chance(random, 35);
    o->any_rank = !o->embedded && random_chance(random, 40);
    o->deterministic = random_chance(random, 25);
    o->messages = random_chance(random, 40);
}

static void draw_network(struct network *n, uint64_t *random)
{
    static const int64_t delays_us[] = {10, 20, 200, 2000};
    static const int64_t dials_ms[] = {0, 1, 5, 50};
    static const unsigned stutters[] = {0, 5, 30};
    n->delay_min_ns = 5 * NS_PER_US;
    n->delay_max_ns = delays_us[random_below(random, 4)] * NS_PER_US;
    if (random_chance(random, 5))
        n->delay_max_ns = 10 * NS_PER_MS;
    n->dial_max_ns = dials_ms[random_below(random, 4)] * NS_PER_MS;
    n->capacity = 1024u << random_below(random, 5);
    n->stutter_percent = stutters[random_below(random, 3)];
}

/* ---- One run ------------------------------------------------------------------------------------- */

static void make_processes(struct simulation *sim, uint64_t *random)
{
    const struct options *o = &sim->options;
    for (int i = 0; i <= o->size; i++) {
        struct process *process = &sim->processes[i];
        *process = (struct process){.sim = sim, .node = &sim->network.nodes[i], .number = i};
        process->random = random_next(random);
        process->node->host = i * o->hosts / o->size;
    }
    /* The rendezvous is on the first host, or on one of its own. */
    sim->processes[o->size].node->host = random_chance(random, 50) ? 0 : o->hosts;
    int64_t spread_us = random_chance(random, 10) ? 1000000 : 20000;
    for (int i = 0; i < o->size; i++) {
        sim->processes[i].program = program_new(&sim->processes[i]);
        program_start(sim->processes[i].program, between(random, 0, spread_us) * NS_PER_US);
    }
    if (!o->embedded)
        server_try_to_serve(&sim->processes[o->size]);
}

static bool is_going_on(const struct simulation *sim)
{
    for (int i = 0; i < sim->options.size; i++)
        if (!program_has_ended(sim->processes[i].program) && !sim->processes[i].node->frozen)
            return true;
    return false;
}

/* Stopped ones may go on later. */
static bool is_waiting(const struct simulation *sim)
{
    for (int i = 0; i < sim->options.size; i++)
        if (!program_has_ended(sim->processes[i].program))
            return true;
    return false;
}

static void let_it_run(struct simulation *sim)
{
    struct network *n = &sim->network;
    while (is_going_on(sim) || (is_waiting(sim) && n->heap_count > 0)) {
        for (int i = 0; i < 64; i++)
            if (!network_step(n))
                break;
        if (n->heap_count == 0 && is_going_on(sim))
            sim_violated(sim, "a job ends", "nothing happens any more, and some ranks wait");
        if (n->events > EVENTS_MAX || n->now_ns > TIME_MAX_NS)
            sim_violated(sim, "a job ends", "it goes on after %.3f s and %" PRIu64 " events",
                         (double)n->now_ns / 1e9, n->events);
    }
}

static void clean_up(struct simulation *sim)
{
    struct network *n = &sim->network;
    faults_look(sim->faults);
    sim->world->must_fail = faults_must_show(sim->faults);
    faults_free(sim->faults);
    for (int i = 0; i <= sim->options.size; i++) {
        struct process *process = &sim->processes[i];
        if (process->node->frozen || (process->program && !program_has_ended(process->program)))
            node_kill(process->node); /* it is stopped for ever */
        server_free(process->server);
    }
    for (int from = 0; from < NETWORK_HOSTS_MAX; from++)
        for (int to = 0; to < NETWORK_HOSTS_MAX; to++)
            if (n->cut[from][to])
                network_heal(n, from, to);
    while (network_step(n)) {
    }
    for (int i = 0; i < sim->options.size; i++)
        program_free(sim->processes[i].program);
    world_finished(sim->world);
    control_streams_free(n);
    world_free_records(sim->world);
    network_free(n);
}

/* True when no invariant was violated; *hash is that of the events. */
static bool run(struct simulation *sim, uint64_t seed, bool verbose, uint64_t *hash)
{
    uint64_t random = seed * UINT64_C(0x2545f4914f6cdd1d) + 1;
    long live = allocation.live;
    allocation = (struct allocation){.live = live};
    memset(sim, 0, sizeof *sim);
    sim->seed = seed;
    sim->verbose = verbose;
    network_init(&sim->network, random_next(&random));
    draw_options(&sim->options, &random);
    draw_network(&sim->network, &random);
    if (setjmp(sim->broken) != 0) {
        allocation = (struct allocation){0};
        return false;
    }
    const struct options *o = &sim->options;
    SAY(sim, NULL,
        "%d ranks on %d hosts, heartbeat %lld ms, dead after %lld ms, calls %lld ms, slices of %u bytes",
        o->size, o->hosts, (long long)o->heartbeat_ms, (long long)o->dead_after_ms,
        (long long)o->call_timeout_ms, o->slice_bytes);
    sim->world = world_new(sim);
    make_processes(sim, &random);
    sim->faults = faults_new(sim, random_next(&random));
    let_it_run(sim);
    clean_up(sim);
    statistics.runs++;
    statistics.events += sim->network.events;
    if (allocation.live != live)
        snprintf(sim->violation, sizeof sim->violation, "nothing is left over: %ld blocks of memory",
                 allocation.live - live);
    *hash = sim->network.trace;
    return allocation.live == live;
}

/* ---- All runs ------------------------------------------------------------------------------------ */

/* How often each was run; for a _v apart from the plain operation. */
static void print_algorithms(void)
{
    for (int operation = 1; operation < OPERATION_COUNT; operation++) {
        const char *before = operation_name(operation), *between = ": ";
        for (int number = 0; number < 256; number++) {
            uint64_t count = statistics.algorithms[operation][number];
            if (count == 0)
                continue;
            printf("%s%s%s%s %" PRIu64, *before ? "           " : "", before, between,
                   algorithm_by_number(algorithm_operation(operation), number)->name, count);
            before = "";
            between = ", ";
        }
        if (!*before)
            putchar('\n');
    }
}

static void print_statistics(double seconds)
{
    const struct statistics *s = &statistics;
    printf("%" PRIu64 " runs, %.0f per second, %.0f events each\n", s->runs, (double)s->runs / seconds,
           (double)s->events / (double)s->runs);
    printf("%10" PRIu64 " runs in which nobody failed (%" PRIu64 " without any fault that may show)\n",
           s->perfect_runs, s->quiet_runs);
    printf("%10" PRIu64 " runs with a failure, %" PRIu64 " in which the survivors re-formed\n",
           s->failed_runs, s->reformed_runs);
    printf("%10" PRIu64 " groups, %" PRIu64 " of them re-formed\n", s->groups, s->reformed);
    printf("%10" PRIu64 " calls with the right result, %" PRIu64 " with an error, %" PRIu64 " finalized\n",
           s->calls_right, s->calls_failed, s->finalized);
    printf("%10" PRIu64 " exchanges of messages\n", s->exchanges_right);
    print_algorithms();
    printf("%10" PRIu64 " refused, %" PRIu64 " found no rendezvous\n", s->refused, s->unreachable);
    for (int code = 0; code < 64; code++)
        if (s->causes[code] > 0)
            printf("%10" PRIu64 " errors %s\n", s->causes[code], tutti_error_name(-code));
    for (int kind = 0; kind < FAULT_KINDS; kind++)
        printf("%10" PRIu64 " of %7" PRIu64 " %s\n", fault_counts[kind][1], fault_counts[kind][0],
               fault_text((enum fault_kind)kind));
}

struct arguments {
    uint64_t seed, seeds;
    bool verbose, hash, twice;
};

static struct arguments read_arguments(int argc, char **argv)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'}, {"seeds", required_argument, NULL, 'n'},
        {"verbose", no_argument, NULL, 'v'},    {"hash", no_argument, NULL, 'h'},
        {"twice", no_argument, NULL, 't'},      {0}};
    struct arguments a = {.seed = 1, .seeds = 1};
    const char *first = getenv("TUTTI_TEST_SEED");
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 's')
            a.seed = strtoull(optarg, NULL, 0);
        else if (c == 'n')
            a.seeds = strtoull(optarg, NULL, 0);
        else if (c == '?')
            exit(2);
        a.verbose = a.verbose || c == 'v';
        a.hash = a.hash || c == 'h';
        a.twice = a.twice || c == 't';
    }
    if (first)
        a.seed = strtoull(first, NULL, 0);
    return a;
}

static double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    struct arguments a = read_arguments(argc, argv);
    struct simulation *sim = world_alloc(sizeof *sim);
    double began = now_seconds();
    for (uint64_t seed = a.seed; seed < a.seed + a.seeds; seed++) {
        uint64_t hash = 0, again = 0;
        bool holds = run(sim, seed, a.verbose, &hash);
        if (holds && a.twice) {
            holds = run(sim, seed, false, &again) && hash == again;
            if (hash != again)
                snprintf(sim->violation, sizeof sim->violation,
                         "the same seed gives the same events: %016" PRIx64 " and %016" PRIx64, hash, again);
        }
        if (a.hash)
            printf("%" PRIu64 " %016" PRIx64 "\n", seed, hash);
        if (!holds) {
            printf("seed %" PRIu64 " violates an invariant: %s\n"
                   "replay it with: simulate --seed %" PRIu64 " --verbose\n",
                   seed, sim->violation, seed);
            return 1;
        }
    }
    print_statistics(now_seconds() - began);
    world_free(sim);
    return 0;
}
