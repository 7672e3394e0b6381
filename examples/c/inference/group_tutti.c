/* The group over tutti: each step is a plan, and tutti_fd() tells the server's event loop when one is done.
 */
#include "group.h"

#include <stdio.h>
#include <stdlib.h>
#include <tutti/tutti.h>

struct group {
    tutti_comm *comm;
    tutti_plan *plans[STEP_COUNT];
    tutti_request *request; /* of the step that is under way */
    char error[1100];
};

const char *group_library(void)
{
    return "tutti";
}

static int fail(struct group *group)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    tutti_get_error(group->comm, &error);
    snprintf(group->error, sizeof group->error, "%s: %s", tutti_error_name(error.code), error.message);
    return -1;
}

struct group *group_open(void)
{
    struct group *group = calloc(1, sizeof *group);
    if (group && tutti_init(NULL, &group->comm) < 0)
        fail(group);
    return group;
}

int group_rank(const struct group *group)
{
    return tutti_rank(group->comm);
}

int group_size(const struct group *group)
{
    return tutti_size(group->comm);
}

int group_prepare(struct group *group, const struct group_buffers *buffers)
{
    struct tutti_call calls[STEP_COUNT] = {
        [STEP_INPUT] = {.op = TUTTI_BROADCAST,
                        .send = buffers->input,
                        .recv = buffers->input,
                        .count = buffers->input_bytes,
                        .type = TUTTI_UINT8,
                        .root = 0},
    };
    for (int layer = 0; layer < 2; layer++)
        calls[STEP_LAYER_1 + layer] = (struct tutti_call){.op = TUTTI_ALL_REDUCE,
                                                          .send = buffers->sums[layer],
                                                          .recv = buffers->sums[layer],
                                                          .count = buffers->width,
                                                          .type = TUTTI_FLOAT32,
                                                          .reduction = TUTTI_SUM};
    for (int step = 0; step < STEP_COUNT; step++)
        if (tutti_plan_new(group->comm, &calls[step], 1, &group->plans[step]) < 0)
            return fail(group);
    return 0;
}

int group_start(struct group *group, enum group_step step, int patience_ms)
{
    (void)patience_ms; /* it is group_test() that waits */
    return tutti_plan_start(group->plans[step], &group->request) < 0 ? fail(group) : 0;
}

int group_test(struct group *group, int patience_ms)
{
    int status = tutti_wait(&group->request, patience_ms);
    return status < 0 ? fail(group) : status != TUTTI_PENDING;
}

int group_fd(struct group *group)
{
    return tutti_fd(group->comm);
}

const char *group_error(const struct group *group)
{
    return group->error;
}

void group_abort(struct group *group, const char *reason)
{
    tutti_abort(group->comm, reason);
}

int group_finalize(struct group *group)
{
    return tutti_finalize(group->comm, 10000) < 0 ? fail(group) : 0;
}

void group_free(struct group *group)
{
    for (int step = 0; step < STEP_COUNT; step++)
        tutti_plan_free(group->plans[step]);
    tutti_free(group->comm);
    free(group);
}
