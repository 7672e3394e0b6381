#include "tests/sim/fault/world.h"

#include <stdlib.h>
#include <string.h>
#include "tests/sim/fault/allocation.h"
#include "tests/sim/fault/faults.h"

struct statistics statistics;

struct world *world_new(struct simulation *sim)
{
    struct world *world = world_alloc(sizeof *world);
    world->sim = sim;
    world->troubled_until_ns = world->vague_until_ns = -1;
    for (int i = 0; i <= RANKS_MAX; i++)
        world->blames[i] = (struct blame){.guilty_until_ns = -1,
                                          .involved_until_ns = -1,
                                          .late_until_ns = -1,
                                          .ended_after = -1,
                                          .lost_ns = -1,
                                          .froze_at_ns = -1};
    return world;
}

void world_free_records(struct world *world)
{
    world_free(world);
}

/* ---- What was done ------------------------------------------------------------------------------- */

static void later(int64_t *until_ns, int64_t value_ns)
{
    if (value_ns > *until_ns)
        *until_ns = value_ns;
}

void world_blame(struct world *world, const struct process *process, int64_t until_ns)
{
    later(&world->blames[process->number].guilty_until_ns, until_ns);
    later(&world->troubled_until_ns, until_ns);
    world->troubled = true;
    if (process->server)
        later(&world->vague_until_ns, until_ns);
}

void world_involve(struct world *world, const struct process *process, int64_t until_ns)
{
    world_blame(world, process, until_ns);
    later(&world->blames[process->number].involved_until_ns, until_ns);
}

void world_lost(struct world *world, const struct process *process)
{
    struct blame *blame = &world->blames[process->number];
    blame->lost_ns = world->sim->network.now_ns;
    blame->lost_late = process->comm && process->comm->ring_open && process->comm->membership.goodbye_said;
}

void world_froze(struct world *world, const struct process *process)
{
    world->blames[process->number].froze_at_ns = world->sim->network.now_ns;
}

void world_thawed(struct world *world, const struct process *process)
{
    struct blame *blame = &world->blames[process->number];
    blame->frozen_ns += world->sim->network.now_ns - blame->froze_at_ns;
    blame->froze_at_ns = blame->lost_ns = -1;
}

int64_t world_frozen_ns(const struct world *world, const struct process *process)
{
    const struct blame *blame = &world->blames[process->number];
    int64_t now_ns = world->sim->network.now_ns;
    return blame->frozen_ns + (blame->froze_at_ns >= 0 ? now_ns - blame->froze_at_ns : 0);
}

/* ---- Groups -------------------------------------------------------------------------------------- */

static struct group_record *find_group(struct world *world, const struct group_place *place)
{
    for (int i = 0; i < world->group_count; i++)
        if (world->groups[i].instance == place->instance && world->groups[i].generation == place->generation)
            return &world->groups[i];
    return NULL;
}

/* NULL where nobody has been welcomed to it, or there were several. */
static const struct group_record *find_generation(const struct world *world, uint32_t generation)
{
    const struct group_record *found = NULL;
    for (int i = 0; i < world->group_count; i++) {
        if (world->groups[i].generation != generation)
            continue;
        if (found)
            return NULL;
        found = &world->groups[i];
    }
    return found;
}

static struct group_record *open_group(struct world *world, const struct group_place *place)
{
    if (world->group_count == GROUPS_MAX)
        sim_violated(world->sim, "a job ends", "there were %d groups", GROUPS_MAX);
    struct group_record *group = &world->groups[world->group_count++];
    *group = (struct group_record){.instance = place->instance,
                                   .generation = place->generation,
                                   .size = place->size,
                                   .began_ns = world->sim->network.now_ns};
    for (int rank = 0; rank < RANKS_MAX; rank++)
        group->members[rank] = -1;
    statistics.groups++;
    return group;
}

void world_joined(struct world *world, const struct comm *comm)
{
    struct group_record *group = find_group(world, &comm->place);
    group->wired_ns[comm->place.rank] = world->sim->network.now_ns;
}

