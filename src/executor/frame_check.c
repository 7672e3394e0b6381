#include "executor/frame_check.h"

#include "base/error.h"

int frame_check_group(const struct executor_group *group, int peer, const struct frame *frame,
                      struct tutti_error *error)
{
    if (frame->instance == group->instance && frame->generation == group->generation)
        return TUTTI_OK;
    error_set(error, TUTTI_ERR_PROTOCOL,
              "rank %d sent a frame of group %016llx generation %u, this is group %016llx generation %u: a "
              "member of an earlier group is still sending",
              peer, (unsigned long long)frame->instance, (unsigned)frame->generation,
              (unsigned long long)group->instance, (unsigned)group->generation);
    error->rank = peer;
    return TUTTI_ERR_PROTOCOL;
}
