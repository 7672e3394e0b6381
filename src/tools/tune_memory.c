/* What a byte costs in memory, and what it costs to wake a thread. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uv.h>
#include "tensor/reduce.h"
#include "tools/bench_statistics.h"
#include "tools/tune.h"

#define WALK_BYTES ((size_t)32 << 20) /* a user's tensor: more than the caches near the core hold */
#define PASSES     9
#define HANDOVERS  101
#define ALIGNMENT  4096

static double now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec * 1e-3;
}

/* A slice that has just arrived lies in the cache; what it is added to, or where it is copied, does not. */
static double walk(bool reduces, uint8_t *tensor, const uint8_t *slice, size_t slice_bytes)
{
    reduce_kernel add = reduce_table()->reduce[TUTTI_FLOAT32][TUTTI_SUM];
    double us[PASSES];
    size_t walked = WALK_BYTES / slice_bytes * slice_bytes;
    for (int pass = 0; pass < PASSES; pass++) {
        double start = now_us();
        for (size_t done = 0; done < walked; done += slice_bytes) {
            if (reduces)
                add(tensor + done, slice, tensor + done, slice_bytes / sizeof(float));
            else
                memcpy(tensor + done, slice, slice_bytes);
        }
        us[pass] = now_us() - start;
    }
    return bench_median(us, PASSES) / (double)walked;
}

struct handover {
    uv_sem_t asked, answered;
};

static void answer(void *context)
{
    struct handover *handover = context;
    for (int i = 0; i < HANDOVERS; i++) {
        uv_sem_wait(&handover->asked);
        uv_sem_post(&handover->answered);
    }
}

/* To a thread that sleeps, and back. */
static bool measure_handover(double *us)
{
    struct handover handover;
    uv_thread_t thread;
    double times[HANDOVERS];
    if (uv_sem_init(&handover.asked, 0) < 0)
        return false;
    if (uv_sem_init(&handover.answered, 0) < 0) {
        uv_sem_destroy(&handover.asked);
        return false;
    }
    bool started = uv_thread_create(&thread, answer, &handover) == 0;
    for (int i = 0; i < HANDOVERS && started; i++) {
        double start = now_us();
        uv_sem_post(&handover.asked);
        uv_sem_wait(&handover.answered);
        times[i] = now_us() - start;
    }
    if (started) {
        uv_thread_join(&thread);
        *us = bench_median(times, HANDOVERS);
    }
    uv_sem_destroy(&handover.answered);
    uv_sem_destroy(&handover.asked);
    return started;
}

bool tune_measure_memory(size_t slice_bytes, struct tuning *tuning)
{
    size_t bytes = slice_bytes < WALK_BYTES ? slice_bytes / ALIGNMENT * ALIGNMENT : WALK_BYTES;
    uint8_t *tensor = aligned_alloc(ALIGNMENT, WALK_BYTES), *slice = aligned_alloc(ALIGNMENT, bytes);
    bool measured = tensor && slice;
    if (measured) {
        memset(tensor, 0, WALK_BYTES);
        memset(slice, 0, bytes);
        tuning->reduce_us_per_byte = walk(true, tensor, slice, bytes);
        tuning->copy_us_per_byte = walk(false, tensor, slice, bytes);
        measured = measure_handover(&tuning->stripe_overhead_us);
    }
    free(tensor);
    free(slice);
    return measured;
}
