/* What is asked of every frame of a data link, whatever it carries. */
#ifndef TUTTI_EXECUTOR_FRAME_CHECK_H
#define TUTTI_EXECUTOR_FRAME_CHECK_H

#include "executor/executor.h"

/* Is it of this group?  TUTTI_OK, or ERR_PROTOCOL, whose rank is the `peer` that sent it. */
int frame_check_group(const struct executor_group *group, int peer, const struct frame *frame,
                      struct tutti_error *error);

#endif
