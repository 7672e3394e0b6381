#include "tests/sim/fault/program.h"

#include <stdlib.h>
#include <string.h>
#include "tests/sim/fault/allocation.h"
#include "tests/sim/fault/data.h"
#include "tests/sim/fault/faults.h"
#include "tests/sim/fault/server.h"
#include "tests/sim/fault/world.h"

#define ATTEMPTS_MAX 5
#define US           NS_PER_US

enum state { STARTING, JOINING, RUNNING, FINALIZING, FAILED, ENDED };

/* A call with its data. */
struct invocation {
    struct call call; /* first */
    struct data data;
    int64_t began_ns, frozen_ns;
    struct invocation *kept; /* the next one of those that failed */
};

struct program {
    struct process *process;
    struct simulation *sim;
    enum state state;
    struct event next;
    int attempts;
    int count, made, pending; /* calls of this group: planned, made, not complete */
    struct planned_call plan[CALLS_MAX];
    struct invocation *kept; /* of failed calls, to the end of the run */
    struct invocation *barrier;
    int64_t began_ns, frozen_ns; /* of what is under way: joining or finalizing */
    bool waits;                  /* for calls, before it goes on */
    struct tutti_error first;    /* the failure of this group, as it was first told */
};

/* ---- The plan ------------------------------------------------------------------------------------ */

static uint32_t draw_count(const struct options *options, uint64_t *random, int operation, int size)
{
    uint64_t kind = random_below(random, 100);
    uint32_t slice = options->slice_bytes / 8,
             parts = operation == TUTTI_ALL_REDUCE || operation == TUTTI_BROADCAST ? 1 : (uint32_t)size;
    if (kind < 8)
        return 0;
    if (kind < 55)
        return 1 + (uint32_t)random_below(random, (uint64_t)size + 2);
    uint32_t slices = kind < 90 ? 4 : 20;
    uint32_t count = (1 + (uint32_t)random_below(random, slices * slice)) / parts;
    return count > 0 ? count : 1;
}

int program_plan_length(uint64_t seed, uint32_t generation)
{
    uint64_t random = seed * 1000003 + generation * 7919 + 17;
    uint64_t most = generation > 1 ? 6 : random_chance(&random, 60) ? CALLS_MAX : 6;
    return (int)random_below(&random, most + 1);
}

static void make_plan(struct program *p, const struct group_place *place)
{
    static const uint8_t operations[] = {TUTTI_ALL_REDUCE,     TUTTI_ALL_REDUCE, TUTTI_ALL_REDUCE,
                                         TUTTI_BROADCAST,      TUTTI_ALL_GATHER, TUTTI_GATHER,
                                         TUTTI_REDUCE_SCATTER, TUTTI_BARRIER};
    uint64_t random = p->sim->seed * 7919 + place->generation;
    p->count = program_plan_length(p->sim->seed, place->generation);
    for (int i = 0; i < p->count; i++) {
        struct planned_call *call = &p->plan[i];
        call->operation = operations[random_below(&random, sizeof operations)];
        bool rooted = call->operation == TUTTI_BROADCAST || call->operation == TUTTI_GATHER;
        call->type = random_chance(&random, 50) ? TUTTI_INT64 : TUTTI_FLOAT32;
        call->root = rooted ? (uint32_t)random_below(&random, (uint64_t)place->size) : 0;
        call->count = call->operation == TUTTI_BARRIER
                          ? 0
                          : draw_count(&p->sim->options, &random, call->operation, place->size);
        call->in_place = random_chance(&random, 30);
        call->asynchronous = random_chance(&random, 20);
    }
}

/* ---- The end ------------------------------------------------------------------------------------- */

static void check_sticky(struct program *p, const struct comm *comm)
{
    const struct tutti_error *a = &p->first, *b = &comm->failure;
    if (!comm->failed || a->code == TUTTI_OK)
        return;
    if (a->code != b->code || a->rank != b->rank || strcmp(a->message, b->message) != 0 ||
        strcmp(a->host, b->host) != 0)
        sim_violated(p->sim, "errors are sticky", "process %d: '%s' became '%s'", p->process->number,
                     a->message, b->message);
}

