#include "engine/mixed_agreement.h"

#include <stdlib.h>
#include <string.h>
#include "base/error.h"

/* The same on every rank: all have the same roster. */
static bool may_be_mixed(const tutti_comm *comm)
{
    const struct select_group *group = &comm->select;
    for (int rank = 0; rank < comm->place.size; rank++)
        if (!comm_member(comm, rank)->shm)
            return false;
    return !comm->lane_of && group->host_count > 1 && group->hosts_consecutive && group->local_min > 1 &&
           group->local_min == group->local_max && group->local_max <= ARENA_RANKS_MAX;
}

/* Not counted where the communicator has made no call yet: numbers begin with the user's.  One made by a
 * split has held its barrier. */
static int ask_all(tutti_comm *comm, int timeout_ms, int32_t *arenas)
{
    const int32_t own = comm->arena != NULL;
    const struct tutti_call gather = {.op = TUTTI_ALL_GATHER,
                                      .send = &own,
                                      .recv = arenas,
                                      .count = 1,
                                      .type = TUTTI_INT32,
                                      .algorithm = "ring",
                                      .timeout_ms = timeout_ms};
    tutti_request *request;
    pthread_mutex_lock(&comm->lock);
    comm->is_uncounted = comm->sequence == 0;
    pthread_mutex_unlock(&comm->lock);
    int status = progress_run(comm, &gather, 1, -1, &request);
    pthread_mutex_lock(&comm->lock);
    comm->is_uncounted = false;
    pthread_mutex_unlock(&comm->lock);
    return status;
}

int mixed_agree(tutti_comm *comm, int timeout_ms, struct tutti_error *error)
{
    int size = comm->place.size;
    if (!may_be_mixed(comm))
        return TUTTI_OK;
    int32_t *arenas = calloc((size_t)size, sizeof *arenas);
    if (!arenas)
        return error_set(error, TUTTI_ERR_MEMORY, "no memory for a communicator of %d ranks", size);
    int status = ask_all(comm, timeout_ms, arenas), lacks = -1;
    for (int rank = size - 1; rank >= 0; rank--)
        lacks = arenas[rank] ? lacks : rank;
    free(arenas);
    if (status < 0) {
        *error = comm->failure;
        return status;
    }
    pthread_mutex_lock(&comm->lock);
    comm->select.mixed = lacks < 0;
    memset(comm->memos, 0, sizeof comm->memos); /* what was chosen before */
    pthread_mutex_unlock(&comm->lock);
    if (lacks < 0)
        log_info(&comm->log, "%d hosts of %d ranks share memory within each", comm->hosts.host_count,
                 comm->select.local_max);
    else
        log_info(&comm->log,
                 "links carry everything between ranks, since on the host of %s none share memory",
                 comm_member(comm, lacks)->text);
    return TUTTI_OK;
}
