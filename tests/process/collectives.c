/* Every collective, type, reduction and algorithm, many counts, in place and out of place, issued in every
 * way that tutti.h offers, through the public interface alone.  Each element of each result is checked, as
 * are the bytes around it.  Runs in any group of 1 to 8 ranks:
 *
 *     tutti run -n 4 -- collectives [--expect-transport shm|uds|tcp] [--print-links] [--print-digest]
 *                                   [--hierarchical] [--mixed] [--symmetric all|some]
 *                                   [--large | --brief | --striped]
 *
 * With shm expected, shared memory must carry what it can; with uds or tcp, nothing.  --symmetric takes the
 * buffers of all calls, or of some ranks in some calls, from tutti_alloc().
 * --brief leaves out the product of all types, reductions and counts; --hierarchical demands that
 * hierarchical algorithms may be used, --mixed that those may which go through shared memory within hosts and
 * over links between them, which without it may not; --print-digest prints a number that depends on every bit
 * of results which rounding makes depend on the order of the reduction; --striped does nothing but reduce
 * vectors that are long enough for several channels, and prints over how many each went. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include "exercise.h"

#define TOGETHER_MAX (OPERATIONS + 1)
#define FUSED_MAX    40

static struct {
    const char *transport;
    enum where where;
    bool print_links, print_digest, hierarchical, mixed, large, brief, striped;
} options;

/* ---- All types, reductions and counts ---------------------------------------------------------- */

/* The variants of a call that has everything but root, in_place and layout. */
static void vary(struct job *job, const struct operation_shape *shape, const struct tutti_call *call,
                 enum issue how)
{
    int roots = shape->has_root && job->size > 1 ? 2 : 1, layouts = shape->has_counts ? 2 : 1;
    for (int variant = 0; variant < 2 * roots * layouts; variant++) {
        struct exercise e = {.call = *call, .in_place = variant % 2 == 1, .scattered = variant >= 2 * roots};
        e.call.root = variant / 2 % roots * (job->size - 1);
        exercise_run(job, e, how);
    }
}

/* One operation and count with every type and reduction. */
static void sweep(struct job *job, const struct operation_shape *shape, size_t count, enum issue how)
{
    for (int t = 0; t < TYPES; t++)
        for (int r = 0; r < (shape->reduces ? REDUCTIONS : 1); r++) {
            const struct tutti_call call = {
                .op = shape->op, .count = count, .type = all_types[t], .reduction = all_reductions[r]};
            if (takes(call.type, call.reduction))
                vary(job, shape, &call, how);
        }
}

/* Goes through the pairs of type and reduction, one further with each call. */
static void next_kind(struct tutti_call *call, bool reduces)
{
    static int next;
    do {
        call->type = all_types[next % TYPES];
        call->reduction = reduces ? all_reductions[next / TYPES % REDUCTIONS] : TUTTI_SUM;
        next++;
    } while (!takes(call->type, call->reduction));
}

static void test_matrix(struct job *job)
{
    size_t n = (size_t)job->size;
    const size_t counts[] = {0, 1, n - 1, n, n + 1, 7, 1009};
    const struct exercise barrier = {.call = {.op = TUTTI_BARRIER}};
    for (int o = 0; o < OPERATIONS; o++) {
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++)
            sweep(job, &operations[o], counts[c], ISSUE_BLOCKING);
        for (int turn = 0; turn < TYPES; turn++) {
            struct tutti_call call = {.op = operations[o].op, .count = 65537};
            next_kind(&call, operations[o].reduces);
            vary(job, &operations[o], &call, turn % ISSUES);
        }
    }
    for (enum issue how = ISSUE_BLOCKING; how < ISSUES; how++) {
        exercise_run(job, barrier, how);
        for (int o = 0; o < OPERATIONS; o++)
            for (size_t c = 0; how != ISSUE_BLOCKING && c < sizeof counts / sizeof counts[0]; c++) {
                struct tutti_call call = {.op = operations[o].op, .count = counts[c]};
                next_kind(&call, operations[o].reduces);
                vary(job, &operations[o], &call, how);
            }
    }
}

/* ---- Every algorithm --------------------------------------------------------------------------- */

#define ALGORITHMS_MAX   10
#define HIERARCHICAL     "hierarchical"
#define MIXED            "hierarchical_shared" /* in the memory of each host, and over links between hosts */
#define MIXED_EXCHANGE   "hierarchical_exchange"
#define SHARED           "shared" /* in the memory of a host, without links */
#define SHARED_TRANSPORT "shm"

