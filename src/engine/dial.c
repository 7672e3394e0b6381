#include "engine/dial.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include "base/error.h"
#include "engine/clock.h"
#include "engine/watch.h"
#include "transport/descriptor.h"

#define ATTEMPT_TIMEOUT_MS 3000 /* for one address of several */
#define RETRY_MS           20
#define EXHAUSTED_MS       1000 /* without descriptors */

struct dial {
    struct dial_options options;
    struct connector_targets targets;
    struct connector *connector;
    struct alarm *retry;
    int index; /* of the target in use */
    int fd;
    struct watch *watch; /* for the answer */
    uint8_t answer[HELLO_BYTES];
    size_t have;
    int64_t started_ns, exhausted_ns; /* the latter: since when there are no descriptors; 0: there are */
    struct tutti_error why;           /* the latest failure */
    bool fell_back;                   /* a Unix socket was tried and did not do; `unix_why` says why */
    struct tutti_error unix_why;
};

static void dial_connect(struct dial *dial, int first);

static bool has_more_targets(const struct dial *dial)
{
    return dial->index + 1 < dial->targets.count;
}

/* The target in use has failed: if it was a Unix socket, remember why. */
static void note_fallback(struct dial *dial, const struct tutti_error *why)
{
    log_debug(dial->options.log, "dialling %s: %s", dial->options.peer_text, why->message);
    if (!dial->fell_back && dial->targets.list[0].is_unix) {
        dial->fell_back = true;
        dial->unix_why = *why;
    }
}

/* The receiver may stop the dial, and `why` with it: it is given a copy. */
static void finish(struct dial *dial, int fd)
{
    bool is_unix = fd >= 0 && dial->targets.list[dial->index].is_unix;
    bool has_why = fd < 0 || (!is_unix && dial->fell_back);
    struct tutti_error why = fd < 0 ? dial->why : dial->unix_why;
    dial->options.done(dial->options.context, fd, is_unix, has_why ? &why : NULL);
}

/* All addresses have failed: again, soon, unless it is time to give up.  That comes early where it is this
 * process that cannot open a connection, for a while. */
static void try_again(struct dial *dial)
{
    int64_t now_ns = clock_now_ns(), give_up_ms = dial->options.give_up_ms, since_ns = dial->started_ns;
    if (dial->why.code != TUTTI_ERR_SYSTEM)
        dial->exhausted_ns = 0;
    else if (dial->exhausted_ns == 0)
        dial->exhausted_ns = now_ns;
    if (dial->exhausted_ns != 0 && give_up_ms > EXHAUSTED_MS) {
        give_up_ms = EXHAUSTED_MS;
        since_ns = dial->exhausted_ns;
    }
    if (give_up_ms > 0 && now_ns - since_ns >= give_up_ms * NS_PER_MS)
        finish(dial, -1);
    else
        alarm_set(dial->retry, RETRY_MS);
}

static void attempt_failed(struct dial *dial)
{
    alarm_stop(dial->retry);
    watch_free(dial->watch);
    dial->watch = NULL;
    descriptor_close(dial->fd);
    dial->fd = -1;
    note_fallback(dial, &dial->why);
    if (has_more_targets(dial))
        dial_connect(dial, dial->index + 1);
    else
        try_again(dial);
}

static void on_answer(void *context)
{
    struct dial *dial = context;
    struct hello hello;
    ssize_t n = recv(dial->fd, dial->answer + dial->have, HELLO_BYTES - dial->have, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        error_set(&dial->why, TUTTI_ERR_UNREACHABLE, "%s closed the %s connection instead of saying hello",
                  dial->options.peer_text, dial->options.what);
        attempt_failed(dial);
        return;
    }
    dial->have += (size_t)n;
    if (dial->have < HELLO_BYTES)
        return;
    if (hello_decode(dial->answer, &hello, &dial->why) < 0 ||
        dial->options.check(dial->options.context, &hello, &dial->why) < 0) {
        attempt_failed(dial);
        return;
    }
    alarm_stop(dial->retry);
    watch_free(dial->watch);
    dial->watch = NULL;
    int fd = dial->fd;
    dial->fd = -1;
    finish(dial, fd);
}

/* A fresh connection has room for a hello, so a short write is a failure like any other. */
static bool say_hello(int fd, const struct hello *hello)
{
    uint8_t bytes[HELLO_BYTES];
    hello_encode(hello, bytes);
    return send(fd, bytes, sizeof bytes, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof bytes;
}

static void on_connected(void *context, int fd, int index, const struct tutti_error *why)
{
    struct dial *dial = context;
    dial->connector = NULL;
    if (fd < 0) {
        dial->why = *why;
        try_again(dial);
        return;
    }
    if (index > dial->index)
        note_fallback(dial, why);
    dial->fd = fd;
    dial->index = index;
    dial->have = 0;
    dial->watch = watch_new(dial->options.loop, fd, UV_READABLE, on_answer, dial);
    if (!dial->watch || !say_hello(fd, &dial->options.hello)) {
        error_set(&dial->why, TUTTI_ERR_UNREACHABLE, "cannot say hello to %s", dial->options.peer_text);
        attempt_failed(dial);
        return;
    }
    failpoint_hit(dial->options.failpoints, FAILPOINT_hello_sent);
    char text[128];
    error_set(&dial->why, TUTTI_ERR_UNREACHABLE, "%s took the connection and has not said hello",
              connector_print(&dial->targets.list[index], text, sizeof text));
    /* The last address may be the right one of a peer that is not ready yet. */
    if (has_more_targets(dial) && !dial->options.may_be_early)
        alarm_set(dial->retry, ATTEMPT_TIMEOUT_MS);
}

static void dial_connect(struct dial *dial, int first)
{
    dial->connector =
        connector_start(dial->options.loop, &dial->targets, first, ATTEMPT_TIMEOUT_MS, on_connected, dial);
    if (!dial->connector)
        alarm_set(dial->retry, RETRY_MS);
}

/* Time to try again from the beginning; or what took the connection has not said hello for too long. */
static void on_retry(void *context)
{
    struct dial *dial = context;
    if (dial->watch)
        attempt_failed(dial);
    else
        dial_connect(dial, 0);
}

struct dial *dial_start(const struct dial_options *options)
{
    struct dial *dial = calloc(1, sizeof *dial);
    if (!dial)
        return NULL;
    dial->options = *options;
    dial->targets = *options->targets;
    dial->options.targets = NULL;
    dial->fd = -1;
    dial->started_ns = clock_now_ns();
    dial->why = dial->unix_why = (struct tutti_error)TUTTI_ERROR_INIT;
    dial->retry = alarm_new(options->loop, on_retry, dial);
    if (!dial->retry) {
        free(dial);
        return NULL;
    }
    dial_connect(dial, 0);
    return dial;
}

void dial_stop(struct dial *dial)
{
    if (!dial)
        return;
    connector_cancel(dial->connector);
    alarm_free(dial->retry);
    watch_free(dial->watch);
    if (dial->fd >= 0)
        descriptor_close(dial->fd);
    free(dial);
}

const struct tutti_error *dial_why(const struct dial *dial)
{
    return &dial->why;
}

int dial_descriptor(const struct dial *dial)
{
    return dial->fd;
}

void *dial_context(const struct dial *dial)
{
    return dial->options.context;
}
