/* Every operation, type, reduction and many counts, in place and out of place, issued in every way that
 * tutti.h offers, through the public interface alone.  Each element of each result is checked, as are the
 * bytes around it.  Runs in any group of 1 to 8 ranks: tutti run -n 4 -- collectives [--expect-transport
 * uds|tcp] [--print-links] [--large] */
#include <getopt.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "elements.h"

#define GUARD_BYTES 64 /* before and after each buffer; also keeps the alignment of malloc */
#define GUARD_VALUE 0xA5
#define REDUCED     (-1) /* as the source of a pattern: the reduction over all ranks */
#define FUSED_MAX   8

enum issue { ISSUE_BLOCKING, ISSUE_START, ISSUE_RUN, ISSUE_POLL };
static const char *const issue_names[] = {"blocking", "start and wait", "run in slices", "start and poll"};

struct job {
    tutti_comm *comm;
    int rank, size;
    long checked; /* calls */
};

/* One call with its buffers. */
struct exercise {
    struct tutti_call call;
    bool in_place;
    const char *issue;
    size_t send_count, recv_count; /* elements of each buffer on this rank */
    unsigned char *send_memory, *recv_memory;
};

static const struct operation_shape {
    enum tutti_operation op;
    const char *name;
    bool reduces, has_root;
} operations[] = {
    {TUTTI_ALL_REDUCE, "all_reduce", true, false},         {TUTTI_BROADCAST, "broadcast", false, true},
    {TUTTI_ALL_GATHER, "all_gather", false, false},        {TUTTI_GATHER, "gather", false, true},
    {TUTTI_REDUCE_SCATTER, "reduce_scatter", true, false},
};
#define OPERATIONS ((int)(sizeof operations / sizeof operations[0]))

static _Noreturn void fail(const struct job *job, const struct exercise *e, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static _Noreturn void fail(const struct job *job, const struct exercise *e, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "rank %d of %d: %s\n", job->rank, job->size, text);
    if (e != NULL) {
        const struct tutti_call *c = &e->call;
        fprintf(stderr, "  in operation %d, count %zu, type %d, reduction %d, root %d, %s, %s\n", (int)c->op,
                c->count, (int)c->type, (int)c->reduction, c->root, e->in_place ? "in place" : "out of place",
                e->issue);
    }
    struct tutti_error error = TUTTI_ERROR_INIT;
    if (tutti_get_error(job->comm, &error) == TUTTI_OK && error.code != TUTTI_OK)
        fprintf(stderr, "  tutti says: %s: %s\n", tutti_error_name(error.code), error.message);
    exit(1);
}

static void expect(const struct job *job, const struct exercise *e, int status)
{
    if (status != TUTTI_OK)
        fail(job, e, "returned %s", tutti_error_name(status));
}

/* Elements offset, offset + 1, ... of what `source` contributes, or of the reduction. */
static void fill(const struct job *job, const struct exercise *e, void *buffer, size_t count, size_t offset,
                 int source)
{
    enum tutti_reduction reduction = e->call.reduction;
    size_t period = PATTERN_PERIOD(job->size);
    for (size_t i = 0; i < count && i < period; i++) {
        size_t at = offset + i;
        int value = source == REDUCED ? pattern_reduced(job->size, at, e->call.type, reduction)
                                      : pattern(source, job->size, at, e->call.type, reduction);
        element_set(buffer, i, e->call.type, value);
    }
    elements_repeat(buffer, period, count, tutti_type_size(e->call.type));
}

static void verify(const struct job *job, const struct exercise *e, const void *got, size_t count,
                   size_t offset, int source, const char *what)
{
    uint64_t expected[PATTERN_PERIOD(PATTERN_SIZE_MAX)];
    size_t period = PATTERN_PERIOD(job->size), bytes = tutti_type_size(e->call.type);
    fill(job, e, expected, count < period ? count : period, offset, source);
    size_t at = elements_difference(got, expected, period, count, bytes);
    if (at == count)
        return;
    uint64_t g = 0, x = 0;
    memcpy(&g, (const char *)got + at * bytes, bytes);
    memcpy(&x, (const char *)expected + at % period * bytes, bytes);
    fail(job, e, "element %zu of %s is 0x%llx and should be 0x%llx", at, what, (unsigned long long)g,
         (unsigned long long)x);
}

