/* Wiring: each rank connects a data and a control connection to the next rank of the ring, and accepts the
 * same two from the previous.  Both sides say hello; a hello that is not for us costs that connection only,
 * so a port scanner or a member of another group does no harm.
 *
 * A Unix socket is tried first where both ranks say that they are on one host; that it connects is the
 * proof.  Where it does not, the pair falls back to TCP and says so. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/crc32c.h"
#include "base/error.h"
#include "engine/comm.h"
#include "engine/watch.h"
#include "transport/descriptor.h"
#include "transport/socket.h"
#include "transport/stream.h"

#define INCOMING_MAX        64   /* connections that have not said hello yet */
#define ATTEMPT_TIMEOUT_MS  3000 /* for one address of several */
#define RETRY_MS            20
#define ACCEPT_PAUSE_MS     100 /* after the process has run out of descriptors */
#define ACCEPT_FAILURES_MAX 10  /* in a row, until the ring does not come about */

enum { DATA, CONTROL, ROLES };
static const uint8_t role_number[ROLES] = {HELLO_DATA, HELLO_CONTROL};
static const char *const role_name[ROLES] = {"data", "control"};

struct outgoing {
    struct wiring *wiring;
    int role;
    struct connector *connector;
    struct alarm *retry;
    int index; /* of the target in use */
    int fd;
    struct watch *watch; /* for the answer */
    uint8_t answer[HELLO_BYTES];
    size_t have;
    bool done;
    struct tutti_error why; /* the latest failure */
    bool fell_back;         /* a Unix socket was tried and did not do; `unix_why` says why */
    struct tutti_error unix_why;
};

struct incoming {
    struct wiring *wiring;
    int fd; /* -1: this entry is free */
    bool is_unix;
    struct watch *watch;
    uint8_t hello[HELLO_BYTES];
    size_t have;
    uint64_t order; /* of arrival */
};

struct acceptor {
    struct wiring *wiring;
    int fd;
    bool is_unix;
    struct watch *watch;
    struct alarm *resume;
    int failures; /* since a connection was accepted */
};

struct wiring {
    tutti_comm *comm;
    uv_loop_t *loop;
    wiring_done done;
    void *context;
    struct outgoing outgoing[ROLES];
    struct acceptor acceptors[LISTENERS_MAX];
    int acceptor_count;
    struct incoming incoming[INCOMING_MAX];
    uint64_t arrivals;
    int accepted[ROLES]; /* from the previous rank; -1: not yet */
    int64_t warned_ms;   /* when a stranger was last mentioned */
    bool accepted_unix[ROLES];
};

/* ---- Completion -------------------------------------------------------------------------------- */

