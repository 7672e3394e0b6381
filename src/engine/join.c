/* Joining: the I/O of a member.  Finds the rendezvous (and, as rank 0, serves it unless somebody does
 * already), announces itself, waits to be welcomed, and has the ring wired.  Re-forming is joining with what
 * is known of the group that failed.
 *
 * MEETING -> (connected) -> ANNOUNCED -> (welcome) -> WIRING -> done.  Until the deadline a rendezvous that
 * cannot be reached, a name that does not resolve yet and a connection that closes are tried again; a refusal
 * and bytes that are not tutti's are final.
 *
 * The rendezvous that lived in a member may have died with it.  Then a survivor that can bind the same
 * address serves it from now on: the kernel lets only one of them.  Where none can, because the address was
 * on another host, members give up after RENDEZVOUS_LOST_MS and say what would have helped. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/error.h"
#include "engine/announce.h"
#include "engine/clock.h"
#include "engine/comm.h"
#include "engine/mesh.h"
#include "engine/serving.h"
#include "engine/watch.h"
#include "transport/descriptor.h"

#define ATTEMPT_TIMEOUT_MS    3000
#define UNIX_RETRY_MAX_MS     20
#define TCP_RETRY_MAX_MS      250
#define REFUSAL_GRACE_MS      2000 /* how much later than the rendezvous a member gives up by itself */
#define WIRING_TIMEOUT_MIN_MS 5000
#define RENDEZVOUS_LOST_MS    3000

enum join_state { JOIN_MEETING, JOIN_ANNOUNCED, JOIN_WIRING };

struct resolution {
    uv_getaddrinfo_t request; /* first */
    struct join *join;        /* NULL once the answer is of no interest */
};

struct join {
    tutti_comm *comm;
    uv_loop_t *loop;
    enum join_state state;
    struct alarm *retry, *deadline;
    int timeout_ms;
    int64_t deadline_ns;
    int retry_ms;
    bool warned;
    bool waiting_told;       /* the rendezvous has said who is awaited */
    struct endpoint meeting; /* where a file pointed */
    struct resolution *resolution;
    struct connector_targets targets;
    struct connector *connector;
    struct connection *connection;
    struct wiring *wiring;
    struct tutti_error why; /* the latest reason why it is not done yet */
    struct tutti_error result;
    bool finished; /* under comm->lock */
};

/* ---- The end ----------------------------------------------------------------------------------- */

static void ignore_frame(struct connection *connection, const struct frame *frame, const uint8_t *payload)
{
    (void)connection, (void)frame, (void)payload;
}

static void on_kept_closed(struct connection *connection, const struct tutti_error *why)
{
    tutti_comm *comm = connection_context(connection);
    (void)why;
    comm->ring.connection[SIDE_RENDEZVOUS] = NULL;
}

/* It stays open until the communicator is freed: a rendezvous that all members hang up on forgets the group,
 * which they may want to re-form. */
static void leave_to_communicator(struct join *join, const struct tutti_error *why)
{
    static const struct connection_events kept = {.frame = ignore_frame, .closed = on_kept_closed};
    announce_failure(join->connection, join->comm, why);
    connection_hand_over(join->connection, &kept, join->comm);
    join->comm->ring.connection[SIDE_RENDEZVOUS] = join->connection;
}

static void join_finish(struct join *join, const struct tutti_error *result)
{
    tutti_comm *comm = join->comm;
    if (join->resolution) {
        join->resolution->join = NULL;
        uv_cancel((uv_req_t *)&join->resolution->request); /* helps only a look-up that has not begun */
    }
    connector_cancel(join->connector);
    if (join->connection && join->state == JOIN_WIRING && result->code < 0)
        leave_to_communicator(join, result);
    else if (join->connection)
        connection_close(join->connection, join->state == JOIN_WIRING);
    wiring_stop(join->wiring, result);
    alarm_free(join->retry);
    alarm_free(join->deadline);
    pthread_mutex_lock(&comm->lock);
    join->result = *result;
    join->finished = true;
    pthread_cond_broadcast(&comm->changed);
    pthread_mutex_unlock(&comm->lock);
}