static unsigned char *buffer_new(size_t bytes)
{
    unsigned char *memory = malloc(bytes + 2 * GUARD_BYTES);
    if (memory == NULL) {
        perror("malloc");
        exit(1);
    }
    memset(memory, GUARD_VALUE, bytes + 2 * GUARD_BYTES);
    return memory;
}

static void verify_guards(const struct job *job, const struct exercise *e, const unsigned char *memory,
                          size_t bytes)
{
    for (size_t i = 0; memory != NULL && i < GUARD_BYTES; i++)
        if (memory[i] != GUARD_VALUE || memory[GUARD_BYTES + bytes + i] != GUARD_VALUE)
            fail(job, e, "bytes outside of the buffer were written");
}

static void prepare_in_place(const struct job *job, struct exercise *e)
{
    struct tutti_call *c = &e->call;
    size_t bytes = tutti_type_size(c->type), part = (size_t)job->rank * c->count;
    if (c->op == TUTTI_REDUCE_SCATTER) {
        c->recv = (char *)c->send + part * bytes;
        fill(job, e, e->send_memory + GUARD_BYTES, e->send_count, 0, job->rank);
    } else if (c->op == TUTTI_ALL_GATHER || c->op == TUTTI_GATHER) {
        c->send = (char *)c->recv + part * bytes;
        fill(job, e, (char *)c->recv + part * bytes, c->count, 0, job->rank);
    } else {
        c->send = c->recv;
        if (c->op != TUTTI_BROADCAST || job->rank == c->root)
            fill(job, e, c->recv, c->count, 0, job->rank);
    }
}

/* Fills in the buffers of a call whose other fields are set. */
static void prepare(const struct job *job, struct exercise *e)
{
    struct tutti_call *c = &e->call;
    size_t all = (size_t)job->size * c->count, bytes = tutti_type_size(c->type);
    bool receives = c->op != TUTTI_GATHER || job->rank == c->root;
    bool sends = c->op != TUTTI_BROADCAST || job->rank == c->root;
    e->in_place = e->in_place && receives;
    e->send_count = c->op == TUTTI_REDUCE_SCATTER ? all : c->count;
    e->recv_count = c->op == TUTTI_ALL_GATHER || c->op == TUTTI_GATHER ? all : c->count;
    e->send_memory = e->recv_memory = NULL;
    c->send = NULL;
    c->recv = NULL;
    if (c->op == TUTTI_BARRIER)
        return;
    if (e->in_place ? c->op == TUTTI_REDUCE_SCATTER : sends) {
        e->send_memory = buffer_new(e->send_count * bytes);
        c->send = e->send_memory + GUARD_BYTES;
    }
    if (e->in_place ? c->op != TUTTI_REDUCE_SCATTER : receives) {
        e->recv_memory = buffer_new(e->recv_count * bytes);
        c->recv = e->recv_memory + GUARD_BYTES;
    }
    if (e->in_place)
        prepare_in_place(job, e);
    else if (sends)
        fill(job, e, e->send_memory + GUARD_BYTES, e->send_count, 0, job->rank);
}

static void verify_output(const struct job *job, const struct exercise *e)
{
    const struct tutti_call *c = &e->call;
    size_t bytes = tutti_type_size(c->type);
    switch (c->op) {
    case TUTTI_ALL_REDUCE:
        verify(job, e, c->recv, c->count, 0, REDUCED, "the result");
        break;
    case TUTTI_BROADCAST:
        verify(job, e, c->recv, c->count, 0, c->root, "the result");
        break;
    case TUTTI_REDUCE_SCATTER:
        verify(job, e, c->recv, c->count, (size_t)job->rank * c->count, REDUCED, "the result");
        break;
    case TUTTI_ALL_GATHER:
    case TUTTI_GATHER:
        for (int r = 0; c->recv != NULL && r < job->size; r++)
            verify(job, e, (char *)c->recv + (size_t)r * c->count * bytes, c->count, 0, r,
                   "a rank's part of the result");
        break;
    case TUTTI_BARRIER:
        break;
    }
}

