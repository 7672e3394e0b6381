#include "tests/sim/fault/program.h"

#include <stdlib.h>
#include <string.h>
#include "tests/sim/fault/allocation.h"
#include "tests/sim/fault/data.h"
#include "tests/sim/fault/exchange.h"
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
    struct invocation *kept;         /* of failed calls, to the end of the run */
    struct exchange *kept_exchanges; /* likewise */
    struct invocation *barrier;
    int64_t began_ns, frozen_ns; /* of what is under way: joining or finalizing */
    bool waits;                  /* for calls, before it goes on */
    struct tutti_error first;    /* the failure of this group, as it was first told */
};

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
    p->count = plan_make(p->sim, comm->place.generation, comm->place.size, p->plan);
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
    data_init(&v->data, planned, comm->place.rank, comm->place.size);
    v->call.args = v->data.call;
    v->call.args.algorithm = plan_algorithm(planned, &comm->select);
    v->call.args.timeout_ms = (int)p->sim->options.call_timeout_ms;
    v->call.scratch = NULL;
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

static void keep_exchange(struct program *p, struct exchange *x)
{
    exchange_poison(x);
    x->kept = p->kept_exchanges;
    p->kept_exchanges = x;
    statistics.calls_failed++;
}

/* Something has completed that it may have waited for. */
static void go_on_when_done(struct program *p)
{
    if (p->waits && p->pending == 0)
        go_on_after(p, 0);
}

void process_called(struct call *call)
{
    struct invocation *v = (struct invocation *)call;
    struct comm *comm = call->comm;
    struct program *p = comm->process->program;
    network_trace(&p->sim->network, (uint64_t)call->status ^ call->operation.sequence << 8);
    world_returned(p->sim->world, comm, "a call", v->began_ns, v->frozen_ns,
                   world_call_bound_ms(call->args.timeout_ms));
    bool is_last = v == p->barrier;
    p->pending--;
    if (is_last)
        p->barrier = NULL;
    if (call->status < 0 || comm->node->dead) {
        keep(p, v);
        return; /* process_failed() follows, in one that lives */
    }
    if (!data_is_right(&v->data))
        sim_violated(
            p->sim, "a call that returns well has the right result", "process %d, operation %llu, %s by %s",
            p->process->number, (unsigned long long)call->operation.sequence, operation_name(call->args.op),
            algorithm_by_number(algorithm_operation((int)call->args.op), call->operation.call.algorithm)
                ->name);
    statistics.calls_right++;
    statistics.algorithms[call->args.op][call->operation.call.algorithm]++;
    int64_t until_ns = v->began_ns + call->args.timeout_ms * NS_PER_MS;
    data_free(&v->data);
    world_free(v);
    faults_called(p->sim->faults, p->process, comm->completed);
    if (is_last)
        comm_say_goodbye(comm, until_ns);
    else
        go_on_when_done(p);
}

