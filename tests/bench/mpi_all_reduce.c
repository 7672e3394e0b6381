/* MPI's all-reduce of float32, in place, as scripts/bench sets it beside tutti:
 *     mpirun -n 2 mpi_all_reduce BYTES TURNS
 * Rank 0 prints one JSON object with the median over the turns of the slowest rank's time. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    int rank, size;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    long bytes = argc == 3 ? atol(argv[1]) : 0, turns = argc == 3 ? atol(argv[2]) : 0;
    if (bytes < 4 || turns < 1) {
        fprintf(stderr, "usage: mpi_all_reduce BYTES TURNS\n");
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
    float *vector = calloc((size_t)bytes / sizeof *vector, sizeof *vector);
    double *times = calloc((size_t)turns, sizeof *times);
    if (vector == NULL || times == NULL)
        MPI_Abort(MPI_COMM_WORLD, 1);

    for (long turn = -2; turn < turns; turn++) { /* two to warm up */
        double begin = MPI_Wtime();
        MPI_Allreduce(MPI_IN_PLACE, vector, (int)(bytes / 4), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        if (turn >= 0)
            times[turn] = MPI_Wtime() - begin;
    }
    MPI_Allreduce(MPI_IN_PLACE, times, (int)turns, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    qsort(times, (size_t)turns, sizeof *times, compare);
    double p50 = times[turns / 2];
    if (rank == 0)
        printf("{\"bytes\": %ld, \"p50_us\": %.3f, \"busbw_GBps\": %.4f}\n", bytes, p50 * 1e6,
               2.0 * (size - 1) / size * (double)bytes / p50 / 1e9);
    free(vector);
    free(times);
    MPI_Finalize();
    return 0;
}
