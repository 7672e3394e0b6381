/* Collectives on symmetric memory, where collectives.c does not go: buffers at odd places within allocations,
 * beside each other or each in its own, on all ranks but some; memory that is freed and used again, by calls
 * of every kind and by communicators within the group.  Each element of each result is checked, and the bytes
 * around it.  Runs in any group of 1 to 8 ranks:
 *
 *     tutti run -n 4 -- symmetric [--expect-mapped | --expect-unmapped]
 *
 * The ranks of a host must, or must not, read each other's memory where it lies. */
#include <getopt.h>
#include <string.h>
#include "check.h"
#include "elements.h"

#define GUARD_BYTES 64
#define GUARD_VALUE 0x5A
#define EVERYBODY   (-1)
#define ROUNDS      40  /* of memory that comes and goes */
#define KEPT        300 /* allocations at once */

static tutti_comm *comm;
static int rank, size;

enum layout {
    LAYOUT_APART,    /* send and recv in allocations of their own, at their beginning */
    LAYOUT_TOGETHER, /* both in one */
    LAYOUT_ODD,      /* somewhere within, at another place on each rank */
    LAYOUT_IN_PLACE, /* where the operation has that */
    LAYOUTS
};

/* A piece of memory, ordinary or of tutti_alloc(), filled with guards. */
struct memory {
    unsigned char *bytes;
    bool is_symmetric;
};

struct buffers {
    struct memory first, second;
    unsigned char *send, *recv;
    size_t send_bytes, recv_bytes;
    bool in_place;
};

static struct memory memory_take(size_t bytes, bool is_symmetric)
{
    struct memory memory = {.is_symmetric = is_symmetric};
    void *address = NULL;
    if (is_symmetric)
        OK(comm, tutti_alloc(comm, bytes, &address));
    else
        address = malloc(bytes);
    CHECK(address != NULL);
    memset(address, GUARD_VALUE, bytes);
    memory.bytes = address;
    return memory;
}

static void memory_give_back(struct memory *memory)
{
    if (memory->is_symmetric)
        CHECK(tutti_dealloc(memory->bytes) == TUTTI_OK);
    else
        free(memory->bytes);
}

/* ---- Operations --------------------------------------------------------------------------------- */

static const enum tutti_operation operations[] = {TUTTI_ALL_REDUCE, TUTTI_REDUCE_SCATTER, TUTTI_ALL_GATHER,
                                                  TUTTI_BROADCAST,  TUTTI_GATHER,         TUTTI_REDUCE,
                                                  TUTTI_SCATTER,    TUTTI_ALL_TO_ALL};
#define OPERATIONS ((int)(sizeof operations / sizeof operations[0]))

static bool sends_parts(enum tutti_operation op)
{
    return op == TUTTI_REDUCE_SCATTER || op == TUTTI_SCATTER || op == TUTTI_ALL_TO_ALL;
}

static bool receives_parts(enum tutti_operation op)
{
    return op == TUTTI_ALL_GATHER || op == TUTTI_GATHER || op == TUTTI_ALL_TO_ALL;
}

static bool sends(const struct tutti_call *call)
{
    return (call->op != TUTTI_BROADCAST && call->op != TUTTI_SCATTER) || rank == call->root;
}

static bool receives(const struct tutti_call *call)
{
    return (call->op != TUTTI_GATHER && call->op != TUTTI_REDUCE) || rank == call->root;
}

/* What element `index` of the result is; elements are numbered on from `shift`, so that each round has
 * others.
 */
static struct number expected(const struct tutti_call *call, size_t index, size_t shift)
{
    size_t part = index / (call->count > 0 ? call->count : 1), own = (size_t)rank * call->count;
    switch (call->op) {
    case TUTTI_REDUCE_SCATTER:
        return pattern_reduced(size, own + index + shift, call->type, call->reduction);
    case TUTTI_ALL_GATHER:
    case TUTTI_GATHER:
        return pattern((int)part, size, index % call->count + shift, call->type, call->reduction);
    case TUTTI_BROADCAST:
        return pattern(call->root, size, index + shift, call->type, call->reduction);
    case TUTTI_SCATTER:
        return pattern(call->root, size, own + index + shift, call->type, call->reduction);
    case TUTTI_ALL_TO_ALL:
        return pattern((int)part, size, own + index % call->count + shift, call->type, call->reduction);
    default:
        return pattern_reduced(size, index + shift, call->type, call->reduction);
    }
}

/* ---- Buffers ------------------------------------------------------------------------------------ */

