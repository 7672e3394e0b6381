#include "tests/sim/fault/faults.h"

#include "tests/sim/fault/allocation.h"
#include "tests/sim/fault/comm.h"
#include "tests/sim/fault/plan.h"
#include "tests/sim/fault/world.h"

#define FAULTS_MAX 4
#define EVER       INT64_MAX

/* Where there is nothing to break at this moment. */
#define TRIES_MAX    300
#define TRY_AGAIN_NS (30 * NS_PER_US)

uint64_t fault_counts[FAULT_KINDS][2];

static const char *const texts[] = {
#define FAULT_TEXT(name, text) text,
    FAULT_MAP(FAULT_TEXT)
#undef FAULT_TEXT
};

const char *fault_text(enum fault_kind kind)
{
    return texts[kind];
}

/* When: at a time, or so long after something. */
enum trigger { AT_TIME, AFTER_CALLS, AFTER_JOIN, AFTER_FINALIZE, AFTER_FAILURE };

struct fault {
    struct faults *faults;
    enum fault_kind kind;
    enum trigger trigger;
    struct process *victim;
    int64_t delay_ns, lasts_ns;
    uint64_t calls; /* AFTER_CALLS; of a user's error, the call */
    int other_host; /* of FAULT_cut_pair: one of the hosts of ranks, or that of the rendezvous */
    enum failpoint point;
    enum failpoint_action action;
    bool armed, done;
    int tries;
    struct event begin, end;
};

struct faults {
    struct simulation *sim;
    uint64_t random;
    int count;
    struct fault list[FAULTS_MAX];
};

static void mark_done(struct fault *fault)
{
    if (!fault->done)
        fault_counts[fault->kind][1]++;
    fault->done = true;
    SAY(fault->faults->sim, fault->victim, "FAULT: %s", texts[fault->kind]);
}

/* ---- Stopping and ending ------------------------------------------------------------------------- */

static void thaw(void *context)
{
    struct fault *fault = context;
    struct process *victim = fault->victim;
    if (!victim->node->frozen || victim->node->dead)
        return;
    SAY(victim->sim, victim, "goes on");
    world_thawed(victim->sim->world, victim);
    node_thaw(victim->node);
}

static void freeze(struct fault *fault)
{
    struct process *victim = fault->victim;
    struct simulation *sim = victim->sim;
    int64_t now_ns = sim->network.now_ns,
            until_ns = fault->lasts_ns == EVER ? EVER : now_ns + fault->lasts_ns;
    if (victim->node->frozen || victim->node->dead)
        return;
    mark_done(fault);
    world_froze(sim->world, victim);
    world_lost(sim->world, victim);
    node_freeze(victim->node);
    sim->world->hampered++;
    if (fault->kind != FAULT_freeze_short)
        world_blame(sim->world, victim, until_ns);
    if (until_ns != EVER)
        event_set(&sim->network, &fault->end, NULL, fault->lasts_ns, thaw, fault);
}

static void kill_victim(struct fault *fault)
{
    struct process *victim = fault->victim;
    if (victim->node->dead)
        return;
    mark_done(fault);
    world_blame(victim->sim->world, victim, EVER);
    world_lost(victim->sim->world, victim);
    if (fault->kind == FAULT_unplug) {
        victim->sim->world->hampered++;
        node_unplug(victim->node);
    } else {
        node_kill(victim->node);
    }
}

static void act(void *context, enum failpoint_action action)
{
    struct fault *fault = context;
    if (action == FAIL_die)
        kill_victim(fault);
    else
        freeze(fault);
}

/* ---- The network --------------------------------------------------------------------------------- */

static void cut_host(struct fault *fault, bool heal)
{
    struct network *network = &fault->faults->sim->network;
    int host = fault->victim->node->host, way = (int)(fault->calls % 3);
    bool both = fault->kind == FAULT_cut || (fault->kind == FAULT_cut_pair && way == 2), outwards = way == 0;
    void (*change)(struct network *, int, int) = heal ? network_heal : network_cut;
    for (int other = 0; other < NETWORK_HOSTS_MAX; other++) {
        if (other == host || (fault->kind == FAULT_cut_pair && other != fault->other_host))
            continue;
        if (both || outwards)
            change(network, host, other);
        if (both || !outwards)
            change(network, other, host);
    }
}