/* ---- Causes -------------------------------------------------------------------------------------- */

static bool is_guilty(const struct world *world, const struct group_record *group, int process)
{
    const struct blame *blame = process >= 0 ? &world->blames[process] : NULL;
    return blame && (blame->guilty_until_ns >= group->began_ns ||
                     (blame->ended_after >= 0 && (uint32_t)blame->ended_after < group->generation));
}

static bool is_involved(const struct world *world, const struct group_record *group, int rank)
{
    for (int beside = -1; beside <= 1; beside++) {
        int process = group->members[(rank + beside + group->size) % group->size];
        if (process >= 0 && world->blames[process].involved_until_ns >= group->began_ns)
            return true;
    }
    return false;
}

/* One of the two ranks whose calls are in the sentence made another call than the others, and one of the two
 * is named. */
static bool is_real_mismatch(const struct world *world, const struct group_record *group,
                             const struct tutti_error *e)
{
    static const char phrase[] = " called ";
    const char *at = e->message;
    bool differs = false, named = false;
    for (int i = 0; i < 2 && (at = strstr(at, phrase)); i++, at += strlen(phrase)) {
        const char *digits = at;
        while (digits > e->message && digits[-1] >= '0' && digits[-1] <= '9')
            digits--;
        int rank = atoi(digits);
        if (digits == at || rank >= group->size)
            return false;
        differs = differs || (group->members[rank] >= 0 && world->blames[group->members[rank]].differs);
        named = named || rank == e->rank;
    }
    return at && differs && named;
}

static bool anybody_differs(const struct world *world)
{
    bool differs = false;
    for (int i = 0; i < RANKS_MAX; i++)
        differs = differs || world->blames[i].differs;
    return differs;
}

/* It waited for somebody else to connect the ring when the deadline passed: it is missing, though innocent.
 */
static bool was_joining(const struct world *world, const struct group_record *group, int rank)
{
    int64_t before_ns = world->sim->network.now_ns - world_call_bound_ms(0) * NS_PER_MS;
    return group->wired_ns[rank] == 0 || group->wired_ns[rank] > before_ns;
}

/* It never took its place in this group, and re-forms it. */
static bool gave_up(const struct world *world, const struct group_record *group, int process)
{
    const struct comm *comm = world->sim->processes[process].comm;
    bool took_place = false;
    for (int rank = 0; rank < group->size; rank++)
        took_place = took_place || (group->members[rank] == process && group->wired_ns[rank] > 0);
    return !took_place && comm->re_forms && world->troubled_until_ns >= group->began_ns;
}

/* It was stopped for so long that the group has gone, and sees but the end of connections: the reason may
 * have been lost with them. */
static bool woke_up_late(const struct world *world, const struct group_record *group, const struct comm *comm)
{
    int64_t gone_ns = world->sim->network.now_ns - group->failed_ns;
    return comm->failure.code == TUTTI_ERR_PEER_LOST && is_guilty(world, group, comm->process->number) &&
           world->blames[comm->process->number].frozen_ns > 0 && group->failed_ns > 0 &&
           gone_ns > world->sim->options.dead_after_ms * NS_PER_MS;
}

