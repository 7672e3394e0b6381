/* Starting a child process.  Everything here that only Linux has (the parent's death as a signal, the
 * affinity of processors) is in child.c alone. */
#ifndef TUTTI_TOOLS_CHILD_H
#define TUTTI_TOOLS_CHILD_H

#include <sched.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/types.h>

struct child {
    char *const *arguments;           /* the program, found by PATH, and its arguments; ends with NULL */
    char *const *environment;         /* the whole of it; ends with NULL */
    int standard[3];                  /* what becomes descriptors 0 to 2; -1: ours */
    bool own_group;                   /* a process group of its own, whose number is the pid */
    const cpu_set_t *cpus;            /* NULL: where it may run already */
    const struct rlimit *descriptors; /* its RLIMIT_NOFILE */
};

/* The pid, once the program is executed, or minus the errno of what failed.  The child is killed when the
 * calling thread ends. */
pid_t child_start(const struct child *child);

/* Lets this process open as many descriptors as it may; *before is for its children. */
void descriptors_raise(struct rlimit *before);

/* The processors of part `index` when those that this process may use are split evenly in `parts`; with fewer
 * processors than parts, one that others share.  0 or an errno. */
int cpus_share(int index, int parts, cpu_set_t *cpus);

#endif
