/* Joining, as engine/join.c does it.  MEETING -> (connected) -> ANNOUNCED -> (welcome) -> WIRING -> (ring
 * connected) -> CARDS -> over. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/error.h"
#include "tests/sim/fault/allocation.h"
#include "tests/sim/fault/comm.h"
#include "tests/sim/fault/server.h"
#include "tests/sim/fault/world.h"

#define RETRY_MAX_MS 20

int64_t join_left_ms(const struct comm *comm)
{
    return (comm->joining.deadline_ns - comm->sim->network.now_ns) / NS_PER_MS;
}

/* ---- The end ------------------------------------------------------------------------------------- */

static void joining_stop(struct comm *comm, const struct tutti_error *why)
{
    struct joining *j = &comm->joining;
    struct control_stream **rendezvous = &comm->connection[SIDE_RENDEZVOUS];
    if (j->state == JOIN_OVER)
        return;
    if (*rendezvous && why->code < 0 && j->state != JOIN_CARDS) {
        if (j->state == JOIN_WIRING)
            wiring_shell_tell(comm, *rendezvous, why, false);
        control_stream_close(*rendezvous, j->state == JOIN_WIRING);
        *rendezvous = NULL;
    }
    if (j->state != JOIN_CARDS)
        wiring_shell_stop(comm, why);
    network_hang_up(&j->dial);
    event_cancel(&comm->sim->network, &j->retry);
    event_cancel(&comm->sim->network, &j->deadline);
    if (why->code < 0 && j->state != JOIN_CARDS)
        door_close(comm);
    j->state = JOIN_OVER;
}

void join_finish(struct comm *comm, const struct tutti_error *result)
{
    joining_stop(comm, result);
    if (result->code < 0)
        comm_fail(comm, result, true);
    else
        comm->phase = COMM_ACTIVE;
    process_joined(comm, result);
}

static void finish_with(struct comm *comm, int code, const char *why)
{
    struct tutti_error error;
    error_set(&error, code, "%s", why);
    join_finish(comm, &error);
}

void join_on_deadline(void *context)
{
    struct comm *comm = context;
    bool silent = comm->re_forms && comm->previous.embedded && !comm->joining.waiting_told;
    if (comm->joining.state == JOIN_WIRING)
        finish_with(comm, TUTTI_ERR_TIMEOUT, "the ring could not be connected in time");
    else if (comm->joining.state == JOIN_CARDS)
        finish_with(comm, TUTTI_ERR_TIMEOUT, "the cards of some ranks did not come round the ring in time");
    else if (comm->joining.state == JOIN_ANNOUNCED && !silent)
        finish_with(comm, TUTTI_ERR_TIMEOUT, comm->joining.why.message);
    else
        finish_with(comm, TUTTI_ERR_UNREACHABLE, "no rendezvous");
}

/* ---- The rendezvous ------------------------------------------------------------------------------ */

static void join_meet(void *context);

static void join_retry(struct comm *comm)
{
    struct joining *j = &comm->joining;
    if (comm->re_forms && comm->previous.embedded &&
        j->timeout_ms - join_left_ms(comm) >= RENDEZVOUS_LOST_MS) {
        finish_with(comm, TUTTI_ERR_UNREACHABLE, "cannot re-form: the rendezvous is lost");
        return;
    }
    j->retry_ms = j->retry_ms == 0 ? 2 : j->retry_ms * 2 < RETRY_MAX_MS ? j->retry_ms * 2 : RETRY_MAX_MS;
    j->state = JOIN_MEETING;
    event_set(&comm->sim->network, &j->retry, comm->node, j->retry_ms * NS_PER_MS, join_meet, comm);
}

static void on_welcome(struct comm *comm, const Wire__Welcome *welcome)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    const struct process *process = comm->process;
    char host[16];
    snprintf(host, sizeof host, "host%d", process->node->host);
    int size = comm->re_forms ? comm->previous.size : comm->sim->options.size;
    if (place_from_welcome(&comm->place, welcome, host, size, &error) < 0) {
        join_finish(comm, &error);
        return;
    }
    SAY(comm->sim, process, "welcome: rank %d of %d, generation %u, instance %016llx", comm->place.rank,
        comm->place.size, (unsigned)comm->place.generation, (unsigned long long)comm->place.instance);
    place_read_reformed(welcome->reformed, &comm->reformed);
    if (welcome->reformed)
        comm->reformed.generation = comm->place.generation;
    world_welcomed(comm->sim->world, comm);
    failpoint_hit(&comm->process->failpoints, FAILPOINT_welcome_received);
    if (comm->place.size == 1) {
        struct control_stream *rendezvous = comm->connection[SIDE_RENDEZVOUS];
        comm->connection[SIDE_RENDEZVOUS] = NULL;
        control_stream_close(rendezvous, true);
        comm->joining.state = JOIN_CARDS;
        roll_shell_open(comm);
        return;
    }
    comm->joining.next_address = atoi(welcome->next->addresses[0] + strlen("unix:@"));
    wiring_shell_start(comm);
}