static const struct {
    enum tutti_operation op;
    const char *names[ALGORITHMS_MAX + 1];
} algorithms[] = {
    {TUTTI_ALL_REDUCE,
     {"ring", "ring_exchange", "exchange", "recursive_doubling", "halving_doubling", "direct", "tree",
      HIERARCHICAL, MIXED, MIXED_EXCHANGE}},
    {TUTTI_REDUCE, {"ring", "linear", "tree", "scatter_gather"}},
    {TUTTI_BROADCAST, {"ring", "tree", "scatter_gather", HIERARCHICAL}},
    {TUTTI_ALL_GATHER, {"ring", "bruck", "direct", HIERARCHICAL}},
    {TUTTI_ALL_GATHER_V, {"ring", "bruck", "direct", HIERARCHICAL}},
    {TUTTI_GATHER, {"ring", "direct", "tree"}},
    {TUTTI_GATHER_V, {"direct"}},
    {TUTTI_REDUCE_SCATTER, {"ring", "direct", "halving", HIERARCHICAL}},
    {TUTTI_REDUCE_SCATTER_V, {"ring", "direct", "halving", HIERARCHICAL}},
    {TUTTI_SCATTER, {"direct", "tree"}},
    {TUTTI_SCATTER_V, {"direct"}},
    {TUTTI_ALL_TO_ALL, {"direct", "pairwise"}},
    {TUTTI_ALL_TO_ALL_V, {"direct", "pairwise"}},
    {TUTTI_BARRIER, {"ring", "dissemination", HIERARCHICAL, MIXED}},
};

static const char *const *algorithms_of(enum tutti_operation op)
{
    for (size_t i = 0; i < sizeof algorithms / sizeof algorithms[0]; i++)
        if (algorithms[i].op == op)
            return algorithms[i].names;
    return NULL;
}

static bool is_mixed(const char *algorithm)
{
    return strcmp(algorithm, MIXED) == 0 || strcmp(algorithm, MIXED_EXCHANGE) == 0;
}

static bool is_deterministic(void)
{
    const char *value = getenv("TUTTI_DETERMINISTIC");
    return value != NULL && strcmp(value, "1") == 0;
}

/* May the algorithm run the call here?  Refused are only those that reduce in another order where the ranks
 * must be deterministic, and hierarchical ones, without several hosts, or mixed ones. */
static bool is_eligible(const struct job *job, const struct tutti_call *asked)
{
    static const size_t counts[PATTERN_SIZE_MAX]; /* of a _v, whose choice depends on them */
    struct tutti_call with_counts = *asked, *call = &with_counts;
    call->send_counts = call->recv_counts = counts;
    struct tutti_choice choice = TUTTI_CHOICE_INIT;
    int status = tutti_get_choice(job->comm, call, &choice);
    if (status == TUTTI_OK && strcmp(choice.algorithm, call->algorithm) != 0)
        fail(job, NULL, "asked for %s, %s would be used", call->algorithm, choice.algorithm);
    bool hierarchical = strcmp(call->algorithm, HIERARCHICAL) == 0, mixed = is_mixed(call->algorithm);
    bool may_refuse = (hierarchical && !options.hierarchical) || (mixed && !options.mixed) ||
                      job->size == 1 || is_deterministic();
    if (status == TUTTI_OK && mixed && !options.mixed && !is_deterministic())
        fail(job, NULL, "%s of operation %d is to be had", call->algorithm, (int)call->op);
    if (status != TUTTI_OK && !(status == TUTTI_ERR_ARGUMENT && may_refuse))
        fail(job, NULL, "algorithm %s of operation %d is not to be had: %s", call->algorithm, (int)call->op,
             tutti_error_name(status));
    return status == TUTTI_OK;
}

static void sweep_algorithm(struct job *job, const struct operation_shape *shape, const char *name)
{
    size_t n = (size_t)job->size, turn = 0;
    const size_t counts[] = {n + 1, 0, 1009, 1, n - 1, 29, n, 4099};
    for (int t = 0; t < TYPES; t++)
        for (int r = 0; r < (shape->reduces ? REDUCTIONS : 1); r++) {
            struct tutti_call call = {
                .op = shape->op, .type = all_types[t], .reduction = all_reductions[r], .algorithm = name};
            if (!takes(call.type, call.reduction))
                continue;
            call.count = counts[turn % (sizeof counts / sizeof counts[0])];
            if (turn == 0 && !is_eligible(job, &call))
                return;
            vary(job, shape, &call, (enum issue)(turn % ISSUES));
            turn++;
        }
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        struct tutti_call call = {.op = shape->op, .count = counts[c], .algorithm = name};
        next_kind(&call, shape->reduces);
        vary(job, shape, &call, ISSUE_BLOCKING);
    }
}