static void end(struct program *p, const char *how)
{
    struct world *world = p->sim->world;
    SAY(p->sim, p->process, "ends: %s", how);
    p->state = ENDED;
    for (struct comm *comm = p->process->comm; comm; comm = comm->older)
        comm_free(comm);
    server_free(p->process->server);
    if (p->process->comm)
        world->blames[p->process->number].ended_ns = p->sim->network.now_ns;
    if (p->process->comm)
        world->blames[p->process->number].ended_after = (int)p->process->comm->place.generation;
    event_cancel(&p->sim->network, &p->next);
}

/* ---- After a failure ----------------------------------------------------------------------------- */

static struct comm *reformable(struct comm *comm)
{
    while (comm && comm->place.rank < 0)
        comm = comm->older;
    return comm;
}

static void reform(void *context)
{
    struct program *p = context;
    struct comm *failed = reformable(p->process->comm);
    check_sticky(p, p->process->comm);
    for (struct comm *comm = p->process->comm; comm; comm = comm->older)
        if (comm != failed)
            comm_free(comm);
    p->state = JOINING;
    p->began_ns = p->sim->network.now_ns;
    p->frozen_ns = world_frozen_ns(p->sim->world, p->process);
    p->first = (struct tutti_error)TUTTI_ERROR_INIT;
    SAY(p->sim, p->process, "re-forms generation %u, %llu completed", failed->place.generation,
        (unsigned long long)failed->completed);
    comm_begin(p->process, failed);
}

static void after_failure(struct program *p)
{
    uint64_t *random = &p->process->random;
    bool hopeless = !reformable(p->process->comm) || ++p->attempts > ATTEMPTS_MAX;
    int code = p->process->comm->failure.code;
    bool turned_away = code == TUTTI_ERR_REFUSED || code == TUTTI_ERR_UNREACHABLE;
    p->state = FAILED;
    if (hopeless || random_chance(random, turned_away ? 80 : 10)) {
        end(p, "it does not re-form");
        return;
    }
    uint64_t longest_us = random_chance(random, 20) ? 400000 : 5000;
    event_set(&p->sim->network, &p->next, p->process->node, (int64_t)random_below(random, longest_us) * US,
              reform, p);
}

/* ---- Joining ------------------------------------------------------------------------------------- */

static void go_on(void *context);

static void go_on_after(struct program *p, int64_t delay_ns)
{
    event_set(&p->sim->network, &p->next, p->process->node, delay_ns, go_on, p);
}

static void begin(void *context)
{
    struct program *p = context;
    p->state = JOINING;
    p->began_ns = p->sim->network.now_ns;
    p->frozen_ns = world_frozen_ns(p->sim->world, p->process);
    comm_begin(p->process, NULL);
}

void process_joined(struct comm *comm, const struct tutti_error *result)
{
    struct program *p = comm->process->program;
    if (comm->node->dead)
        return;
    SAY(p->sim, p->process, "%s: %s", result->code < 0 ? "has not joined" : "has joined", result->message);
    world_returned(p->sim->world, comm, "joining", p->began_ns, p->frozen_ns,
                   world_join_bound_ms(&p->sim->options));
    p->made = p->pending = 0;
    if (result->code < 0) {
        p->first = comm->failure;
        statistics.refused += result->code == TUTTI_ERR_REFUSED;
        statistics.unreachable += result->code == TUTTI_ERR_UNREACHABLE;
        p->state = FAILED;
        return; /* process_failed() follows */
    }
    for (struct comm *older = comm->older; older; older = older->older)
        comm_free(older);
    make_plan(p, &comm->place);
    p->state = RUNNING;
    world_joined(p->sim->world, comm);
    faults_joined(p->sim->faults, p->process);
    go_on_after(p, (int64_t)random_below(&p->process->random, 100) * US);
}

