/* What it costs to wait: rank 1 comes to an all_reduce SECONDS late, and rank 0 prints one JSON object with
 * how long its call took and the processor time that its process used meanwhile. tutti run -n 2 -- late
 * SECONDS mpirun -n 2 late_mpi SECONDS         (compiled with LATE_MPI) */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

/* ---- The library that waits ---------------------------------------------------------------------- */

#ifdef LATE_MPI
#include <mpi.h>

static int begin(void)
{
    int rank;
    MPI_Init(NULL, NULL);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank;
}

static void all_reduce(float *value)
{
    MPI_Allreduce(MPI_IN_PLACE, value, 1, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}

static void end(void)
{
    MPI_Finalize();
}
#else
#include "tutti/tutti.h"

static tutti_comm *comm;

static void succeed(int status)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    if (status >= 0)
        return;
    tutti_get_error(comm, &error);
    fprintf(stderr, "late: %s\n", error.message);
    exit(EXIT_FAILURE);
}

static int begin(void)
{
    succeed(tutti_init(NULL, &comm));
    return tutti_rank(comm);
}

static void all_reduce(float *value)
{
    succeed(tutti_all_reduce(comm, value, value, 1, TUTTI_FLOAT32, TUTTI_SUM));
}

static void end(void)
{
    succeed(tutti_finalize(comm, 0));
    tutti_free(comm);
}
#endif

/* ---- Waiting ------------------------------------------------------------------------------------- */

static double wall_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double seconds_of(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

/* Of all threads of this process. */
static double processor_s(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
}

int main(int argc, char **argv)
{
    double late_s = argc == 2 ? atof(argv[1]) : 0;
    if (!(late_s > 0 && late_s <= 60)) {
        fprintf(stderr, "usage: late SECONDS (at most 60)\n");
        return 2;
    }
    int rank = begin();
    float value = 1;
    for (int i = 0; i < 100; i++) /* so that all has been set up, and both are here */
        all_reduce(&value);
    if (rank == 1) {
        struct timespec lateness = {(time_t)late_s, (long)((late_s - (double)(time_t)late_s) * 1e9)};
        nanosleep(&lateness, NULL);
    }
    double wall = wall_s(), processor = processor_s();
    all_reduce(&value);
    wall = wall_s() - wall;
    processor = processor_s() - processor;
    if (rank == 0)
        printf("{\"waited_s\": %.3f, \"cpu_ms\": %.3f}\n", wall, processor * 1e3);
    end();
    return 0;
}
