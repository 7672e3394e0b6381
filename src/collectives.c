/* The public interface: one thin function for each operation, which makes a call of its arguments. */
#include "tutti/tutti.h"

#include <math.h>

/* These functions have no factor: what makes TUTTI_PREMULTIPLIED_SUM an argument error. */
#define NO_FACTOR (double)NAN

static int run_blocking(tutti_comm *comm, const struct tutti_call *call)
{
    tutti_request *request;
    return tutti_run(comm, call, 1, -1, &request);
}

int tutti_all_reduce(tutti_comm *comm, const void *send, void *recv, size_t count, enum tutti_type type,
                     enum tutti_reduction reduction)
{
    return run_blocking(comm, &(struct tutti_call){.op = TUTTI_ALL_REDUCE,
                                                   .send = send,
                                                   .recv = recv,
                                                   .count = count,
                                                   .type = type,
                                                   .reduction = reduction,
                                                   .factor = NO_FACTOR});
}

int tutti_reduce(tutti_comm *comm, const void *send, void *recv, size_t count, enum tutti_type type,
                 enum tutti_reduction reduction, int root)
{
    return run_blocking(comm, &(struct tutti_call){.op = TUTTI_REDUCE,
                                                   .send = send,
                                                   .recv = recv,
                                                   .count = count,
                                                   .type = type,
                                                   .reduction = reduction,
                                                   .factor = NO_FACTOR,
                                                   .root = root});
}

int tutti_broadcast(tutti_comm *comm, const void *send, void *recv, size_t count, enum tutti_type type,
                    int root)
{
    return run_blocking(
        comm,
        &(struct tutti_call){
            .op = TUTTI_BROADCAST, .send = send, .recv = recv, .count = count, .type = type, .root = root});
}

int tutti_all_gather(tutti_comm *comm, const void *send, void *recv, size_t count, enum tutti_type type)
{
    return run_blocking(
        comm, &(struct tutti_call){
                  .op = TUTTI_ALL_GATHER, .send = send, .recv = recv, .count = count, .type = type});
}

int tutti_gather(tutti_comm *comm, const void *send, void *recv, size_t count, enum tutti_type type, int root)
{
    return run_blocking(
        comm,
        &(struct tutti_call){
            .op = TUTTI_GATHER, .send = send, .recv = recv, .count = count, .type = type, .root = root});
}

int tutti_scatter(tutti_comm *comm, const void *send, void *recv, size_t count, enum tutti_type type,
                  int root)
{
    return run_blocking(
        comm,
        &(struct tutti_call){
            .op = TUTTI_SCATTER, .send = send, .recv = recv, .count = count, .type = type, .root = root});
}

int tutti_reduce_scatter(tutti_comm *comm, const void *send, void *recv, size_t count, enum tutti_type type,
                         enum tutti_reduction reduction)
{
    return run_blocking(comm, &(struct tutti_call){.op = TUTTI_REDUCE_SCATTER,
                                                   .send = send,
                                                   .recv = recv,
                                                   .count = count,
                                                   .type = type,
                                                   .reduction = reduction,
                                                   .factor = NO_FACTOR});
}

int tutti_all_to_all(tutti_comm *comm, const void *send, void *recv, size_t count, enum tutti_type type)
{
    return run_blocking(
        comm, &(struct tutti_call){
                  .op = TUTTI_ALL_TO_ALL, .send = send, .recv = recv, .count = count, .type = type});
}

int tutti_all_gather_v(tutti_comm *comm, const void *send, void *recv, const size_t *counts,
                       const size_t *offsets, enum tutti_type type)
{
    return run_blocking(comm, &(struct tutti_call){.op = TUTTI_ALL_GATHER_V,
                                                   .send = send,
                                                   .recv = recv,
                                                   .type = type,
                                                   .recv_counts = counts,
                                                   .recv_offsets = offsets});
}

int tutti_gather_v(tutti_comm *comm, const void *send, size_t count, void *recv, const size_t *counts,
                   const size_t *offsets, enum tutti_type type, int root)
{
    return run_blocking(comm, &(struct tutti_call){.op = TUTTI_GATHER_V,
                                                   .send = send,
                                                   .recv = recv,
                                                   .count = count,
                                                   .type = type,
                                                   .root = root,
                                                   .recv_counts = counts,
                                                   .recv_offsets = offsets});
}

int tutti_scatter_v(tutti_comm *comm, const void *send, const size_t *counts, const size_t *offsets,
                    void *recv, size_t count, enum tutti_type type, int root)
{
    return run_blocking(comm, &(struct tutti_call){.op = TUTTI_SCATTER_V,
                                                   .send = send,
                                                   .recv = recv,
                                                   .count = count,
                                                   .type = type,
                                                   .root = root,
                                                   .send_counts = counts,
                                                   .send_offsets = offsets});
}

int tutti_reduce_scatter_v(tutti_comm *comm, const void *send, void *recv, const size_t *counts,
                           enum tutti_type type, enum tutti_reduction reduction)
{
    return run_blocking(comm, &(struct tutti_call){.op = TUTTI_REDUCE_SCATTER_V,
                                                   .send = send,
                                                   .recv = recv,
                                                   .type = type,
                                                   .reduction = reduction,
                                                   .factor = NO_FACTOR,
                                                   .send_counts = counts});
}

int tutti_all_to_all_v(tutti_comm *comm, const void *send, const size_t *send_counts,
                       const size_t *send_offsets, void *recv, const size_t *recv_counts,
                       const size_t *recv_offsets, enum tutti_type type)
{
    return run_blocking(comm, &(struct tutti_call){.op = TUTTI_ALL_TO_ALL_V,
                                                   .send = send,
                                                   .recv = recv,
                                                   .type = type,
                                                   .send_counts = send_counts,
                                                   .send_offsets = send_offsets,
                                                   .recv_counts = recv_counts,
                                                   .recv_offsets = recv_offsets});
}

int tutti_barrier(tutti_comm *comm)
{
    return run_blocking(comm, &(struct tutti_call){.op = TUTTI_BARRIER});
}

int tutti_send(tutti_comm *comm, const void *send, size_t count, enum tutti_type type, int to, int tag)
{
    return run_blocking(
        comm, &(struct tutti_call){
                  .op = TUTTI_SEND, .send = send, .count = count, .type = type, .peer = to, .tag = tag});
}

int tutti_recv(tutti_comm *comm, void *recv, size_t count, enum tutti_type type, int from, int tag,
               struct tutti_received *received)
{
    return run_blocking(comm, &(struct tutti_call){.op = TUTTI_RECV,
                                                   .recv = recv,
                                                   .count = count,
                                                   .type = type,
                                                   .peer = from,
                                                   .tag = tag,
                                                   .received = received});
}