static bool is_real(const struct world *world, const struct group_record *group, const struct tutti_error *e)
{
    int process = e->rank >= 0 && e->rank < group->size ? group->members[e->rank] : -1;
    const struct blame *blame = process >= 0 ? &world->blames[process] : NULL;
    /* It was given a place and never heard of it. */
    bool never_came = e->rank >= 0 && e->rank < group->size && process < 0 && world->troubled;
    bool troubled = world->troubled_until_ns >= group->began_ns;
    switch (e->code) {
    case TUTTI_ERR_PEER_LOST:
    case TUTTI_ERR_PROTOCOL:
    case TUTTI_ERR_VERSION: /* that byte may be the one that was changed */
    case TUTTI_ERR_UNREACHABLE:
        return is_guilty(world, group, process) || (e->rank >= 0 && is_involved(world, group, e->rank)) ||
               never_came;
    case TUTTI_ERR_TIMEOUT:
        if (anybody_differs(world))
            return true; /* no frame and no heartbeat has shown it, and a rank waits for what will not come */
        if (e->rank < 0)
            return troubled;
        /* Without the rendezvous a rank knows only that its neighbour has not made the call; and where a
         * network is cut before the first heartbeats came through, everybody may wait while nobody is late.
         */
        return is_guilty(world, group, process) || is_involved(world, group, e->rank) ||
               (blame && blame->late_until_ns >= group->began_ns) ||
               world->vague_until_ns >= group->began_ns || (was_joining(world, group, e->rank) && troubled) ||
               never_came;
    case TUTTI_ERR_MISMATCH:
        return is_real_mismatch(world, group, e);
    case TUTTI_ERR_ABORTED:
        return never_came || (blame && (blame->aborts || gave_up(world, group, process)));
    case TUTTI_ERR_MEMORY:
        return blame ? blame->lacks_memory : world->troubled;
    case TUTTI_ERR_REFUSED: /* left behind while it wired its ring */
        return troubled;
    default:
        return false;
    }
}

/* When the whole ring had been connected for a heartbeat; INT64_MAX: never. */
static int64_t settled_ns(const struct world *world, const struct group_record *group)
{
    int64_t latest_ns = 0;
    for (int rank = 0; rank < group->size; rank++) {
        if (group->wired_ns[rank] == 0)
            return INT64_MAX;
        if (group->wired_ns[rank] > latest_ns)
            latest_ns = group->wired_ns[rank];
    }
    return latest_ns + world->sim->options.heartbeat_ms * NS_PER_MS + 30 * world->sim->network.delay_max_ns;
}

/* Where nothing else disturbs them, ranks notice a lost one in time. */
static void check_notice(struct world *world, const struct group_record *group, const struct comm *comm)
{
    const struct options *options = &world->sim->options;
    int64_t now_ns = world->sim->network.now_ns;
    int64_t bound_ns =
        (EXPLANATION_MS + SLACK_MS) * NS_PER_MS + 30 * group->size * world->sim->network.delay_max_ns;
    if (world->hampered > 1 || comm->phase == COMM_JOINING)
        return;
    bound_ns += world_frozen_ns(world, comm->process);
    if (world->hampered == 1)
        bound_ns += (options->dead_after_ms + options->heartbeat_ms) * NS_PER_MS;
    for (int rank = 0; rank < group->size; rank++) {
        const struct blame *blame = &world->blames[group->members[rank] < 0 ? 0 : group->members[rank]];
        bool counts = group->members[rank] >= 0 && group->members[rank] != comm->process->number &&
                      blame->lost_ns >= 0 && !blame->lost_late && blame->lost_ns > settled_ns(world, group);
        if (counts && now_ns - blame->lost_ns > bound_ns)
            sim_violated(
                world->sim, "a lost rank is noticed in time",
                "rank %d of generation %u fails %.3f ms after the end of rank %d, %.3f ms are allowed: %s",
                comm->place.rank, group->generation, (double)(now_ns - blame->lost_ns) / 1e6, rank,
                (double)bound_ns / 1e6, comm->failure.message);
    }
}

static void check_spread(struct world *world, struct group_record *group, const struct comm *comm)
{
    const struct options *options = &world->sim->options;
    const struct network *network = &world->sim->network;
    if (comm->phase == COMM_JOINING)
        return;
    if (group->failed_ns == 0)
        group->failed_ns = network->now_ns;
    int64_t late_ns = network->now_ns - group->failed_ns;
    int64_t bound_ns = (EXPLANATION_MS + SLACK_MS) * NS_PER_MS + 30 * group->size * network->delay_max_ns;
    if (world->hampered)
        bound_ns +=
            (options->dead_after_ms + 3 * options->heartbeat_ms + options->join_timeout_ms) * NS_PER_MS +
            world_frozen_ns(world, comm->process);
    if (late_ns > bound_ns)
        sim_violated(world->sim, "a failure is known on every rank soon",
                     "rank %d of generation %u learns of it %.3f ms after the first, %.3f ms are allowed: %s",
                     comm->place.rank, group->generation, (double)late_ns / 1e6, (double)bound_ns / 1e6,
                     comm->failure.message);
}