static void heal(void *context)
{
    struct fault *fault = context;
    SAY(fault->faults->sim, fault->victim, "its host is connected again");
    cut_host(fault, true);
}

static void cut(struct fault *fault)
{
    struct simulation *sim = fault->faults->sim;
    int64_t until_ns = fault->lasts_ns == EVER ? EVER : sim->network.now_ns + fault->lasts_ns;
    mark_done(fault);
    cut_host(fault, false);
    sim->world->hampered++;
    if (until_ns > sim->world->vague_until_ns)
        sim->world->vague_until_ns = until_ns;
    for (int i = 0; i <= RANKS_MAX; i++) {
        const struct node *node = sim->processes[i].node;
        if (node && (node->host == fault->victim->node->host ||
                     (fault->kind == FAULT_cut_pair && node->host == fault->other_host)))
            world_involve(sim->world, &sim->processes[i], until_ns);
    }
    if (until_ns != EVER)
        event_set(&sim->network, &fault->end, NULL, fault->lasts_ns, heal, fault);
}

static void admit(void *context)
{
    struct fault *fault = context;
    fault->victim->node->refuses = false;
}

/* Whoever dials it tries again. */
static void refuse(struct fault *fault)
{
    struct simulation *sim = fault->faults->sim;
    int64_t until_ns = fault->lasts_ns == EVER ? EVER : sim->network.now_ns + fault->lasts_ns;
    mark_done(fault);
    fault->victim->node->refuses = true;
    world_involve(sim->world, fault->victim, until_ns);
    if (until_ns > sim->world->vague_until_ns)
        sim->world->vague_until_ns = until_ns;
    if (until_ns != EVER)
        event_set(&sim->network, &fault->end, NULL, fault->lasts_ns, admit, fault);
}

/* One of the streams that the victim has at this moment, or NULL. */
static struct end *pick_stream(struct fault *fault)
{
    struct end *picked = NULL, *end;
    uint64_t count = 0;
    if (fault->victim->node->dead)
        return NULL;
    TAILQ_FOREACH(end, &fault->victim->node->ends, entry)
    if (end_other(end)->open && !end->reset && !end->accepting &&
        random_below(&fault->faults->random, ++count) == 0)
        picked = end;
    return picked;
}

static void begin(void *context);

/* For good: what goes through it may be late, heartbeats and the news of a failure, too. */
static void slow_down(struct fault *fault, struct end *end)
{
    struct simulation *sim = fault->faults->sim;
    uint64_t most_ms = (uint64_t)sim->options.dead_after_ms / 4;
    end->stream->extra_ns = (int64_t)random_below(&fault->faults->random, most_ms * 1000) * NS_PER_US;
    sim->world->hampered++;
    sim->world->vague_until_ns = EVER;
    for (int side = 0; side < 2; side++)
        world_involve(sim->world, &sim->processes[end->stream->ends[side].node->number], EVER);
}

static void break_stream(struct fault *fault)
{
    struct simulation *sim = fault->faults->sim;
    struct end *end = pick_stream(fault);
    if (!end || (fault->kind == FAULT_corrupt && !end_corrupt(end))) {
        if (fault->tries++ < TRIES_MAX)
            event_set(&sim->network, &fault->begin, NULL, TRY_AGAIN_NS, begin, fault);
        return;
    }
    mark_done(fault);
    /* Its effect comes when the next bytes would. */
    int64_t until_ns = sim->network.now_ns + 10 * sim->network.delay_max_ns;
    for (int side = 0; side < 2; side++)
        world_blame(sim->world, &sim->processes[end->stream->ends[side].node->number], until_ns);
    if (fault->kind == FAULT_reset)
        end_abort(end);
    if (fault->kind == FAULT_half_close)
        end_shut_write(end);
    if (fault->kind == FAULT_half_open) {
        /* Who waits for the answer to its hello does so until the deadline of its call. */
        sim->world->vague_until_ns = EVER;
        sim->world->hampered++;
        end_forget(end);
    }
    if (fault->kind == FAULT_slow)
        slow_down(fault, end);
}

/* ---- Doing --------------------------------------------------------------------------------------- */

