/* Descriptor watches and timers on a libuv loop that live on the heap and free themselves: after watch_free()
 * or alarm_free() the callback never runs again and the context may be gone. All on the loop's thread. */
#ifndef TUTTI_ENGINE_WATCH_H
#define TUTTI_ENGINE_WATCH_H

#include <uv.h>

struct watch;

/* Calls ready(context) whenever `fd` has one of `events` (UV_READABLE, ...).  Does not own `fd`, which may be
 * closed right after watch_free().  NULL when that cannot be had. */
struct watch *watch_new(uv_loop_t *loop, int fd, int events, void (*ready)(void *context), void *context);
void watch_free(struct watch *watch); /* NULL is accepted */

struct alarm;

/* NULL when out of memory.  Rings once for each alarm_set(). */
struct alarm *alarm_new(uv_loop_t *loop, void (*ring)(void *context), void *context);
void alarm_set(struct alarm *alarm, int64_t in_ms); /* replaces an earlier time */
void alarm_stop(struct alarm *alarm);
void alarm_free(struct alarm *alarm); /* NULL is accepted */

#endif