/* `send` must be as it was, but for the part of it that an in-place reduce_scatter receives into. */
static void verify_input(const struct job *job, const struct exercise *e)
{
    const struct tutti_call *c = &e->call;
    const char *send = (const char *)e->send_memory + GUARD_BYTES;
    size_t bytes = tutti_type_size(c->type), own = (size_t)job->rank * c->count;
    if (e->send_memory == NULL)
        return;
    if (!e->in_place) {
        verify(job, e, send, e->send_count, 0, job->rank, "the input afterwards");
        return;
    }
    verify(job, e, send, own, 0, job->rank, "the input before the own part");
    size_t after = own + c->count;
    verify(job, e, send + after * bytes, e->send_count - after, after, job->rank,
           "the input after the own part");
}

static void check_and_release(struct job *job, struct exercise *e)
{
    size_t bytes = e->call.op == TUTTI_BARRIER ? 0 : tutti_type_size(e->call.type);
    verify_output(job, e);
    verify_input(job, e);
    verify_guards(job, e, e->send_memory, e->send_count * bytes);
    verify_guards(job, e, e->recv_memory, e->recv_count * bytes);
    free(e->send_memory);
    free(e->recv_memory);
    job->checked++;
}

static int call_blocking(tutti_comm *comm, const struct tutti_call *c)
{
    switch (c->op) {
    case TUTTI_ALL_REDUCE:
        return tutti_all_reduce(comm, c->send, c->recv, c->count, c->type, c->reduction);
    case TUTTI_BROADCAST:
        return tutti_broadcast(comm, c->send, c->recv, c->count, c->type, c->root);
    case TUTTI_ALL_GATHER:
        return tutti_all_gather(comm, c->send, c->recv, c->count, c->type);
    case TUTTI_GATHER:
        return tutti_gather(comm, c->send, c->recv, c->count, c->type, c->root);
    case TUTTI_REDUCE_SCATTER:
        return tutti_reduce_scatter(comm, c->send, c->recv, c->count, c->type, c->reduction);
    case TUTTI_BARRIER:
        return tutti_barrier(comm);
    }
    return TUTTI_ERR_ARGUMENT;
}

/* As a server does that has an event loop of its own. */
static void wait_by_poll(const struct job *job, const struct exercise *e, tutti_request **request)
{
    struct pollfd poller = {.fd = tutti_fd(job->comm), .events = POLLIN};
    if (poller.fd < 0)
        fail(job, e, "tutti_fd returned %s", tutti_error_name(poller.fd));
    if (poll(&poller, 1, -1) != 1)
        fail(job, e, "poll failed");
    expect(job, e, tutti_wait(request, 0));
    if (poll(&poller, 1, 0) != 0)
        fail(job, e, "tutti_fd is still readable though nothing is left to wait for");
}

static void issue(const struct job *job, const struct exercise *e, const struct tutti_call *calls,
                  size_t count, enum issue how)
{
    tutti_request *request = NULL;
    int status;
    switch (how) {
    case ISSUE_BLOCKING:
        expect(job, e, call_blocking(job->comm, calls));
        return;
    case ISSUE_START:
        expect(job, e, tutti_start(job->comm, calls, count, &request));
        expect(job, e, tutti_wait(&request, -1));
        break;
    case ISSUE_RUN:
        status = tutti_run(job->comm, calls, count, 1, &request);
        while (status == TUTTI_PENDING)
            status = tutti_wait(&request, 1);
        expect(job, e, status);
        break;
    case ISSUE_POLL:
        expect(job, e, tutti_start(job->comm, calls, count, &request));
        wait_by_poll(job, e, &request);
        break;
    }
    if (request != NULL)
        fail(job, e, "the request is not NULL after it completed");
}

