#include "wire/control.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/error.h"
#include "base/text.h"
#include "wire/frame.h"
#include "wire/hello.h"

#define TEXT_BYTES_MAX 4096
#define ADDRESSES_MAX  64
#define RANKS_MAX      4096
#define CORES_MAX      65536

/* ---- Encoding ---------------------------------------------------------------------------------- */

static uint8_t *pack(const Wire__Control *message, size_t *size)
{
    size_t packed = wire__control__get_packed_size(message);
    if (packed > FRAME_CONTROL_BYTES_MAX)
        return NULL;
    uint8_t *bytes = malloc(packed);
    if (!bytes)
        return NULL;
    *size = wire__control__pack(message, bytes);
    return bytes;
}

/* `text` cut to `size` and on one line. */
static char *one_line(const char *text, char *line, size_t size)
{
    snprintf(line, size, "%s", text);
    text_to_one_line(line);
    return line;
}

static void clean_abort(Wire__Abort *abort, struct tutti_error *limits)
{
    abort->host = one_line(abort->host, limits->host, sizeof limits->host);
    abort->operation = one_line(abort->operation, limits->operation, sizeof limits->operation);
    abort->message = one_line(abort->message, limits->message, sizeof limits->message);
}

/* A copy of the message down to its failure, wherever it carries one. */
struct with_failure {
    Wire__Control message;
    union {
        Wire__Join join;
        Wire__Welcome welcome;
    };
    union {
        Wire__Previous previous;
        Wire__Reformed reformed;
    };
    Wire__Abort abort;
};

/* Returns what is to be encoded: the copy, or `message` itself where it carries no failure. */
static const Wire__Control *copy_failure(const Wire__Control *message, struct with_failure *copy)
{
    copy->message = *message;
    if (message->body_case == WIRE__CONTROL__BODY_ABORT) {
        copy->abort = *message->abort;
        copy->message.abort = &copy->abort;
    } else if (message->body_case == WIRE__CONTROL__BODY_JOIN && message->join->previous &&
               message->join->previous->cause) {
        copy->join = *message->join;
        copy->previous = *copy->join.previous;
        copy->abort = *copy->previous.cause;
        copy->message.join = &copy->join;
        copy->join.previous = &copy->previous;
        copy->previous.cause = &copy->abort;
    } else if (message->body_case == WIRE__CONTROL__BODY_WELCOME && message->welcome->reformed &&
               message->welcome->reformed->cause) {
        copy->welcome = *message->welcome;
        copy->reformed = *copy->welcome.reformed;
        copy->abort = *copy->reformed.cause;
        copy->message.welcome = &copy->welcome;
        copy->welcome.reformed = &copy->reformed;
        copy->reformed.cause = &copy->abort;
    } else {
        return message;
    }
    return &copy->message;
}

/* The reason of an abort may come from a user, with line breaks and all, and at any length; the news of a
 * failure must not be refused for that. */
uint8_t *control_encode(const Wire__Control *message, size_t *size)
{
    struct with_failure copy;
    struct tutti_error limits;
    assert(message->body_case != WIRE__CONTROL__BODY__NOT_SET);
    const Wire__Control *encoded = copy_failure(message, &copy);
    if (encoded != message)
        clean_abort(&copy.abort, &limits);
    return pack(encoded, size);
}

/* ---- Decoding ---------------------------------------------------------------------------------- */

static int refuse(struct tutti_error *error, const char *what, const char *name)
{
    return error_set(
        error, TUTTI_ERR_PROTOCOL,
        "a control message is not valid: %s %s; the peer is not tutti or runs another build of it", name,
        what);
}

static int check_text(const char *text, const char *name, struct tutti_error *error)
{
    if (strnlen(text, TEXT_BYTES_MAX + 1) > TEXT_BYTES_MAX)
        return refuse(error, "is longer than 4096 bytes", name);
    if (text_has_control(text))
        return refuse(error, "contains control characters", name);
    return TUTTI_OK;
}

static int check_member_id(const ProtobufCBinaryData *id, struct tutti_error *error)
{
    return id->len == MEMBER_ID_BYTES ? TUTTI_OK : refuse(error, "is not 16 bytes long", "the member id");
}

static int check_addresses(char *const *addresses, size_t count, struct tutti_error *error)
{
    if (count > ADDRESSES_MAX)
        return refuse(error, "are more than 64", "the addresses");
    for (size_t i = 0; i < count; i++) {
        int status = check_text(addresses[i], "an address", error);
        if (status < 0)
            return status;
    }
    return TUTTI_OK;
}

/* NULL where there is none. */
static int check_abort(const Wire__Abort *abort, struct tutti_error *error)
{
    if (!abort)
        return TUTTI_OK;
    int status = check_text(abort->host, "the host name", error);
    if (status == TUTTI_OK)
        status = check_text(abort->operation, "the operation", error);
    if (status == TUTTI_OK)
        status = check_text(abort->message, "the message", error);
    return status;
}

static int check_join(const Wire__Join *join, struct tutti_error *error)
{
    int status = check_member_id(&join->member_id, error);
    if (status == TUTTI_OK)
        status = check_text(join->job, "the job name", error);
    if (status == TUTTI_OK)
        status = check_text(join->host, "the host identity", error);
    if (status == TUTTI_OK)
        status = check_text(join->host_name, "the host name", error);
    if (status == TUTTI_OK)
        status = check_addresses(join->addresses, join->n_addresses, error);
    if (status == TUTTI_OK)
        status = check_text(join->agreement, "the agreement", error);
    if (status == TUTTI_OK && join->previous)
        status = check_abort(join->previous->cause, error);
    return status;
}

