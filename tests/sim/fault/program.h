/* The user's program in each rank: joins, makes calls whose results it checks, finalizes; after a failure it
 * keeps what its calls left in memory for the end of the run, and usually re-forms and goes on.  All ranks of
 * a group follow the same plan, unless a fault makes one of them err. */
#ifndef TUTTI_TESTS_FAULT_PROGRAM_H
#define TUTTI_TESTS_FAULT_PROGRAM_H

#include "tests/sim/fault/comm.h"

struct program *program_new(struct process *process);

void program_start(struct program *program, int64_t delay_ns);
bool program_has_ended(const struct program *program);

/* Checks that nothing wrote to memory after its call had returned, and frees all.  After the run. */
void program_free(struct program *program);

#endif
