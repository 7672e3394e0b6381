#include "tools/bench_placement.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#define SMT_BELOW_NS  45
#define NEAR_BELOW_NS 120
#define FAR_FROM_NS   200
#define PARTS         5 /* the shortest counts: an interruption is no distance */
#define TRIPS         40
#define LINE_BYTES    128 /* that move together: pairs of cache lines */

struct bench_probe {
    _Alignas(LINE_BYTES) atomic_uint ping;
    _Alignas(LINE_BYTES) atomic_uint pong;
    _Alignas(LINE_BYTES) atomic_bool ends;
    sem_t begin;
    pthread_t partner;
    cpu_set_t partner_cpu;
};

const char *bench_placement_name(enum bench_placement placement)
{
    static const char *const names[BENCH_PLACEMENTS] = {"unknown", "smt", "near", "between", "far", "moved"};
    return names[placement];
}

enum bench_placement bench_placement_of(double half_trip_ns)
{
    return half_trip_ns < SMT_BELOW_NS    ? BENCH_PLACED_SMT
           : half_trip_ns < NEAR_BELOW_NS ? BENCH_PLACED_NEAR
           : half_trip_ns > FAR_FROM_NS   ? BENCH_PLACED_FAR
                                          : BENCH_PLACED_BETWEEN;
}

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* Returns each ping until the last of a look. */
static void *run_partner(void *context)
{
    struct bench_probe *probe = context;
    (void)pthread_setaffinity_np(pthread_self(), sizeof probe->partner_cpu, &probe->partner_cpu);
    for (;;) {
        while (sem_wait(&probe->begin) != 0)
            ;
        if (atomic_load(&probe->ends))
            return NULL;
        for (unsigned trip = 1; trip <= 1 + PARTS * TRIPS; trip++) {
            while (atomic_load_explicit(&probe->ping, memory_order_acquire) != trip)
                ;
            atomic_store_explicit(&probe->pong, trip, memory_order_release);
        }
    }
}

static void make_trip(struct bench_probe *probe, unsigned trip)
{
    atomic_store_explicit(&probe->ping, trip, memory_order_release);
    while (atomic_load_explicit(&probe->pong, memory_order_acquire) != trip)
        ;
}

/* The first two processors that may be used; false: there are not two. */
static bool choose_cpus(cpu_set_t *own, cpu_set_t *partner)
{
    cpu_set_t usable, *next = own;
    CPU_ZERO(own);
    CPU_ZERO(partner);
    if (sched_getaffinity(0, sizeof usable, &usable) < 0)
        return false;
    for (int cpu = 0; cpu < CPU_SETSIZE && next; cpu++) {
        if (!CPU_ISSET(cpu, &usable))
            continue;
        CPU_SET(cpu, next);
        next = next == own ? partner : NULL;
    }
    return !next;
}

struct bench_probe *bench_probe_new(void)
{
    cpu_set_t own;
    struct bench_probe *probe = aligned_alloc(LINE_BYTES, sizeof *probe);
    if (!probe)
        return NULL;
    atomic_init(&probe->ping, 0);
    atomic_init(&probe->pong, 0);
    atomic_init(&probe->ends, false);
    if (!choose_cpus(&own, &probe->partner_cpu) || sem_init(&probe->begin, 0, 0) < 0) {
        free(probe);
        return NULL;
    }
    if (pthread_create(&probe->partner, NULL, run_partner, probe) != 0) {
        sem_destroy(&probe->begin);
        free(probe);
        return NULL;
    }
    (void)pthread_setaffinity_np(pthread_self(), sizeof own, &own);
    return probe;
}

void bench_probe_free(struct bench_probe *probe)
{
    if (!probe)
        return;
    atomic_store(&probe->ends, true);
    sem_post(&probe->begin);
    pthread_join(probe->partner, NULL);
    sem_destroy(&probe->begin);
    free(probe);
}

enum bench_placement bench_probe_look(struct bench_probe *probe)
{
    double shortest_ns = 0;
    unsigned trip = 1;
    if (!probe)
        return BENCH_PLACED_UNKNOWN;
    atomic_store(&probe->ping, 0);
    atomic_store(&probe->pong, 0);
    sem_post(&probe->begin);
    make_trip(probe, trip++); /* the partner has to wake up */
    for (int part = 0; part < PARTS; part++) {
        double begin_ns = now_ns();
        for (int i = 0; i < TRIPS; i++)
            make_trip(probe, trip++);
        double taken_ns = now_ns() - begin_ns;
        shortest_ns = part == 0 || taken_ns < shortest_ns ? taken_ns : shortest_ns;
    }
    return bench_placement_of(shortest_ns / TRIPS / 2);
}