void process_exchanged(struct letters *letters)
{
    struct exchange *x = (struct exchange *)letters;
    struct comm *comm = letters->comm;
    struct program *p = comm->process->program;
    network_trace(&p->sim->network, (uint64_t)letters->status ^ (uint64_t)x->number << 16);
    world_returned(p->sim->world, comm, "an exchange of messages", x->began_ns, x->frozen_ns,
                   world_call_bound_ms(letters->timeout_ms));
    p->pending--;
    if (letters->status < 0 || comm->node->dead) {
        keep_exchange(p, x);
        return;
    }
    if (!exchange_is_right(x))
        sim_violated(p->sim, "every message arrives once and whole", "process %d, exchange %d",
                     p->process->number, x->number);
    statistics.exchanges_right++;
    exchange_free(x);
    go_on_when_done(p);
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
    static const struct planned_call barrier = {.operation = TUTTI_BARRIER};
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

/* Makes the call another one than the others make. */
static void differ(struct program *p, struct planned_call *planned, const char **algorithm)
{
    const struct comm *comm = p->process->comm;
    uint64_t kind = random_below(&p->process->random, 3);
    *algorithm = kind == 0 && planned->pick > 0
                     ? plan_other_algorithm(planned, &comm->select, plan_algorithm(planned, &comm->select))
                     : NULL;
    if (*algorithm)
        return;
    if (planned->operation == TUTTI_BARRIER || operation_has_counts(planned->operation))
        *planned = (struct planned_call){
            .operation = TUTTI_ALL_REDUCE, .type = TUTTI_INT64, .reduction = TUTTI_SUM, .count = 3};
    else if (operation_has_root(planned->operation) && kind == 1)
        planned->root = (planned->root + 1) % (uint32_t)comm->place.size;
    else
        planned->count++;
}

/* What the user of this rank does wrong before this call; true when that was the end. */
static bool err(struct program *p, struct planned_call *planned, const char **algorithm)
{
    struct comm *comm = p->process->comm;
    enum fault_kind error = faults_of_user(p->sim->faults, p->process, comm->place.generation, p->made);
    switch (error) {
    case FAULT_differ:
        differ(p, planned, algorithm);
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

/* True: it is under way, or done. */
static bool make_exchange(struct program *p, const struct planned_call *planned)
{
    struct comm *comm = p->process->comm;
    struct exchange *x =
        exchange_new(planned, p->made, comm->place.rank, comm->place.size, &p->process->random);
    x->began_ns = p->sim->network.now_ns;
    x->frozen_ns = world_frozen_ns(p->sim->world, p->process);
    x->letters.timeout_ms = p->sim->options.call_timeout_ms;
    if (x->letters.count == 0) {
        exchange_free(x);
        return true;
    }
    p->pending++;
    if (comm_exchange(comm, &x->letters) == TUTTI_PENDING)
        return true;
    p->pending--;
    keep_exchange(p, x);
    return false;
}

static bool make_call(struct program *p, struct planned_call *planned, const char *algorithm)
{
    struct invocation *v = invocation_new(p, planned);
    if (algorithm)
        v->call.args.algorithm = algorithm;
    p->pending++;
    if (comm_call(p->process->comm, &v->call) == TUTTI_PENDING)
        return true;
    p->pending--;
    keep(p, v);
    return false;
}

static void go_on(void *context)
{
    struct program *p = context;
    struct comm *comm = p->process->comm;
    const char *algorithm = NULL;
    p->waits = false;
    if (comm->failed || p->state != RUNNING)
        return; /* process_failed() goes on */
    if (p->made == p->count) {
        p->waits = comm->letters != NULL; /* finalizing drains the messages first */
        if (!p->waits)
            finalize(p);
        return;
    }
    struct planned_call planned = p->plan[p->made];
    bool exchanges = planned.operation == TUTTI_SEND;
    if (!exchanges && err(p, &planned, &algorithm))
        return;
    bool made = exchanges ? make_exchange(p, &planned) : make_call(p, &planned, algorithm);
    p->made++;
    if (!made || comm->failed)
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

/* What a process that was killed has left under way. */
static void free_pending(struct comm *comm)
{
    while (comm->head) {
        struct call *call = comm->head;
        comm->head = call->next;
        free(call->scratch);
        free_invocation((struct invocation *)call);
    }
    while (comm->letters) {
        struct letters *letters = comm->letters;
        comm->letters = letters->next;
        exchange_free((struct exchange *)letters);
    }
}

static void free_kept(struct program *p)
{
    static const char rule[] = "nothing is written after a call has returned";
    while (p->kept) {
        struct invocation *v = p->kept;
        p->kept = v->kept;
        if (!data_is_poisoned(&v->data))
            sim_violated(p->sim, rule, "process %d", p->process->number);
        free_invocation(v);
    }
    while (p->kept_exchanges) {
        struct exchange *x = p->kept_exchanges;
        p->kept_exchanges = x->kept;
        if (!exchange_is_poisoned(x))
            sim_violated(p->sim, rule, "process %d, an exchange", p->process->number);
        exchange_free(x);
    }
}

void program_free(struct program *p)
{
    struct comm *comm, *older;
    for (comm = p->process->comm; comm; comm = comm->older)
        free_pending(comm);
    for (comm = p->process->comm; comm; comm = older) {
        older = comm->older;
        comm_release(comm);
    }
    free_kept(p);
    event_cancel(&p->sim->network, &p->next);
    world_free(p);
}
