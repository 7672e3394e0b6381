/* The cards, as engine/roll.c sends them round. */
#include <stdio.h>
#include <string.h>
#include "base/error.h"
#include "tests/sim/fault/comm.h"

/* Calls may begin, though the other ranks may have to wait for their cards yet. */
static void know_all(struct comm *comm)
{
    comm->hosts = (struct host_map){comm->roster.host_count, comm->roster.host_of};
    comm_prepare(comm);
    join_finish(comm, &(struct tutti_error)TUTTI_ERROR_INIT);
    if (comm->place.size > 1)
        door_ask_again(comm);
}

void roll_shell_open(struct comm *comm)
{
    const struct process *process = comm->process;
    char host[16], host_name[16], address[32], *addresses[] = {address}, none[] = "";
    struct tutti_error error;
    snprintf(host, sizeof host, "host%d", process->node->host);
    snprintf(host_name, sizeof host_name, "h%d", process->node->host);
    snprintf(address, sizeof address, "unix:@%d", comm->door.listener.address);
    Wire__Peer peer = WIRE__PEER__INIT;
    peer.rank = (uint32_t)comm->place.rank;
    peer.member_id = (ProtobufCBinaryData){MEMBER_ID_BYTES, comm->place.member_id};
    peer.host = host;
    peer.host_name = host_name;
    peer.pid = 100 + (uint32_t)process->number;
    peer.addresses = addresses;
    peer.n_addresses = 1;
    Wire__Card card = WIRE__CARD__INIT;
    card.generation = comm->place.generation;
    card.peer = &peer;
    card.cores = 1 + (uint32_t)(comm->sim->seed % 4);
    card.uds = comm->sim->seed % 3 != 0;
    card.shm = comm->sim->seed % 2 == 1;
    card.tuning = none;
    if (roster_open(&comm->roster, comm->place.rank, comm->place.size, &card, &error) < 0) {
        error.rank = comm->place.rank;
        comm_fail(comm, &error, true);
    } else if (comm->place.size > 1) {
        membership_pass_card(&comm->membership, &card);
    } else {
        know_all(comm);
    }
}

void roll_shell_on_card(void *context, const Wire__Card *card)
{
    struct comm *comm = context;
    struct tutti_error error;
    if (!comm->roster.members)
        return; /* it has failed */
    int result = roster_receive(&comm->roster, card, &error);
    if (result < 0) {
        error.rank = result == TUTTI_ERR_MEMORY ? comm->place.rank : comm->place.previous.rank;
        comm_fail(comm, &error, true);
        return;
    }
    if (result > 0)
        membership_pass_card(&comm->membership, (Wire__Card *)card);
    if (roster_is_complete(&comm->roster) && !comm->failed)
        know_all(comm);
}