/* The group has failed before this member has taken its place. */
static void on_abort(struct comm *comm, const Wire__Abort *abort)
{
    struct tutti_error error;
    if (comm->joining.state != JOIN_WIRING || abort->instance != comm->place.instance ||
        abort->generation != comm->place.generation)
        return;
    control_to_error(abort, &error);
    join_finish(comm, &error);
}

/* It lives, and has made no call yet. */
static void say_present(struct comm *comm)
{
    char none[] = "";
    Wire__Present body = WIRE__PRESENT__INIT;
    Wire__Control message = WIRE__CONTROL__INIT;
    body.generation = comm->place.generation;
    body.call = none;
    message.body_case = WIRE__CONTROL__BODY_PRESENT;
    message.present = &body;
    control_stream_send(comm->connection[SIDE_RENDEZVOUS], NULL, &message);
}

static void on_message(struct comm *comm, const Wire__Control *message)
{
    switch (message->body_case) {
    case WIRE__CONTROL__BODY_WELCOME:
        if (comm->joining.state == JOIN_ANNOUNCED)
            on_welcome(comm, message->welcome);
        break;
    case WIRE__CONTROL__BODY_ABORT:
        on_abort(comm, message->abort);
        break;
    case WIRE__CONTROL__BODY_ROLL_CALL:
        if (comm->joining.state == JOIN_WIRING && message->roll_call->generation == comm->place.generation)
            say_present(comm);
        break;
    case WIRE__CONTROL__BODY_WAITING:
        SAY(comm->sim, comm->process, "waits: %s", message->waiting->text);
        comm->joining.waiting_told = true;
        error_set(&comm->joining.why, TUTTI_ERR_TIMEOUT, "%s", message->waiting->text);
        break;
    case WIRE__CONTROL__BODY_REFUSED:
        finish_with(comm, message->refused->status < 0 ? message->refused->status : TUTTI_ERR_REFUSED,
                    message->refused->reason);
        break;
    default:
        finish_with(comm, TUTTI_ERR_PROTOCOL, "the rendezvous sent a message that is not for a member");
    }
}

static void on_frame(void *context, struct control_stream *stream, const struct frame *frame,
                     const uint8_t *payload)
{
    struct tutti_error error;
    (void)stream;
    if (frame->type != FRAME_CONTROL)
        return;
    Wire__Control *message = control_decode(payload, frame->length, &error);
    if (!message) {
        join_finish(context, &error);
        return;
    }
    on_message(context, message);
    wire__control__free_unpacked(message, NULL);
}

static void on_closed(void *context, struct control_stream *stream, const struct tutti_error *why)
{
    struct comm *comm = context;
    (void)stream;
    comm->connection[SIDE_RENDEZVOUS] = NULL;
    if (comm->joining.state == JOIN_WIRING)
        return;
    comm->joining.why = *why;
    if (why->code == TUTTI_ERR_PROTOCOL || why->code == TUTTI_ERR_VERSION)
        join_finish(comm, why);
    else
        join_retry(comm);
}

static void fill_previous(Wire__Previous *body, Wire__Abort *cause, const struct comm_previous *previous)
{
    control_from_error(&previous->cause, (uint32_t)previous->rank, cause);
    body->instance = previous->instance;
    body->generation = previous->generation;
    body->rank = (uint32_t)previous->rank;
    body->size = (uint32_t)previous->size;
    body->completed = previous->completed;
    body->server = previous->server;
    body->cause = cause;
}