/* Ranks that share memory use it for these, unless another algorithm is asked for; others cannot. */
static void test_shared_memory(struct job *job)
{
    static const enum tutti_operation served[] = {TUTTI_BARRIER,        TUTTI_ALL_REDUCE, TUTTI_ALL_GATHER,
                                                  TUTTI_REDUCE_SCATTER, TUTTI_BROADCAST,  TUTTI_GATHER};
    bool expected = options.transport != NULL && strcmp(options.transport, SHARED_TRANSPORT) == 0;
    for (size_t i = 0; job->size > 1 && i < sizeof served / sizeof served[0]; i++) {
        struct tutti_choice choice = TUTTI_CHOICE_INIT;
        struct tutti_call call = {
            .op = served[i], .count = 1000, .type = TUTTI_FLOAT32, .reduction = TUTTI_SUM};
        if (served[i] == TUTTI_BARRIER)
            call = (struct tutti_call){.op = TUTTI_BARRIER};
        expect(job, NULL, tutti_get_choice(job->comm, &call, &choice));
        bool chosen = strcmp(choice.algorithm, SHARED) == 0;
        if (options.transport != NULL && chosen != expected)
            fail(job, NULL, "operation %d would run by %s over %s", (int)call.op, choice.algorithm,
                 options.transport);
        call.algorithm = SHARED;
        int status = tutti_get_choice(job->comm, &call, &choice);
        if (status != (chosen ? TUTTI_OK : TUTTI_ERR_ARGUMENT))
            fail(job, NULL, "asked for %s, operation %d got %s", SHARED, (int)call.op,
                 tutti_error_name(status));
        for (int o = 0; chosen && o < OPERATIONS; o++)
            if (operations[o].op == call.op)
                sweep_algorithm(job, &operations[o], SHARED);
    }
}

/* Where there are mixed algorithms, no other is as fast. */
static void test_mixed(struct job *job)
{
    const struct tutti_call calls[] = {
        {.op = TUTTI_ALL_REDUCE, .count = 1000, .type = TUTTI_FLOAT32, .reduction = TUTTI_SUM},
        {.op = TUTTI_BARRIER}};
    for (size_t i = 0; options.mixed && i < sizeof calls / sizeof calls[0]; i++) {
        struct tutti_choice choice = TUTTI_CHOICE_INIT;
        expect(job, NULL, tutti_get_choice(job->comm, &calls[i], &choice));
        if (!is_mixed(choice.algorithm))
            fail(job, NULL, "operation %d would run by %s", (int)calls[i].op, choice.algorithm);
    }
}

static void test_algorithms(struct job *job)
{
    for (int o = 0; o < OPERATIONS; o++) {
        const char *const *names = algorithms_of(operations[o].op);
        for (int i = 0; names[i] != NULL; i++)
            sweep_algorithm(job, &operations[o], names[i]);
    }
    const char *const *names = algorithms_of(TUTTI_BARRIER);
    for (int i = 0; names[i] != NULL; i++) {
        struct exercise e = {.call = {.op = TUTTI_BARRIER, .algorithm = names[i]}};
        for (enum issue how = ISSUE_BLOCKING; how < ISSUES && is_eligible(job, &e.call); how++)
            exercise_run(job, e, how);
    }
    struct tutti_call unknown = {.op = TUTTI_BARRIER, .algorithm = "perpetual_motion"};
    tutti_request *request;
    if (tutti_run(job->comm, &unknown, 1, -1, &request) != TUTTI_ERR_ARGUMENT || request != NULL)
        fail(job, NULL, "an algorithm that there is not was taken");
}

/* ---- The same bits on every rank ---------------------------------------------------------------- */