/* Once, when others would already be named as missing: the rendezvous itself is. */
static void warn_if_late(struct join *join)
{
    int64_t left_ms = (join->deadline_ns - clock_now_ns()) / NS_PER_MS;
    if (join->warned || join->timeout_ms - left_ms < join->comm->settings.values.missing_after_ms)
        return;
    join->warned = true;
    char where[300];
    endpoint_print(&join->comm->launch.rendezvous, where, sizeof where);
    log_warning(&join->comm->log, "still no rendezvous at %s (%s)%s", where, join->why.message,
                join->comm->launch.rank == TUTTI_RANK_ANY
                    ? ": ranks that are assigned on arrival need `tutti rendezvous` or `tutti run`"
                    : "");
}

/* The end of a re-forming that finds no rendezvous. */
static void rendezvous_is_lost(struct join *join)
{
    const tutti_comm *comm = join->comm;
    struct tutti_error error;
    char where[300];
    endpoint_print(&comm->launch.rendezvous, where, sizeof where);
    if (comm->previous.embedded)
        error_set(
            &error, TUTTI_ERR_UNREACHABLE,
            "cannot re-form: the rendezvous at %s lived in a process of the group and is lost with it "
            "(%.300s); "
            "so that survivors can re-form, let it outlive the ranks: start the job by `tutti run`, or run "
            "`tutti rendezvous` on a host that stays",
            where, join->why.message);
    else
        error_set(&error, TUTTI_ERR_UNREACHABLE,
                  "cannot re-form: no rendezvous answers at %s (%.300s); start `tutti rendezvous "
                  "--listen %s` there again, then call tutti_reform() again",
                  where, join->why.message, where);
    join_finish(join, &error);
}

static void join_retry(struct join *join)
{
    int64_t left_ms = (join->deadline_ns - clock_now_ns()) / NS_PER_MS;
    if (join->comm->re_forms && join->comm->previous.embedded &&
        join->timeout_ms - left_ms >= RENDEZVOUS_LOST_MS) {
        rendezvous_is_lost(join);
        return;
    }
    warn_if_late(join);
    bool local = join->comm->launch.rendezvous.kind == ENDPOINT_UNIX;
    int max_ms = local ? UNIX_RETRY_MAX_MS : TCP_RETRY_MAX_MS;
    join->retry_ms = join->retry_ms == 0 ? 2 : join->retry_ms * 2 < max_ms ? join->retry_ms * 2 : max_ms;
    join->state = JOIN_MEETING;
    alarm_set(join->retry, join->retry_ms);
}

static void on_deadline(void *context)
{
    struct join *join = context;
    const tutti_comm *comm = join->comm;
    struct tutti_error error;
    char where[300];
    endpoint_print(&comm->launch.rendezvous, where, sizeof where);
    double seconds = join->timeout_ms / 1000.0;
    if (comm->re_forms && (join->state == JOIN_MEETING || (join->state == JOIN_ANNOUNCED &&
                                                           comm->previous.embedded && !join->waiting_told))) {
        rendezvous_is_lost(join);
        return;
    }
    if (join->state == JOIN_WIRING) {
        char missing[800];
        wiring_describe(join->wiring, missing, sizeof missing);
        error_set(&error, TUTTI_ERR_TIMEOUT,
                  "rank %d could not connect its ring in time: %s; check that the hosts can reach each other "
                  "(TUTTI_INTERFACE, TUTTI_PORT_RANGE)",
                  comm->place.rank, missing);
        error.rank = wiring_missing_rank(join->wiring);
    } else if (join->state == JOIN_ANNOUNCED) {
        error_set(&error, TUTTI_ERR_TIMEOUT, "the group of %d was not complete within %.1f s: %s",
                  comm->launch.size, seconds, join->why.message);
    } else {
        error_set(&error, TUTTI_ERR_UNREACHABLE,
                  "no rendezvous at %s within %.1f s (%s): %s, and check TUTTI_RENDEZVOUS on every rank",
                  where, seconds, join->why.message,
                  comm->launch.rank == 0
                      ? "rank 0 would serve it, but the address is not one of this host or was taken"
                      : "start rank 0 (which serves it) or `tutti rendezvous` there");
    }
    join_finish(join, &error);
}

/* ---- Finding the rendezvous -------------------------------------------------------------------- */

static void on_connected(void *context, int fd, int index, const struct tutti_error *why);

static void join_connect(struct join *join)
{
    join->connector = connector_start(join->loop, &join->targets, 0, ATTEMPT_TIMEOUT_MS, on_connected, join);
    if (!join->connector)
        join_retry(join);
}

/* May this survivor serve in the place of a member that is gone?  Not a path or a file: two could replace it
 * at once and both believe that they serve. */
