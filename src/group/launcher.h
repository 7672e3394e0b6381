/* Who am I, how many are we, where do we meet: from arguments or from the variables that a launcher sets.
 * Pure: the environment arrives as a function.  The table is in docs/launching.md; the first match wins. */
#ifndef TUTTI_GROUP_LAUNCHER_H
#define TUTTI_GROUP_LAUNCHER_H

#include <stdbool.h>
#include "base/settings.h"
#include "group/endpoint.h"

/* The ports of meeting points that nobody named: below the range from which Linux takes the ports of outgoing
 * connections. */
#define RENDEZVOUS_PORT_FIRST 20000u
#define RENDEZVOUS_PORT_COUNT 12768u

struct launch {
    const char *source; /* "arguments", "TUTTI_*", "torchrun", "Open MPI", "PMI", "Slurm", "none" */
    int rank;           /* TUTTI_RANK_ANY: assigned on arrival */
    int size;
    struct endpoint rendezvous;          /* ENDPOINT_NONE for a group of one, and where it is announced */
    char job[SETTING_JOB_BYTES_MAX + 1]; /* name of the job; the setting `job` overrides it */
    bool one_host;                       /* every rank is on this host, as far as the launcher says */
    int (*announce)(void *context, const char *address); /* of rank 0, see struct tutti_config; or NULL */
    void *announce_context;
};

/* `uid` makes the names of derived Unix sockets differ between users.  A partial set of variables is
 * ERR_CONFIG that names what is there and what is missing; so are numbers out of range. */
int launch_resolve(struct launch *launch, const struct tutti_config *config, unsigned uid,
                   settings_getenv read, void *context, struct tutti_error *error);

#endif