static void exercise(struct job *job, struct exercise e, enum issue how)
{
    e.issue = issue_names[how];
    prepare(job, &e);
    issue(job, &e, &e.call, 1, how);
    check_and_release(job, &e);
}

/* One operation and count with every type and reduction, from the first and the last root. */
static void sweep(struct job *job, const struct operation_shape *shape, size_t count, enum issue how)
{
    int roots = shape->has_root && job->size > 1 ? 2 : 1;
    for (int t = 0; t < TYPES; t++)
        for (int r = 0; r < (shape->reduces ? REDUCTIONS : 1); r++)
            for (int variant = 0; variant < 2 * roots; variant++) {
                struct exercise e = {.in_place = variant % 2 == 1};
                e.call.op = shape->op;
                e.call.count = count;
                e.call.type = all_types[t];
                e.call.reduction = all_reductions[r];
                e.call.root = variant / 2 * (job->size - 1);
                exercise(job, e, how);
            }
}

static void test_matrix(struct job *job)
{
    size_t n = (size_t)job->size;
    const size_t counts[] = {0, 1, n - 1, n, n + 1, 7, 1009, 65537};
    const struct exercise barrier = {.call = {.op = TUTTI_BARRIER}};
    for (int o = 0; o < OPERATIONS; o++)
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++)
            sweep(job, &operations[o], counts[c], ISSUE_BLOCKING);
    for (enum issue how = ISSUE_START; how <= ISSUE_POLL; how++) {
        for (int o = 0; o < OPERATIONS; o++) {
            sweep(job, &operations[o], 0, how);
            sweep(job, &operations[o], how == ISSUE_POLL ? 1009 : n + 1, how);
        }
        exercise(job, barrier, how);
    }
    exercise(job, barrier, ISSUE_BLOCKING);
}

/* One of every operation, in sizes from nothing to many slices. */
static int mixture(const struct job *job, struct exercise *exercises, int turn)
{
    static const size_t counts[] = {5, 1009, 0, 300000, 1, 77};
    int count = 0;
    for (int o = 0; o < OPERATIONS; o++) {
        struct exercise *e = &exercises[count];
        *e = (struct exercise){.in_place = (o + turn) % 2 == 0, .issue = "several at once"};
        e->call.op = operations[o].op;
        e->call.count = counts[(o + turn) % (int)(sizeof counts / sizeof counts[0])];
        e->call.type = all_types[(3 * turn + o) % TYPES];
        e->call.reduction = operations[o].reduces ? all_reductions[(turn + o) % REDUCTIONS] : TUTTI_SUM;
        e->call.root = turn % job->size;
        e->call.timeout_ms = 60000;
        count++;
    }
    exercises[count++] = (struct exercise){.call = {.op = TUTTI_BARRIER}, .issue = "several at once"};
    return count;
}

static void test_several_at_once(struct job *job)
{
    for (int turn = 0; turn < 2 * TYPES; turn++) {
        struct exercise exercises[FUSED_MAX];
        struct tutti_call calls[FUSED_MAX];
        int count = mixture(job, exercises, turn);
        for (int i = 0; i < count; i++) {
            prepare(job, &exercises[i]);
            calls[i] = exercises[i].call;
        }
        issue(job, &exercises[0], calls, (size_t)count, ISSUE_START + turn % 3);
        for (int i = 0; i < count; i++)
            check_and_release(job, &exercises[i]);
    }
}

