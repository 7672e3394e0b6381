/* Memory that can be made to run out.  The program is linked with --wrap for the functions of <stdlib.h>, so
 * that what the code under test takes is counted, and refused where a fault says so.  Memory that libraries
 * take inside of themselves is out of reach. */
#ifndef TUTTI_TESTS_FAULT_ALLOCATION_H
#define TUTTI_TESTS_FAULT_ALLOCATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct allocation {
    long live;                    /* blocks that are taken and not given back */
    uint32_t countdown;           /* 0: nothing fails; 1: the next one of `victim` does */
    uint32_t failures;            /* how many one after the other */
    const void *victim, *running; /* processes: the one to suffer, and the one that acts now */
    bool struck;
};
extern struct allocation allocation;

/* For the world itself: never fails (it ends the program), and is no business of any process. */
void *world_alloc(size_t size); /* zeroed */
void *world_alloc_raw(size_t size);
void *world_resize(void *memory, size_t size);
void world_free(void *memory);

#endif
