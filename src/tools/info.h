/* `tutti info`: what its parts share.  info.c takes the command line and shows what there is, info_plan.c
 * what would be chosen. */
#ifndef TUTTI_TOOLS_INFO_H
#define TUTTI_TOOLS_INFO_H

#include <stddef.h>

#define INFO_RANKS_MAX 65536

/* Calls of ranks that need not exist. */
struct info_plan {
    int operation; /* enum tutti_operation; 0: no plan is asked for */
    int ranks, hosts;
    int type;              /* enum tutti_type */
    const char *transport; /* within a host, "shm", "uds" or "tcp"; NULL: as the environment says */
    int cores;             /* of each host; 0: as many as this process may use */
    size_t min_bytes, max_bytes;
    int factor;
};

/* Prints a table of sizes; the exit status. */
int info_print_plan(const struct info_plan *plan);

#endif