/* The reason why the ring does not come about, to a neighbour that believes it does. */
static void send_abort(const tutti_comm *comm, int control_fd, const struct tutti_error *why)
{
    Wire__Abort body;
    Wire__Control message = WIRE__CONTROL__INIT;
    size_t size = 0;
    control_from_error(why, (uint32_t)comm->place.rank, &body);
    message.body_case = WIRE__CONTROL__BODY_ABORT;
    message.abort = &body;
    uint8_t *payload = control_encode(&message, &size);
    uint8_t header[FRAME_HEADER_BYTES];
    if (!payload)
        return;
    struct frame frame = {.type = FRAME_CONTROL,
                          .flags = FRAME_HAS_PAYLOAD_CRC,
                          .generation = comm->place.generation,
                          .instance = comm->place.instance,
                          .length = (uint32_t)size,
                          .payload_crc = crc32c(0, payload, size)};
    frame_encode(&frame, header);
    if (send(control_fd, header, sizeof header, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof header)
        (void)!send(control_fd, payload, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    free(payload);
}

static void wiring_free(struct wiring *wiring)
{
    for (int role = 0; role < ROLES; role++) {
        struct outgoing *outgoing = &wiring->outgoing[role];
        connector_cancel(outgoing->connector);
        alarm_free(outgoing->retry);
        watch_free(outgoing->watch);
        if (outgoing->fd >= 0)
            descriptor_close(outgoing->fd);
        if (wiring->accepted[role] >= 0)
            descriptor_close(wiring->accepted[role]);
    }
    for (int i = 0; i < wiring->acceptor_count; i++) {
        watch_free(wiring->acceptors[i].watch);
        alarm_free(wiring->acceptors[i].resume);
    }
    for (int i = 0; i < INCOMING_MAX; i++) {
        watch_free(wiring->incoming[i].watch);
        if (wiring->incoming[i].fd >= 0)
            descriptor_close(wiring->incoming[i].fd);
    }
    free(wiring);
}

void wiring_stop(struct wiring *wiring, const struct tutti_error *why)
{
    if (!wiring)
        return;
    if (wiring->outgoing[CONTROL].fd >= 0) /* answered or not: the next rank may have accepted our hello */
        send_abort(wiring->comm, wiring->outgoing[CONTROL].fd, why);
    if (wiring->accepted[CONTROL] >= 0)
        send_abort(wiring->comm, wiring->accepted[CONTROL], why);
    wiring_free(wiring);
}

/* It does not come about. */
static void wiring_fail(struct wiring *wiring, const struct tutti_error *why)
{
    static const int none[2] = {-1, -1};
    wiring_done done = wiring->done;
    void *context = wiring->context;
    wiring_stop(wiring, why);
    done(context, none, why);
}

static struct link *make_link(tutti_comm *comm, int fd, bool is_unix, const struct neighbour *peer)
{
    const struct tutti_config *values = &comm->settings.values;
    enum stream_transport transport = is_unix ? STREAM_UDS : STREAM_TCP;
    struct stream_options options = {
        .buffer_bytes = values->socket_buffer_bytes,
        .congestion = values->congestion,
        .local = peer->same_host,
        .dead_after_ms = values->dead_after_ms,
    };
    stream_set_options(fd, transport, &options);
    struct link *link = stream_link_new(fd, transport, peer->rank, peer->text, values->slice_bytes);
    if (link)
        link->failpoints = &comm->failpoints;
    return link;
}

/* All four connections are there. */
static void complete(struct wiring *wiring)
{
    tutti_comm *comm = wiring->comm;
    struct tutti_error error = TUTTI_ERROR_INIT;
    struct outgoing *data = &wiring->outgoing[DATA], *control = &wiring->outgoing[CONTROL];
    bool out_unix = comm->next_targets.list[data->index].is_unix;
    struct link *out = make_link(comm, data->fd, out_unix, &comm->place.next);
    struct link *in =
        make_link(comm, wiring->accepted[DATA], wiring->accepted_unix[DATA], &comm->place.previous);
    comm->out[comm->place.next.rank] = out;
    comm->in[comm->place.previous.rank] = in;
    int control_fds[2] = {control->fd, wiring->accepted[CONTROL]};
    data->fd = wiring->accepted[DATA] = -1; /* the links own them, also after a failure */
    if (!out || !in)
        error_set(&error, TUTTI_ERR_MEMORY, "no memory for the data links");
    else
        control->fd = wiring->accepted[CONTROL] = -1; /* the receiver's */
    if (!out_unix && data->fell_back)
        log_warning(&comm->log, "%s is on this host, but its Unix socket could not be used (%s): using TCP",
                    comm->place.next.text, data->unix_why.message);
    wiring_done done = wiring->done;
    void *context = wiring->context;
    wiring_free(wiring);
    done(context, control_fds, &error);
}

static void check_complete(struct wiring *wiring)
{
    for (int role = 0; role < ROLES; role++)
        if (!wiring->outgoing[role].done || wiring->accepted[role] < 0)
            return;
    complete(wiring);
}

void wiring_describe(const struct wiring *wiring, char *text, size_t size)
{
    const struct group_place *place = &wiring->comm->place;
    size_t used = 0;
    text[0] = '\0';
    for (int role = 0; role < ROLES && used < size; role++) {
        const struct outgoing *outgoing = &wiring->outgoing[role];
        if (!outgoing->done)
            used +=
                (size_t)snprintf(text + used, size - used, "%sno %s connection to %s (%.200s)",
                                 used ? ", " : "", role_name[role], place->next.text, outgoing->why.message);
    }
    for (int role = 0; role < ROLES && used < size; role++)
        if (wiring->accepted[role] < 0)
            used += (size_t)snprintf(text + used, size - used, "%sno %s connection from %s", used ? ", " : "",
                                     role_name[role], place->previous.text);
}

int wiring_missing_rank(const struct wiring *wiring)
{
    bool next = !wiring->outgoing[DATA].done || !wiring->outgoing[CONTROL].done;
    return next ? wiring->comm->place.next.rank : wiring->comm->place.previous.rank;
}

/* ---- To the next rank -------------------------------------------------------------------------- */

static void outgoing_connect(struct outgoing *outgoing, int first);

static bool has_more_targets(const struct outgoing *outgoing)
{
    return outgoing->index + 1 < outgoing->wiring->comm->next_targets.count;
}

/* The target in use has failed: if it was a Unix socket, remember why. */
static void note_fallback(struct outgoing *outgoing, const struct tutti_error *why)
{
    log_debug(&outgoing->wiring->comm->log, "wiring: %s", why->message);
    if (!outgoing->fell_back && outgoing->wiring->comm->next_targets.list[0].is_unix) {
        outgoing->fell_back = true;
        outgoing->unix_why = *why;
    }
}

static void outgoing_failed(struct outgoing *outgoing)
{
    alarm_stop(outgoing->retry);
    watch_free(outgoing->watch);
    outgoing->watch = NULL;
    descriptor_close(outgoing->fd);
    outgoing->fd = -1;
    note_fallback(outgoing, &outgoing->why);
    if (has_more_targets(outgoing))
        outgoing_connect(outgoing, outgoing->index + 1);
    else
        alarm_set(outgoing->retry, RETRY_MS);
}

static int check_answer(const struct outgoing *outgoing, struct tutti_error *error)
{
    const tutti_comm *comm = outgoing->wiring->comm;
    struct hello hello;
    if (hello_decode(outgoing->answer, &hello, error) < 0)
        return error->code;
    return place_check_answer(&comm->place, &hello, error);
}

static void on_answer(void *context)
{
    struct outgoing *outgoing = context;
    ssize_t n =
        recv(outgoing->fd, outgoing->answer + outgoing->have, HELLO_BYTES - outgoing->have, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        error_set(&outgoing->why, TUTTI_ERR_UNREACHABLE,
                  "%s closed the %s connection instead of saying hello",
                  outgoing->wiring->comm->place.next.text, role_name[outgoing->role]);
        outgoing_failed(outgoing);
        return;
    }
    outgoing->have += (size_t)n;
    if (outgoing->have < HELLO_BYTES)
        return;
    if (check_answer(outgoing, &outgoing->why) < 0) {
        outgoing_failed(outgoing);
        return;
    }
    alarm_stop(outgoing->retry);
    watch_free(outgoing->watch);
    outgoing->watch = NULL;
    outgoing->done = true;
    check_complete(outgoing->wiring);
}

/* A fresh connection has room for a hello, so a short write is a failure like any other. */
static bool send_hello(int fd, const struct hello *hello)
{
    uint8_t bytes[HELLO_BYTES];
    hello_encode(hello, bytes);
    return send(fd, bytes, sizeof bytes, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof bytes;
}

static void on_connected(void *context, int fd, int index, const struct tutti_error *why)
{
    struct outgoing *outgoing = context;
    struct wiring *wiring = outgoing->wiring;
    outgoing->connector = NULL;
    if (fd < 0) {
        outgoing->why = *why;
        alarm_set(outgoing->retry, RETRY_MS);
        return;
    }
    if (index > outgoing->index)
        note_fallback(outgoing, why);
    outgoing->fd = fd;
    outgoing->index = index;
    outgoing->have = 0;
    struct hello hello =
        place_hello(&wiring->comm->place, role_number[outgoing->role], wiring->comm->place.next.rank);
    outgoing->watch = watch_new(wiring->loop, fd, UV_READABLE, on_answer, outgoing);
    if (!outgoing->watch || !send_hello(fd, &hello)) {
        error_set(&outgoing->why, TUTTI_ERR_UNREACHABLE, "cannot say hello to %s",
                  wiring->comm->place.next.text);
        outgoing_failed(outgoing);
        return;
    }
    failpoint_hit(&wiring->comm->failpoints, FAILPOINT_hello_sent);
    char text[128];
    error_set(&outgoing->why, TUTTI_ERR_UNREACHABLE, "%s took the connection and has not said hello",
              connector_print(&wiring->comm->next_targets.list[index], text, sizeof text));
    /* The last address may be the right one of a peer that has not been welcomed yet. */
    if (has_more_targets(outgoing))
        alarm_set(outgoing->retry, ATTEMPT_TIMEOUT_MS);
}

static void outgoing_connect(struct outgoing *outgoing, int first)
{
    struct wiring *wiring = outgoing->wiring;
    outgoing->connector = connector_start(wiring->loop, &wiring->comm->next_targets, first,
                                          ATTEMPT_TIMEOUT_MS, on_connected, outgoing);
    if (!outgoing->connector)
        alarm_set(outgoing->retry, RETRY_MS);
}

/* Time to try again from the beginning; or what took the connection has not said hello for too long. */
static void on_retry(void *context)
{
    struct outgoing *outgoing = context;
    if (outgoing->watch)
        outgoing_failed(outgoing);
    else
        outgoing_connect(outgoing, 0);
}

/* ---- From the previous rank -------------------------------------------------------------------- */

static void incoming_drop(struct incoming *incoming)
{
    watch_free(incoming->watch);
    incoming->watch = NULL;
    if (incoming->fd >= 0)
        descriptor_close(incoming->fd);
    incoming->fd = -1;
}

/* At most one line a second about connections that are not ours: anybody can make them. */
static bool may_warn(struct wiring *wiring)
{
    int64_t now_ms = (int64_t)uv_now(wiring->loop);
    if (wiring->warned_ms != 0 && now_ms - wiring->warned_ms < 1000)
        return false;
    wiring->warned_ms = now_ms;
    return true;
}

static void incoming_hello(struct incoming *incoming)
{
    struct wiring *wiring = incoming->wiring;
    tutti_comm *comm = wiring->comm;
    struct tutti_error error;
    struct hello hello;
    if (hello_decode(incoming->hello, &hello, &error) < 0) {
        if (may_warn(wiring))
            log_warning(&comm->log, "dropped a connection that is not a rank's: %s", error.message);
        incoming_drop(incoming);
        return;
    }
    int role = hello.role == HELLO_DATA ? DATA : CONTROL;
    struct hello answer = place_hello(&comm->place, hello.role, (int)hello.from);
    answer.verdict = (uint8_t)place_judge_hello(&comm->place, &hello);
    bool answered = send_hello(incoming->fd, &answer);
    if (!answered || answer.verdict != HELLO_ACCEPTED) {
        if (may_warn(wiring))
            log_warning(&comm->log, "dropped a connection from rank %u: %s", (unsigned)hello.from,
                        answer.verdict == HELLO_ACCEPTED ? "it has gone already"
                                                         : hello_verdict_text(answer.verdict));
        incoming_drop(incoming);
        return;
    }
    if (wiring->accepted[role] >= 0)
        descriptor_close(wiring->accepted[role]); /* the peer tried again: the earlier attempt is dead */
    wiring->accepted[role] = incoming->fd;
    wiring->accepted_unix[role] = incoming->is_unix;
    incoming->fd = -1;
    incoming_drop(incoming);
    check_complete(wiring);
}

static void on_incoming(void *context)
{
    struct incoming *incoming = context;
    ssize_t n =
        recv(incoming->fd, incoming->hello + incoming->have, HELLO_BYTES - incoming->have, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        incoming_drop(incoming);
        return;
    }
    incoming->have += (size_t)n;
    if (incoming->have == HELLO_BYTES)
        incoming_hello(incoming);
}

/* A free entry; when there is none, that of the connection that has been silent for longest. */
static struct incoming *incoming_entry(struct wiring *wiring)
{
    struct incoming *oldest = &wiring->incoming[0];
    for (int i = 0; i < INCOMING_MAX; i++) {
        if (wiring->incoming[i].fd < 0)
            return &wiring->incoming[i];
        if (wiring->incoming[i].order < oldest->order)
            oldest = &wiring->incoming[i];
    }
    incoming_drop(oldest);
    return oldest;
}

static void on_acceptable(void *context);

static void resume_accepting(void *context)
{
    struct acceptor *acceptor = context;
    acceptor->watch = watch_new(acceptor->wiring->loop, acceptor->fd, UV_READABLE, on_acceptable, acceptor);
    if (!acceptor->watch)
        alarm_set(acceptor->resume, ACCEPT_PAUSE_MS);
}

/* The connection stays in the backlog; watching it would only keep the loop busy until a descriptor is free.
 */
static void pause_accepting(struct acceptor *acceptor, int error_number)
{
    struct wiring *wiring = acceptor->wiring;
    if (acceptor->failures++ == 0)
        log_warning(&wiring->comm->log, "cannot accept a connection now, trying again: %s",
                    strerror(error_number));
    if (acceptor->failures > ACCEPT_FAILURES_MAX) {
        struct tutti_error error;
        error_set_errno(
            &error, error_number,
            "rank %d cannot accept the connections of %s; raise the limit of descriptors (ulimit -n)",
            wiring->comm->place.rank, wiring->comm->place.previous.text);
        error.rank = wiring->comm->place.rank;
        wiring_fail(wiring, &error);
        return;
    }
    watch_free(acceptor->watch);
    acceptor->watch = NULL;
    alarm_set(acceptor->resume, ACCEPT_PAUSE_MS);
}

static void on_acceptable(void *context)
{
    struct acceptor *acceptor = context;
    struct wiring *wiring = acceptor->wiring;
    bool exhausted = failpoint_hit(&wiring->comm->failpoints, FAILPOINT_accept) == FAIL_no_descriptors;
    int fd = exhausted ? -EMFILE : socket_accept(acceptor->fd);
    if (fd == -EPERM && may_warn(wiring))
        log_warning(&wiring->comm->log, "dropped a connection from a process of another user");
    if (fd == -EMFILE || fd == -ENFILE || fd == -ENOBUFS || fd == -ENOMEM)
        pause_accepting(acceptor, -fd);
    if (fd < 0)
        return;
    acceptor->failures = 0;
    struct incoming *incoming = incoming_entry(wiring);
    incoming->fd = fd;
    incoming->is_unix = acceptor->is_unix;
    incoming->have = 0;
    incoming->order = ++wiring->arrivals;
    incoming->watch = watch_new(wiring->loop, fd, UV_READABLE, on_incoming, incoming);
    if (!incoming->watch)
        incoming_drop(incoming);
}

struct wiring *wiring_start(tutti_comm *comm, const struct listeners *listeners, wiring_done done,
                            void *context)
{
    struct wiring *wiring = calloc(1, sizeof *wiring);
    if (!wiring)
        return NULL;
    wiring->comm = comm;
    wiring->loop = worker_loop(comm->worker);
    wiring->done = done;
    wiring->context = context;
    for (int i = 0; i < INCOMING_MAX; i++) {
        wiring->incoming[i].fd = -1;
        wiring->incoming[i].wiring = wiring;
    }
    bool complete_so_far = true;
    for (int role = 0; role < ROLES; role++) {
        struct outgoing *outgoing = &wiring->outgoing[role];
        wiring->accepted[role] = outgoing->fd = -1;
        outgoing->wiring = wiring;
        outgoing->role = role;
        outgoing->why = (struct tutti_error)TUTTI_ERROR_INIT;
        outgoing->retry = alarm_new(wiring->loop, on_retry, outgoing);
        complete_so_far = complete_so_far && outgoing->retry;
    }
    for (int i = 0; i < listeners->count; i++) {
        struct acceptor *acceptor = &wiring->acceptors[wiring->acceptor_count++];
        acceptor->wiring = wiring;
        acceptor->fd = listeners->fd[i];
        acceptor->is_unix = strncmp(listeners->address[i], "unix:", 5) == 0;
        acceptor->watch = watch_new(wiring->loop, acceptor->fd, UV_READABLE, on_acceptable, acceptor);
        acceptor->resume = alarm_new(wiring->loop, resume_accepting, acceptor);
        complete_so_far = complete_so_far && acceptor->watch && acceptor->resume;
    }
    if (!complete_so_far) {
        wiring_free(wiring);
        return NULL;
    }
    for (int role = 0; role < ROLES; role++)
        outgoing_connect(&wiring->outgoing[role], 0);
    return wiring;
}
