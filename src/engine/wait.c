#include "engine/wait.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include "engine/clock.h"

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

struct wait_policy wait_policy_for(const char *mode, int local_size)
{
    bool oversubscribed = local_size > wait_usable_cores();
    return (struct wait_policy){
        /* A turn on a socket is a system call of a third of a microsecond: 100 of them are long enough for a
         * small exchange, and short enough when something else holds the core that the peer would need. */
        .spin_turns = oversubscribed ? 20 : 100,
        .yield_ns = NS_PER_MS,
        .sleeps = strcmp(mode, "spin") != 0,
    };
}

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

enum wait_stage waiter_turn(struct waiter *waiter, int64_t *now_ns)
{
    if (waiter->turns < waiter->policy->spin_turns) {
        waiter->turns++;
        cpu_relax();
        return WAIT_SPIN;
    }
    *now_ns = clock_now_ns();
    if (waiter->since_ns == 0)
        waiter->since_ns = *now_ns;
    if (waiter->policy->sleeps && *now_ns - waiter->since_ns >= waiter->policy->yield_ns)
        return WAIT_SLEEP;
    sched_yield();
    return WAIT_YIELD;
}
