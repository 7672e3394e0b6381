#include "engine/door.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "base/error.h"
#include "engine/watch.h"
#include "transport/descriptor.h"
#include "transport/socket.h"

#define VISITORS_MAX        256 /* connections that have not been let in yet */
#define ACCEPT_PAUSE_MS     100 /* after the process has run out of descriptors */
#define ACCEPT_FAILURES_MAX 10  /* in a row, until the owner is told */

struct visitor {
    struct door *door;
    int fd;              /* -1: this entry is free */
    bool is_unix, waits; /* waits: its hello is here, and was answered DOOR_NOT_YET */
    struct watch *watch;
    uint8_t hello[HELLO_BYTES];
    size_t have;
    uint64_t order; /* of arrival */
};

struct acceptor {
    struct door *door;
    int fd;
    bool is_unix;
    struct watch *watch;
    struct alarm *resume;
    int failures; /* since a connection was accepted */
};

struct door {
    uv_loop_t *loop;
    const struct log *log;
    struct failpoints *failpoints;
    const struct door_events *events;
    void *context;
    struct acceptor acceptors[LISTENERS_MAX];
    int acceptor_count;
    struct visitor visitors[VISITORS_MAX];
    uint64_t arrivals;
    int64_t warned_ms; /* when a stranger was last mentioned */
};

static void visitor_drop(struct visitor *visitor)
{
    watch_free(visitor->watch);
    visitor->watch = NULL;
    if (visitor->fd >= 0)
        descriptor_close(visitor->fd);
    visitor->fd = -1;
    visitor->waits = false;
}

/* At most one line a second about connections that are not ours: anybody can make them. */
static bool may_warn(struct door *door)
{
    int64_t now_ms = (int64_t)uv_now(door->loop);
    if (door->warned_ms != 0 && now_ms - door->warned_ms < 1000)
        return false;
    door->warned_ms = now_ms;
    return true;
}

