/* Where a rendezvous listens: the sockets of an endpoint that was given on the command line. */
#ifndef TUTTI_TOOLS_LISTEN_H
#define TUTTI_TOOLS_LISTEN_H

#include "group/endpoint.h"

#define LISTENERS_MAX 32

struct listen_set {
    int fds[LISTENERS_MAX];
    char addresses[LISTENERS_MAX][300]; /* as bound: "127.0.0.1:40001", "unix:/tmp/x" */
    int count;
};

/* Adds a socket for each address of `endpoint` (a Unix one, or TCP with a name or numeric address; port 0:
 * any free one).  Addresses that are not this host's are passed over as long as one is.  TUTTI_OK or a
 * status; on an error `set` is as it was. */
int listen_set_add(struct listen_set *set, const struct endpoint *endpoint, struct tutti_error *error);

/* A socket on a fresh abstract Unix name. */
int listen_set_add_anywhere(struct listen_set *set, struct tutti_error *error);

void listen_set_close(struct listen_set *set);

/* Removes the socket files of paths, once nobody listens there any more. */
void listen_set_remove_files(const struct listen_set *set);

#endif