/* Where nothing else disturbs them, ranks know who is late, however far away. */
static void check_late(struct world *world, const struct group_record *group, const struct comm *comm)
{
    const struct tutti_error *e = &comm->failure;
    int process = e->rank >= 0 && e->rank < group->size ? group->members[e->rank] : -1;
    const struct process *late = faults_only_late(world->sim->faults);
    if (late && e->code == TUTTI_ERR_TIMEOUT && !world->sim->options.messages && process != late->number)
        sim_violated(world->sim, "the late rank is named",
                     "process %d is late, rank %d of generation %u names rank %d: %s", late->number,
                     comm->place.rank, group->generation, e->rank, e->message);
}

void world_failed(struct world *world, const struct comm *comm, bool noticed_here)
{
    const struct tutti_error *e = &comm->failure;
    faults_look(world->sim->faults);
    statistics.causes[-e->code & 63]++;
    if (!world->troubled)
        sim_violated(world->sim, "nobody fails without a cause", "process %d: %s", comm->process->number,
                     e->message);
    struct group_record *group = comm->place.rank >= 0 ? find_group(world, &comm->place) : NULL;
    if (!group)
        return; /* it has not found the rendezvous, or was refused */
    if (group->failed_ns == 0)
        statistics.groups_failed++;
    if (!is_real(world, group, e) && !woke_up_late(world, group, comm))
        sim_violated(world->sim, "an error names a real cause",
                     "process %d, rank %d of generation %u (%s): %s: rank %d: %s", comm->process->number,
                     comm->place.rank, group->generation, noticed_here ? "noticed" : "told",
                     tutti_error_name(e->code), e->rank, e->message);
    check_late(world, group, comm);
    check_spread(world, group, comm);
    check_notice(world, group, comm);
    faults_group_failed(world->sim->faults);
}

/* ---- Re-formed groups ---------------------------------------------------------------------------- */

static void check_same_report(struct world *world, const struct tutti_reform_info *a,
                              const struct tutti_reform_info *b)
{
    bool same = a->previous_generation == b->previous_generation && a->previous_size == b->previous_size &&
                a->completed_everywhere == b->completed_everywhere &&
                a->completed_anywhere == b->completed_anywhere && strcmp(a->lost, b->lost) == 0 &&
                a->cause.code == b->cause.code && a->cause.rank == b->cause.rank &&
                strcmp(a->cause.message, b->cause.message) == 0;
    if (!same)
        sim_violated(
            world->sim, "all members of a re-formed group are told the same",
            "generation %u: everywhere %llu or %llu, anywhere %llu or %llu, lost '%s' or '%s', cause "
            "'%s' or '%s'",
            a->generation, (unsigned long long)a->completed_everywhere,
            (unsigned long long)b->completed_everywhere, (unsigned long long)a->completed_anywhere,
            (unsigned long long)b->completed_anywhere, a->lost, b->lost, a->cause.message, b->cause.message);
}

static const struct comm *comm_of_group(const struct process *process, const struct group_record *group)
{
    const struct comm *comm = process->comm;
    while (comm && (comm->place.instance != group->instance || comm->place.generation != group->generation))
        comm = comm->older;
    return comm;
}

