/* Joining: the I/O of a member.  Finds the rendezvous (and, as rank 0, serves it unless somebody does
 * already), announces itself, waits to be welcomed, and has the ring wired.
 *
 * MEETING -> (connected) -> ANNOUNCED -> (welcome) -> WIRING -> done.  Until the deadline a rendezvous that
 * cannot be reached, a name that does not resolve yet and a connection that closes are tried again; a refusal
 * and bytes that are not tutti's are final. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/error.h"
#include "engine/clock.h"
#include "engine/comm.h"
#include "engine/serving.h"
#include "engine/watch.h"

#define ATTEMPT_TIMEOUT_MS    3000
#define UNIX_RETRY_MAX_MS     20
#define TCP_RETRY_MAX_MS      250
#define REFUSAL_GRACE_MS      2000 /* how much later than the rendezvous a member gives up by itself */
#define WIRING_TIMEOUT_MIN_MS 5000

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
    int64_t deadline_ns;
    int retry_ms;
    bool warned;
    struct endpoint meeting; /* where a file pointed */
    struct resolution *resolution;
    struct connector_targets targets;
    struct connector *connector;
    struct connection *connection;
    struct listeners listeners;
    struct wiring *wiring;
    struct tutti_error why; /* the latest reason why it is not done yet */
    struct tutti_error result;
    bool finished; /* under comm->lock */
};

/* ---- The end ----------------------------------------------------------------------------------- */

static void join_finish(struct join *join, const struct tutti_error *result)
{
    tutti_comm *comm = join->comm;
    if (join->resolution) {
        join->resolution->join = NULL;
        uv_cancel((uv_req_t *)&join->resolution->request); /* helps only a look-up that has not begun */
    }
    connector_cancel(join->connector);
    if (join->connection)
        connection_close(join->connection, false);
    wiring_stop(join->wiring, result);
    alarm_free(join->retry);
    alarm_free(join->deadline);
    listeners_close(&join->listeners);
    pthread_mutex_lock(&comm->lock);
    join->result = *result;
    join->finished = true;
    pthread_cond_broadcast(&comm->changed);
    pthread_mutex_unlock(&comm->lock);
}

/* Once, when others would already be named as missing: the rendezvous itself is. */
static void warn_if_late(struct join *join)
{
    const struct tutti_config *values = &join->comm->settings.values;
    int64_t left_ms = (join->deadline_ns - clock_now_ns()) / NS_PER_MS;
    if (join->warned || values->join_timeout_ms - left_ms < values->missing_after_ms)
        return;
    join->warned = true;
    char where[300];
    endpoint_print(&join->comm->launch.rendezvous, where, sizeof where);
    log_warning(&join->comm->log, "still no rendezvous at %s (%s)%s", where, join->why.message,
                join->comm->launch.rank == TUTTI_RANK_ANY
                    ? ": ranks that are assigned on arrival need `tutti rendezvous` or `tutti run`"
                    : "");
}

