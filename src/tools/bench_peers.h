/* Who takes part in `tutti bench`, and how each is started. */
#ifndef TUTTI_TOOLS_BENCH_PEERS_H
#define TUTTI_TOOLS_BENCH_PEERS_H

#include "tools/bench_peer.h"

#define BENCH_PEERS_MAX 16

struct bench_peers {
    struct bench_peer list[BENCH_PEERS_MAX]; /* ours first */
    int count;
};

/* Is `names`, "openmpi,mpich", a list of rivals?  NULL, or the first word (to be freed) that is none. */
char *bench_peers_unknown(const char *names);

/* None of them is started.  A rival that is not installed is told of, and left out.  0, or an exit status
 * after a complaint. */
int bench_peers_choose(struct bench_peers *peers, const struct bench_options *options);

#endif
