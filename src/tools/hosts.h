/* A job on several hosts: `tutti run` on each of them, started by ssh. */
#ifndef TUTTI_TOOLS_HOSTS_H
#define TUTTI_TOOLS_HOSTS_H

#include <stdbool.h>

#define HOSTS_MAX 1024

struct hosts {
    char *list;             /* "a,b"; is cut apart */
    int count;              /* ranks on each */
    const char *rendezvous; /* NULL: the first host, and a port picked here */
    const char *transports; /* NULL: as the environment says */
    bool bind, keep_going, prefix;
    char *const *arguments; /* the program and its arguments; ends with NULL */
};

/* Runs the job to its end; the exit status, as of supervisor_run(), or EXIT_USAGE for a list that makes no
 * sense. Every host needs this program and the working directory at the same place as here. */
int hosts_run(const struct hosts *hosts);

#endif