static void starve(struct fault *fault)
{
    fault->calls %= 20;
    allocation.victim = fault->victim->node;
    allocation.countdown = 1 + (uint32_t)fault->calls;
    allocation.failures = 1 + (uint32_t)(fault->lasts_ns % 3);
    allocation.struck = false;
}

static void arm_failpoint(struct fault *fault)
{
    struct failpoints *failpoints = &fault->victim->failpoints;
    failpoints->points[fault->point].countdown = 1 + (uint32_t)fault->calls;
    failpoints->points[fault->point].action = fault->action;
    failpoints->act = act;
    failpoints->context = fault;
}

static void begin(void *context)
{
    struct fault *fault = context;
    switch (fault->kind) {
    case FAULT_kill:
    case FAULT_unplug:
    case FAULT_rendezvous_kill:
        kill_victim(fault);
        break;
    case FAULT_freeze_short:
    case FAULT_freeze_long:
    case FAULT_freeze_ever:
    case FAULT_rendezvous_freeze:
        freeze(fault);
        break;
    case FAULT_cut:
    case FAULT_cut_one_way:
    case FAULT_cut_pair:
        cut(fault);
        break;
    case FAULT_refuse:
        refuse(fault);
        break;
    case FAULT_memory:
    case FAULT_rendezvous_memory:
        starve(fault);
        break;
    case FAULT_failpoint:
        arm_failpoint(fault);
        break;
    default:
        break_stream(fault);
    }
}

static void fire(struct fault *fault)
{
    if (fault->armed || fault->kind >= FAULT_differ)
        return;
    fault->armed = true;
    event_set(&fault->faults->sim->network, &fault->begin, NULL, fault->delay_ns, begin, fault);
}

void faults_joined(struct faults *f, const struct process *process)
{
    for (int i = 0; i < f->count; i++)
        if (f->list[i].trigger == AFTER_JOIN && f->list[i].victim == process)
            fire(&f->list[i]);
}

void faults_called(struct faults *f, const struct process *process, uint64_t completed)
{
    for (int i = 0; i < f->count; i++)
        if (f->list[i].trigger == AFTER_CALLS && completed >= f->list[i].calls &&
            (f->list[i].victim == process || f->list[i].victim->number == f->sim->options.size))
            fire(&f->list[i]);
}

void faults_finalizing(struct faults *f, const struct process *process)
{
    for (int i = 0; i < f->count; i++)
        if (f->list[i].trigger == AFTER_FINALIZE && f->list[i].victim == process)
            fire(&f->list[i]);
}

void faults_group_failed(struct faults *f)
{
    for (int i = 0; i < f->count; i++)
        if (f->list[i].trigger == AFTER_FAILURE)
            fire(&f->list[i]);
}

enum fault_kind faults_of_user(struct faults *f, const struct process *process, uint32_t generation,
                               int index)
{
    struct simulation *sim = f->sim;
    struct blame *blame = &sim->world->blames[process->number];
    for (int i = 0; i < f->count; i++) {
        struct fault *fault = &f->list[i];
        if (fault->kind < FAULT_differ || fault->victim != process || fault->done ||
            fault->calls > (uint64_t)index + 8 * (generation - 1))
            continue;
        mark_done(fault);
        sim->world->troubled = true;
        if (fault->kind == FAULT_differ)
            blame->differs = true;
        if (fault->kind == FAULT_abort || fault->kind == FAULT_leave)
            blame->aborts = true;
        if (fault->kind == FAULT_late) {
            blame->late_until_ns = sim->network.now_ns + (sim->options.call_timeout_ms + 3000) * NS_PER_MS;
            if (sim->world->troubled_until_ns < blame->late_until_ns)
                sim->world->troubled_until_ns = blame->late_until_ns;
        }
        return fault->kind;
    }
    return FAULT_KINDS;
}

/* A failpoint that harms a stream, or memory that ran out, does so by itself. */
void faults_look(struct faults *f)
{
    struct world *world = f->sim->world;
    for (int i = 0; i < f->count; i++) {
        struct fault *fault = &f->list[i];
        bool hit = false;
        if (fault->done || !fault->armed)
            continue;
        if (fault->kind == FAULT_failpoint)
            hit =
                fault->victim->failpoints.points[fault->point].countdown == 0 && !event_is_set(&fault->begin);
        if (fault->kind == FAULT_memory || fault->kind == FAULT_rendezvous_memory)
            hit = allocation.struck;
        if (!hit)
            continue;
        mark_done(fault);
        const struct node *harmed = f->sim->network.harmed;
        if (fault->kind == FAULT_failpoint && harmed)
            world_blame(world, &f->sim->processes[harmed->number], f->sim->network.now_ns);
        if (fault->kind != FAULT_failpoint || fault->action == FAIL_no_memory)
            world->blames[fault->victim->number].lacks_memory = true;
        world_involve(world, fault->victim, f->sim->network.now_ns);
    }
}