/* Sets `memory` and `at` to memory for the bytes between guards, `before` bytes within. */
static void place(struct memory *memory, unsigned char **at, size_t bytes, size_t before, bool is_symmetric)
{
    *memory = memory_take(before + bytes + 2 * GUARD_BYTES, is_symmetric);
    *at = memory->bytes + before + GUARD_BYTES;
}

static void buffers_take(struct buffers *b, struct tutti_call *call, enum layout layout, bool is_symmetric)
{
    size_t element = tutti_type_size(call->type), part = call->count * element, all = part * (size_t)size;
    size_t before = layout == LAYOUT_ODD ? (size_t)(rank + 1) * 4096 + 24 * (size_t)rank : 0;
    *b = (struct buffers){.send_bytes = !sends(call)            ? 0
                                        : sends_parts(call->op) ? all
                                                                : part,
                          .recv_bytes = !receives(call)            ? 0
                                        : receives_parts(call->op) ? all
                                                                   : part};
    b->in_place = layout == LAYOUT_IN_PLACE && sends(call) && receives(call);
    if (b->in_place) {
        size_t larger = b->send_bytes > b->recv_bytes ? b->send_bytes : b->recv_bytes;
        place(&b->first, &b->send, larger, before, is_symmetric);
        b->recv = b->send;
        if (sends_parts(call->op) && !receives_parts(call->op))
            b->recv += (size_t)rank * part;
        else if (receives_parts(call->op) && !sends_parts(call->op))
            b->send += (size_t)rank * part;
    } else if (layout == LAYOUT_TOGETHER) {
        size_t between = b->send_bytes + GUARD_BYTES;
        place(&b->first, &b->send, between + b->recv_bytes, before, is_symmetric);
        b->recv = b->send + between;
    } else {
        place(&b->first, &b->send, b->send_bytes, before, is_symmetric);
        place(&b->second, &b->recv, b->recv_bytes, 3 * before, is_symmetric);
    }
    call->send = b->send_bytes > 0 ? b->send : NULL;
    call->recv = b->recv_bytes > 0 ? b->recv : NULL;
}

static void fill(const struct buffers *b, const struct tutti_call *call, size_t shift)
{
    size_t element = tutti_type_size(call->type), count = b->send_bytes / element;
    size_t period = PATTERN_PERIOD(size);
    for (size_t i = 0; i < count && i < period; i++)
        number_set(b->send, i, call->type, pattern(rank, size, i + shift, call->type, call->reduction));
    elements_repeat(b->send, period, count, element);
}

static void check_guard(const unsigned char *guard)
{
    for (int i = 0; i < GUARD_BYTES; i++)
        CHECK(guard[i] == GUARD_VALUE);
}

static void check(const struct buffers *b, const struct tutti_call *call, size_t shift)
{
    size_t element = tutti_type_size(call->type), count = b->recv_bytes / element;
    size_t period = PATTERN_PERIOD(size);
    uint64_t wanted[PATTERN_PERIOD(PATTERN_SIZE_MAX)];
    for (size_t begin = 0; begin < count;) { /* part by part: each begins anew */
        size_t part = receives_parts(call->op) ? call->count : count;
        for (size_t i = 0; i < part && i < period; i++)
            number_set(wanted, i, call->type, expected(call, begin + i, shift));
        size_t at = elements_difference(b->recv + begin * element, wanted, period, part, element);
        if (at < part) {
            fprintf(stderr, "operation %d, count %zu, type %d: rank %d has another element %zu\n",
                    (int)call->op, call->count, (int)call->type, rank, begin + at);
            CHECK(at == part);
        }
        begin += part;
    }
    if (b->in_place) { /* one is a part of the other */
        bool send_is_whole = b->send_bytes >= b->recv_bytes;
        check_guard((send_is_whole ? b->send : b->recv) - GUARD_BYTES);
        check_guard(send_is_whole ? b->send + b->send_bytes : b->recv + b->recv_bytes);
        return;
    }
    check_guard(b->send - GUARD_BYTES);
    check_guard(b->send + b->send_bytes);
    check_guard(b->recv - GUARD_BYTES);
    check_guard(b->recv + b->recv_bytes);
}

static void buffers_give_back(struct buffers *b)
{
    memory_give_back(&b->first);
    if (b->second.bytes)
        memory_give_back(&b->second);
}

/* ---- Calls -------------------------------------------------------------------------------------- */

enum way { WAY_RUN, WAY_START, WAY_PLAN, WAYS };