/* ---- Running ------------------------------------------------------------------------------------- */

static struct invocation *invocation_new(struct program *p, const struct planned_call *planned)
{
    struct comm *comm = p->process->comm;
    struct invocation *v = world_alloc_raw(sizeof *v);
    memset(v, 0, offsetof(struct call, executor));
    uint64_t salt = comm->sequence * 31 + comm->place.generation;
    data_init(&v->data, planned, comm->place.rank, comm->place.size, salt);
    v->call.print = v->data.print;
    v->call.send = v->data.send;
    v->call.recv = v->data.recv;
    v->call.scratch = NULL;
    v->call.timeout_ms = p->sim->options.call_timeout_ms;
    v->began_ns = p->sim->network.now_ns;
    v->frozen_ns = world_frozen_ns(p->sim->world, p->process);
    v->kept = NULL;
    return v;
}

/* The call has returned with an error: nobody may write to its memory from now on. */
static void keep(struct program *p, struct invocation *v)
{
    data_poison(&v->data);
    v->kept = p->kept;
    p->kept = v;
    statistics.calls_failed++;
}

void process_called(struct call *call)
{
    struct invocation *v = (struct invocation *)call;
    struct comm *comm = call->comm;
    struct program *p = comm->process->program;
    network_trace(&p->sim->network, (uint64_t)call->status ^ call->executor.operation.sequence << 8);
    world_returned(p->sim->world, comm, "a call", v->began_ns, v->frozen_ns,
                   world_call_bound_ms(call->timeout_ms));
    bool is_last = v == p->barrier;
    p->pending--;
    if (is_last)
        p->barrier = NULL;
    if (call->status < 0 || comm->node->dead) {
        keep(p, v);
        return; /* process_failed() follows, in one that lives */
    }
    if (!data_is_right(&v->data))
        sim_violated(p->sim, "a call that returns well has the right result", "process %d, operation %llu",
                     p->process->number, (unsigned long long)call->executor.operation.sequence);
    statistics.calls_right++;
    int64_t until_ns = v->began_ns + call->timeout_ms * NS_PER_MS;
    data_free(&v->data);
    world_free(v);
    faults_called(p->sim->faults, p->process, comm->completed);
    if (is_last)
        comm_say_goodbye(comm, until_ns);
    else if (p->waits && p->pending == 0)
        go_on_after(p, 0);
}

static int64_t draw_thinking(struct program *p)
{
    uint64_t *random = &p->process->random;
    uint64_t kind = random_below(random, 100);
    uint64_t longest_us = kind < 60 ? 1 : kind < 90 ? 1000 : kind < 98 ? 20000 : 100000;
    return (int64_t)random_below(random, longest_us) * US;
}

static void finalize(struct program *p)
{
    static const struct planned_call barrier = {.operation = TUTTI_BARRIER, .count = 1};
    struct comm *comm = p->process->comm;
    struct invocation *v = p->barrier = invocation_new(p, &barrier);
    p->state = FINALIZING;
    p->began_ns = v->began_ns;
    p->frozen_ns = v->frozen_ns;
    p->pending++;
    faults_finalizing(p->sim->faults, p->process);
    int status = comm_finalize(comm, &v->call);
    if (status != TUTTI_PENDING) {
        p->pending--;
        p->barrier = NULL;
        keep(p, v);
    }
}