static uint64_t hash(uint64_t state, const void *bytes, size_t size) /* FNV-1a */
{
    for (size_t i = 0; i < size; i++)
        state = (state ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3u;
    return state;
}

/* A number in [1, 2), or its negative, of all the bits of the type. */
static void fill_with_noise(const struct job *job, void *buffer, size_t count, enum tutti_type type)
{
    uint64_t state = 0x9e3779b97f4a7c15u * (uint64_t)(job->rank + 1);
    for (size_t i = 0; i < count; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        uint64_t sign = state >> 63;
        switch (type) {
        case TUTTI_FLOAT64:
            ((uint64_t *)buffer)[i] = sign << 63 | 0x3ffull << 52 | (state & 0xfffffffffffffull);
            break;
        case TUTTI_FLOAT16:
            ((uint16_t *)buffer)[i] = (uint16_t)(sign << 15 | 0x3c00 | (state & 0x3ff));
            break;
        case TUTTI_BFLOAT16:
            ((uint16_t *)buffer)[i] = (uint16_t)(sign << 15 | 0x3f80 | (state & 0x7f));
            break;
        default:
            ((uint32_t *)buffer)[i] = (uint32_t)(sign << 31 | 0x3f800000 | (state & 0x7fffff));
            break;
        }
    }
}

/* The hash of the result, having seen that every rank has the same. */
static uint64_t compare_bits(struct job *job, const struct tutti_call *call, const void *result)
{
    uint64_t mine = hash(job->digest, result, call->count * tutti_type_size(call->type));
    uint64_t all[PATTERN_SIZE_MAX];
    expect(job, NULL, tutti_all_gather(job->comm, &mine, all, 1, TUTTI_UINT64));
    for (int r = 0; r < job->size; r++)
        if (all[r] != all[0])
            fail(job, NULL, "ranks 0 and %d have different bits: type %d, reduction %d, count %zu by %s", r,
                 (int)call->type, (int)call->reduction, call->count,
                 call->algorithm ? call->algorithm : "the chosen algorithm");
    job->checked++;
    return mine;
}

static void test_same_bits(struct job *job)
{
    static const enum tutti_type types[] = {TUTTI_FLOAT32, TUTTI_FLOAT64, TUTTI_FLOAT16, TUTTI_BFLOAT16,
                                            TUTTI_COMPLEX64};
    static const enum tutti_reduction reductions[] = {TUTTI_SUM, TUTTI_PRODUCT, TUTTI_AVG,
                                                      TUTTI_PREMULTIPLIED_SUM};
    static const size_t counts[] = {3, 1009, 20011};
    static uint64_t send[20011], recv[20011];
    const char *const *names = algorithms_of(TUTTI_ALL_REDUCE);
    for (int a = -1; a < 0 || names[a] != NULL; a++) /* -1: the chosen one */
        for (size_t t = 0; t < sizeof types / sizeof types[0]; t++)
            for (size_t r = 0; r < sizeof reductions / sizeof reductions[0]; r++) {
                struct tutti_call call = {.op = TUTTI_ALL_REDUCE,
                                          .send = send,
                                          .recv = recv,
                                          .count = counts[(t + r) % 3],
                                          .type = types[t],
                                          .reduction = reductions[r],
                                          .factor = 1.0 / (job->rank + 3),
                                          .algorithm = a < 0 ? NULL : names[a]};
                tutti_request *request;
                bool is_complex = types[t] == TUTTI_COMPLEX64;
                if (call.algorithm != NULL && !is_eligible(job, &call))
                    continue;
                fill_with_noise(job, send, (is_complex ? 2 : 1) * call.count, types[t]);
                uint64_t hashes[2];
                for (int again = 0; again < 2; again++) {
                    memset(recv, 0, sizeof recv);
                    expect(job, NULL, tutti_run(job->comm, &call, 1, -1, &request));
                    hashes[again] = compare_bits(job, &call, recv);
                }
                if (hashes[0] != hashes[1])
                    fail(job, NULL, "the same call gave other bits the second time");
                job->digest = hashes[0];
            }
}

/* Vectors that are cut into stripes where a rank has a core for a further channel. */
static void test_striped(struct job *job)
{
    static const enum tutti_type types[] = {TUTTI_FLOAT32, TUTTI_BFLOAT16};
    const size_t count = ((size_t)2 << 20) + 5;
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        size_t bytes = count * tutti_type_size(types[t]);
        void *send = malloc(bytes), *recv = malloc(bytes);
        const struct tutti_call call = {.op = TUTTI_ALL_REDUCE,
                                        .send = send,
                                        .recv = recv,
                                        .count = count,
                                        .type = types[t],
                                        .reduction = TUTTI_SUM};
        struct tutti_choice choice = TUTTI_CHOICE_INIT;
        tutti_request *request;
        if (!send || !recv)
            fail(job, NULL, "no memory for %zu bytes", bytes);
        fill_with_noise(job, send, count, types[t]);
        expect(job, NULL, tutti_get_choice(job->comm, &call, &choice));
        expect(job, NULL, tutti_run(job->comm, &call, 1, -1, &request));
        job->digest = compare_bits(job, &call, recv);
        printf("choice rank=%d algorithm=%s channels=%d\n", job->rank, choice.algorithm, choice.channels);
        free(send);
        free(recv);
    }
}