/* Once all are there: are the numbers right? */
static void check_completed(struct world *world, const struct group_record *group)
{
    uint64_t everywhere = UINT64_MAX, anywhere = 0;
    uint32_t newest = 0;
    bool mixed = false;
    for (int pass = 0; pass < 2; pass++)
        for (int rank = 0; rank < group->size; rank++) {
            if (group->members[rank] < 0)
                return;
            const struct comm *comm = comm_of_group(&world->sim->processes[group->members[rank]], group);
            const struct comm_previous *previous = &comm->previous;
            if (pass == 0 && previous->generation > newest)
                newest = previous->generation;
            if (pass == 0)
                continue;
            mixed = mixed || previous->generation != newest;
            if (previous->generation == newest && previous->completed > anywhere)
                anywhere = previous->completed;
            if (previous->completed < everywhere)
                everywhere = previous->completed;
        }
    if (mixed)
        everywhere = 0;
    if (everywhere != group->reformed.completed_everywhere || anywhere != group->reformed.completed_anywhere)
        sim_violated(world->sim, "everywhere and anywhere are what the survivors completed",
                     "generation %u says everywhere %llu, anywhere %llu; it is %llu and %llu",
                     group->generation, (unsigned long long)group->reformed.completed_everywhere,
                     (unsigned long long)group->reformed.completed_anywhere, (unsigned long long)everywhere,
                     (unsigned long long)anywhere);
}

static void check_order(struct world *world, const struct group_record *group, const struct comm *comm)
{
    int before = -1;
    for (int rank = 0; rank < group->size; rank++) {
        if (group->members[rank] < 0)
            continue;
        const struct comm *member = comm_of_group(&world->sim->processes[group->members[rank]], group);
        if (member->reformed.previous_rank <= before)
            sim_violated(world->sim, "survivors keep their order",
                         "rank %d of generation %u was rank %d, after one that was rank %d", rank,
                         group->generation, member->reformed.previous_rank, before);
        before = member->reformed.previous_rank;
    }
    if (comm->previous.generation == comm->reformed.previous_generation &&
        comm->previous.rank != comm->reformed.previous_rank)
        sim_violated(world->sim, "survivors keep their order",
                     "a member that was rank %d is told that it was rank %d", comm->previous.rank,
                     comm->reformed.previous_rank);
}

/* Where everybody who is not in the new group has gone, or is the one that was lost, nobody is waited for. */
static void check_prompt(struct world *world, const struct group_record *group, const struct comm *comm)
{
    const struct simulation *sim = world->sim;
    const struct group_record *previous = find_generation(world, group->reformed.previous_generation);
    int64_t latest_ns = 0;
    /* A rendezvous that took over from a lost one knows nobody, and waits for all. */
    bool took_over = sim->options.embedded && (sim->processes[0].node->dead || world->blames[0].ended_ns > 0);
    if (!previous || took_over || world->hampered > 1 || world->vague_until_ns >= 0)
        return;
    for (int rank = 0; rank < previous->size; rank++) {
        int number = previous->members[rank];
        const struct process *process = number >= 0 ? &sim->processes[number] : NULL;
        const struct comm *member = process ? comm_of_group(process, group) : NULL;
        const struct blame *blame = process ? &world->blames[number] : NULL;
        bool accused =
            group->reformed.cause.code == TUTTI_ERR_PEER_LOST && group->reformed.cause.rank == rank;
        bool closed = process && ((process->node->dead && !process->node->unplugged) || blame->ended_ns > 0);
        int64_t since_ns = member ? member->joining.deadline_ns - member->joining.timeout_ms * NS_PER_MS
                           : blame && blame->ended_ns > 0 ? blame->ended_ns
                           : blame                        ? blame->lost_ns
                                                          : 0;
        /* Who was given up may come back to a job that rests, for all others have left, and knows nobody
         * either. */
        bool was_given_up = member && blame->guilty_until_ns >= 0;
        if ((!member && !closed && !accused) || previous->wired_ns[rank] == 0 || was_given_up)
            return;
        if (since_ns > latest_ns)
            latest_ns = since_ns;
    }
    int64_t took_ns = sim->network.now_ns - latest_ns - world_frozen_ns(world, comm->process);
    int64_t bound_ns = (2 * REFORM_GRACE_MS + 2 * SLACK_MS) * NS_PER_MS + 2 * sim->network.dial_max_ns +
                       60 * group->size * sim->network.delay_max_ns;
    if (took_ns > bound_ns)
        sim_violated(world->sim, "survivors wait for nobody who is gone",
                     "generation %u was there %.3f ms after the last had come, %.3f ms are allowed",
                     group->generation, (double)took_ns / 1e6, (double)bound_ns / 1e6);
}

