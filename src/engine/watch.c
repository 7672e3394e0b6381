#include "engine/watch.h"

#include <stdlib.h>

struct watch {
    uv_poll_t poll; /* first */
    int events;
    void (*ready)(void *);
    void *context;
};

static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)events;
    struct watch *watch = (struct watch *)poll;
    if (status < 0) /* libuv has stopped; the error itself shows when the descriptor is used */
        uv_poll_start(poll, watch->events, on_poll);
    watch->ready(watch->context);
}

struct watch *watch_new(uv_loop_t *loop, int fd, int events, void (*ready)(void *context), void *context)
{
    struct watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return NULL;
    watch->events = events;
    watch->ready = ready;
    watch->context = context;
    if (uv_poll_init(loop, &watch->poll, fd) < 0) {
        free(watch);
        return NULL;
    }
    if (uv_poll_start(&watch->poll, events, on_poll) < 0) {
        watch_free(watch);
        return NULL;
    }
    return watch;
}

void watch_free(struct watch *watch)
{
    if (watch)
        uv_close((uv_handle_t *)&watch->poll, free_handle);
}

struct alarm {
    uv_timer_t timer; /* first */
    void (*ring)(void *);
    void *context;
};

static void on_timer(uv_timer_t *timer)
{
    struct alarm *alarm = (struct alarm *)timer;
    alarm->ring(alarm->context);
}

struct alarm *alarm_new(uv_loop_t *loop, void (*ring)(void *context), void *context)
{
    struct alarm *alarm = calloc(1, sizeof *alarm);
    if (!alarm)
        return NULL;
    uv_timer_init(loop, &alarm->timer);
    alarm->ring = ring;
    alarm->context = context;
    return alarm;
}

void alarm_set(struct alarm *alarm, int64_t in_ms)
{
    uv_update_time(alarm->timer.loop);
    uv_timer_start(&alarm->timer, on_timer, in_ms > 0 ? (uint64_t)in_ms : 0, 0);
}

void alarm_stop(struct alarm *alarm)
{
    uv_timer_stop(&alarm->timer);
}

void alarm_free(struct alarm *alarm)
{
    if (alarm)
        uv_close((uv_handle_t *)&alarm->timer, free_handle);
}
