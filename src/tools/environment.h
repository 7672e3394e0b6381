/* What a rank finds in its environment: who it is and where the ranks meet, in the variables of tutti and, so
 * that programs for torch run unchanged, in those of torchrun. */
#ifndef TUTTI_TOOLS_ENVIRONMENT_H
#define TUTTI_TOOLS_ENVIRONMENT_H

#include "tools/ranks.h"

struct environment_job {
    char rendezvous[320];
    char master[256];     /* host of rank 0, as the others reach it */
    unsigned master_port; /* there, for what is not tutti's, such as the store of torch; 0: none */
};

/* Chooses master and port for the ranks that meet at `rendezvous`: on one host a port that is free now, a new
 * one with each call; on several the host of the rendezvous and a port that follows from its port, the same
 * wherever it is chosen and never that port itself. */
void environment_choose(struct environment_job *job, const struct ranks *ranks, const char *rendezvous);

/* The environment of the rank with this index among `ranks`: ours, with the variables of the job instead of
 * those of a job that we are in ourselves.  One block, to be freed; borrows the strings of ours.  NULL when
 * memory is exhausted. */
char **environment_of_rank(const struct environment_job *job, const struct ranks *ranks, int index);

#endif