static void issue(const struct tutti_call *call, enum way way, const struct buffers *b, size_t shift)
{
    tutti_request *request = NULL;
    tutti_plan *plan = NULL;
    switch (way) {
    case WAY_START:
        OK(comm, tutti_start(comm, call, 1, &request));
        OK(comm, tutti_wait(&request, -1));
        return;
    case WAY_PLAN:
        OK(comm, tutti_plan_new(comm, call, 1, &plan));
        for (int again = 0; again < 3; again++) {
            fill(b, call, shift);
            OK(comm, tutti_plan_run(plan, -1, NULL));
            check(b, call, shift);
        }
        tutti_plan_free(plan);
        return;
    default:
        OK(comm, tutti_run(comm, call, 1, -1, &request));
    }
}

/* ordinary: the rank that has ordinary memory, or EVERYBODY has symmetric memory. */
static void run(struct tutti_call call, enum layout layout, int ordinary, enum way way, size_t shift)
{
    struct buffers b;
    buffers_take(&b, &call, layout, rank != ordinary);
    fill(&b, &call, shift);
    issue(&call, way, &b, shift);
    check(&b, &call, shift);
    buffers_give_back(&b);
}

/* ---- Tests -------------------------------------------------------------------------------------- */

static void every_operation_in_every_layout(void)
{
    static const enum tutti_type types[] = {TUTTI_FLOAT32, TUTTI_BFLOAT16, TUTTI_INT64, TUTTI_UINT8};
    static const size_t counts[] = {3, 1025, 20011, 150000};
    int turn = 0;
    for (int o = 0; o < OPERATIONS; o++)
        for (int layout = 0; layout < LAYOUTS; layout++)
            for (int c = 0; c < 4; c++)
                for (int ordinary = EVERYBODY; ordinary < size && ordinary < 2; ordinary++, turn++) {
                    const struct tutti_call call = {.op = operations[o],
                                                    .count = counts[c],
                                                    .type = types[turn % 4],
                                                    .reduction = turn % 3 == 0 ? TUTTI_MAX : TUTTI_SUM,
                                                    .root = turn % size};
                    run(call, (enum layout)layout, ordinary, (enum way)(turn % WAYS), (size_t)turn);
                }
}

/* What a rank has mapped of another stays mapped, while that frees and allocates. */
static void memory_that_comes_and_goes(void)
{
    for (int round = 0; round < ROUNDS; round++) {
        const struct tutti_call call = {.op = operations[round % 5],
                                        .count = (size_t)(20000 + round % 7 * 5000),
                                        .type = TUTTI_INT32,
                                        .reduction = TUTTI_SUM,
                                        .root = round % size};
        run(call, (enum layout)(round % LAYOUTS), EVERYBODY, (enum way)(round % WAYS), (size_t)round);
    }
}

static void many_allocations_at_once(void)
{
    static struct buffers kept[KEPT];
    static struct tutti_call calls[KEPT];
    for (int turn = 0; turn < 3; turn++)
        for (int i = 0; i < KEPT; i++) {
            if (turn == 0) {
                calls[i] = (struct tutti_call){.op = i % 2 ? TUTTI_ALL_REDUCE : TUTTI_ALL_GATHER,
                                               .count = (size_t)(9000 + 17 * i),
                                               .type = TUTTI_FLOAT32,
                                               .reduction = TUTTI_SUM};
                buffers_take(&kept[i], &calls[i], LAYOUT_APART, true);
            }
            fill(&kept[i], &calls[i], (size_t)(turn * KEPT + i));
            issue(&calls[i], WAY_RUN, &kept[i], 0);
            check(&kept[i], &calls[i], (size_t)(turn * KEPT + i));
        }
    for (int i = 0; i < KEPT; i++)
        buffers_give_back(&kept[i]);
}

static void calls_that_are_fused(void)
{
    struct buffers b[8];
    struct tutti_call calls[8];
    tutti_request *request = NULL;
    for (int i = 0; i < 8; i++) {
        calls[i] = (struct tutti_call){.op = TUTTI_ALL_REDUCE,
                                       .count = (size_t)(i % 2 ? 30 : 30000),
                                       .type = TUTTI_FLOAT32,
                                       .reduction = TUTTI_SUM};
        buffers_take(&b[i], &calls[i], (enum layout)(i % LAYOUTS), i != rank);
        fill(&b[i], &calls[i], (size_t)i);
    }
    OK(comm, tutti_start(comm, calls, 8, &request));
    OK(comm, tutti_wait(&request, -1));
    for (int i = 0; i < 8; i++) {
        check(&b[i], &calls[i], (size_t)i);
        buffers_give_back(&b[i]);
    }
}

