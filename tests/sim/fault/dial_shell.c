/* Dialling, as engine/dial.c does it where the other rank has one address. */
#include "base/error.h"
#include "tests/sim/fault/comm.h"

#define RETRY_NS    (20 * NS_PER_MS)
#define HELLO_TRIES 64 /* writes of a hello, since a write may go in part */

bool hello_send(struct end *end, const struct hello *hello)
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

static void dial_again(void *context);

static void finish(struct dialler *d, struct end *end)
{
    d->comm = NULL;
    d->events->done(d->context, end, &d->why);
}

static void attempt_failed(struct dialler *d)
{
    struct network *network = &d->comm->sim->network;
    if (d->end)
        end_close(d->end);
    d->end = NULL;
    if (d->give_up_ms > 0 && network->now_ns - d->started_ns >= d->give_up_ms * NS_PER_MS)
        finish(d, NULL);
    else
        event_set(network, &d->retry, d->comm->node, RETRY_NS, dial_again, d);
}

static void on_answer(void *context)
{
    struct dialler *d = context;
    struct hello hello;
    while (d->have < HELLO_BYTES) {
        int n = end_read(d->end, d->answer + d->have, HELLO_BYTES - d->have);
        if (n == READ_NOTHING)
            return;
        if (n < 0) {
            error_set(&d->why, TUTTI_ERR_UNREACHABLE, "it closed the connection instead of saying hello");
            attempt_failed(d);
            return;
        }
        d->have += (uint32_t)n;
    }
    if (hello_decode(d->answer, &hello, &d->why) < 0 || d->events->check(d->context, &hello, &d->why) < 0) {
        attempt_failed(d);
        return;
    }
    struct end *end = d->end;
    d->end = NULL;
    end->ready = NULL; /* what follows is the receiver's */
    finish(d, end);
}

static void on_dialled(void *context, struct end *end)
{
    struct dialler *d = context;
    d->end = end;
    d->have = 0;
    if (!end || !hello_send(end, &d->hello)) {
        error_set(&d->why, TUTTI_ERR_UNREACHABLE, "nobody answers at address %d", d->address);
        attempt_failed(d);
        return;
    }
    failpoint_hit(&d->comm->process->failpoints, FAILPOINT_hello_sent);
    end_attach(end, on_answer, d);
}

static void dial_again(void *context)
{
    struct dialler *d = context;
    network_dial(&d->comm->sim->network, &d->dial, d->comm->node, d->address, ATTEMPT_TIMEOUT_MS * NS_PER_MS,
                 on_dialled, d);
}

void dialler_start(struct dialler *d)
{
    d->started_ns = d->comm->sim->network.now_ns;
    d->why = (struct tutti_error)TUTTI_ERROR_INIT;
    dial_again(d);
}

void dialler_stop(struct dialler *d)
{
    if (!d->comm)
        return;
    network_hang_up(&d->dial);
    event_cancel(&d->comm->sim->network, &d->retry);
    if (d->end && !d->comm->node->dead) /* else the kernel has closed it */
        end_close(d->end);
    d->end = NULL;
    d->comm = NULL;
}