static void send_join(struct comm *comm)
{
    const struct options *options = &comm->sim->options;
    const struct process *process = comm->process;
    char job[] = "job", agreement[48], host[16], host_name[16], address[32], *addresses[] = {address};
    snprintf(host, sizeof host, "host%d", process->node->host);
    snprintf(host_name, sizeof host_name, "h%d", process->node->host);
    snprintf(address, sizeof address, "unix:@%d", comm->door.listener.address);
    Wire__Join body = WIRE__JOIN__INIT;
    body.job = job;
    body.member_id = (ProtobufCBinaryData){MEMBER_ID_BYTES, comm->place.member_id};
    body.rank = options->any_rank ? TUTTI_RANK_ANY : process->number;
    body.size = (uint32_t)options->size;
    body.host = host;
    body.host_name = host_name;
    body.pid = 100 + (uint32_t)process->number;
    body.addresses = addresses;
    body.n_addresses = 1;
    snprintf(agreement, sizeof agreement, "TUTTI_DETERMINISTIC=%d", options->deterministic);
    body.agreement = agreement;
    body.slice_bytes = options->slice_bytes;
    body.checksum = options->checksum;
    body.join_timeout_ms = join_left_ms(comm) > 1 ? (uint32_t)join_left_ms(comm) : 1;
    body.missing_after_ms = (uint32_t)options->missing_after_ms;
    body.serves = process->server != NULL;
    body.dead_after_ms = (uint32_t)options->dead_after_ms;
    Wire__Previous previous = WIRE__PREVIOUS__INIT;
    Wire__Abort cause;
    if (comm->re_forms) {
        fill_previous(&previous, &cause, &comm->previous);
        body.previous = &previous;
    }
    Wire__Control message = WIRE__CONTROL__INIT;
    message.body_case = WIRE__CONTROL__BODY_JOIN;
    message.join = &body;
    control_stream_send(comm->connection[SIDE_RENDEZVOUS], NULL, &message);
    comm->joining.state = JOIN_ANNOUNCED;
    failpoint_hit(&comm->process->failpoints, comm->re_forms ? FAILPOINT_reform_sent : FAILPOINT_join_sent);
    event_set(&comm->sim->network, &comm->joining.deadline, comm->node,
              (body.join_timeout_ms + REFUSAL_GRACE_MS) * NS_PER_MS, join_on_deadline, comm);
}

static void on_met(void *context, struct end *end)
{
    static const struct control_events events = {on_frame, on_closed};
    struct comm *comm = context;
    if (!end) {
        error_set(&comm->joining.why, TUTTI_ERR_UNREACHABLE, "no rendezvous answers");
        join_retry(comm);
        return;
    }
    door_listen(comm);
    comm->connection[SIDE_RENDEZVOUS] = control_stream_new(&comm->sim->network, end, &events, comm);
    send_join(comm);
}

static bool is_where_it_was(const struct process *process)
{
    return process->node->host == process->sim->processes[0].node->host;
}

static void join_meet(void *context)
{
    struct comm *comm = context;
    struct process *process = comm->process;
    /* Rank 0 serves; later a survivor on the same host may, where the one that served is gone. */
    bool serves = comm->re_forms ? comm->previous.embedded && is_where_it_was(process)
                                 : process->number == 0 && comm->sim->options.embedded;
    if (serves && !process->server)
        server_try_to_serve(process);
    network_dial(&comm->sim->network, &comm->joining.dial, process->node, RENDEZVOUS_ADDRESS,
                 ATTEMPT_TIMEOUT_MS * NS_PER_MS, on_met, comm);
}

/* ---- The caller ---------------------------------------------------------------------------------- */

struct comm *comm_begin(struct process *process, const struct comm *failed)
{
    struct simulation *sim = process->sim;
    struct comm *comm = world_alloc(sizeof *comm);
    comm->sim = sim;
    comm->process = process;
    comm->node = process->node;
    comm->older = process->comm;
    process->comm = comm;
    comm->tail = &comm->head;
    comm->place.rank = comm->place.size = comm->place.next.rank = comm->place.previous.rank = -1;
    memset(comm->place.member_id, 1 + process->number, MEMBER_ID_BYTES);
    comm->failure = comm->joining.why = (struct tutti_error)TUTTI_ERROR_INIT;
    comm->reformed = (struct tutti_reform_info)TUTTI_REFORM_INFO_INIT;
    TAILQ_INIT(&comm->door.visitors);
    if (failed) {
        comm->re_forms = true;
        comm->previous = (struct comm_previous){
            .instance = failed->place.instance,
            .completed = failed->completed,
            .generation = failed->place.generation,
            .rank = failed->place.rank,
            .size = failed->place.size,
            .embedded = failed->place.embedded,
            .server = failed->place.server,
            .cause = failed->failure,
        };
    }
    comm->joining.timeout_ms = sim->options.join_timeout_ms;
    comm->joining.deadline_ns = sim->network.now_ns + comm->joining.timeout_ms * NS_PER_MS;
    event_set(&sim->network, &comm->joining.deadline, comm->node, comm->joining.timeout_ms * NS_PER_MS,
              join_on_deadline, comm);
    join_meet(comm);
    return comm;
}
