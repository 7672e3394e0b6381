/* The group over MPI, for comparison.  MPI has no descriptor that an event loop could sleep on: while a step
 * is under way, and a rank that waits for the next request always has one, the server has to ask again and
 * again.  A rank that dies takes the others with it, before they could tell their clients. */
#include "group.h"

#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#if defined(OPEN_MPI)
#include <mpi-ext.h>
#endif

struct group {
    int rank, size;
    struct group_buffers buffers;
    MPI_Request request;           /* of the step that is under way */
    MPI_Request plans[STEP_COUNT]; /* persistent collectives, where this MPI has them */
};

const char *group_library(void)
{
    return "MPI";
}

struct group *group_open(void)
{
    struct group *group = calloc(1, sizeof *group);
    MPI_Init(NULL, NULL); /* every error of MPI ends the program, and says why */
    if (group) {
        MPI_Comm_rank(MPI_COMM_WORLD, &group->rank);
        MPI_Comm_size(MPI_COMM_WORLD, &group->size);
    }
    return group;
}

int group_rank(const struct group *group)
{
    return group->rank;
}

int group_size(const struct group *group)
{
    return group->size;
}

#if MPI_VERSION >= 4
#define HAVE_PERSISTENT 1
#define BCAST_INIT      MPI_Bcast_init
#define ALLREDUCE_INIT  MPI_Allreduce_init
#elif defined(OMPI_HAVE_MPI_EXT_PCOLLREQ)
#define HAVE_PERSISTENT 1
#define BCAST_INIT      MPIX_Bcast_init
#define ALLREDUCE_INIT  MPIX_Allreduce_init
#else
#define HAVE_PERSISTENT 0
#endif

int group_prepare(struct group *group, const struct group_buffers *buffers)
{
    group->buffers = *buffers;
#if HAVE_PERSISTENT
    BCAST_INIT(buffers->input, (int)buffers->input_bytes, MPI_BYTE, 0, MPI_COMM_WORLD, MPI_INFO_NULL,
               &group->plans[STEP_INPUT]);
    for (int layer = 0; layer < 2; layer++)
        ALLREDUCE_INIT(MPI_IN_PLACE, buffers->sums[layer], (int)buffers->width, MPI_FLOAT, MPI_SUM,
                       MPI_COMM_WORLD, MPI_INFO_NULL, &group->plans[STEP_LAYER_1 + layer]);
#endif
    return 0;
}

int group_start(struct group *group, enum group_step step, int patience_ms)
{
    const struct group_buffers *buffers = &group->buffers;
    float *sum = step == STEP_INPUT ? NULL : buffers->sums[step - STEP_LAYER_1];
    int bytes = (int)buffers->input_bytes, width = (int)buffers->width;
    group->request = MPI_REQUEST_NULL;
    if (patience_ms < 0) { /* for who waits anyway, blocking calls are MPI's fastest */
        if (step == STEP_INPUT)
            MPI_Bcast(buffers->input, bytes, MPI_BYTE, 0, MPI_COMM_WORLD);
        else
            MPI_Allreduce(MPI_IN_PLACE, sum, width, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    } else if (HAVE_PERSISTENT) {
        group->request = group->plans[step];
        MPI_Start(&group->request);
    } else if (step == STEP_INPUT) {
        MPI_Ibcast(buffers->input, bytes, MPI_BYTE, 0, MPI_COMM_WORLD, &group->request);
    } else {
        MPI_Iallreduce(MPI_IN_PLACE, sum, width, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD, &group->request);
    }
    return 0;
}

int group_test(struct group *group, int patience_ms)
{
    int done;
    (void)patience_ms; /* looking again at once costs the same as waiting here */
    MPI_Test(&group->request, &done, MPI_STATUS_IGNORE);
    if (!done)
        sched_yield(); /* the client needs a core, too */
    return done;
}

int group_fd(struct group *group)
{
    (void)group;
    return -1;
}

const char *group_error(const struct group *group)
{
    (void)group;
    return "";
}

void group_abort(struct group *group, const char *reason)
{
    (void)group;
    fprintf(stderr, "%s\n", reason);
    MPI_Abort(MPI_COMM_WORLD, 1);
}

int group_finalize(struct group *group)
{
    for (int step = 0; step < STEP_COUNT; step++)
        if (HAVE_PERSISTENT)
            MPI_Request_free(&group->plans[step]);
    return MPI_Finalize() == MPI_SUCCESS ? 0 : -1;
}

void group_free(struct group *group)
{
    free(group);
}