/* ---- Several calls ----------------------------------------------------------------------------- */

/* One of every operation, in sizes from nothing to many slices. */
static int mixture(const struct job *job, struct exercise *exercises, int turn)
{
    static const size_t counts[] = {5, 1009, 0, 100000, 1, 77};
    int count = 0;
    for (int o = 0; o < OPERATIONS; o++) {
        struct exercise *e = &exercises[count++];
        *e = (struct exercise){
            .in_place = (o + turn) % 2 == 0, .scattered = (o + turn) % 3 == 0, .issue = ISSUE_START};
        e->call.op = operations[o].op;
        e->call.count = counts[(o + turn) % (int)(sizeof counts / sizeof counts[0])];
        next_kind(&e->call, operations[o].reduces);
        e->call.root = turn % job->size;
        e->call.timeout_ms = 120000;
    }
    exercises[count++] = (struct exercise){.call = {.op = TUTTI_BARRIER}, .issue = ISSUE_START};
    return count;
}

static void run_together(struct job *job, struct exercise *exercises, int count, enum issue how)
{
    struct tutti_call calls[FUSED_MAX] = {{0}};
    for (int i = 0; i < count; i++) {
        exercises[i].issue = how;
        exercise_prepare(job, &exercises[i]);
        calls[i] = exercises[i].call;
    }
    exercise_issue(job, &exercises[0], calls, (size_t)count, how);
    for (int i = 0; i < count; i++)
        exercise_finish(job, &exercises[i]);
}

static void test_several_at_once(struct job *job)
{
    for (int turn = 0; turn < 2 * TYPES; turn++) {
        struct exercise exercises[TOGETHER_MAX];
        int count = mixture(job, exercises, turn);
        run_together(job, exercises, count, ISSUE_START + turn % (ISSUES - 1));
    }
}

/* Calls of one kind, which run as one, with others between them. */
static void test_fused(struct job *job)
{
    static const struct operation_shape shapes[] = {{TUTTI_ALL_REDUCE, "all_reduce", true, false, false},
                                                    {TUTTI_REDUCE, "reduce", true, true, false},
                                                    {TUTTI_BROADCAST, "broadcast", false, true, false}};
    static const size_t counts[] = {3, 0, 1, 700, 64, 5000, 2, 17};
    for (int s = 0; s < 3; s++)
        for (int turn = 0; turn < (shapes[s].reduces ? 2 * TYPES * REDUCTIONS / 3 : TYPES); turn++) {
            struct exercise exercises[FUSED_MAX] = {0};
            int count = 2 + turn % (FUSED_MAX - 1);
            struct tutti_call kind = {.op = shapes[s].op, .root = turn % job->size};
            next_kind(&kind, shapes[s].reduces);
            for (int i = 0; i < count; i++) {
                exercises[i].call = kind;
                exercises[i].call.count = counts[(turn + i) % 8];
                exercises[i].in_place = (turn / 2 + i) % 2 == 0;
                if (turn % 4 == 3 && i % 11 == 10)
                    exercises[i].call.op = TUTTI_ALL_TO_ALL;
            }
            run_together(job, exercises, count, ISSUE_START + turn % (ISSUES - 1));
        }
}