/* Many requests under way, a blocking call among them, waited for in the reverse order. */
static void test_requests_in_flight(struct job *job)
{
    for (int turn = 0; turn < TYPES; turn++) {
        struct exercise exercises[FUSED_MAX];
        tutti_request *requests[FUSED_MAX];
        int count = mixture(job, exercises, turn);
        for (int i = 0; i < count; i++) {
            exercises[i].issue = "in flight";
            prepare(job, &exercises[i]);
            expect(job, &exercises[i], tutti_start(job->comm, &exercises[i].call, 1, &requests[i]));
        }
        sweep(job, &operations[turn % OPERATIONS], 3, ISSUE_BLOCKING);
        for (int i = count - 1; i >= 0; i--) {
            expect(job, &exercises[i], tutti_wait(&requests[i], -1));
            check_and_release(job, &exercises[i]);
        }
    }
    tutti_request *nothing = NULL;
    expect(job, NULL, tutti_wait(&nothing, 0));
}

static void test_large(struct job *job)
{
    const size_t elements = ((size_t)64 << 20) / sizeof(float), n = (size_t)job->size;
    for (int o = 0; o < OPERATIONS; o++)
        for (int in_place = 0; in_place < 2; in_place++) {
            struct exercise e = {.in_place = in_place == 1};
            bool whole = operations[o].op == TUTTI_ALL_REDUCE || operations[o].op == TUTTI_BROADCAST;
            e.call.op = operations[o].op;
            e.call.count = whole ? elements : elements / n;
            e.call.type = TUTTI_FLOAT32;
            e.call.reduction = TUTTI_SUM;
            e.call.root = job->size - 1;
            exercise(job, e, in_place ? ISSUE_START : ISSUE_BLOCKING);
        }
}

static void check_links(const struct job *job, const char *expected, bool print)
{
    for (int index = 0; index < 2; index++) {
        struct tutti_link_info link = TUTTI_LINK_INFO_INIT;
        int status = tutti_get_link(job->comm, index, &link);
        if (job->size == 1) {
            if (status != TUTTI_ERR_ARGUMENT)
                fail(job, NULL, "a group of one has a link");
            continue;
        }
        expect(job, NULL, status);
        if (link.peer != (job->rank + (index == 0 ? 1 : job->size - 1)) % job->size)
            fail(job, NULL, "link %d leads to rank %d", index, link.peer);
        if (expected != NULL && strcmp(link.transport, expected) != 0)
            fail(job, NULL, "the link to rank %d is %s and should be %s", link.peer, link.transport,
                 expected);
        if (index == 0 ? link.sent_bytes == 0 : link.received_bytes == 0)
            fail(job, NULL, "the link with rank %d counted no bytes", link.peer);
        if (print)
            printf("link rank=%d index=%d peer=%d transport=%s sent=%llu received=%llu\n", job->rank, index,
                   link.peer, link.transport, (unsigned long long)link.sent_bytes,
                   (unsigned long long)link.received_bytes);
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"expect-transport", required_argument, NULL, 't'},
                                            {"print-links", no_argument, NULL, 'p'},
                                            {"large", no_argument, NULL, 'l'},
                                            {NULL, 0, NULL, 0}};
    const char *transport = NULL;
    bool print = false, large = false;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == '?')
            return 2;
        transport = option == 't' ? optarg : transport;
        print = print || option == 'p';
        large = large || option == 'l';
    }

    struct job job = {0};
    struct tutti_config config = TUTTI_CONFIG_INIT;
    expect(&job, NULL, tutti_init(&config, &job.comm));
    job.rank = tutti_rank(job.comm);
    job.size = tutti_size(job.comm);
    if (job.size > PATTERN_SIZE_MAX)
        fail(&job, NULL, "this test is exact for at most %d ranks", PATTERN_SIZE_MAX);

    if (large) {
        test_large(&job);
    } else {
        test_matrix(&job);
        test_several_at_once(&job);
        test_requests_in_flight(&job);
    }
    check_links(&job, transport, print);
    expect(&job, NULL, tutti_finalize(job.comm, 60000));
    if (job.rank == 0)
        printf("%ld calls checked on each of %d ranks\n", job.checked, job.size);
    tutti_free(job.comm);
    return 0;
}
