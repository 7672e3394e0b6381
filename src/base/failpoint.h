/* Failpoints: named places at which a test makes a rank fail, in the simulator and in real processes alike
 * ("frame_sent=die@12").  Compiled to nothing unless TUTTI_FAILPOINTS is defined. */
#ifndef TUTTI_BASE_FAILPOINT_H
#define TUTTI_BASE_FAILPOINT_H

#include <stdint.h>
#include "tutti/tutti.h"

/* Name, where it is hit. */
#define FAILPOINT_MAP(X)                                                                                     \
    X(join_sent, "a member has announced itself to the rendezvous, for the first time")                      \
    X(reform_sent, "likewise, to re-form its group")                                                         \
    X(welcome_received, "a member has been given its rank")                                                  \
    X(hello_sent, "a hello has been sent to the next rank")                                                  \
    X(ring_open, "the ring is connected")                                                                    \
    X(frame_sent, "a data frame is about to be sent")                                                        \
    X(operation_done, "an operation has completed")                                                          \
    X(abort_sent, "a failure has been told to the neighbours and the rendezvous")                            \
    X(barrier_done, "the last barrier, that of finalize, has completed")                                     \
    X(goodbye_sent, "a goodbye has been sent")                                                               \
    X(request_made, "memory is about to be taken for a call")                                                \
    X(accept, "a connection is about to be accepted")                                                        \
    X(arena, "the memory that the ranks of a host share is about to be made or mapped")                      \
    X(ring_made, "the memory of a shm link is about to be made, by its receiver")                            \
    X(ring_mapped, "likewise, mapped by its sender")

enum failpoint {
#define FAILPOINT_ENUM(name, where) FAILPOINT_##name,
    FAILPOINT_MAP(FAILPOINT_ENUM)
#undef FAILPOINT_ENUM
        FAILPOINT_COUNT
};

/* Name, what happens.  die and stop are done by `act` before failpoint_hit() returns; the others by whoever
 * hits the point, where they make sense, and are ignored elsewhere. */
#define FAILPOINT_ACTION_MAP(X)                                                                              \
    X(die, "the process is killed")                                                                          \
    X(stop, "the process is stopped")                                                                        \
    X(corrupt_header, "frame_sent: a byte of the encoded header is changed")                                 \
    X(corrupt_payload, "frame_sent: the payload does not match its CRC, where it has one")                   \
    X(truncate, "frame_sent: half of the frame is sent, then the connection closes")                         \
    X(stale, "frame_sent: the frame carries the generation before")                                          \
    X(reset, "frame_sent: the connection is reset")                                                          \
    X(half_close, "frame_sent: the connection is closed for sending")                                        \
    X(no_memory, "request_made, arena, ring_made, ring_mapped: there is no memory")                          \
    X(no_descriptors, "accept: the process has no descriptor left")

enum failpoint_action {
    FAIL_NOT = 0,
#define FAILPOINT_ACTION_ENUM(name, what) FAIL_##name,
    FAILPOINT_ACTION_MAP(FAILPOINT_ACTION_ENUM)
#undef FAILPOINT_ACTION_ENUM
};

/* Zeroed: nothing fails. */
struct failpoints {
    struct {
        uint32_t countdown; /* 0: never; 1: at the next hit */
        enum failpoint_action action;
    } points[FAILPOINT_COUNT];
    void (*act)(void *context, enum failpoint_action action); /* does die and stop */
    void *context;
};

/* "frame_sent=die@12,accept=no_descriptors": at the 12th and at the first hit.  TUTTI_OK, or ERR_CONFIG with
 * a sentence that lists what there is. */
int failpoints_parse(struct failpoints *failpoints, const char *text, struct tutti_error *error);

#ifdef TUTTI_FAILPOINTS
/* `failpoints` may be NULL.  Not at the same point from two threads at once. */
enum failpoint_action failpoint_hit(struct failpoints *failpoints, enum failpoint point);
#else
static inline enum failpoint_action failpoint_hit(struct failpoints *failpoints, enum failpoint point)
{
    (void)failpoints, (void)point;
    return FAIL_NOT;
}
#endif

#endif