/* What the user of this rank does wrong before this call; true when that was the end. */
static bool err(struct program *p, struct planned_call *planned)
{
    struct comm *comm = p->process->comm;
    enum fault_kind error = faults_of_user(p->sim->faults, p->process, comm->place.generation, p->made);
    switch (error) {
    case FAULT_differ:
        if (planned->operation == TUTTI_BARRIER)
            *planned = (struct planned_call){.operation = TUTTI_ALL_REDUCE, .type = TUTTI_INT64, .count = 3};
        else if (planned->operation == TUTTI_BROADCAST && random_chance(&p->process->random, 50))
            planned->root = (planned->root + 1) % (uint32_t)comm->place.size;
        else
            planned->count++;
        return false;
    case FAULT_late:
        go_on_after(p, (p->sim->options.call_timeout_ms + 1500) * NS_PER_MS);
        return true;
    case FAULT_abort:
        comm_abort(comm, "the program says so");
        return true;
    case FAULT_leave:
        end(p, "it frees without finalizing");
        return true;
    default:
        return false;
    }
}

static void go_on(void *context)
{
    struct program *p = context;
    struct comm *comm = p->process->comm;
    p->waits = false;
    if (comm->failed || p->state != RUNNING)
        return; /* process_failed() goes on */
    if (p->made == p->count) {
        finalize(p);
        return;
    }
    struct planned_call planned = p->plan[p->made];
    if (err(p, &planned))
        return;
    struct invocation *v = invocation_new(p, &planned);
    p->made++;
    p->pending++;
    int status = comm_call(comm, &v->call);
    if (status != TUTTI_PENDING) {
        p->pending--;
        keep(p, v);
        return;
    }
    if (comm->failed)
        return;
    p->waits = !planned.asynchronous && p->pending > 0;
    if (!p->waits)
        go_on_after(p, draw_thinking(p));
}

static void end_well(void *context)
{
    end(context, "finalized");
}

void process_finalized(struct comm *comm)
{
    struct program *p = comm->process->program;
    if (comm->node->dead)
        return;
    world_returned(p->sim->world, comm, "finalize", p->began_ns, p->frozen_ns,
                   world_call_bound_ms(p->sim->options.call_timeout_ms));
    statistics.finalized++;
    event_set(&p->sim->network, &p->next, p->process->node, 0, end_well, p);
}

void process_failed(struct comm *comm)
{
    struct program *p = comm->process->program;
    if (comm->node->dead || p->state == ENDED || comm != p->process->comm || comm->freed)
        return;
    if (p->state == JOINING)
        return; /* that is told by process_joined() */
    if (p->state == FINALIZING)
        world_returned(p->sim->world, comm, "finalize", p->began_ns, p->frozen_ns,
                       world_call_bound_ms(p->sim->options.call_timeout_ms) + ABORT_SENT_MS);
    if (p->first.code == TUTTI_OK)
        p->first = comm->failure;
    check_sticky(p, comm);
    after_failure(p);
}

/* ---- From outside -------------------------------------------------------------------------------- */

struct program *program_new(struct process *process)
{
    struct program *p = world_alloc(sizeof *p);
    p->process = process;
    p->sim = process->sim;
    p->first = (struct tutti_error)TUTTI_ERROR_INIT;
    return p;
}

void program_start(struct program *p, int64_t delay_ns)
{
    event_set(&p->sim->network, &p->next, p->process->node, delay_ns, begin, p);
}

bool program_has_ended(const struct program *p)
{
    return p->state == ENDED || p->process->node->dead;
}

static void free_invocation(struct invocation *v)
{
    data_free(&v->data);
    world_free(v);
}

void program_free(struct program *p)
{
    struct comm *comm, *older;
    for (comm = p->process->comm; comm; comm = comm->older)
        for (struct call *call = comm->head, *next; call; call = next) {
            next = call->next;
            comm->head = next;
            free(call->scratch);
            free_invocation((struct invocation *)call);
        }
    for (comm = p->process->comm; comm; comm = older) {
        older = comm->older;
        comm_release(comm);
    }
    while (p->kept) {
        struct invocation *v = p->kept;
        p->kept = v->kept;
        if (!data_is_poisoned(&v->data))
            sim_violated(p->sim, "nothing is written after a call has returned", "process %d",
                         p->process->number);
        free_invocation(v);
    }
    event_cancel(&p->sim->network, &p->next);
    world_free(p);
}
