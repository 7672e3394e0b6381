#include "engine/wait.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include "base/hash.h"
#include "base/relax.h"
#include "engine/clock.h"

#define SHARED_YIELD_NS 3000 /* a yield with nobody else to run takes well under one microsecond */
#define CROWDED_WAITS   1000
#define HOGGED_YIELD_NS 300000 /* other ranks, which wait as well, give the core back within microseconds */
#define HOGGED_WAITS    100

/* The cgroup's CPU quota in whole cores, rounded up; 0 when there is none. */
static int quota_cores(void)
{
    char text[64];
    long long quota = 0, period = 0;
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (!file)
        return 0;
    if (!fgets(text, sizeof text, file) || sscanf(text, "%lld %lld", &quota, &period) != 2)
        quota = 0; /* "max 100000" */
    fclose(file);
    return quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

int wait_usable_cores(void)
{
    cpu_set_t set;
    int cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    int quota = quota_cores();
    return quota > 0 && quota < cores ? quota : cores;
}

uint64_t wait_core_set(void)
{
    cpu_set_t set;
    uint64_t hash = FNV1A_START;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 0;
    for (size_t i = 0; i < sizeof set; i++)
        hash = fnv1a_add(hash, ((const uint8_t *)&set)[i]);
    return hash;
}

int wait_core(void)
{
    int core = sched_getcpu();
    return core >= 0 ? core : 0;
}

struct wait_policy wait_policy_for(const char *mode, bool crowded)
{
    return (struct wait_policy){
        /* A turn on a socket is a system call of a third of a microsecond: 100 of them are long enough for a
         * small exchange.  Where something else waits for the core, the peer perhaps, one is too many. */
        .spin_turns = crowded ? 1 : 100,
        /* A look at a flag is a load. */
        .shared_spins = crowded                     ? 1
                        : strcmp(mode, "spin") == 0 ? 100000
                                                    : 2000,
        /* A switch between ranks takes one or two microseconds, and one that was for nothing holds up all. */
        .further_spins = crowded ? 100 : 0,
        .yield_ns = NS_PER_MS,
        .sleeps = strcmp(mode, "spin") != 0,
    };
}

/* The kernel may put two ranks on one core and leave them there, since neither ever sleeps: then spinning
 * only keeps the other from its turn.  A yield that takes long has let somebody in.  One that takes very long
 * has let in who computes and does not wait, for a whole slice of time; a sleeper that is woken gets the core
 * back at once. */
static void yield(struct wait_policy *policy, int64_t now_ns)
{
    sched_yield();
    int64_t away_ns = clock_now_ns() - now_ns;
    if (away_ns > SHARED_YIELD_NS)
        policy->crowded_waits = CROWDED_WAITS;
    if (away_ns > HOGGED_YIELD_NS)
        policy->hogged_waits = HOGGED_WAITS;
}

enum wait_stage waiter_turn(struct waiter *waiter, int64_t *now_ns)
{
    struct wait_policy *policy = waiter->policy;
    if (waiter->turns == 0 && policy->crowded_waits > 0) {
        policy->crowded_waits--;
        waiter->turns = policy->spin_turns - 1;
    }
    if (waiter->turns < policy->spin_turns) {
        waiter->turns++;
        cpu_relax();
        return WAIT_SPIN;
    }
    *now_ns = clock_now_ns();
    if (waiter->since_ns == 0) {
        waiter->since_ns = *now_ns;
        waiter->hogged = policy->sleeps && policy->hogged_waits > 0;
        policy->hogged_waits -= waiter->hogged;
    }
    if (waiter->hogged || (policy->sleeps && *now_ns - waiter->since_ns >= policy->yield_ns))
        return WAIT_SLEEP;
    yield(policy, *now_ns);
    return WAIT_YIELD;
}