/* Each maps the memory for itself. */
static void communicators_within_the_group(void)
{
    const size_t count = 40000;
    tutti_comm *half = NULL;
    struct memory memory = memory_take(count * sizeof(int32_t), true);
    int32_t *x = (int32_t *)memory.bytes;
    OK(comm, tutti_split(comm, rank % 2, rank, &half));
    for (int turn = 0; turn < 4; turn++) {
        tutti_comm *used = turn % 2 ? comm : half;
        int sum = 0;
        for (int r = 0; r < size; r++)
            sum += used == comm || r % 2 == rank % 2 ? r + turn : 0;
        for (size_t i = 0; i < count; i++)
            x[i] = rank + turn;
        OK(used, tutti_all_reduce(used, x, x, count, TUTTI_INT32, TUTTI_SUM));
        for (size_t i = 0; i < count; i++)
            CHECK(x[i] == sum);
    }
    OK(half, tutti_finalize(half, 60000));
    tutti_free(half);
    memory_give_back(&memory);
}

static void check_argument_error(int status, const char *text)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    CHECK(status == TUTTI_ERR_ARGUMENT);
    CHECK(tutti_get_error(comm, &error) == TUTTI_OK);
    CHECK(strstr(error.message, text) != NULL);
}

static void what_is_no_such_memory(void)
{
    void *memory = &memory;
    char local[8];
    check_argument_error(tutti_alloc(comm, 0, &memory), "0 bytes");
    CHECK(memory == NULL);
    check_argument_error(tutti_alloc(comm, 1, NULL), "the place for the address is NULL");
    CHECK(tutti_alloc(NULL, 1, &memory) == TUTTI_ERR_ARGUMENT && memory == NULL);
    CHECK(tutti_alloc(comm, SIZE_MAX, &memory) == TUTTI_ERR_MEMORY && memory == NULL);
    CHECK(tutti_dealloc(NULL) == TUTTI_OK);
    CHECK(tutti_dealloc(local) == TUTTI_ERR_ARGUMENT);
    OK(comm, tutti_alloc(comm, 100, &memory));
    CHECK(tutti_dealloc((char *)memory + 1) == TUTTI_ERR_ARGUMENT);
    CHECK(tutti_dealloc(memory) == TUTTI_OK);
    CHECK(tutti_dealloc(memory) == TUTTI_ERR_ARGUMENT);
}

/* Bytes of the memory of others that this process has mapped for reading. */
static size_t mapped_bytes(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512], permissions[5];
    size_t bytes = 0;
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps)) {
        unsigned long begin, end;
        CHECK(sscanf(line, "%lx-%lx %4s", &begin, &end, permissions) == 3);
        if (strstr(line, "/memfd:tutti") && strcmp(permissions, "r--s") == 0)
            bytes += end - begin;
    }
    fclose(maps);
    return bytes;
}

/* An all_reduce reads the input of every other rank. */
static void is_read_where_it_lies(bool wanted)
{
    const struct tutti_call call = {
        .op = TUTTI_ALL_REDUCE, .count = 1 << 20, .type = TUTTI_FLOAT32, .reduction = TUTTI_SUM};
    size_t before = mapped_bytes();
    run(call, LAYOUT_IN_PLACE, EVERYBODY, WAY_RUN, 0);
    size_t more = mapped_bytes() - before, others = (size_t)(size - 1) * call.count * sizeof(float);
    CHECK(wanted ? more >= others : mapped_bytes() == 0);
}

int main(int argc, char **argv)
{
    static const struct option known[] = {{"expect-mapped", no_argument, NULL, 'm'},
                                          {"expect-unmapped", no_argument, NULL, 'u'},
                                          {NULL, 0, NULL, 0}};
    const int expectation = getopt_long(argc, argv, "", known, NULL);
    if (expectation == '?')
        return 2;
    CHECK(tutti_init(NULL, &comm) == TUTTI_OK);
    check_rank = rank = tutti_rank(comm);
    size = tutti_size(comm);
    CHECK(size <= PATTERN_SIZE_MAX);
    if (expectation != -1)
        is_read_where_it_lies(expectation == 'm');
    what_is_no_such_memory();
    every_operation_in_every_layout();
    memory_that_comes_and_goes();
    many_allocations_at_once();
    calls_that_are_fused();
    communicators_within_the_group();
    struct memory memory = memory_take(1 << 20, true);
    OK(comm, tutti_finalize(comm, 60000));
    tutti_free(comm);
    memset(memory.bytes, 1, 1 << 20); /* it outlives them all */
    memory_give_back(&memory);
    if (rank == 0)
        puts("symmetric memory checked");
    return 0;
}
