/* The door: accepts connections on the listeners, reads the hello of each, and has its owner judge it.  A
 * hello that is not for us costs that connection only, so a port scanner or a member of another group does no
 * harm. On the loop's thread. */
#ifndef TUTTI_ENGINE_DOOR_H
#define TUTTI_ENGINE_DOOR_H

#include <stdbool.h>
#include "base/failpoint.h"
#include "base/log.h"
#include "engine/listeners.h"
#include "wire/hello.h"
#include <uv.h>

#define DOOR_NOT_YET (-1)

struct door_events {
    /* enum hello_verdict, with our hello in *answer; or DOOR_NOT_YET: it may be for what is still to come,
     * and is kept until door_ask_again(). */
    int (*judge)(void *context, const struct hello *hello, struct hello *answer);
    /* It was accepted, and told so: the connection passes to the receiver. */
    void (*take)(void *context, const struct hello *hello, int fd, bool is_unix);
    /* No connection could be accepted for a while, for want of descriptors or memory; it goes on trying. */
    void (*exhausted)(void *context, int error_number);
};

struct door;

/* Borrows the listeners, the log and the failpoints.  NULL when out of memory. */
struct door *door_open(uv_loop_t *loop, const struct listeners *listeners, const struct log *log,
                       struct failpoints *failpoints, const struct door_events *events, void *context);
void door_close(struct door *door); /* drops who waits; NULL is accepted */

/* From now on `events` and `context` are asked; those that wait, at once. */
void door_hand_over(struct door *door, const struct door_events *events, void *context);
void door_ask_again(struct door *door);

#endif
