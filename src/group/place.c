#include "group/place.h"

#include <stdio.h>
#include <string.h>
#include "base/error.h"

static const struct neighbour nobody = {.rank = -1};

/* ---- The Welcome ------------------------------------------------------------------------------- */

static bool read_neighbour(struct neighbour *neighbour, const Wire__Peer *peer, uint32_t rank,
                           const char *host)
{
    if (!peer || peer->rank != rank || peer->member_id.len != MEMBER_ID_BYTES)
        return false;
    neighbour->rank = (int)peer->rank;
    memcpy(neighbour->member_id, peer->member_id.data, MEMBER_ID_BYTES);
    snprintf(neighbour->host_name, sizeof neighbour->host_name, "%s", peer->host_name);
    snprintf(neighbour->text, sizeof neighbour->text, "rank %u (host %.200s, pid %u)", (unsigned)peer->rank,
             peer->host_name, (unsigned)peer->pid);
    neighbour->same_host = strcmp(peer->host, host) == 0;
    return true;
}

static bool read_neighbours(struct group_place *place, const Wire__Welcome *welcome, const char *host)
{
    uint32_t rank = welcome->rank, size = welcome->size;
    if (size == 1) {
        place->next = place->previous = nobody;
        return true;
    }
    return read_neighbour(&place->next, welcome->next, (rank + 1) % size, host) &&
           read_neighbour(&place->previous, welcome->previous, (rank + size - 1) % size, host);
}

int place_from_welcome(struct group_place *place, const Wire__Welcome *welcome, const char *host, int size,
                       struct tutti_error *error)
{
    uint32_t size_max = (uint32_t)size, size_min = welcome->reformed ? 1 : size_max;
    struct group_place read = {
        .rank = (int)welcome->rank,
        .size = (int)welcome->size,
        .local_size = (int)welcome->local_size,
        .instance = welcome->instance,
        .generation = welcome->generation,
        .embedded = welcome->embedded,
        .server = welcome->server,
    };
    memcpy(read.member_id, place->member_id, MEMBER_ID_BYTES);
    if (welcome->size < size_min || welcome->size > size_max || welcome->rank >= welcome->size ||
        welcome->local_size < 1 || welcome->local_size > welcome->size || welcome->instance == 0 ||
        welcome->generation == 0 || !read_neighbours(&read, welcome, host))
        return error_set(error, TUTTI_ERR_PROTOCOL,
                         "the rendezvous sent a welcome that makes no sense (rank %u of %u, where a group of "
                         "%s%d was asked for): install the same version of tutti on every host",
                         (unsigned)welcome->rank, (unsigned)welcome->size, welcome->reformed ? "up to " : "",
                         size);
    *place = read;
    return TUTTI_OK;
}

void place_read_reformed(const Wire__Reformed *reformed, struct tutti_reform_info *info)
{
    if (!reformed)
        return;
    info->previous_generation = reformed->previous_generation;
    info->previous_rank = (int)reformed->previous_rank;
    info->previous_size = (int)reformed->previous_size;
    info->completed_everywhere = reformed->completed_everywhere;
    info->completed_anywhere = reformed->completed_anywhere;
    snprintf(info->lost, sizeof info->lost, "%s", reformed->lost);
    if (reformed->cause)
        control_to_error(reformed->cause, &info->cause);
}

/* ---- Hellos ------------------------------------------------------------------------------------ */

struct hello place_hello(const struct group_place *place, uint8_t role, int to)
{
    struct hello hello = {
        .role = role,
        .instance = place->instance,
        .generation = place->generation,
        .from = (uint32_t)place->rank,
        .to = (uint32_t)to,
    };
    memcpy(hello.member_id, place->member_id, MEMBER_ID_BYTES);
    return hello;
}

static bool is_of_this_group(const struct group_place *place, const struct hello *hello)
{
    return place->rank >= 0 && hello->instance == place->instance && hello->generation == place->generation;
}

static bool is_from(const struct neighbour *neighbour, const struct hello *hello)
{
    return neighbour->rank >= 0 && hello->from == (uint32_t)neighbour->rank &&
           memcmp(hello->member_id, neighbour->member_id, MEMBER_ID_BYTES) == 0;
}

int place_judge_hello(const struct group_place *place, const struct hello *hello)
{
    if (!is_of_this_group(place, hello))
        return HELLO_WRONG_GROUP;
    if (hello->to != (uint32_t)place->rank || !is_from(&place->previous, hello))
        return HELLO_WRONG_RANK;
    return HELLO_ACCEPTED;
}

int place_check_answer_of(const struct group_place *place, const struct neighbour *peer,
                          const struct hello *answer, struct tutti_error *error)
{
    if (answer->verdict != HELLO_ACCEPTED)
        return error_set(error, TUTTI_ERR_PROTOCOL, "%s refused the %s connection: %s", peer->text,
                         answer->role == HELLO_DATA      ? "data"
                         : answer->role == HELLO_CONTROL ? "control"
                                                         : "arena",
                         hello_verdict_text(answer->verdict));
    if (!is_of_this_group(place, answer) || answer->to != (uint32_t)place->rank || !is_from(peer, answer))
        return error_set(error, TUTTI_ERR_PROTOCOL, "another process than %s answers at its address",
                         peer->text);
    return TUTTI_OK;
}

int place_check_answer(const struct group_place *place, const struct hello *answer, struct tutti_error *error)
{
    return place_check_answer_of(place, &place->next, answer, error);
}