/* ---- Drawing ------------------------------------------------------------------------------------- */

static void draw_failpoint(struct faults *f, struct fault *fault)
{
    static const enum failpoint_action harm[] = {FAIL_corrupt_header, FAIL_truncate, FAIL_stale, FAIL_reset,
                                                 FAIL_half_close};
    uint64_t *random = &f->random;
    fault->point = random_chance(random, 35) ? FAILPOINT_frame_sent
                                             : (enum failpoint)random_below(random, FAILPOINT_COUNT);
    fault->action = random_chance(random, 60) ? FAIL_die : FAIL_stop;
    fault->calls = random_below(random, fault->point == FAILPOINT_hello_sent ? 12 : 3);
    if (fault->point == FAILPOINT_frame_sent) {
        fault->calls = random_below(random, 60);
        if (random_chance(random, 75))
            fault->action = harm[random_below(random, sizeof harm / sizeof harm[0])];
        if (f->sim->options.checksum && random_chance(random, 20))
            fault->action = FAIL_corrupt_payload;
    }
    if (fault->point == FAILPOINT_request_made)
        fault->action = FAIL_no_memory;
    if (fault->point == FAILPOINT_accept)
        fault->action = FAIL_no_descriptors;
    fault->trigger = AT_TIME;
    fault->delay_ns = 0;
}

static void draw_when(struct faults *f, struct fault *fault)
{
    static const int64_t spans_ns[] = {5 * NS_PER_MS, 50 * NS_PER_MS, 400 * NS_PER_MS};
    uint64_t *random = &f->random, kind = random_below(random, 100);
    int64_t span_ns = spans_ns[random_below(random, 3)];
    fault->trigger = kind < 20   ? AT_TIME
                     : kind < 65 ? AFTER_CALLS
                     : kind < 72 ? AFTER_JOIN
                     : kind < 82 ? AFTER_FINALIZE
                                 : AFTER_FAILURE;
    if (fault->trigger == AFTER_FAILURE && f->count == 1)
        fault->trigger = AFTER_CALLS; /* nothing fails before the first fault */
    fault->calls = random_below(random, (uint64_t)plan_length(f->sim->seed, 1) + 1);
    if (fault->trigger == AFTER_CALLS || fault->trigger == AFTER_JOIN || fault->trigger == AFTER_FINALIZE)
        span_ns = NS_PER_MS;
    fault->delay_ns = (int64_t)random_below(random, (uint64_t)span_ns);
    if (fault->victim->number == f->sim->options.size && fault->trigger != AT_TIME &&
        fault->trigger != AFTER_FAILURE)
        fault->trigger = AFTER_CALLS; /* of any rank: the rendezvous itself makes none */
}

static void draw_length(struct faults *f, struct fault *fault)
{
    const struct options *options = &f->sim->options;
    uint64_t dead_ms = (uint64_t)options->dead_after_ms;
    uint64_t short_ms = dead_ms - 3 * (uint64_t)options->heartbeat_ms;
    bool network = fault->kind >= FAULT_cut && fault->kind <= FAULT_refuse;
    fault->lasts_ns = (int64_t)(dead_ms + random_below(&f->random, 6 * dead_ms)) * NS_PER_MS;
    if (fault->kind == FAULT_freeze_short || (network && random_chance(&f->random, 30)))
        fault->lasts_ns = (int64_t)random_below(&f->random, short_ms) * NS_PER_MS;
    if (fault->kind == FAULT_freeze_ever || (network && random_chance(&f->random, 30)))
        fault->lasts_ns = EVER;
}

