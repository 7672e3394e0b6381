/* Where a member listens for its ring neighbour while the group is made, and may be asked by others later. */
#ifndef TUTTI_ENGINE_LISTENERS_H
#define TUTTI_ENGINE_LISTENERS_H

#include <stdbool.h>
#include "base/settings.h"
#include "group/endpoint.h"

#define LISTENERS_MAX 9

struct listeners {
    int count;
    int fd[LISTENERS_MAX];
    char address[LISTENERS_MAX][128]; /* "unix:@...", "10.0.0.1:4711" */
};

/* Opens what the settings and the way to the rendezvous ask for: `meeting` is where it is, `rendezvous_fd` a
 * connection to it. A job of one host opens no TCP port. */
int listeners_open(struct listeners *listeners, const struct settings *settings,
                   const struct endpoint *meeting, int rendezvous_fd, struct tutti_error *error);
void listeners_close(struct listeners *listeners);

/* The port range of the settings; 0 and 0 when there is none. */
void listeners_port_range(const struct settings *settings, int *port_min, int *port_max);

#endif