static bool may_take_over(const tutti_comm *comm)
{
    const struct endpoint *meeting = &comm->launch.rendezvous;
    return comm->previous.embedded &&
           (meeting->kind == ENDPOINT_TCP || (meeting->kind == ENDPOINT_UNIX && meeting->name[0] == '@'));
}

/* Serves once, as rank 0 or in the place of a lost member.  A failure of rank 0 to serve what should be its
 * is final. */
static bool serving_failed(struct join *join)
{
    tutti_comm *comm = join->comm;
    struct tutti_error error = TUTTI_ERROR_INIT;
    bool serves = comm->re_forms ? may_take_over(comm) : comm->launch.rank == 0;
    if (!serves || comm->ring.service)
        return false;
    if (serve_rendezvous(comm, &join->targets, &error) == TUTTI_OK || comm->re_forms)
        return false;
    join_finish(join, &error);
    return true;
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *addresses)
{
    struct resolution *resolution = (struct resolution *)request;
    struct join *join = resolution->join;
    if (join)
        join->resolution = NULL;
    free(resolution);
    if (join && status < 0) {
        error_set(&join->why, TUTTI_ERR_UNREACHABLE, "the name %s does not resolve: %s", join->meeting.name,
                  uv_strerror(status));
        join_retry(join);
    } else if (join) {
        join->targets.count = 0;
        for (const struct addrinfo *a = addresses; a; a = a->ai_next)
            if (a->ai_family == AF_INET || a->ai_family == AF_INET6)
                connector_add_address(&join->targets, a->ai_addr);
        if (!serving_failed(join))
            join_connect(join);
    }
    uv_freeaddrinfo(addresses);
}

/* A numeric address needs no resolver, whose answer nobody could cancel. */
static bool is_numeric(struct join *join)
{
    char text[300];
    snprintf(text, sizeof text, strchr(join->meeting.name, ':') ? "[%s]:%u" : "%s:%u", join->meeting.name,
             (unsigned)join->meeting.port);
    join->targets.count = 0;
    return connector_add_text(&join->targets, text);
}

static void join_resolve(struct join *join)
{
    if (is_numeric(join)) {
        if (!serving_failed(join))
            join_connect(join);
        return;
    }
    char port[16];
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct resolution *resolution = calloc(1, sizeof *resolution);
    snprintf(port, sizeof port, "%u", (unsigned)join->meeting.port);
    if (resolution)
        resolution->join = join;
    if (!resolution ||
        uv_getaddrinfo(join->loop, &resolution->request, on_resolved, join->meeting.name, port, &hints) < 0) {
        free(resolution);
        error_set(&join->why, TUTTI_ERR_SYSTEM, "cannot look up the name %s", join->meeting.name);
        join_retry(join);
        return;
    }
    join->resolution = resolution;
}

/* The address that rank 0 wrote; false when it has not yet. */
static bool read_meeting_file(struct join *join, const char *path)
{
    char text[300];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* not to be held up where it is no plain file */
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    int error_number = errno;
    if (fd >= 0)
        descriptor_close(fd);
    if (length < 0) {
        error_set_errno(&join->why, error_number, "rank 0 has not written its address to %s yet", path);
        return false;
    }
    text[length] = '\0';
    text[strcspn(text, "\r\n")] = '\0';
    return endpoint_parse(text, &join->meeting, &join->why) == TUTTI_OK &&
           join->meeting.kind != ENDPOINT_FILE;
}

static void join_meet(void *context)
{
    struct join *join = context;
    const struct endpoint *rendezvous = &join->comm->launch.rendezvous;
    if (rendezvous->kind != ENDPOINT_TCP && serving_failed(join))
        return;
    join->meeting = *rendezvous; /* after serving, which may have found it */
    if (rendezvous->kind == ENDPOINT_FILE && !read_meeting_file(join, rendezvous->name)) {
        join_retry(join);
        return;
    }
    if (join->meeting.kind == ENDPOINT_UNIX) {
        join->targets.count = 0;
        connector_add_unix(&join->targets, join->meeting.name);
        join_connect(join);
    } else {
        join_resolve(join);
    }
}

/* ---- Announcing -------------------------------------------------------------------------------- */

