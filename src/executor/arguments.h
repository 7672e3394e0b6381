/* The arguments of calls, checked before anything is done: what a mistake is, and what to do about it. */
#ifndef TUTTI_EXECUTOR_ARGUMENTS_H
#define TUTTI_EXECUTOR_ARGUMENTS_H

#include "tutti/tutti.h"

/* `count` (at least 1) calls that rank `rank` of `size` would issue together.  TUTTI_OK, or
 * TUTTI_ERR_ARGUMENT (or ERR_MEMORY) with a sentence in *error.  Calls that are issued together must not
 * depend on each other: what one writes no other may read or write; and messages cannot be issued together
 * with collectives.  Whether `algorithm` names one is for algorithm_select() to say.
 *
 * What it leaves open: whether a _v's counts are the same on every rank, or what a peer sends. */
int arguments_check(int rank, int size, const struct tutti_call *calls, size_t count,
                    struct tutti_error *error);

#endif
