#include "engine/announce.h"

#include <unistd.h>
#include "engine/roll.h"

static void fill_previous(Wire__Previous *body, const struct comm_previous *previous)
{
    body->instance = previous->instance;
    body->generation = previous->generation;
    body->rank = (uint32_t)previous->rank;
    body->size = (uint32_t)previous->size;
    body->completed = previous->completed;
    body->server = previous->server;
}

void announce_member(struct connection *connection, const tutti_comm *comm, int64_t left_ms)
{
    const struct tutti_config *values = &comm->settings.values;
    const struct listeners *listeners = &comm->listeners;
    char *addresses[LISTENERS_MAX];
    for (int i = 0; i < listeners->count; i++)
        addresses[i] = (char *)listeners->address[i];
    Wire__Join body = WIRE__JOIN__INIT;
    body.job = (char *)comm->launch.job;
    body.member_id = (ProtobufCBinaryData){MEMBER_ID_BYTES, (uint8_t *)comm->place.member_id};
    body.rank = comm->launch.rank;
    body.size = (uint32_t)comm->launch.size;
    body.host = (char *)comm->host;
    body.host_name = (char *)comm->host_name;
    body.pid = (uint32_t)getpid();
    body.addresses = addresses;
    body.n_addresses = (size_t)listeners->count;
    body.slice_bytes = values->slice_bytes;
    body.checksum = values->checksum != 0;
    body.join_timeout_ms = left_ms > 1 ? (uint32_t)left_ms : 1;
    body.missing_after_ms = (uint32_t)values->missing_after_ms;
    body.dead_after_ms = (uint32_t)values->dead_after_ms;
    body.serves = comm->ring.service != NULL;
    char agreement[768];
    roll_agreement(comm, agreement, sizeof agreement);
    body.agreement = agreement;
    Wire__Previous previous = WIRE__PREVIOUS__INIT;
    Wire__Abort cause;
    if (comm->re_forms) {
        control_from_error(&comm->previous.cause, (uint32_t)comm->previous.rank, &cause);
        fill_previous(&previous, &comm->previous);
        previous.cause = &cause;
        body.previous = &previous;
    }
    Wire__Control message = WIRE__CONTROL__INIT;
    message.body_case = WIRE__CONTROL__BODY_JOIN;
    message.join = &body;
    connection_send_control(connection, NULL, &message);
}

void announce_wired(struct connection *connection, const tutti_comm *comm)
{
    Wire__Wired body = WIRE__WIRED__INIT;
    Wire__Control message = WIRE__CONTROL__INIT;
    body.generation = comm->place.generation;
    message.body_case = WIRE__CONTROL__BODY_WIRED;
    message.wired = &body;
    connection_send_control(connection, NULL, &message);
}

void announce_presence(struct connection *connection, const tutti_comm *comm)
{
    Wire__Present body = WIRE__PRESENT__INIT;
    Wire__Control message = WIRE__CONTROL__INIT;
    body.generation = comm->place.generation;
    message.body_case = WIRE__CONTROL__BODY_PRESENT;
    message.present = &body;
    connection_send_control(connection, NULL, &message);
}

void announce_failure(struct connection *connection, const tutti_comm *comm, const struct tutti_error *why)
{
    Wire__Abort body;
    Wire__Control message = WIRE__CONTROL__INIT;
    control_from_error(why, (uint32_t)comm->place.rank, &body);
    body.instance = comm->place.instance;
    body.generation = comm->place.generation;
    message.body_case = WIRE__CONTROL__BODY_ABORT;
    message.abort = &body;
    connection_send_control(connection, NULL, &message);
}
