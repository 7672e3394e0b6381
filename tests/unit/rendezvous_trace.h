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
    bool silent; /* only counts */
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

static void hear_welcome(struct trace *t, uint64_t connection, const Wire__Welcome *w)
{
    hear(t, "%d welcome %u/%u gen %u local %u/%u hosts %u", (int)connection, w->rank, w->size, w->generation,
         w->local_rank, w->local_size, w->host_count);
    if (w->next)
        hear(t, " next %u at %s previous %u at %s", w->next->rank, w->next->addresses[0], w->previous->rank,
             w->previous->addresses[0]);
    hear(t, "\n");
}

static void on_send(void *context, uint64_t connection, const Wire__Control *message)
{
    struct trace *t = context;
    t->sends++;
    switch ((int)message->body_case) {
    case WIRE__CONTROL__BODY_WELCOME:
        assert_true(message->welcome->instance != 0);
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
    return t->next_random++;
}

static int set_up(void **state)
{
    struct trace *t = calloc(1, sizeof *t);
    assert_non_null(t);
    const struct rendezvous_output output = {t, on_send, on_close, on_random};
    t->rendezvous = rendezvous_new(&output);
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
};

static void say(struct trace *t, uint64_t connection, const struct candidate *candidate)
{
    uint8_t id[16] = {0};
    char address[32], *addresses[] = {address}, job[1000], host[100], host_name[120];
    Wire__Join join = WIRE__JOIN__INIT;
    Wire__Control message = WIRE__CONTROL__INIT;
    memcpy(id, candidate->id, strlen(candidate->id));
    snprintf(address, sizeof address, "unix:@%s", candidate->id);
    snprintf(job, sizeof job, "%s", candidate->job);
    snprintf(host, sizeof host, "%s", candidate->host);
    snprintf(host_name, sizeof host_name, "%s.name", candidate->host);
    join.job = job;
    join.member_id = (ProtobufCBinaryData){sizeof id, id};
    join.rank = candidate->rank;
    join.size = candidate->size;
    join.host = host;
    join.host_name = host_name;
    join.pid = (uint32_t)connection + 100;
    join.addresses = addresses;
    join.n_addresses = 1;
    join.slice_bytes = candidate->slice_bytes;
    join.checksum = candidate->checksum;
    join.join_timeout_ms = candidate->timeout_ms;
    join.missing_after_ms = candidate->warn_ms;
    message.body_case = WIRE__CONTROL__BODY_JOIN;
    message.join = &join;
    rendezvous_receive(t->rendezvous, connection, &message, t->now_ms);
    /* The machine must not keep what was lent to it. */
    memset(id, 0xdd, sizeof id);
    memset(job, 0xdd, sizeof job - 1);
    memset(host, 0xdd, sizeof host - 1);
    memset(address, 0xdd, sizeof address - 1);
}

static struct candidate member(const char *id, int rank, uint32_t size, const char *host)
{
    return (struct candidate){"job", id, rank, size, host, 1 << 18, false, TIMEOUT_MS, WARN_MS};
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

static inline int64_t wait_until(struct trace *t, int64_t now_ms)
{
    t->now_ms = now_ms;
    return rendezvous_tick(t->rendezvous, now_ms);
}

#define TRACE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
