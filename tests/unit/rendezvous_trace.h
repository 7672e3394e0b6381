/* For tests of the rendezvous: says what members say and writes down what they hear. */
#ifndef TUTTI_TESTS_RENDEZVOUS_TRACE_H
#define TUTTI_TESTS_RENDEZVOUS_TRACE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "group/rendezvous.h"

#define ANY        TUTTI_RANK_ANY
#define TIMEOUT_MS 60000
#define WARN_MS    10000

/* What was heard since the last look: "1 welcome 0/2 ...", one line for each message and close. */
struct trace {
    struct rendezvous *rendezvous;
    int64_t now_ms;
    uint64_t next_random;
    uint64_t instance;      /* of the latest group that anybody was welcomed to */
    int last_server;        /* the rank that the latest Welcome named */
    Wire__Abort last_abort; /* without its texts, which were borrowed */
    bool silent;            /* only counts */
    long sends, closes;
    char heard[8192];
    size_t used;
};

static void hear(struct trace *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void hear(struct trace *t, const char *format, ...)
{
    va_list arguments;
    if (t->silent)
        return;
    va_start(arguments, format);
    t->used += (size_t)vsnprintf(t->heard + t->used, sizeof t->heard - t->used, format, arguments);
    va_end(arguments);
    assert_true(t->used < sizeof t->heard);
}

static void hear_reformed(struct trace *t, const Wire__Reformed *reformed)
{
    assert_non_null(reformed->cause);
    hear(t, " was %u/%u gen %u completed %d-%d lost (%s) for: rank %d: %s", reformed->previous_rank,
         reformed->previous_size, reformed->previous_generation, (int)reformed->completed_everywhere,
         (int)reformed->completed_anywhere, reformed->lost, reformed->cause->rank, reformed->cause->message);
}

static void hear_welcome(struct trace *t, uint64_t connection, const Wire__Welcome *w)
{
    t->last_server = w->server;
    assert_true(w->instance != 0);
    t->instance = w->instance;
    hear(t, "%d welcome %u/%u gen %u local %u/%u hosts %u", (int)connection, w->rank, w->size, w->generation,
         w->local_rank, w->local_size, w->host_count);
    if (w->next)
        hear(t, " next %u at %s previous %u at %s", w->next->rank, w->next->addresses[0], w->previous->rank,
             w->previous->addresses[0]);
    if (w->embedded)
        hear(t, " embedded");
    if (w->reformed)
        hear_reformed(t, w->reformed);
    hear(t, "\n");
}

static void hear_missing(struct trace *t, uint64_t connection, const Wire__Missing *missing)
{
    hear(t, "%d missing gen %u in %d:", (int)connection, missing->generation, (int)missing->sequence);
    for (size_t i = 0; i < missing->n_ranks; i++)
        hear(t, " %u", missing->ranks[i]);
    hear(t, " (%s)\n", missing->text);
}

static void on_send(void *context, uint64_t connection, const Wire__Control *message)
{
    struct trace *t = context;
    t->sends++;
    switch ((int)message->body_case) {
    case WIRE__CONTROL__BODY_WELCOME:
        hear_welcome(t, connection, message->welcome);
        break;
    case WIRE__CONTROL__BODY_WAITING:
        hear(t, "%d waiting: %s\n", (int)connection, message->waiting->text);
        break;
    case WIRE__CONTROL__BODY_REFUSED:
        hear(t, "%d refused %s: %s\n", (int)connection,
             message->refused->status == TUTTI_ERR_TIMEOUT    ? "timeout"
             : message->refused->status == TUTTI_ERR_PROTOCOL ? "protocol"
             : message->refused->status == TUTTI_ERR_REFUSED  ? "refused"
                                                              : "?",
             message->refused->reason);
        break;
    case WIRE__CONTROL__BODY_ABORT:
        assert_true(message->abort->instance != 0 && message->abort->generation != 0);
        t->last_abort = *message->abort;
        hear(t, "%d abort rank %d: %s\n", (int)connection, message->abort->rank, message->abort->message);
        break;
    case WIRE__CONTROL__BODY_ROLL_CALL:
        hear(t, "%d roll call gen %u\n", (int)connection, message->roll_call->generation);
        break;
    case WIRE__CONTROL__BODY_MISSING:
        hear_missing(t, connection, message->missing);
        break;
    default:
        fail_msg("the rendezvous sent a message of kind %d", (int)message->body_case);
    }
}

static void on_close(void *context, uint64_t connection)
{
    struct trace *t = context;
    t->closes++;
    hear(t, "%d close\n", (int)connection);
}

static uint64_t on_random(void *context)
{
    struct trace *t = context;
    uint64_t random = t->next_random;
    t->next_random += 10;
    return random;
}

static int set_up(void **state)
{
    struct trace *t = calloc(1, sizeof *t);
    assert_non_null(t);
    const struct rendezvous_output output = {t, on_send, on_close, on_random};
    t->rendezvous = rendezvous_new(&output, false);
    assert_non_null(t->rendezvous);
    *state = t;
    return 0;
}

static int tear_down(void **state)
{
    struct trace *t = *state;
    rendezvous_free(t->rendezvous);
    free(t);
    return 0;
}

/* What was heard since the last look. */
static const char *heard(struct trace *t)
{
    static char text[sizeof t->heard];
    memcpy(text, t->heard, t->used + 1);
    t->used = 0;
    t->heard[0] = '\0';
    return text;
}

#define assert_heard(t, expected) assert_string_equal(heard(t), expected)

/* Everything that a member says, so that a test can change one thing. */
struct candidate {
    const char *job;
    const char *id; /* up to 16 characters */
    int rank;
    uint32_t size;
    const char *host;
    uint64_t slice_bytes;
    bool checksum;
    uint32_t timeout_ms, warn_ms;
    const char *address;      /* NULL: made of the id */
    uint32_t pid;             /* 0: made of the connection */
    Wire__Previous *previous; /* NULL: a new member */
    uint32_t dead_after_ms;   /* 0: not told */
    bool serves;              /* the rendezvous lives in its process */
    const char *agreement;    /* NULL: "" */
};

static inline void tell(struct trace *t, uint64_t connection, Wire__Control__BodyCase body_case, void *body)
{
    Wire__Control message = WIRE__CONTROL__INIT;
    message.body_case = body_case;
    message.join = body; /* whichever of the union it is */
    rendezvous_receive(t->rendezvous, connection, &message, t->now_ms);
}

static void say(struct trace *t, uint64_t connection, const struct candidate *candidate)
{
    uint8_t id[16] = {0};
    char address[32], *addresses[] = {address}, job[1000], host[100], host_name[120], agreement[4097];
    Wire__Join join = WIRE__JOIN__INIT;
    memcpy(id, candidate->id, strlen(candidate->id));
    snprintf(address, sizeof address, "unix:@%s", candidate->address ? candidate->address : candidate->id);
    snprintf(job, sizeof job, "%s", candidate->job);
    snprintf(host, sizeof host, "%s", candidate->host);
    snprintf(host_name, sizeof host_name, "%s.name", candidate->host);
    snprintf(agreement, sizeof agreement, "%s", candidate->agreement ? candidate->agreement : "");
    join.job = job;
    join.member_id = (ProtobufCBinaryData){sizeof id, id};
    join.rank = candidate->rank;
    join.size = candidate->size;
    join.host = host;
    join.host_name = host_name;
    join.pid = candidate->pid ? candidate->pid : (uint32_t)connection + 100;
    join.addresses = addresses;
    join.n_addresses = 1;
    join.slice_bytes = candidate->slice_bytes;
    join.checksum = candidate->checksum;
    join.join_timeout_ms = candidate->timeout_ms;
    join.missing_after_ms = candidate->warn_ms;
    join.previous = candidate->previous;
    join.dead_after_ms = candidate->dead_after_ms;
    join.serves = candidate->serves;
    join.agreement = agreement;
    tell(t, connection, WIRE__CONTROL__BODY_JOIN, &join);
    /* The machine must not keep what was lent to it. */
    memset(id, 0xdd, sizeof id);
    memset(job, 0xdd, sizeof job - 1);
    memset(agreement, 0xdd, sizeof agreement - 1);
    memset(host, 0xdd, sizeof host - 1);
    memset(address, 0xdd, sizeof address - 1);
}

static struct candidate member(const char *id, int rank, uint32_t size, const char *host)
{
    return (struct candidate){"job", id,         rank,    size, host, 1 << 18,
                              false, TIMEOUT_MS, WARN_MS, NULL, 0,    NULL};
}

static void join(struct trace *t, uint64_t connection, const char *id, int rank, uint32_t size,
                 const char *host)
{
    struct candidate candidate = member(id, rank, size, host);
    say(t, connection, &candidate);
}

static inline void hang_up(struct trace *t, uint64_t connection)
{
    rendezvous_disconnected(t->rendezvous, connection, t->now_ms);
}

/* ---- The life of a group ------------------------------------------------------------------------- */

static inline void say_goodbye(struct trace *t, uint64_t connection)
{
    Wire__Goodbye body = WIRE__GOODBYE__INIT;
    tell(t, connection, WIRE__CONTROL__BODY_GOODBYE, &body);
}

static inline void say_wired(struct trace *t, uint64_t connection, uint32_t generation)
{
    Wire__Wired body = WIRE__WIRED__INIT;
    body.generation = generation;
    tell(t, connection, WIRE__CONTROL__BODY_WIRED, &body);
}

/* "lost rank 2" of the latest group, or another reason where `lost` is -1. */
static inline Wire__Abort failure(struct trace *t, uint32_t generation, int lost, const char *text)
{
    Wire__Abort body = WIRE__ABORT__INIT;
    body.status = lost < 0 ? TUTTI_ERR_ABORTED : TUTTI_ERR_PEER_LOST;
    body.rank = lost;
    body.host = (char *)"";
    body.operation = (char *)"";
    body.message = (char *)text;
    body.instance = t->instance;
    body.generation = generation;
    return body;
}

static inline void say_abort(struct trace *t, uint64_t connection, uint32_t generation, int lost,
                             const char *text)
{
    Wire__Abort body = failure(t, generation, lost, text);
    tell(t, connection, WIRE__CONTROL__BODY_ABORT, &body);
}

/* What a survivor knows of the latest group. */
static inline Wire__Previous of_group(struct trace *t, uint32_t generation, uint32_t rank, uint32_t size,
                                      uint64_t completed)
{
    Wire__Previous previous = WIRE__PREVIOUS__INIT;
    previous.instance = t->instance;
    previous.generation = generation;
    previous.rank = rank;
    previous.size = size;
    previous.completed = completed;
    return previous;
}

static inline void survive(struct trace *t, uint64_t connection, const char *id, Wire__Previous previous)
{
    struct candidate candidate = member(id, ANY, previous.size, "h");
    candidate.previous = &previous;
    say(t, connection, &candidate);
}

/* As survive(), and tells for how long a neighbour may be silent. */
static inline void survive_impatiently(struct trace *t, uint64_t connection, const char *id,
                                       Wire__Previous previous, uint32_t dead_after_ms)
{
    struct candidate candidate = member(id, ANY, previous.size, "h");
    candidate.previous = &previous;
    candidate.dead_after_ms = dead_after_ms;
    say(t, connection, &candidate);
}

static inline int64_t wait_until(struct trace *t, int64_t now_ms)
{
    t->now_ms = now_ms;
    return rendezvous_tick(t->rendezvous, now_ms);
}

/* "a", "b", ... on connections 1, 2, ... as ranks 0, 1, ..., all wired. */
static inline void begin(struct trace *t, uint32_t size)
{
    for (uint32_t rank = 0; rank < size; rank++) {
        char id[2] = {(char)('a' + rank)};
        join(t, rank + 1, id, (int)rank, size, "h");
    }
    for (uint32_t rank = 0; rank < size; rank++)
        say_wired(t, rank + 1, 1);
    heard(t);
}

#define TRACE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