static int check_peer(const Wire__Peer *peer, struct tutti_error *error)
{
    if (!peer)
        return TUTTI_OK;
    int status = check_member_id(&peer->member_id, error);
    if (status == TUTTI_OK)
        status = check_text(peer->host, "the host identity", error);
    if (status == TUTTI_OK)
        status = check_text(peer->host_name, "the host name", error);
    if (status == TUTTI_OK)
        status = check_addresses(peer->addresses, peer->n_addresses, error);
    return status;
}

static int check_welcome(const Wire__Welcome *welcome, struct tutti_error *error)
{
    int status = check_peer(welcome->next, error);
    if (status == TUTTI_OK)
        status = check_peer(welcome->previous, error);
    if (status == TUTTI_OK && welcome->reformed)
        status = check_text(welcome->reformed->lost, "the list of lost ranks", error);
    if (status == TUTTI_OK && welcome->reformed)
        status = check_abort(welcome->reformed->cause, error);
    return status;
}

static int check_missing(const Wire__Missing *missing, struct tutti_error *error)
{
    if (missing->n_ranks > RANKS_MAX)
        return refuse(error, "are more than 4096", "the missing ranks");
    int status = check_text(missing->host, "the host name", error);
    return status < 0 ? status : check_text(missing->text, "the text", error);
}

/* The text of a file, which has lines. */
static int check_tuning(const char *tuning, struct tutti_error *error)
{
    if (strnlen(tuning, TEXT_BYTES_MAX + 1) > TEXT_BYTES_MAX)
        return refuse(error, "is longer than 4096 bytes", "the tuning");
    for (const char *c = tuning; *c != '\0'; c++) {
        if (text_is_control(*c) && *c != '\n' && *c != '\t')
            return refuse(error, "contains control characters", "the tuning");
    }
    return TUTTI_OK;
}

static int check_card(const Wire__Card *card, struct tutti_error *error)
{
    if (!card->peer)
        return refuse(error, "is missing", "the member of a card");
    if (card->peer->rank >= RANKS_MAX)
        return refuse(error, "is more than 4095", "the rank of a card");
    if (card->cores == 0 || card->cores > CORES_MAX)
        return refuse(error, "are none or more than 65536", "the cores of a card");
    int status = check_peer(card->peer, error);
    return status < 0 ? status : check_tuning(card->tuning, error);
}

static int check_body(const Wire__Control *message, struct tutti_error *error)
{
    switch (message->body_case) {
    case WIRE__CONTROL__BODY_JOIN:
        return check_join(message->join, error);
    case WIRE__CONTROL__BODY_WELCOME:
        return check_welcome(message->welcome, error);
    case WIRE__CONTROL__BODY_WAITING:
        return check_text(message->waiting->text, "the text", error);
    case WIRE__CONTROL__BODY_REFUSED:
        return check_text(message->refused->reason, "the reason", error);
    case WIRE__CONTROL__BODY_ABORT:
        return check_abort(message->abort, error);
    case WIRE__CONTROL__BODY_PRESENT:
        return check_text(message->present->call, "the call", error);
    case WIRE__CONTROL__BODY_MISSING:
        return check_missing(message->missing, error);
    case WIRE__CONTROL__BODY_CARD:
        return check_card(message->card, error);
    case WIRE__CONTROL__BODY_GOODBYE:
    case WIRE__CONTROL__BODY_WIRED:
    case WIRE__CONTROL__BODY_LATE:
    case WIRE__CONTROL__BODY_ROLL_CALL:
        return TUTTI_OK;
    default:
        return refuse(error, "is missing or of an unknown kind", "its body");
    }
}

Wire__Control *control_decode(const uint8_t *bytes, size_t size, struct tutti_error *error)
{
    if (size > FRAME_CONTROL_BYTES_MAX) {
        refuse(error, "is longer than 65536 bytes", "it");
        return NULL;
    }
    Wire__Control *message = wire__control__unpack(NULL, size, bytes);
    if (!message) {
        refuse(error, "cannot be decoded", "its content");
        return NULL;
    }
    if (check_body(message, error) < 0) {
        wire__control__free_unpacked(message, NULL);
        return NULL;
    }
    return message;
}

/* ---- Failures ---------------------------------------------------------------------------------- */

void control_from_error(const struct tutti_error *error, uint32_t from, Wire__Abort *abort)
{
    wire__abort__init(abort);
    abort->status = error->code;
    abort->rank = error->rank;
    abort->host = (char *)error->host;
    abort->operation = (char *)error->operation;
    abort->sequence = error->sequence;
    abort->message = (char *)error->message;
    abort->from = from;
    abort->moved_bytes = error->moved_bytes;
}

void control_to_error(const Wire__Abort *abort, struct tutti_error *error)
{
    *error = (struct tutti_error)TUTTI_ERROR_INIT;
    /* A peer's success or unknown code cannot be a failure here as it stands. */
    bool known = abort->status <= TUTTI_ERR_ARGUMENT && abort->status >= TUTTI_ERR_INTERNAL;
    error->code = known ? abort->status : TUTTI_ERR_ABORTED;
    error->rank = abort->rank < 0 ? -1 : abort->rank;
    error->sequence = abort->sequence;
    error->moved_bytes = abort->moved_bytes;
    snprintf(error->host, sizeof error->host, "%s", abort->host);
    snprintf(error->operation, sizeof error->operation, "%s", abort->operation);
    snprintf(error->message, sizeof error->message, "%s", abort->message);
}