static void send_join(struct join *join)
{
    int64_t left_ms = (join->deadline_ns - clock_now_ns()) / NS_PER_MS;
    announce_member(join->connection, join->comm, left_ms);
    join->state = JOIN_ANNOUNCED;
    failpoint_hit(&join->comm->failpoints,
                  join->comm->re_forms ? FAILPOINT_reform_sent : FAILPOINT_join_sent);
    char where[300];
    endpoint_print(&join->meeting, where, sizeof where);
    error_set(&join->why, TUTTI_ERR_TIMEOUT,
              "what listens at %s took the announcement and has not answered it", where);
    /* The rendezvous knows who is missing, so its word comes first. */
    alarm_set(join->deadline, left_ms + REFUSAL_GRACE_MS);
}

static void on_wired(void *context, const int control_fds[2], const struct tutti_error *why)
{
    struct join *join = context;
    struct tutti_error error = *why;
    join->wiring = NULL;
    if (error.code == TUTTI_OK) {
        struct connection *rendezvous = join->connection;
        if (rendezvous)
            announce_wired(rendezvous, join->comm);
        join->connection = NULL; /* passes to the ring, whatever becomes of that */
        int grace_ms = join->timeout_ms > WIRING_TIMEOUT_MIN_MS ? join->timeout_ms : WIRING_TIMEOUT_MIN_MS;
        ring_open(join->comm, control_fds, rendezvous, grace_ms, &error);
    }
    join_finish(join, &error);
}

static void on_welcome(struct join *join, const Wire__Welcome *welcome)
{
    tutti_comm *comm = join->comm;
    struct tutti_error error = TUTTI_ERROR_INIT;
    int size = comm->re_forms ? comm->previous.size : comm->launch.size;
    if (place_from_welcome(&comm->place, welcome, comm->host, size, &error) < 0) {
        join_finish(join, &error);
        return;
    }
    failpoint_hit(&comm->failpoints, FAILPOINT_welcome_received);
    join->state = JOIN_WIRING;
    comm->log.rank = comm->place.rank;
    place_read_reformed(welcome->reformed, &comm->reformed);
    if (comm->place.size == 1) {
        ring_make_timers(comm);
        join_finish(join, &error);
        return;
    }
    connector_add_list(&comm->next_targets, comm->settings.values.transports, welcome->next->addresses,
                       welcome->next->n_addresses, comm->place.next.same_host);
    if (comm->next_targets.count == 0) {
        error_set(&error, TUTTI_ERR_CONFIG,
                  "no transport leads from rank %d to %s: this rank may use %s; let TUTTI_TRANSPORTS of both "
                  "hold tcp",
                  comm->place.rank, comm->place.next.text, comm->settings.values.transports);
        join_finish(join, &error);
        return;
    }
    join->wiring = mesh_init(comm) ? wiring_start(comm, on_wired, join) : NULL;
    if (!join->wiring) {
        error_set(&error, TUTTI_ERR_MEMORY, "no memory to connect the ring");
        join_finish(join, &error);
        return;
    }
    int64_t left_ms = (join->deadline_ns - clock_now_ns()) / NS_PER_MS;
    alarm_set(join->deadline, left_ms > WIRING_TIMEOUT_MIN_MS ? left_ms : WIRING_TIMEOUT_MIN_MS);
}

/* The group has failed before this member has taken its place. */
static void on_abort(struct join *join, const Wire__Abort *abort)
{
    const struct group_place *place = &join->comm->place;
    struct tutti_error error;
    if (join->state != JOIN_WIRING || abort->instance != place->instance ||
        abort->generation != place->generation)
        return;
    control_to_error(abort, &error);
    join_finish(join, &error);
}

static void on_frame(struct connection *connection, const struct frame *frame, const uint8_t *payload)
{
    struct join *join = connection_context(connection);
    struct tutti_error error;
    if (frame->type != FRAME_CONTROL)
        return;
    Wire__Control *message = control_decode(payload, frame->length, &error);
    if (!message) {
        join_finish(join, &error);
        return;
    }
    switch (message->body_case) {
    case WIRE__CONTROL__BODY_WELCOME:
        if (join->state == JOIN_ANNOUNCED)
            on_welcome(join, message->welcome);
        break;
    case WIRE__CONTROL__BODY_ABORT:
        on_abort(join, message->abort);
        break;
    case WIRE__CONTROL__BODY_ROLL_CALL:
        if (join->state == JOIN_WIRING && message->roll_call->generation == join->comm->place.generation)
            announce_presence(connection, join->comm);
        break;
    case WIRE__CONTROL__BODY_WAITING:
        error_set(&join->why, TUTTI_ERR_TIMEOUT, "%s", message->waiting->text);
        join->waiting_told = true;
        log_warning(&join->comm->log, "still waiting: %s", message->waiting->text);
        break;
    case WIRE__CONTROL__BODY_REFUSED:
        error_set(&error, message->refused->status < 0 ? message->refused->status : TUTTI_ERR_REFUSED, "%s",
                  message->refused->reason);
        join_finish(join, &error);
        break;
    default:
        error_set(&error, TUTTI_ERR_PROTOCOL, "the rendezvous sent a message that is not for a member");
        join_finish(join, &error);
        break;
    }
    wire__control__free_unpacked(message, NULL);
}

