/* An MPI library as a rival of tutti in `tutti bench --vs`; bench_reply.h tells the orders.  One source,
 * built with each MPI that is installed: tutti-bench-openmpi, tutti-bench-mpich. */
#include <limits.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>
#include "tensor/type.h"
#include "tools/bench_serve.h"

#define RANKS_MAX 64

/* MPI_DATATYPE_NULL: it has no such type. */
static MPI_Datatype datatype_of(enum tutti_type type)
{
    switch (type) {
    case TUTTI_FLOAT32:
        return MPI_FLOAT;
    case TUTTI_FLOAT64:
        return MPI_DOUBLE;
    case TUTTI_INT32:
        return MPI_INT32_T;
    case TUTTI_INT64:
        return MPI_INT64_T;
    case TUTTI_BFLOAT16: /* as bits, where nothing is computed */
        return MPI_UINT16_T;
    default:
        return MPI_DATATYPE_NULL;
    }
}

static MPI_Op op_of(enum tutti_reduction reduction)
{
    switch (reduction) {
    case TUTTI_SUM:
        return MPI_SUM;
    case TUTTI_PRODUCT:
        return MPI_PROD;
    case TUTTI_MIN:
        return MPI_MIN;
    case TUTTI_MAX:
        return MPI_MAX;
    default:
        return MPI_OP_NULL;
    }
}

static const char *refuse(const struct bench_case *which)
{
#if defined(MPICH_NUMVERSION) && MPICH_NUMVERSION < 40100000
    if (which->operation == TUTTI_REDUCE && which->in_place && which->root != 0)
        return "MPICH 4.0 crashes in an in-place MPI_Reduce of 64 KiB whose root is not 0";
#endif
    bool reduces = operation_reduces((int)which->operation);
    if (datatype_of(which->type) == MPI_DATATYPE_NULL)
        return "the MPI program knows float32, float64, int32, int64 and bfloat16";
    if (reduces && which->type == TUTTI_BFLOAT16)
        return "MPI cannot reduce bfloat16";
    if (reduces && op_of(which->reduction) == MPI_OP_NULL)
        return "the MPI program knows sum, product, min and max";
    if (bench_send_count(which) > INT_MAX || bench_recv_count(which) > INT_MAX)
        return "MPI counts with an int: the vector is too long";
    return NULL;
}

/* In place, as MPI has it: like tutti, except that a reduce_scatter leaves its result in front.  A broadcast
 * is always in place. */
static void buffers(const struct bench_case *which, uint8_t *first, uint8_t *second, uint8_t **send,
                    uint8_t **recv)
{
    size_t part = which->count * type_size((int)which->type) * (size_t)which->rank;
    *send = first;
    *recv = second;
    if (which->operation == TUTTI_BROADCAST) {
        *send = second;
    } else if (which->in_place) {
        if (operation_gathers((int)which->operation))
            *send = second + part;
        else if (which->operation == TUTTI_SCATTER)
            *recv = first + part;
        else
            *send = second;
    }
}

/* Open MPI 4.1's MPI_Reduce_scatter_block is up to five times slower than its general form; MPICH's is not.
 */
static void reduce_scatter(const void *send, void *recv, int count, MPI_Datatype type, MPI_Op op)
{
#ifdef OPEN_MPI
    int counts[RANKS_MAX], size;
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    for (int i = 0; i < size; i++)
        counts[i] = count;
    MPI_Reduce_scatter(send, recv, counts, type, op, MPI_COMM_WORLD);
#else
    MPI_Reduce_scatter_block(send, recv, count, type, op, MPI_COMM_WORLD);
#endif
}

/* Errors end the job: that is MPI's default. */
static void call(const struct bench_case *which, void *send, void *recv)
{
    MPI_Comm comm = MPI_COMM_WORLD;
    MPI_Datatype type = datatype_of(which->type);
    MPI_Op op = op_of(which->reduction);
    int count = (int)which->count, root = which->root;
    bool is_root = which->rank == root;
    const void *from = which->in_place ? MPI_IN_PLACE : send;
    switch (which->operation) {
    case TUTTI_ALL_REDUCE:
        MPI_Allreduce(from, recv, count, type, op, comm);
        break;
    case TUTTI_REDUCE:
        MPI_Reduce(is_root ? from : send, recv, count, type, op, root, comm);
        break;
    case TUTTI_BROADCAST:
        MPI_Bcast(recv, count, type, root, comm);
        break;
    case TUTTI_ALL_GATHER:
        MPI_Allgather(from, count, type, recv, count, type, comm);
        break;
    case TUTTI_GATHER:
        MPI_Gather(is_root ? from : send, count, type, recv, count, type, root, comm);
        break;
    case TUTTI_SCATTER:
        MPI_Scatter(send, count, type, is_root && which->in_place ? MPI_IN_PLACE : recv, count, type, root,
                    comm);
        break;
    case TUTTI_REDUCE_SCATTER:
        reduce_scatter(from, recv, count, type, op);
        break;
    case TUTTI_ALL_TO_ALL:
        MPI_Alltoall(from, count, type, recv, count, type, comm);
        break;
    default:
        MPI_Barrier(comm);
    }
}

static void barrier(void)
{
    MPI_Barrier(MPI_COMM_WORLD);
}

int main(int argc, char **argv)
{
    char name[MPI_MAX_LIBRARY_VERSION_STRING] = "MPI";
    int length;
    struct bench_library library = {
        .name = name, .refuse = refuse, .buffers = buffers, .call = call, .barrier = barrier};
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &library.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &library.size);
    MPI_Get_library_version(name, &length);
    name[strcspn(name, "\n,")] = '\0';
    for (char *tab; (tab = strchr(name, '\t'));)
        *tab = ' ';
    size_t max_bytes = bench_serve_max_bytes(argc, argv);
    int status = EXIT_FAILURE;
    if (library.size > RANKS_MAX)
        fprintf(stderr, "at most %d ranks, and here are %d\n", RANKS_MAX, library.size);
    else if (max_bytes > 0)
        status = bench_serve(&library, argv[1], max_bytes);
    if (status != EXIT_SUCCESS)
        MPI_Abort(MPI_COMM_WORLD, status); /* the other ranks may be waiting for this one */
    MPI_Finalize();
    return status;
}
