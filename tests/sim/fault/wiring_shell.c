/* Wiring, as engine/wiring.c does it: a data and a control connection to the next rank, the same two from the
 * previous one, and hellos on each of them. */
#include "base/error.h"
#include "tests/sim/fault/comm.h"
#include "tests/sim/fault/piped_link.h"

#define RETRY_NS        (20 * NS_PER_MS)
#define ACCEPT_PAUSE_NS (100 * NS_PER_MS)
#define HELLO_TRIES     64 /* writes of a hello, since a write may go in part */

static const uint8_t role_number[ROLES] = {HELLO_DATA, HELLO_CONTROL};

static void drop_end(struct end **end)
{
    if (*end)
        end_close(*end);
    *end = NULL;
}

/* ---- The end ------------------------------------------------------------------------------------- */

void wiring_shell_tell(struct comm *comm, struct control_stream *stream, const struct tutti_error *why,
                       bool of_group)
{
    Wire__Abort body;
    Wire__Control message = WIRE__CONTROL__INIT;
    control_from_error(why, (uint32_t)comm->place.rank, &body);
    body.instance = comm->place.instance;
    body.generation = comm->place.generation;
    message.body_case = WIRE__CONTROL__BODY_ABORT;
    message.abort = &body;
    struct frame group = {.instance = comm->place.instance, .generation = comm->place.generation};
    control_stream_send(stream, of_group ? &group : NULL, &message);
}

static void ignore_frame(void *context, struct control_stream *stream, const struct frame *frame,
                         const uint8_t *payload)
{
    (void)context, (void)stream, (void)frame, (void)payload;
}

static void ignore_closed(void *context, struct control_stream *stream, const struct tutti_error *why)
{
    (void)context, (void)stream, (void)why;
}

/* The reason why the ring does not come about, to a neighbour that believes it does. */
static void tell_neighbour(struct comm *comm, struct end **end, const struct tutti_error *why)
{
    static const struct control_events deaf = {ignore_frame, ignore_closed};
    if (!*end)
        return;
    struct control_stream *stream = control_stream_new(&comm->sim->network, *end, &deaf, NULL);
    *end = NULL;
    wiring_shell_tell(comm, stream, why, true);
    control_stream_close(stream, true);
}

void wiring_shell_stop(struct comm *comm, const struct tutti_error *why)
{
    struct joining *j = &comm->joining;
    if (why->code < 0) {
        /* Also where the answer to our hello is still under way: the next rank may have its ring already. */
        tell_neighbour(comm, &j->outgoing[CONTROL].end, why);
        tell_neighbour(comm, &j->accepted[CONTROL], why);
    }
    for (int role = 0; role < ROLES; role++) {
        network_hang_up(&j->outgoing[role].dial);
        event_cancel(&comm->sim->network, &j->outgoing[role].retry);
        drop_end(&j->outgoing[role].end);
        drop_end(&j->accepted[role]);
    }
    for (int i = 0; i < INCOMING_MAX; i++)
        drop_end(&j->incoming[i].end);
}

/* ---- Wiring: to the next rank -------------------------------------------------------------------- */

static bool send_hello(struct end *end, const struct hello *hello)
{
    uint8_t bytes[HELLO_BYTES];
    uint32_t sent = 0;
    hello_encode(hello, bytes);
    for (int i = 0; i < HELLO_TRIES && sent < HELLO_BYTES; i++) {
        int n = end_write(end, bytes + sent, HELLO_BYTES - sent);
        if (n < 0)
            return false;
        sent += (uint32_t)n;
    }
    return sent == HELLO_BYTES;
}

static void wiring_complete(struct comm *comm);

static void check_complete(struct comm *comm)
{
    for (int role = 0; role < ROLES; role++)
        if (!comm->joining.outgoing[role].done || !comm->joining.accepted[role])
            return;
    wiring_complete(comm);
}

static void outgoing_connect(void *context);

static void outgoing_failed(struct outgoing *outgoing)
{
    drop_end(&outgoing->end);
    event_set(&outgoing->comm->sim->network, &outgoing->retry, outgoing->comm->node, RETRY_NS,
              outgoing_connect, outgoing);
}

static void on_answer(void *context)
{
    struct outgoing *outgoing = context;
    struct hello hello;
    struct tutti_error error;
    while (outgoing->have < HELLO_BYTES) {
        int n = end_read(outgoing->end, outgoing->answer + outgoing->have, HELLO_BYTES - outgoing->have);
        if (n == READ_NOTHING)
            return;
        if (n < 0) {
            outgoing_failed(outgoing);
            return;
        }
        outgoing->have += (uint32_t)n;
    }
    if (hello_decode(outgoing->answer, &hello, &error) < 0 ||
        place_check_answer(&outgoing->comm->place, &hello, &error) < 0) {
        outgoing_failed(outgoing);
        return;
    }
    outgoing->end->ready = NULL; /* what follows is the group's */
    outgoing->done = true;
    check_complete(outgoing->comm);
}

