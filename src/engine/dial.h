/* Dialling: connects to another rank and says hello, trying its addresses in turn and again, until it answers
 * as it must.  A Unix socket comes first where both ranks say that they are on one host; that it connects is
 * the proof.  Where it does not, the pair falls back to TCP.  On the loop's thread. */
#ifndef TUTTI_ENGINE_DIAL_H
#define TUTTI_ENGINE_DIAL_H

#include "base/failpoint.h"
#include "base/log.h"
#include "engine/connector.h"
#include "wire/hello.h"

struct dial_options {
    uv_loop_t *loop;
    const struct connector_targets *targets; /* copied */
    struct hello hello;
    const char *peer_text; /* "rank 3 (host b, pid 4711)"; borrowed */
    const char *what;      /* "data" */
    const struct log *log;
    struct failpoints *failpoints;
    int64_t give_up_ms; /* 0: never; nor while what took the connection is silent, for it may be late */
    bool may_be_early;  /* a silence says nothing: the other rank may not have made this communicator yet */
    /* Is this answer that of the rank?  TUTTI_OK or an error. */
    int (*check)(void *context, const struct hello *answer, struct tutti_error *error);
    /* Called once: with the connection, which passes to the receiver, and, where a Unix socket was tried in
     * vain, why not; or with -1 and what the latest attempt met.  The dial may be stopped from within. */
    void (*done)(void *context, int fd, bool is_unix, const struct tutti_error *why);
    void *context;
};

struct dial;

struct dial *dial_start(const struct dial_options *options); /* NULL when out of memory */
void dial_stop(struct dial *dial);                           /* frees it; NULL is accepted */

/* What the latest attempt met; the connection under way, which stays the dial's, or -1. */
const struct tutti_error *dial_why(const struct dial *dial);
int dial_descriptor(const struct dial *dial);
void *dial_context(const struct dial *dial);

#endif
