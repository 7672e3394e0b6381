#include "group/roster.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/error.h"
#include "group/topology.h"

static int no_memory(const struct roster *roster, struct tutti_error *error)
{
    return error_set(error, TUTTI_ERR_MEMORY, "out of memory for the roster of a group of %d ranks",
                     roster->size);
}

/* ---- A member ---------------------------------------------------------------------------------- */

static void member_clear(struct roster_member *member)
{
    for (int i = 0; i < member->address_count; i++)
        free(member->addresses[i]);
    free(member->addresses);
    free(member->identity);
    *member = (struct roster_member){0};
}

/* The card is within the limits.  On failure `member` is as empty as it was. */
static bool member_read(struct roster_member *member, const Wire__Card *card)
{
    const Wire__Peer *peer = card->peer;
    memcpy(member->member_id, peer->member_id.data, MEMBER_ID_BYTES);
    snprintf(member->host_name, sizeof member->host_name, "%s", peer->host_name);
    snprintf(member->text, sizeof member->text, "rank %u (host %.200s, pid %u)", (unsigned)peer->rank,
             peer->host_name, (unsigned)peer->pid);
    member->cores = (int)card->cores;
    member->core_set = card->core_set;
    member->uds = card->uds;
    member->shm = card->shm;
    member->identity = strdup(peer->host);
    member->addresses = calloc(ROSTER_ADDRESSES_MAX, sizeof *member->addresses);
    bool whole = member->identity && member->addresses;
    while (whole && member->address_count < (int)peer->n_addresses) {
        char *address = strdup(peer->addresses[member->address_count]);
        whole = address != NULL;
        if (whole)
            member->addresses[member->address_count++] = address;
    }
    if (!whole)
        member_clear(member);
    member->known = whole;
    return whole;
}

/* Takes the card of `rank`, and the tuning where it is that of rank 0. */
static int roster_add(struct roster *roster, int rank, const Wire__Card *card, struct tutti_error *error)
{
    if (rank == 0 && card->tuning[0] != '\0') {
        roster->tuning = strdup(card->tuning);
        if (!roster->tuning)
            return no_memory(roster, error);
    }
    if (!member_read(&roster->members[rank], card))
        return no_memory(roster, error);
    roster->known++;
    return TUTTI_OK;
}

/* ---- The hosts --------------------------------------------------------------------------------- */

/* All cards are here. */
static int number_hosts(struct roster *roster, struct tutti_error *error)
{
    size_t size = (size_t)roster->size;
    int status = TUTTI_OK;
    struct place *places = calloc(size, sizeof *places);
    int *scratch = calloc(size, TOPOLOGY_SCRATCH * sizeof *scratch);
    if (!places || !scratch) {
        status = no_memory(roster, error);
        goto done;
    }
    for (size_t rank = 0; rank < size; rank++)
        places[rank].host = roster->members[rank].identity;
    roster->host_count = topology_number_hosts(places, roster->size, scratch);
    for (size_t rank = 0; rank < size; rank++)
        roster->members[rank].host = roster->host_of[rank] = places[rank].host_index;
done:
    free(scratch);
    free(places);
    return status;
}

/* ---- The roster -------------------------------------------------------------------------------- */

int roster_open(struct roster *roster, int rank, int size, const Wire__Card *own, struct tutti_error *error)
{
    assert(size > 0 && rank >= 0 && rank < size && own->peer);
    assert(own->peer->n_addresses <= ROSTER_ADDRESSES_MAX && own->peer->member_id.len == MEMBER_ID_BYTES);
    *roster = (struct roster){.rank = rank, .size = size};
    roster->members = calloc((size_t)size, sizeof *roster->members);
    roster->host_of = calloc((size_t)size, sizeof *roster->host_of);
    int status = TUTTI_OK;
    if (!roster->members || !roster->host_of)
        status = no_memory(roster, error);
    if (status == TUTTI_OK)
        status = roster_add(roster, rank, own, error);
    if (status == TUTTI_OK && size == 1)
        status = number_hosts(roster, error);
    if (status < 0)
        roster_close(roster);
    return status;
}

void roster_close(struct roster *roster)
{
    for (int rank = 0; roster->members && rank < roster->size; rank++)
        member_clear(&roster->members[rank]);
    free(roster->members);
    free(roster->tuning);
    free(roster->host_of);
    *roster = (struct roster){0};
}

/* The rank with that member id; -1 when there is none yet. */
static int holder_of(const struct roster *roster, const uint8_t *member_id)
{
    for (int rank = 0; rank < roster->size; rank++) {
        const struct roster_member *member = &roster->members[rank];
        if (member->known && memcmp(member->member_id, member_id, MEMBER_ID_BYTES) == 0)
            return rank;
    }
    return -1;
}

/* Is it the card of the rank `due`, and one that a member of this group can have? */
static int card_check(const struct roster *roster, const Wire__Card *card, int due, struct tutti_error *error)
{
    const Wire__Peer *peer = card->peer;
    if (!peer || peer->member_id.len != MEMBER_ID_BYTES)
        return error_set(error, TUTTI_ERR_PROTOCOL,
                         "the previous rank passed on a card without a member where that of rank %d was due: "
                         "install the same version of tutti on every host",
                         due);
    if (peer->rank != (uint32_t)due)
        return error_set(error, TUTTI_ERR_PROTOCOL,
                         "the previous rank passed on the card of rank %u where that of rank %d was due: "
                         "install the same version of tutti on every host",
                         (unsigned)peer->rank, due);
    if (peer->n_addresses > ROSTER_ADDRESSES_MAX)
        return error_set(error, TUTTI_ERR_PROTOCOL,
                         "the card of rank %d has %zu addresses, and %d are the most: install the same "
                         "version of tutti on every host",
                         due, peer->n_addresses, ROSTER_ADDRESSES_MAX);
    int holder = holder_of(roster, peer->member_id.data);
    if (holder >= 0)
        return error_set(error, TUTTI_ERR_PROTOCOL,
                         "the card of rank %d has the member id of rank %d: two ranks cannot be one member; "
                         "install the same version of tutti on every host",
                         due, holder);
    return TUTTI_OK;
}

int roster_receive(struct roster *roster, const Wire__Card *card, struct tutti_error *error)
{
    if (roster_is_complete(roster))
        return error_set(error, TUTTI_ERR_PROTOCOL,
                         "the previous rank passed on another card when those of all %d ranks were here: "
                         "install the same version of tutti on every host",
                         roster->size);
    int due = (roster->rank - roster->known + roster->size) % roster->size;
    int status = card_check(roster, card, due, error);
    if (status == TUTTI_OK)
        status = roster_add(roster, due, card, error);
    if (status == TUTTI_OK && roster_is_complete(roster))
        status = number_hosts(roster, error);
    if (status < 0)
        return status;
    return due != (roster->rank + 1) % roster->size;
}

bool roster_is_complete(const struct roster *roster)
{
    return roster->known == roster->size;
}
