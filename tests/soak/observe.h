/* What the programs of this folder tell of themselves, line by line on standard output. */
#ifndef TESTS_SOAK_OBSERVE_H
#define TESTS_SOAK_OBSERVE_H

#include "../process/tell.h"
#include "tutti/tutti.h"

/* What this process holds, without the free memory that the C library keeps: how much that is, is chance. */
struct holdings {
    long rss_kib, mapped_kib; /* resident; the size of all mappings */
    int descriptors, threads, mappings;
};
void holdings_measure(struct holdings *holdings);

/* The failure of the group as "us=... entered_us=... status=... ... message=...", after the word `what`.
 * `entered_us`: when the call that failed began. */
void say_failure(const char *what, tutti_comm *comm, int status, int64_t entered_us);

#endif