static void join_retry(struct join *join)
{
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
    const struct tutti_config *values = &comm->settings.values;
    struct tutti_error error;
    char where[300];
    endpoint_print(&comm->launch.rendezvous, where, sizeof where);
    double seconds = values->join_timeout_ms / 1000.0;
    if (join->state == JOIN_WIRING) {
        char missing[800];
        wiring_describe(join->wiring, missing, sizeof missing);
        error_set(&error, TUTTI_ERR_TIMEOUT,
                  "rank %d could not connect its ring in time: %s; check that the hosts can reach each other "
                  "(TUTTI_INTERFACE, TUTTI_PORT_RANGE)",
                  comm->rank, missing);
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

/* Serves once, as rank 0; a failure to serve what should be ours is final. */
static bool serving_failed(struct join *join)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    if (join->comm->launch.rank != 0 || join->comm->ring.service)
        return false;
    if (serve_rendezvous(join->comm, &join->targets, &error) == TUTTI_OK)
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

static void join_resolve(struct join *join)
{
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
        close(fd);
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
    join->meeting = *rendezvous;
    if (rendezvous->kind != ENDPOINT_TCP && serving_failed(join))
        return;
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
    tutti_comm *comm = join->comm;
    char *addresses[LISTENERS_MAX];
    for (int i = 0; i < join->listeners.count; i++)
        addresses[i] = join->listeners.address[i];
    Wire__Join body = WIRE__JOIN__INIT;
    body.job = comm->launch.job;
    body.member_id = (ProtobufCBinaryData){MEMBER_ID_BYTES, comm->member_id};
    body.rank = comm->launch.rank;
    body.size = (uint32_t)comm->launch.size;
    body.host = comm->host;
    body.host_name = comm->host_name;
    body.pid = (uint32_t)getpid();
    body.addresses = addresses;
    body.n_addresses = (size_t)join->listeners.count;
    body.slice_bytes = comm->settings.values.slice_bytes;
    body.checksum = comm->settings.values.checksum != 0;
    int64_t left_ms = (join->deadline_ns - clock_now_ns()) / NS_PER_MS;
    body.join_timeout_ms = left_ms > 1 ? (uint32_t)left_ms : 1;
    body.missing_after_ms = (uint32_t)comm->settings.values.missing_after_ms;
    Wire__Control message = WIRE__CONTROL__INIT;
    message.body_case = WIRE__CONTROL__BODY_JOIN;
    message.join = &body;
    connection_send_control(join->connection, NULL, &message);
    join->state = JOIN_ANNOUNCED;
    char where[300];
    endpoint_print(&join->meeting, where, sizeof where);
    error_set(&join->why, TUTTI_ERR_TIMEOUT,
              "what listens at %s took the announcement and has not answered it", where);
    /* The rendezvous knows who is missing, so its word comes first. */
    alarm_set(join->deadline, left_ms + REFUSAL_GRACE_MS);
}

static int copy_peer(const tutti_comm *comm, const Wire__Peer *from, struct comm_peer *peer)
{
    if (!from || from->rank >= (uint32_t)comm->size || from->member_id.len != MEMBER_ID_BYTES)
        return TUTTI_ERR_PROTOCOL;
    peer->rank = (int)from->rank;
    memcpy(peer->member_id, from->member_id.data, MEMBER_ID_BYTES);
    snprintf(peer->host_name, sizeof peer->host_name, "%s", from->host_name);
    snprintf(peer->text, sizeof peer->text, "rank %u (host %.200s, pid %u)", (unsigned)from->rank,
             from->host_name, (unsigned)from->pid);
    peer->same_host = strcmp(from->host, comm->host) == 0;
    /* By our order of preference; a Unix socket only where the peer is on this host. */
    char transports[32];
    snprintf(transports, sizeof transports, "%s", comm->settings.values.transports);
    char *rest = transports;
    for (char *name; (name = strsep(&rest, ",")) != NULL;)
        for (size_t i = 0; i < from->n_addresses; i++) {
            bool is_unix = strncmp(from->addresses[i], "unix:", 5) == 0;
            if (strcmp(name, is_unix ? "uds" : "tcp") == 0 && (!is_unix || peer->same_host))
                connector_add_text(&peer->targets, from->addresses[i]);
        }
    return TUTTI_OK;
}

static void on_wired(void *context, const struct tutti_error *error)
{
    struct join *join = context;
    join->wiring = NULL;
    join_finish(join, error);
}

static void on_welcome(struct join *join, const Wire__Welcome *welcome)
{
    tutti_comm *comm = join->comm;
    struct tutti_error error = TUTTI_ERROR_INIT;
    connection_close(join->connection, false);
    join->connection = NULL;
    comm->rank = (int)welcome->rank;
    comm->size = (int)welcome->size;
    comm->instance = welcome->instance;
    comm->generation = welcome->generation;
    comm->local_size = (int)welcome->local_size;
    comm->log.rank = comm->rank;
    if (comm->size != comm->launch.size || comm->rank < 0 || comm->rank >= comm->size ||
        copy_peer(comm, welcome->next, &comm->peers[0]) < 0 ||
        copy_peer(comm, welcome->previous, &comm->peers[1]) < 0 ||
        comm->peers[0].rank != (comm->rank + 1) % comm->size ||
        comm->peers[1].rank != (comm->rank + comm->size - 1) % comm->size) {
        comm->rank = comm->size = comm->log.rank = -1;
        error_set(&error, TUTTI_ERR_PROTOCOL, "the rendezvous sent a welcome that makes no sense");
        join_finish(join, &error);
        return;
    }
    if (comm->peers[0].targets.count == 0) {
        error_set(&error, TUTTI_ERR_CONFIG,
                  "no transport leads from rank %d to %s: this rank may use %s; let TUTTI_TRANSPORTS of both "
                  "hold tcp",
                  comm->rank, comm->peers[0].text, comm->settings.values.transports);
        join_finish(join, &error);
        return;
    }
    comm->in = calloc((size_t)comm->size, sizeof(struct link *));
    comm->out = calloc((size_t)comm->size, sizeof(struct link *));
    join->wiring = comm->in && comm->out ? wiring_start(comm, &join->listeners, on_wired, join) : NULL;
    if (!join->wiring) {
        error_set(&error, TUTTI_ERR_MEMORY, "no memory to connect the ring");
        join_finish(join, &error);
        return;
    }
    join->state = JOIN_WIRING;
    int64_t left_ms = (join->deadline_ns - clock_now_ns()) / NS_PER_MS;
    alarm_set(join->deadline, left_ms > WIRING_TIMEOUT_MIN_MS ? left_ms : WIRING_TIMEOUT_MIN_MS);
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
        on_welcome(join, message->welcome);
        break;
    case WIRE__CONTROL__BODY_WAITING:
        error_set(&join->why, TUTTI_ERR_TIMEOUT, "%s", message->waiting->text);
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

static void on_closed(struct connection *connection, const struct tutti_error *why)
{
    struct join *join = connection_context(connection);
    join->connection = NULL;
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
    if (join->listeners.count == 0 &&
        listeners_open(&join->listeners, &join->comm->settings, &join->meeting, fd, &error) < 0) {
        close(fd);
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
    alarm_set(join->deadline, join->comm->settings.values.join_timeout_ms);
    join_meet(join);
}

int join_group(tutti_comm *comm, struct tutti_error *error)
{
    struct join *join = calloc(1, sizeof *join);
    if (!join)
        return error_set(error, TUTTI_ERR_MEMORY, "no memory to join a group");
    join->comm = comm;
    join->loop = worker_loop(comm->worker);
    join->deadline_ns = clock_now_ns() + comm->settings.values.join_timeout_ms * NS_PER_MS;
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