static bool is_possible(const struct faults *f, enum fault_kind kind)
{
    bool of_server = kind >= FAULT_rendezvous_kill && kind <= FAULT_rendezvous_memory;
    bool of_hosts = kind >= FAULT_cut && kind <= FAULT_cut_pair;
    if (kind == FAULT_corrupt && !f->sim->options.checksum)
        return false;                  /* nobody could notice */
    for (int i = 0; i < f->count; i++) /* there is one countdown, and one set of failpoints for each */
        if ((kind == FAULT_memory || kind == FAULT_rendezvous_memory || kind == FAULT_failpoint) &&
            (f->list[i].kind == kind || f->list[i].kind == FAULT_memory ||
             f->list[i].kind == FAULT_rendezvous_memory))
            return false;
    return !(of_server && f->sim->options.embedded) && !(of_hosts && f->sim->options.hosts < 2);
}

static void draw(struct faults *f, enum fault_kind kind)
{
    struct simulation *sim = f->sim;
    struct fault *fault = &f->list[f->count++];
    bool of_server = kind >= FAULT_rendezvous_kill && kind <= FAULT_rendezvous_memory;
    fault->faults = f;
    fault->kind = kind;
    fault->victim = &sim->processes[of_server ? sim->options.size
                                              : (int)random_below(&f->random, (uint64_t)sim->options.size)];
    fault->other_host =
        (fault->victim->node->host + 1 + (int)random_below(&f->random, (uint64_t)sim->options.hosts)) %
        (sim->options.hosts + 1);
    draw_when(f, fault);
    draw_length(f, fault);
    if (kind == FAULT_failpoint)
        draw_failpoint(f, fault);
    if ((kind == FAULT_memory || kind == FAULT_rendezvous_memory) && random_chance(&f->random, 50))
        fault->calls = random_below(&f->random, 20);
    fault_counts[kind][0]++;
    SAY(sim, fault->victim, "drawn: %s, trigger %d, calls %llu, delay %.3f ms", texts[kind], fault->trigger,
        (unsigned long long)fault->calls, (double)fault->delay_ns / 1e6);
    if (fault->trigger == AT_TIME)
        fire(fault);
}

struct faults *faults_new(struct simulation *sim, uint64_t seed)
{
    struct faults *f = world_alloc(sizeof *f);
    f->sim = sim;
    f->random = seed;
    uint64_t kind = random_below(&f->random, 100);
    int count = kind < 12 ? 0 : kind < 70 ? 1 : kind < 92 ? 2 : 3;
    bool only_short = count > 0 && kind % 8 == 0;
    /* Who is late must be known without the rendezvous, too, and where a rank does not answer it. */
    enum fault_kind beside_late = kind == 13 || kind == 14 ? FAULT_rendezvous_kill : FAULT_cut_pair;
    if (kind >= 13 && kind <= 16 && is_possible(f, beside_late)) {
        draw(f, beside_late);
        draw(f, FAULT_late);
        return f;
    }
    while (f->count < count) {
        enum fault_kind next =
            only_short ? FAULT_freeze_short : (enum fault_kind)random_below(&f->random, FAULT_KINDS);
        if (is_possible(f, next))
            draw(f, next);
    }
    return f;
}

const struct process *faults_only_late(const struct faults *f)
{
    const struct process *late = NULL;
    for (int i = 0; i < f->count; i++) {
        const struct fault *fault = &f->list[i];
        bool of_server = fault->kind == FAULT_rendezvous_kill || fault->kind == FAULT_rendezvous_freeze;
        if (fault->kind != FAULT_late && !of_server)
            return NULL;
        if (fault->kind == FAULT_late && late)
            return NULL;
        if (fault->kind == FAULT_late && fault->done)
            late = fault->victim;
    }
    return late;
}

bool faults_must_show(const struct faults *f)
{
    const struct fault *only = &f->list[0];
    if (f->count != 1 || !only->done)
        return false;
    if (only->kind == FAULT_failpoint) /* a frame that somebody waits for is not as it should be */
        return only->point == FAILPOINT_frame_sent && only->action != FAIL_die && only->action != FAIL_stop;
    return only->kind >= FAULT_differ && only->kind != FAULT_late;
}

void faults_free(struct faults *f)
{
    for (int i = 0; i < f->count; i++) {
        event_cancel(&f->sim->network, &f->list[i].begin);
        event_cancel(&f->sim->network, &f->list[i].end);
    }
    allocation.countdown = 0;
    world_free(f);
}