static void check_agreed_cause(struct world *world, const struct group_record *group)
{
    const struct tutti_error *cause = &group->reformed.cause;
    const struct group_record *previous = find_generation(world, group->reformed.previous_generation);
    if (previous && !is_real(world, previous, cause))
        sim_violated(world->sim, "the agreed cause is real", "generation %u: %s: rank %d: %s",
                     group->generation, tutti_error_name(cause->code), cause->rank, cause->message);
}

static void check_reformed(struct world *world, struct group_record *group, const struct comm *comm)
{
    if (comm->reformed.previous_generation >= comm->place.generation)
        sim_violated(world->sim, "generations only grow", "%u came out of %u", comm->place.generation,
                     comm->reformed.previous_generation);
    if (!group->has_reformed) {
        group->reformed = comm->reformed;
        group->has_reformed = true;
        statistics.reformed++;
    }
    check_same_report(world, &group->reformed, &comm->reformed);
    check_order(world, group, comm);
    check_completed(world, group);
    check_agreed_cause(world, group);
    for (int rank = 0; rank < group->size; rank++)
        if (group->members[rank] < 0)
            return;
    check_prompt(world, group, comm);
}

void world_welcomed(struct world *world, const struct comm *comm)
{
    const struct group_place *place = &comm->place;
    struct group_record *group = find_group(world, place);
    if (!group)
        group = open_group(world, place);
    if (group->size != place->size)
        sim_violated(world->sim, "a group has one size", "%d or %d", group->size, place->size);
    int *member = &group->members[place->rank];
    if (*member >= 0 && *member != comm->process->number)
        sim_violated(world->sim, "no two members have the same (instance, generation, rank)",
                     "processes %d and %d are both rank %d of generation %u", *member, comm->process->number,
                     place->rank, place->generation);
    *member = comm->process->number;
    if (comm->re_forms)
        check_reformed(world, group, comm);
}

/* ---- Time ---------------------------------------------------------------------------------------- */

int64_t world_call_bound_ms(int64_t timeout_ms)
{
    return timeout_ms + 3 * LATENESS_PATIENCE_MS + EXPLANATION_MS + SLACK_MS;
}

int64_t world_join_bound_ms(const struct options *options)
{
    return options->join_timeout_ms + REFUSAL_GRACE_MS + WIRING_MIN_MS + ATTEMPT_TIMEOUT_MS + SLACK_MS;
}

void world_returned(struct world *world, const struct comm *comm, const char *what, int64_t began_ns,
                    int64_t frozen_ns, int64_t bound_ms)
{
    int64_t stopped_ns = world_frozen_ns(world, comm->process) - frozen_ns;
    int64_t took_ns = world->sim->network.now_ns - began_ns - stopped_ns;
    if (took_ns > bound_ms * NS_PER_MS)
        sim_violated(world->sim, "every call ends in time",
                     "%s of process %d took %.3f ms, %lld ms are allowed", what, comm->process->number,
                     (double)took_ns / 1e6, (long long)bound_ms);
}

/* ---- The end ------------------------------------------------------------------------------------- */

void world_finished(struct world *world)
{
    struct simulation *sim = world->sim;
    bool failed = false, reformed = false;
    if (sim->network.open_ends != 0)
        sim_violated(sim, "nothing is left over", "%d ends of streams are open", sim->network.open_ends);
    if (!LIST_EMPTY(&sim->network.listeners))
        sim_violated(sim, "nothing is left over", "somebody still listens at address %d",
                     LIST_FIRST(&sim->network.listeners)->address);
    for (int i = 0; i < world->group_count; i++) {
        failed = failed || world->groups[i].failed_ns > 0;
        reformed = reformed || world->groups[i].has_reformed;
    }
    if (world->must_fail && !failed)
        sim_violated(sim, "different calls, aborts, leaving and damaged frames are noticed",
                     "nobody has failed");
    statistics.quiet_runs += !world->troubled;
    statistics.perfect_runs += !failed;
    statistics.failed_runs += failed;
    statistics.reformed_runs += reformed;
}