static bool answer_hello(int fd, const struct hello *hello)
{
    uint8_t bytes[HELLO_BYTES];
    hello_encode(hello, bytes);
    return send(fd, bytes, sizeof bytes, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof bytes;
}

static void visitor_judge(struct visitor *visitor, const struct hello *hello)
{
    struct door *door = visitor->door;
    struct hello answer;
    int verdict = door->events->judge(door->context, hello, &answer);
    visitor->waits = verdict == DOOR_NOT_YET;
    if (visitor->waits)
        return;
    answer.verdict = (uint8_t)verdict;
    bool answered = answer_hello(visitor->fd, &answer);
    if (!answered || verdict != HELLO_ACCEPTED) {
        if (may_warn(door))
            log_warning(door->log, "dropped a connection from rank %u: %s", (unsigned)hello->from,
                        verdict == HELLO_ACCEPTED ? "it has gone already" : hello_verdict_text(verdict));
        visitor_drop(visitor);
        return;
    }
    int fd = visitor->fd;
    visitor->fd = -1;
    visitor_drop(visitor);
    door->events->take(door->context, hello, fd, visitor->is_unix); /* may close the door */
}

static void on_hello(void *context)
{
    struct visitor *visitor = context;
    struct tutti_error error;
    struct hello hello;
    uint8_t more;
    if (visitor->waits) { /* nothing may follow a hello before its answer: it has hung up, or is no rank */
        ssize_t n = recv(visitor->fd, &more, sizeof more, MSG_DONTWAIT | MSG_PEEK);
        if (n >= 0 || (errno != EAGAIN && errno != EINTR))
            visitor_drop(visitor);
        return;
    }
    ssize_t n = recv(visitor->fd, visitor->hello + visitor->have, HELLO_BYTES - visitor->have, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        visitor_drop(visitor);
        return;
    }
    visitor->have += (size_t)n;
    if (visitor->have < HELLO_BYTES)
        return;
    if (hello_decode(visitor->hello, &hello, &error) < 0) {
        if (may_warn(visitor->door))
            log_warning(visitor->door->log, "dropped a connection that is not a rank's: %s", error.message);
        visitor_drop(visitor);
        return;
    }
    visitor_judge(visitor, &hello);
}

/* A free entry; when there is none, that of the connection that has been here for longest. */
static struct visitor *visitor_entry(struct door *door)
{
    struct visitor *oldest = &door->visitors[0];
    for (int i = 0; i < VISITORS_MAX; i++) {
        if (door->visitors[i].fd < 0)
            return &door->visitors[i];
        if (door->visitors[i].order < oldest->order)
            oldest = &door->visitors[i];
    }
    visitor_drop(oldest);
    return oldest;
}

static void on_acceptable(void *context);

static void resume_accepting(void *context)
{
    struct acceptor *acceptor = context;
    acceptor->watch = watch_new(acceptor->door->loop, acceptor->fd, UV_READABLE, on_acceptable, acceptor);
    if (!acceptor->watch)
        alarm_set(acceptor->resume, ACCEPT_PAUSE_MS);
}

/* The connection stays in the backlog; watching it would only keep the loop busy until a descriptor is free.
 */
static void pause_accepting(struct acceptor *acceptor, int error_number)
{
    struct door *door = acceptor->door;
    if (acceptor->failures++ == 0)
        log_warning(door->log, "cannot accept a connection now, trying again: %s", strerror(error_number));
    watch_free(acceptor->watch);
    acceptor->watch = NULL;
    alarm_set(acceptor->resume, ACCEPT_PAUSE_MS);
    if (acceptor->failures == ACCEPT_FAILURES_MAX)
        door->events->exhausted(door->context, error_number); /* may close the door */
}

static void on_acceptable(void *context)
{
    struct acceptor *acceptor = context;
    struct door *door = acceptor->door;
    bool exhausted = failpoint_hit(door->failpoints, FAILPOINT_accept) == FAIL_no_descriptors;
    int fd = exhausted ? -EMFILE : socket_accept(acceptor->fd);
    if (fd == -EPERM && may_warn(door))
        log_warning(door->log, "dropped a connection from a process of another user");
    if (fd == -EMFILE || fd == -ENFILE || fd == -ENOBUFS || fd == -ENOMEM)
        pause_accepting(acceptor, -fd);
    if (fd < 0)
        return;
    acceptor->failures = 0;
    struct visitor *visitor = visitor_entry(door);
    visitor->fd = fd;
    visitor->is_unix = acceptor->is_unix;
    visitor->have = 0;
    visitor->order = ++door->arrivals;
    visitor->watch = watch_new(door->loop, fd, UV_READABLE, on_hello, visitor);
    if (!visitor->watch)
        visitor_drop(visitor);
}

struct door *door_open(uv_loop_t *loop, const struct listeners *listeners, const struct log *log,
                       struct failpoints *failpoints, const struct door_events *events, void *context)
{
    struct door *door = calloc(1, sizeof *door);
    bool complete = door != NULL;
    if (!door)
        return NULL;
    door->loop = loop;
    door->log = log;
    door->failpoints = failpoints;
    door->events = events;
    door->context = context;
    for (int i = 0; i < VISITORS_MAX; i++) {
        door->visitors[i].fd = -1;
        door->visitors[i].door = door;
    }
    for (int i = 0; i < listeners->count; i++) {
        struct acceptor *acceptor = &door->acceptors[door->acceptor_count++];
        acceptor->door = door;
        acceptor->fd = listeners->fd[i];
        acceptor->is_unix = strncmp(listeners->address[i], "unix:", 5) == 0;
        acceptor->watch = watch_new(loop, acceptor->fd, UV_READABLE, on_acceptable, acceptor);
        acceptor->resume = alarm_new(loop, resume_accepting, acceptor);
        complete = complete && acceptor->watch && acceptor->resume;
    }
    if (complete)
        return door;
    door_close(door);
    return NULL;
}

void door_close(struct door *door)
{
    if (!door)
        return;
    for (int i = 0; i < door->acceptor_count; i++) {
        watch_free(door->acceptors[i].watch);
        alarm_free(door->acceptors[i].resume);
    }
    for (int i = 0; i < VISITORS_MAX; i++)
        visitor_drop(&door->visitors[i]);
    free(door);
}

void door_hand_over(struct door *door, const struct door_events *events, void *context)
{
    door->events = events;
    door->context = context;
    door_ask_again(door);
}

void door_ask_again(struct door *door)
{
    for (int i = 0; i < VISITORS_MAX; i++) {
        struct visitor *visitor = &door->visitors[i];
        struct hello hello;
        struct tutti_error error;
        if (visitor->fd >= 0 && visitor->waits && hello_decode(visitor->hello, &hello, &error) == TUTTI_OK)
            visitor_judge(visitor, &hello);
    }
}