/* Many requests under way, a blocking call among them, waited for in the reverse order. */
static void test_requests_in_flight(struct job *job)
{
    for (int turn = 0; turn < TYPES; turn++) {
        struct exercise exercises[TOGETHER_MAX];
        tutti_request *requests[TOGETHER_MAX];
        int count = mixture(job, exercises, turn);
        for (int i = 0; i < count; i++) {
            exercise_prepare(job, &exercises[i]);
            expect(job, &exercises[i], tutti_start(job->comm, &exercises[i].call, 1, &requests[i]));
        }
        sweep(job, &operations[turn], 3, ISSUE_BLOCKING);
        for (int i = count - 1; i >= 0; i--) {
            expect(job, &exercises[i], tutti_wait(&requests[i], -1));
            exercise_finish(job, &exercises[i]);
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
            bool whole = operations[o].op == TUTTI_ALL_REDUCE || operations[o].op == TUTTI_REDUCE ||
                         operations[o].op == TUTTI_BROADCAST;
            e.call.op = operations[o].op;
            e.call.count = whole ? elements : elements / n;
            e.call.type = TUTTI_FLOAT32;
            e.call.reduction = TUTTI_SUM;
            e.call.root = job->size - 1;
            exercise_run(job, e, in_place ? ISSUE_START : ISSUE_BLOCKING);
        }
}

/* ---- Links ------------------------------------------------------------------------------------- */

/* The two of the ring come first; every link must be of the transport that was asked for. */
static void check_links(const struct job *job)
{
    int index = 0;
    for (;; index++) {
        struct tutti_link_info link = TUTTI_LINK_INFO_INIT;
        int status = tutti_get_link(job->comm, index, &link);
        if (status == TUTTI_ERR_ARGUMENT && index >= (job->size > 1 ? 2 : 0))
            break;
        expect(job, NULL, status);
        if (index < 2 && link.peer != (job->rank + (index == 0 ? 1 : job->size - 1)) % job->size)
            fail(job, NULL, "link %d leads to rank %d", index, link.peer);
        if (link.peer < 0 || link.peer >= job->size || link.peer == job->rank)
            fail(job, NULL, "link %d leads to rank %d", index, link.peer);
        if (options.transport != NULL && strcmp(link.transport, options.transport) != 0)
            fail(job, NULL, "the link to rank %d is %s and should be %s", link.peer, link.transport,
                 options.transport);
        /* The ring's links have been used by its algorithms. */
        if (!options.large && (index == 0 ? link.sent_bytes == 0 : index == 1 && link.received_bytes == 0))
            fail(job, NULL, "the link with rank %d counted no bytes", link.peer);
        if (options.print_links)
            printf("link rank=%d index=%d peer=%d transport=%s sent=%llu received=%llu\n", job->rank, index,
                   link.peer, link.transport, (unsigned long long)link.sent_bytes,
                   (unsigned long long)link.received_bytes);
    }
    if (job->size == 1 && index != 0)
        fail(job, NULL, "a group of one has a link");
}

static bool parse_options(int argc, char **argv)
{
    static const struct option known[] = {{"expect-transport", required_argument, NULL, 't'},
                                          {"print-links", no_argument, NULL, 'p'},
                                          {"print-digest", no_argument, NULL, 'd'},
                                          {"hierarchical", no_argument, NULL, 'h'},
                                          {"mixed", no_argument, NULL, 'x'},
                                          {"large", no_argument, NULL, 'l'},
                                          {"brief", no_argument, NULL, 'b'},
                                          {"striped", no_argument, NULL, 's'},
                                          {"symmetric", required_argument, NULL, 'm'},
                                          {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (option == '?')
            return false;
        options.transport = option == 't' ? optarg : options.transport;
        options.print_links |= option == 'p';
        options.print_digest |= option == 'd';
        options.hierarchical |= option == 'h';
        options.mixed |= option == 'x';
        options.large |= option == 'l';
        options.brief |= option == 'b';
        options.striped |= option == 's';
        if (option == 'm')
            options.where = strcmp(optarg, "all") == 0 ? WHERE_SYMMETRIC : WHERE_MIXED;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct job job;
    if (!parse_options(argc, argv))
        return 2;
    job_init(&job);
    job.where = options.where;
    if (options.large) {
        test_large(&job);
    } else if (options.striped) {
        test_striped(&job);
    } else {
        if (!options.brief)
            test_matrix(&job);
        test_algorithms(&job);
        test_shared_memory(&job);
        test_mixed(&job);
        test_same_bits(&job);
        test_fused(&job);
        test_several_at_once(&job);
        test_requests_in_flight(&job);
    }
    check_links(&job);
    expect(&job, NULL, tutti_finalize(job.comm, 60000));
    if (options.print_digest)
        printf("digest rank=%d value=%016llx\n", job.rank, (unsigned long long)job.digest);
    if (job.rank == 0)
        printf("%ld calls checked on each of %d ranks\n", job.checked, job.size);
    tutti_free(job.comm);
    return 0;
}
