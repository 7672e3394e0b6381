/* Passing a vector on: a rank that receives it (or has it, being the root) sends it to others, the first of
 * which gets each slice as soon as it is there. */
#ifndef TUTTI_ALGORITHM_RELAY_H
#define TUTTI_ALGORITHM_RELAY_H

#include "schedule/schedule.h"

struct relay {
    struct span source; /* where the vector lies, once it is there */
    int from;           /* who still has to send it; -1: nobody */
};

static inline struct relay relay_from(int from)
{
    return (struct relay){span_recv(), from};
}

static inline struct relay relay_of(struct span source)
{
    return (struct relay){source, -1};
}

static inline void relay_to(struct schedule *s, struct relay *relay, int to)
{
    if (relay->from >= 0)
        schedule_recv_send(s, relay->from, to, 0, s->chunks, relay->source);
    else
        schedule_send(s, to, 0, s->chunks, relay->source);
    relay->from = -1;
}

/* After the last relay_to(), of which there may have been none. */
static inline void relay_end(struct schedule *s, struct relay *relay)
{
    if (relay->from >= 0)
        schedule_recv(s, relay->from, 0, s->chunks, relay->source);
    relay->from = -1;
}

#endif
