#include "tools/bench_batch.h"

#include <time.h>
#include "tensor/type.h"
#include "tools/bench_statistics.h"

#define BATCH_SECONDS 0.004

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int bench_measure_batch(const struct bench_worker *worker, const struct bench_case *which, int count,
                        double *us)
{
    bool has_root = operation_has_root((int)which->operation);
    double times[BENCH_BATCH_MAX];
    uint8_t *send, *recv;
    bench_buffers(which, worker->send, worker->recv, &send, &recv);
    int status = tutti_barrier(worker->comm);
    for (int i = 0; i < count && status == TUTTI_OK; i++) {
        if (has_root)
            status = tutti_barrier(worker->comm);
        double start = now_s();
        if (status == TUTTI_OK)
            status = bench_call(worker->comm, which, send, recv);
        times[i] = now_s() - start;
    }
    if (status == TUTTI_OK)
        status = tutti_all_reduce(worker->comm, times, times, (size_t)count, TUTTI_FLOAT64, TUTTI_MAX);
    if (status == TUTTI_OK)
        *us = bench_median(times, (size_t)count) * 1e6;
    return status;
}

int bench_batch_for(double us)
{
    double fitting = us > 0 ? BATCH_SECONDS * 1e6 / us : 1;
    return fitting < 1 ? 1 : fitting < BENCH_BATCH_MAX ? (int)fitting : BENCH_BATCH_MAX;
}
