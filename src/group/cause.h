/* The cause of a failure, as every later call reports it: completed with what this rank knows. */
#ifndef TUTTI_GROUP_CAUSE_H
#define TUTTI_GROUP_CAUSE_H

#include <stdbool.h>
#include "executor/operation.h"
#include "group/place.h"

/* Adds the host of the rank to blame where `cause` lacks it, and what was under way here (`operation`, may be
 * NULL): in the fields always, and before the sentence where this rank noticed the failure itself:
 * "all_reduce (operation 17 on rank 2, 65536 bytes moved): ...". */
void cause_complete(struct tutti_error *cause, const struct group_place *place, const char *host_name,
                    const struct operation *operation, bool noticed_here);

/* The fields alone: the operation under way here, NULL: none.  Another rank that told the cause was perhaps
 * in another one. */
void cause_set_operation(struct tutti_error *cause, const struct operation *operation);

#endif
