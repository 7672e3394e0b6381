#include "engine/roll.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/error.h"
#include "engine/clock.h"
#include "engine/mesh.h"
#include "engine/tuning_file.h"

/* A rank that waits for cards knows less of who is late than one that still waits for its connections. */
#define WIRING_PATIENCE_MS 1000

/* ---- Settings ---------------------------------------------------------------------------------- */

int roll_check_settings(tutti_comm *root, struct tutti_error *error)
{
    char path[TUNING_PATH_BYTES];
    const struct tutti_config *values = &root->settings.values;
    struct select_group group = {.deterministic = values->deterministic != 0};
    if (values->algorithm && algorithm_override_parse(values->algorithm, &group.override, error) < 0)
        return error->code;
    if (select_check(&group, error) < 0)
        return error->code;
    return tuning_file_read(values->tuning, &root->select.tuning, path, error);
}

/* ---- The cards --------------------------------------------------------------------------------- */

/* Of rank 0, whose constants all use; freed by the caller.  NULL when out of memory. */
static char *print_tuning(const tutti_comm *root)
{
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    if (!stream)
        return NULL;
    if (root->place.rank == 0)
        tuning_print(&root->select.tuning, stream);
    if (fclose(stream) == 0)
        return text;
    free(text);
    return NULL;
}

int roll_open(tutti_comm *root, struct tutti_error *error)
{
    char *addresses[LISTENERS_MAX], *tuning = print_tuning(root);
    if (!tuning)
        return error_set(error, TUTTI_ERR_MEMORY, "no memory for the card of rank %d", root->place.rank);
    for (int i = 0; i < root->listeners.count; i++)
        addresses[i] = root->listeners.address[i];
    Wire__Peer peer = WIRE__PEER__INIT;
    peer.rank = (uint32_t)root->place.rank;
    peer.member_id = (ProtobufCBinaryData){MEMBER_ID_BYTES, root->place.member_id};
    peer.host = root->host;
    peer.host_name = root->host_name;
    peer.pid = (uint32_t)getpid();
    peer.addresses = addresses;
    peer.n_addresses = (size_t)root->listeners.count;
    Wire__Card card = WIRE__CARD__INIT;
    card.generation = root->place.generation;
    card.peer = &peer;
    card.cores = (uint32_t)wait_usable_cores();
    card.core_set = wait_core_set();
    card.uds = local_transport_of(root->settings.values.transports) != LOCAL_TCP;
    card.shm = setting_list_holds(root->settings.values.transports, "shm");
    card.tuning = tuning;
    int status = roster_open(&root->family->roster, root->place.rank, root->place.size, &card, error);
    if (status == TUTTI_OK && root->place.size > 1)
        membership_pass_card(&root->ring.membership, &card);
    free(tuning);
    return status;
}

void roll_on_card(void *context, const Wire__Card *card)
{
    tutti_comm *root = context;
    struct roster *roster = &root->family->roster;
    struct tutti_error error;
    pthread_mutex_lock(&root->lock);
    int result = roster_receive(roster, card, &error);
    bool complete = result >= 0 && roster_is_complete(roster);
    if (complete) {
        root->hosts = (struct host_map){roster->host_count, roster->host_of};
        pthread_cond_broadcast(&root->changed);
    }
    pthread_mutex_unlock(&root->lock);
    if (result < 0) {
        error.rank = result == TUTTI_ERR_MEMORY ? root->place.rank : root->place.previous.rank;
        comm_fail(root, &error);
        return;
    }
    if (result > 0)
        membership_pass_card(&root->ring.membership, (Wire__Card *)card);
    if (complete)
        mesh_look_again(root);
}

int roll_await(tutti_comm *root, int timeout_ms, struct tutti_error *error)
{
    struct roster *roster = &root->family->roster;
    int64_t until_ns = clock_now_ns() + (timeout_ms + WIRING_PATIENCE_MS) * NS_PER_MS;
    pthread_mutex_lock(&root->lock);
    while (!roster_is_complete(roster) && !comm_has_failed(root) && clock_now_ns() < until_ns)
        comm_wait_changed(root, until_ns);
    bool complete = roster_is_complete(roster);
    int known = roster->known;
    pthread_mutex_unlock(&root->lock);
    if (complete)
        return TUTTI_OK;
    if (comm_has_failed(root)) {
        *error = root->failure;
        return error->code;
    }
    /* They come in the order of the ring, from the previous rank backwards. */
    int rank = (root->place.rank - known + root->place.size) % root->place.size;
    error_set(
        error, TUTTI_ERR_TIMEOUT,
        "the cards of only %d of %d ranks came round the ring in time; that of rank %d is the first that is "
        "missing: it, or a rank between it and this one, is stopped",
        known, root->place.size, rank);
    error->rank = rank;
    return error->code;
}

/* ---- What they say ----------------------------------------------------------------------------- */

void roll_agreement(const tutti_comm *root, char *text, size_t size)
{
    const struct tutti_config *values = &root->settings.values;
    snprintf(text, size, "TUTTI_ALGORITHM=%s TUTTI_DETERMINISTIC=%d TUTTI_CHANNELS=%d",
             values->algorithm ? values->algorithm : "", values->deterministic, values->channels);
}

/* Ranks of the family on the host of `rank`, a rank of the root, that have the same cores: they all count,
 * whichever communicator is asked about, for they all work at once.  Ranks that are bound to different sets
 * of cores are taken to share none. */
static int count_sharing(const struct roster *roster, int rank)
{
    int ranks = 0;
    for (int other = 0; other < roster->size; other++)
        ranks += roster->host_of[other] == roster->host_of[rank] &&
                 roster->members[other].core_set == roster->members[rank].core_set;
    return ranks;
}

/* How many ranks share a core where that is worst, and how many channels each rank has cores for. */
static void count_cores(const tutti_comm *comm, struct select_group *group)
{
    group->channels_max = comm->lane_of ? 1 : comm->settings.values.channels;
    for (int rank = 0; rank < comm->place.size; rank++) {
        int sharing = count_sharing(&comm->family->roster, comm_root_rank(comm, rank));
        select_share_cores(group, sharing, comm_member(comm, rank)->cores);
    }
}

int roll_prepare_selection(tutti_comm *comm, struct tutti_error *error)
{
    const struct tutti_config *values = &comm->settings.values;
    struct select_group *group = &comm->select;
    *group = (struct select_group){
        .size = comm->place.size,
        .local = LOCAL_SHM,
        .deterministic = values->deterministic != 0,
        .tuning = tuning_default,
    };
    select_count_hosts(group, &comm->hosts);
    count_cores(comm, group);
    for (int rank = 0; rank < group->size; rank++) {
        const struct roster_member *member = comm_member(comm, rank);
        enum local_transport local = local_transport_from(member->uds, member->shm);
        group->local = local < group->local ? local : group->local;
    }
    group->slice_bytes = select_slice_bytes(group, values->slice_bytes);
    const char *tuning = comm->family->roster.tuning;
    if (tuning && *tuning && tuning_parse(tuning, &group->tuning, error) < 0)
        return error->code;
    return values->algorithm ? algorithm_override_parse(values->algorithm, &group->override, error)
                             : TUTTI_OK;
}