/* It has done its part.  But where it lived in a member, that member is gone, and has not left in peace, for
 * this one is not wired yet; its neighbours, who are wiring as well, do not notice. */
static void rendezvous_left(struct join *join)
{
    const struct group_place *place = &join->comm->place;
    struct tutti_error error;
    if (!place->embedded || place->server < 0 || place->server == place->rank)
        return;
    error_set(
        &error, TUTTI_ERR_PEER_LOST,
        "rank %d lost rank %d, which served the rendezvous, while the ring was being connected: its process "
        "ended or was killed",
        place->rank, place->server);
    error.rank = place->server;
    join_finish(join, &error);
}

static void on_closed(struct connection *connection, const struct tutti_error *why)
{
    struct join *join = connection_context(connection);
    join->connection = NULL;
    if (join->state == JOIN_WIRING) {
        rendezvous_left(join);
        return;
    }
    if (why->code == TUTTI_ERR_PROTOCOL || why->code == TUTTI_ERR_VERSION) {
        char where[300];
        struct tutti_error error;
        endpoint_print(&join->meeting, where, sizeof where);
        error_set(&error, why->code, "what answers at %s is no tutti rendezvous of this version: %.600s",
                  where, why->message);
        join_finish(join, &error);
        return;
    }
    error_set(&join->why, TUTTI_ERR_UNREACHABLE, "the rendezvous closed the connection%s%.400s",
              why->code == TUTTI_OK ? "" : ": ", why->code == TUTTI_OK ? "" : why->message);
    join_retry(join);
}

static const struct connection_events join_events = {.frame = on_frame, .closed = on_closed};

static void on_connected(void *context, int fd, int index, const struct tutti_error *why)
{
    struct join *join = context;
    struct tutti_error error = TUTTI_ERROR_INIT;
    (void)index;
    join->connector = NULL;
    if (fd < 0) {
        join->why = *why;
        join_retry(join);
        return;
    }
    if (join->comm->listeners.count == 0 &&
        listeners_open(&join->comm->listeners, &join->comm->settings, &join->meeting, fd, &error) < 0) {
        descriptor_close(fd);
        join_finish(join, &error);
        return;
    }
    join->connection = connection_new(join->loop, fd, &join_events, join, &error);
    if (!join->connection) {
        join_finish(join, &error);
        return;
    }
    send_join(join);
}

/* ---- The caller -------------------------------------------------------------------------------- */

static void join_start(void *context)
{
    struct join *join = context;
    join->retry = alarm_new(join->loop, join_meet, join);
    join->deadline = alarm_new(join->loop, on_deadline, join);
    if (!join->retry || !join->deadline) {
        struct tutti_error error;
        error_set(&error, TUTTI_ERR_MEMORY, "no memory to join a group");
        join_finish(join, &error);
        return;
    }
    alarm_set(join->deadline, join->timeout_ms);
    join_meet(join);
}

int join_group(tutti_comm *comm, int timeout_ms, struct tutti_error *error)
{
    struct join *join = calloc(1, sizeof *join);
    if (!join)
        return error_set(error, TUTTI_ERR_MEMORY, "no memory to join a group");
    join->comm = comm;
    join->loop = worker_loop(comm->worker);
    join->timeout_ms = timeout_ms;
    join->deadline_ns = clock_now_ns() + timeout_ms * NS_PER_MS;
    error_set(&join->why, TUTTI_ERR_UNREACHABLE, "no attempt succeeded");
    struct worker_task task = {.run = join_start, .context = join};
    worker_post(comm->worker, &task);
    pthread_mutex_lock(&comm->lock);
    while (!join->finished)
        pthread_cond_wait(&comm->changed, &comm->lock);
    pthread_mutex_unlock(&comm->lock);
    *error = join->result;
    free(join);
    return error->code;
}