static void on_dialled(void *context, struct end *end)
{
    struct outgoing *outgoing = context;
    struct comm *comm = outgoing->comm;
    outgoing->end = end;
    outgoing->have = 0;
    struct hello hello = place_hello(&comm->place, role_number[outgoing->role], comm->place.next.rank);
    if (!end || !send_hello(end, &hello)) {
        outgoing_failed(outgoing);
        return;
    }
    failpoint_hit(&comm->process->failpoints, FAILPOINT_hello_sent);
    end_attach(end, on_answer, outgoing);
}

static void outgoing_connect(void *context)
{
    struct outgoing *outgoing = context;
    network_dial(&outgoing->comm->sim->network, &outgoing->dial, outgoing->comm->node,
                 outgoing->comm->joining.next_address, ATTEMPT_TIMEOUT_MS * NS_PER_MS, on_dialled, outgoing);
}

/* ---- Wiring: from the previous rank -------------------------------------------------------------- */

static void incoming_hello(struct incoming *incoming)
{
    struct comm *comm = incoming->comm;
    struct tutti_error error;
    struct hello hello;
    if (hello_decode(incoming->hello, &hello, &error) < 0) {
        drop_end(&incoming->end);
        return;
    }
    struct hello answer = place_hello(&comm->place, hello.role, (int)hello.from);
    answer.verdict = (uint8_t)place_judge_hello(&comm->place, &hello);
    if (!send_hello(incoming->end, &answer) || answer.verdict != HELLO_ACCEPTED) {
        drop_end(&incoming->end);
        return;
    }
    struct end **accepted = &comm->joining.accepted[hello.role == HELLO_DATA ? DATA : CONTROL];
    drop_end(accepted); /* the peer tried again: the earlier attempt is dead */
    *accepted = incoming->end;
    (*accepted)->ready = NULL;
    incoming->end = NULL;
    check_complete(comm);
}

static void on_incoming(void *context)
{
    struct incoming *incoming = context;
    if (incoming->comm->joining.state != JOIN_WIRING)
        return; /* wiring_shell_start() looks again */
    while (incoming->have < HELLO_BYTES) {
        int n = end_read(incoming->end, incoming->hello + incoming->have, HELLO_BYTES - incoming->have);
        if (n == READ_NOTHING)
            return;
        if (n < 0) {
            drop_end(&incoming->end);
            return;
        }
        incoming->have += (uint32_t)n;
    }
    incoming_hello(incoming);
}

void wiring_shell_accept(void *context, struct end *end)
{
    struct comm *comm = context;
    if (failpoint_hit(&comm->process->failpoints, FAILPOINT_accept) == FAIL_no_descriptors) {
        end_postpone_accept(end, &comm->joining.listener, ACCEPT_PAUSE_NS);
        return;
    }
    int i = 0;
    while (i < INCOMING_MAX - 1 && comm->joining.incoming[i].end)
        i++;
    struct incoming *incoming = &comm->joining.incoming[i];
    drop_end(&incoming->end);
    incoming->end = end;
    incoming->have = 0;
    end_attach(end, on_incoming, incoming);
}

void wiring_shell_start(struct comm *comm)
{
    struct joining *j = &comm->joining;
    j->state = JOIN_WIRING;
    int64_t wiring_ms = join_left_ms(comm) > WIRING_MIN_MS ? join_left_ms(comm) : WIRING_MIN_MS;
    event_set(&comm->sim->network, &j->deadline, comm->node, wiring_ms * NS_PER_MS, join_on_deadline, comm);
    for (int role = 0; role < ROLES; role++) {
        j->outgoing[role].comm = comm;
        j->outgoing[role].role = role;
        outgoing_connect(&j->outgoing[role]);
    }
    for (int i = 0; i < INCOMING_MAX; i++)
        if (j->incoming[i].end)
            end_attach(j->incoming[i].end, on_incoming, &j->incoming[i]);
}

/* All four connections are there. */
static void wiring_complete(struct comm *comm)
{
    struct joining *j = &comm->joining;
    struct control_stream *rendezvous = comm->connection[SIDE_RENDEZVOUS];
    const struct neighbour *next = &comm->place.next, *previous = &comm->place.previous;
    uint32_t loan_bytes = comm->sim->options.slice_bytes;
    struct failpoints *failpoints = &comm->process->failpoints;
    comm->out[next->rank] = piped_link_new(j->outgoing[DATA].end, next->rank, next->text, loan_bytes,
                                           failpoints, comm_drive, comm);
    comm->in[previous->rank] = piped_link_new(j->accepted[DATA], previous->rank, previous->text, loan_bytes,
                                              failpoints, comm_drive, comm);
    struct end *control[2] = {j->outgoing[CONTROL].end, j->accepted[CONTROL]};
    for (int role = 0; role < ROLES; role++)
        j->outgoing[role].end = j->accepted[role] = NULL;
    if (rendezvous) {
        Wire__Wired body = WIRE__WIRED__INIT;
        Wire__Control message = WIRE__CONTROL__INIT;
        body.generation = comm->place.generation;
        message.body_case = WIRE__CONTROL__BODY_WIRED;
        message.wired = &body;
        control_stream_send(rendezvous, NULL, &message);
    }
    comm->connection[SIDE_RENDEZVOUS] = NULL;
    ring_shell_open(comm, control, rendezvous);
    join_finish(comm, &(struct tutti_error)TUTTI_ERROR_INIT);
}
