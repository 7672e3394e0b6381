/* A data link over a virtual stream: the contract of executor/link.h as transport/stream.c keeps it. */
#ifndef TUTTI_TESTS_FAULT_PIPED_LINK_H
#define TUTTI_TESTS_FAULT_PIPED_LINK_H

#include "executor/link.h"
#include "tests/sim/fault/network.h"

/* Takes over `end`.  `peer_text` is borrowed.  `ready` is called when the link may go on. */
struct link *piped_link_new(struct end *end, int peer, const char *peer_text, uint32_t loan_bytes,
                            struct failpoints *failpoints, void (*ready)(void *context), void *context);

#endif
