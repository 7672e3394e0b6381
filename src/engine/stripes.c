#include "engine/stripes.h"

#include <stdlib.h>
#include "base/error.h"
#include "engine/life.h"
#include "engine/split.h"
#include "tensor/chunk.h"
#include "tensor/type.h"

struct stripe {
    tutti_comm *lane;
    struct tutti_call call;
    tutti_request *request; /* while it is under way */
};

struct stripes {
    int (*progress)(struct operation *operation, struct tutti_error *error); /* of the own part */
    bool started, own_done;
    int count;
    struct stripe list[STRIPES_MAX - 1];
};

/* ---- Lanes ------------------------------------------------------------------------------------- */

int stripes_open(tutti_comm *comm, struct tutti_error *error)
{
    int channels = comm->place.size > 1 && !comm->lane_of ? comm->select.channels_max : 1;
    for (int i = 0; i < channels - 1; i++) {
        comm->lanes[i] = split_lane(comm, i, error);
        if (!comm->lanes[i])
            return error->code;
    }
    return TUTTI_OK;
}

void stripes_finalize(tutti_comm *comm)
{
    for (int i = 0; i < STRIPES_MAX - 1; i++)
        if (comm->lanes[i]) {
            pthread_mutex_lock(&comm->lanes[i]->lock);
            atomic_store(&comm->lanes[i]->phase, COMM_FINALIZED);
            pthread_mutex_unlock(&comm->lanes[i]->lock);
        }
}

void stripes_close(tutti_comm *comm)
{
    for (int i = 0; i < STRIPES_MAX - 1; i++)
        if (comm->lanes[i])
            life_end(comm->lanes[i]);
}

/* ---- An operation ------------------------------------------------------------------------------ */

static void lane_error(tutti_comm *lane, struct tutti_error *error)
{
    *error = (struct tutti_error)TUTTI_ERROR_INIT;
    tutti_get_error(lane, error);
    if (error->rank < 0 && error->code == TUTTI_ERR_MEMORY)
        error->rank = comm_root_rank(lane, lane->place.rank);
}

static int start(struct stripes *stripes, struct tutti_error *error)
{
    stripes->started = true;
    for (int i = 0; i < stripes->count; i++) {
        struct stripe *stripe = &stripes->list[i];
        int status = progress_post(stripe->lane, &stripe->call, &stripe->request);
        if (status < 0) {
            lane_error(stripe->lane, error);
            return status;
        }
    }
    return TUTTI_OK;
}

static int look(struct stripes *stripes, struct operation *operation, struct tutti_error *error)
{
    int status = TUTTI_OK;
    for (int i = 0; i < stripes->count && status >= 0; i++) {
        struct stripe *stripe = &stripes->list[i];
        int its = TUTTI_OK;
        if (stripe->request)
            its = progress_collect(&stripe->request);
        if (its < 0)
            lane_error(stripe->lane, error);
        if (its != TUTTI_OK)
            status = its;
    }
    operation->wait = (struct operation_wait){-1, -1, NULL, NULL, status == TUTTI_PENDING};
    return status;
}

static int striped_progress(struct operation *operation, struct tutti_error *error)
{
    struct stripes *stripes = ((struct executor *)operation)->shell;
    int status = stripes->started ? TUTTI_OK : start(stripes, error);
    if (status == TUTTI_OK && !stripes->own_done) {
        status = stripes->progress(operation, error);
        stripes->own_done = status == TUTTI_OK;
    }
    if (status == TUTTI_OK)
        status = look(stripes, operation, error);
    if (status == TUTTI_OK)
        stripes->started = stripes->own_done = false; /* a plan runs it again */
    return status;
}

static void *at(const void *buffer, size_t bytes)
{
    return buffer ? (char *)buffer + bytes : NULL;
}

struct stripes *stripes_wrap(struct executor *executor, tutti_comm *comm, const struct tutti_call *call,
                             const char *algorithm, int channels)
{
    struct stripes *stripes = calloc(1, sizeof *stripes);
    size_t element_bytes = type_size(call->type), parts = (size_t)channels;
    if (!stripes)
        return NULL;
    stripes->count = channels - 1;
    for (int i = 0; i < stripes->count; i++) {
        size_t part = (size_t)i + 1, begin = chunk_begin(call->count, parts, part) * element_bytes;
        struct stripe *stripe = &stripes->list[i];
        stripe->lane = comm->lanes[i];
        stripe->call = *call;
        stripe->call.send = at(call->send, begin);
        stripe->call.recv = at(call->recv, begin);
        stripe->call.count = chunk_count(call->count, parts, part);
        stripe->call.algorithm = algorithm;
    }
    executor->total = chunk_count(call->count, parts, 0);
    stripes->progress = executor->operation.progress;
    executor->operation.progress = striped_progress;
    executor->shell = stripes;
    return stripes;
}

void stripes_free(struct stripes *stripes)
{
    free(stripes);
}

void stripes_join(struct stripes *stripes)
{
    for (int i = 0; i < stripes->count; i++)
        while (stripes->list[i].request && progress_wait(&stripes->list[i].request, -1) == TUTTI_PENDING)
            continue;
    stripes->started = stripes->own_done = false;
}
