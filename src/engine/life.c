#include "engine/life.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include "base/error.h"
#include "base/hash.h"
#include "engine/clock.h"
#include "engine/colocation.h"
#include "engine/mesh.h"
#include "engine/mixed_agreement.h"
#include "engine/roll.h"
#include "engine/split.h"
#include "engine/stripes.h"
#include "transport/descriptor.h"

#define MEETING_TIMEOUT_MIN_MS 5000 /* for the cards to go round, when all have joined late */

/* ---- Who is this process? ------------------------------------------------------------------------ */

/* Two processes are on one host when the kernel that runs them was booted once. */
static void read_boot_id(char *text, size_t size)
{
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (!file || !fgets(text, (int)size, file))
        gethostname(text, size);
    if (file)
        fclose(file);
    text[strcspn(text, "\n")] = '\0';
}

/* The same name gives the same id: FNV-1a in two lanes, for identity and not for secrecy. */
static void name_to_member_id(const char *name, uint8_t id[MEMBER_ID_BYTES])
{
    uint64_t lanes[2] = {FNV1A_START, ~FNV1A_START};
    for (; *name; name++)
        for (int lane = 0; lane < 2; lane++)
            lanes[lane] = fnv1a_add(lanes[lane], (uint8_t)*name);
    memcpy(id, lanes, sizeof lanes);
}

static int random_member_id(uint8_t id[MEMBER_ID_BYTES], struct tutti_error *error)
{
    if (getrandom(id, MEMBER_ID_BYTES, 0) != MEMBER_ID_BYTES)
        return error_set_errno(error, errno, "the kernel gave no random numbers");
    return TUTTI_OK;
}

static int find_identity(tutti_comm *comm, struct tutti_error *error)
{
    const struct tutti_config *values = &comm->settings.values;
    if (values->host)
        snprintf(comm->host, sizeof comm->host, "%s", values->host);
    else
        read_boot_id(comm->host, sizeof comm->host);
    gethostname(comm->host_name, sizeof comm->host_name - 1);
    if (!values->member)
        return random_member_id(comm->place.member_id, error);
    name_to_member_id(values->member, comm->place.member_id);
    return TUTTI_OK;
}

static enum log_level level_from_name(const char *name)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    for (int i = 0; i < 4; i++)
        if (strcmp(name, names[i]) == 0)
            return (enum log_level)(LOG_LEVEL_ERROR + i);
    return LOG_LEVEL_WARNING;
}

/* ---- Making it ----------------------------------------------------------------------------------- */

#ifdef TUTTI_FAILPOINTS
static void fail_by_signal(void *context, enum failpoint_action action)
{
    (void)context;
    raise(action == FAIL_die ? SIGKILL : SIGSTOP);
}

static int read_failpoints(tutti_comm *comm, settings_getenv read, struct tutti_error *error)
{
    const char *text = read(NULL, "TUTTI_FAILPOINTS");
    comm->failpoints.act = fail_by_signal;
    return text ? failpoints_parse(&comm->failpoints, text, error) : TUTTI_OK;
}
#else
static int read_failpoints(tutti_comm *comm, settings_getenv read, struct tutti_error *error)
{
    (void)comm, (void)read, (void)error;
    return TUTTI_OK;
}
#endif

/* The condition counts on the monotonic clock. */
static void init_lock(pthread_mutex_t *lock, pthread_cond_t *changed)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(lock, NULL);
    pthread_cond_init(changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

static struct family *family_new(tutti_comm *root)
{
    struct family *family = calloc(1, sizeof *family);
    if (!family)
        return NULL;
    init_lock(&family->lock, &family->changed);
    family->root = root;
    return family;
}

static void family_release(struct family *family)
{
    pthread_mutex_lock(&family->lock);
    bool last = --family->references == 0;
    pthread_mutex_unlock(&family->lock);
    if (!last)
        return;
    roster_close(&family->roster);
    pthread_cond_destroy(&family->changed);
    pthread_mutex_destroy(&family->lock);
    free(family);
}

tutti_comm *life_new(struct family *family)
{
    tutti_comm *comm = calloc(1, sizeof *comm);
    if (comm)
        comm->family = family ? family : family_new(comm);
    if (!comm || !comm->family) {
        free(comm);
        return NULL;
    }
    pthread_mutex_lock(&comm->family->lock);
    comm->family->references++;
    pthread_mutex_unlock(&comm->family->lock);
    comm->log = (struct log){LOG_LEVEL_WARNING, -1};
    comm->place.rank = comm->place.size = comm->place.next.rank = comm->place.previous.rank = -1;
    comm->doorbell = comm->nudge = comm->completion_fd = -1;
    comm->tail = &comm->head;
    comm->posted_tail = &comm->posted;
    comm->fresh_tail = &comm->fresh;
    comm->failure = comm->local_error = (struct tutti_error)TUTTI_ERROR_INIT;
    comm->reformed = (struct tutti_reform_info)TUTTI_REFORM_INFO_INIT;
    comm->drive_task = (struct worker_task){.run = progress_drive_on_loop, .context = comm};
    comm->abort_task = (struct worker_task){.run = ring_send_abort, .context = comm};
    comm->announce_task = (struct worker_task){.run = ring_announce, .context = comm};
    comm->ask_task = (struct worker_task){.run = ring_ask, .context = comm};
    comm->drain_task = (struct worker_task){.run = ring_drain, .context = comm};
    comm->look_task = (struct worker_task){.run = mesh_look_again, .context = comm};
    comm->mesh_task = (struct worker_task){.run = mesh_dial, .context = comm};
    init_lock(&comm->lock, &comm->changed);
    return comm;
}

int life_take_descriptors(tutti_comm *comm, struct tutti_error *error)
{
    comm->doorbell = descriptor_event(0);
    comm->nudge = descriptor_event(0);
    if (comm->doorbell < 0 || comm->nudge < 0)
        return error_set_errno(error, errno, "cannot make an eventfd");
    return TUTTI_OK;
}

static int take_resources(tutti_comm *comm, struct tutti_error *error)
{
    if (life_take_descriptors(comm, error) < 0)
        return error->code;
    comm->worker = worker_acquire(0, error);
    return comm->worker ? TUTTI_OK : error->code;
}

static void group_of_one(tutti_comm *comm)
{
    comm->place.rank = 0;
    comm->place.size = comm->place.local_size = 1;
    comm->log.rank = 0;
    comm->place.generation = 1;
    worker_call(comm->worker, ring_make_timers, comm);
}

int life_be_joined(tutti_comm *comm, struct tutti_error *error)
{
    const struct tutti_config *values = &comm->settings.values;
    if (roll_prepare_selection(comm, error) < 0)
        return error->code;
    for (int i = 0; i < CHANNELS; i++) {
        struct channel *channel = &comm->channels[i];
        channel->group = (struct executor_group){
            .in = channel->in,
            .out = channel->out,
            .channel = (uint16_t)i,
            .root_ranks = comm->root_ranks,
            .instance = comm->place.instance,
            .generation = comm->place.generation,
            .recent_calls = i == CHANNEL_COLLECTIVES ? comm->recent_calls : NULL,
            .slice_bytes = (uint32_t)comm->select.slice_bytes,
            .checksum = values->checksum != 0,
            .kernels = reduce_table(),
        };
    }
    comm->wait_policy = wait_policy_for(values->wait, comm->select.crowding > 1);
    return TUTTI_OK;
}

/* The members know each other: calls may begin. */
static int meet_all(tutti_comm *comm, int timeout_ms, struct tutti_error *error)
{
    const struct roster *roster = &comm->family->roster;
    if (comm->place.size == 1 && (!mesh_init(comm) || roll_open(comm, error) < 0))
        return error->code < 0 ? error->code
                               : error_set(error, TUTTI_ERR_MEMORY, "no memory for a communicator");
    if (roll_await(comm, timeout_ms, error) < 0)
        return error->code;
    if (comm->place.size == 1)
        comm->hosts = (struct host_map){roster->host_count, roster->host_of};
    comm->membership = comm->place.size > 1 ? &comm->ring.membership : NULL;
    if (life_be_joined(comm, error) < 0 || colocation_open(comm, timeout_ms, error) < 0 ||
        mixed_agree(comm, timeout_ms, error) < 0)
        return error->code;
    return stripes_open(comm, error);
}

/* What is left of the time to join, for the last of it. */
static int left_of(int64_t until_ns)
{
    int64_t left_ms = (until_ns - clock_now_ns()) / NS_PER_MS;
    return left_ms > MEETING_TIMEOUT_MIN_MS ? (int)left_ms : MEETING_TIMEOUT_MIN_MS;
}

static int join(tutti_comm *comm, const struct tutti_config *config, settings_getenv read,
                struct tutti_error *error)
{
    if (settings_resolve(&comm->settings, config, read, NULL, error) < 0)
        return error->code;
    comm->log.level = level_from_name(comm->settings.values.log);
    if (launch_resolve(&comm->launch, config, (unsigned)geteuid(), read, NULL, error) < 0 ||
        roll_check_settings(comm, error) < 0 || find_identity(comm, error) < 0 ||
        read_failpoints(comm, read, error) < 0 || take_resources(comm, error) < 0)
        return error->code;
    if (comm->launch.size == 1)
        group_of_one(comm);
    int64_t until_ns = clock_now_ns() + comm->settings.values.join_timeout_ms * NS_PER_MS;
    if (comm->launch.size > 1 && join_group(comm, comm->settings.values.join_timeout_ms, error) < 0)
        return error->code;
    return meet_all(comm, left_of(until_ns), error);
}

int life_begin(const struct tutti_config *config, settings_getenv read, tutti_comm **result)
{
    tutti_comm *comm = *result = life_new(NULL);
    if (!comm)
        return TUTTI_ERR_MEMORY;
    struct tutti_error error = TUTTI_ERROR_INIT;
    int status = join(comm, config, read, &error);
    if (status < 0)
        comm_fail(comm, &error);
    return status;
}

/* ---- Re-forming ---------------------------------------------------------------------------------- */

static const char *read_nothing(void *context, const char *name)
{
    (void)context, (void)name;
    return NULL;
}

/* The new communicator begins as the same member, with the same settings. */
static int inherit(tutti_comm *comm, tutti_comm *failed, struct tutti_error *error)
{
    if (settings_resolve(&comm->settings, &failed->settings.values, read_nothing, NULL, error) < 0)
        return error->code;
    comm->log.level = failed->log.level;
    comm->launch = failed->launch;
    memcpy(comm->host, failed->host, sizeof comm->host);
    memcpy(comm->host_name, failed->host_name, sizeof comm->host_name);
    memcpy(comm->place.member_id, failed->place.member_id, MEMBER_ID_BYTES);
    comm->failpoints = failed->failpoints;
    comm->select.tuning = failed->select.tuning; /* on which the group has agreed */
    comm->re_forms = true;
    pthread_mutex_lock(&failed->lock);
    comm->previous = (struct comm_previous){
        .instance = failed->place.instance,
        .generation = failed->place.generation,
        .rank = failed->place.rank,
        .size = failed->place.size,
        .completed = failed->completed,
        .embedded = failed->place.embedded,
        .server = failed->place.server,
        .cause = failed->failure,
    };
    pthread_mutex_unlock(&failed->lock);
    return take_resources(comm, error);
}

struct hand_over {
    tutti_comm *from, *to;
};

/* The rendezvous that lives in this process goes with the communicator that lives on.  On the loop. */
static void hand_service_over(void *context)
{
    struct hand_over *hand_over = context;
    struct comm_ring *from = &hand_over->from->ring, *to = &hand_over->to->ring;
    to->service = from->service;
    memcpy(to->meeting_path, from->meeting_path, sizeof to->meeting_path);
    to->meeting_device = from->meeting_device;
    to->meeting_inode = from->meeting_inode;
    from->service = NULL;
    from->meeting_path[0] = '\0';
}

/* What the rendezvous reports of a larger group. */
static void note_reformed_alone(tutti_comm *comm)
{
    comm->reformed.previous_generation = comm->previous.generation;
    comm->reformed.previous_rank = 0;
    comm->reformed.previous_size = 1;
    comm->reformed.completed_everywhere = comm->reformed.completed_anywhere = comm->previous.completed;
    comm->reformed.cause = comm->previous.cause;
}

static int join_again(tutti_comm *comm, tutti_comm *failed, int timeout_ms, struct tutti_error *error)
{
    if (inherit(comm, failed, error) < 0)
        return error->code;
    if (failed->launch.size == 1) {
        group_of_one(comm);
        comm->place.generation = failed->place.generation + 1;
        note_reformed_alone(comm);
        return TUTTI_OK;
    }
    struct hand_over there = {failed, comm}, back = {comm, failed};
    worker_call(comm->worker, hand_service_over, &there);
    int status = join_group(comm, timeout_ms, error);
    bool welcomed = comm->place.size > 0;
    if (status < 0 && !welcomed)
        worker_call(comm->worker, hand_service_over, &back);
    return status;
}

/* May the communicator be re-formed?  If so, it is taken for this one attempt. */
static int claim(tutti_comm *failed, int timeout_ms, struct tutti_error *error)
{
    int unclaimed = 0;
    if (failed->root_ranks)
        return error_set(
            error, TUTTI_ERR_ARGUMENT,
            "reform: this communicator was made of another: re-form the one of tutti_init(), and "
            "split again");
    if (timeout_ms < 0)
        return error_set(error, TUTTI_ERR_ARGUMENT,
                         "reform: timeout_ms is %d: give milliseconds, or 0 for join_timeout_ms", timeout_ms);
    if (failed->place.size < 0)
        return error_set(error, TUTTI_ERR_ARGUMENT,
                         "reform: this communicator has never been in a group: call tutti_init()");
    if (atomic_load(&failed->phase) == COMM_FINALIZED)
        return error_set(error, TUTTI_ERR_FINALIZED,
                         "reform: this communicator is finalized: call tutti_init() for a new one");
    if (!comm_has_failed(failed))
        return error_set(error, TUTTI_ERR_ARGUMENT,
                         "reform: the group lives: it is re-formed after a failure (tutti_abort() ends it)");
    if (!atomic_compare_exchange_strong(&failed->re_formed, &unclaimed, 1))
        return error_set(
            error, TUTTI_ERR_ARGUMENT,
            "reform: this communicator has been re-formed, or is just being: use the new one, and "
            "re-form that one when it fails");
    return TUTTI_OK;
}

int life_reform(tutti_comm *failed, int timeout_ms, tutti_comm **survivors)
{
    tutti_comm *comm = *survivors = life_new(NULL);
    if (!comm)
        return TUTTI_ERR_MEMORY;
    struct tutti_error error = TUTTI_ERROR_INIT;
    int64_t until_ns = 0;
    int status = claim(failed, timeout_ms, &error);
    if (status == TUTTI_OK) {
        comm_await_abort_sent(failed);
        int within_ms = timeout_ms > 0 ? timeout_ms : failed->settings.values.join_timeout_ms;
        until_ns = clock_now_ns() + within_ms * NS_PER_MS;
        status = join_again(comm, failed, within_ms, &error);
        /* Once it has a place in the next group, that one is to be re-formed. */
        atomic_store(&failed->re_formed, comm->place.size > 0);
    }
    if (status == TUTTI_OK)
        status = meet_all(comm, left_of(until_ns), &error);
    if (status < 0)
        comm_fail(comm, &error);
    return status;
}

/* ---- Leaving ------------------------------------------------------------------------------------- */

/* Says goodbye and waits until both neighbours have.  One that has not may wait for another in the barrier:
 * those who are in it ask the rendezvous, know more, and are given time to speak first. */
static int exchange_goodbyes(tutti_comm *comm, int64_t until_ns)
{
    until_ns += (2 * LATENESS_PATIENCE_MS + 100) * NS_PER_MS;
    worker_call(comm->worker, ring_say_goodbye, comm);
    struct tutti_error error = TUTTI_ERROR_INIT;
    pthread_mutex_lock(&comm->lock);
    while (!comm->goodbyes_heard && !comm_has_failed(comm)) {
        if (clock_now_ns() >= until_ns) {
            const struct membership *membership = &comm->ring.membership;
            const struct neighbour *silent =
                membership->goodbye_heard[SIDE_NEXT] ? &comm->place.previous : &comm->place.next;
            error_set(&error, TUTTI_ERR_TIMEOUT, "finalize: %s did not say goodbye in time", silent->text);
            error.rank = silent->rank;
            break;
        }
        comm_wait_changed(comm, until_ns);
    }
    if (!comm_has_failed(comm) && error.code == TUTTI_OK)
        comm->phase = COMM_FINALIZED;
    pthread_mutex_unlock(&comm->lock);
    if (error.code < 0)
        comm_fail(comm, &error);
    if (comm_has_failed(comm))
        return comm->failure.code;
    worker_call(comm->worker, ring_leave, comm);
    return TUTTI_OK;
}

/* The root takes with it what is left of the family. */
static void finalize_family(tutti_comm *root)
{
    struct family *family = root->family;
    pthread_mutex_lock(&family->lock);
    comm_fail_orphans(family);
    pthread_mutex_unlock(&family->lock);
}

int life_finalize(tutti_comm *comm, int timeout_ms)
{
    int64_t until_ns = clock_now_ns() + timeout_ms * NS_PER_MS;
    int drained = progress_drain_messages(comm, until_ns);
    if (drained < 0)
        return drained;
    /* Calls complete in order, so the barrier completes last.  On the ring: who leaves it has neighbours that
     * have all they need, and one that dies in it is missed by those who are still there. */
    struct tutti_call barrier = {.op = TUTTI_BARRIER, .timeout_ms = timeout_ms, .algorithm = "ring"};
    int status = progress_run_last(comm, &barrier);
    if (status < 0)
        return status;
    failpoint_hit(&comm->failpoints, FAILPOINT_barrier_done);
    stripes_finalize(comm);
    if (!comm->root_ranks)
        finalize_family(comm);
    if (comm->place.size > 1 && !comm->root_ranks)
        return exchange_goodbyes(comm, until_ns);
    pthread_mutex_lock(&comm->lock);
    comm->phase = COMM_FINALIZED;
    pthread_mutex_unlock(&comm->lock);
    return TUTTI_OK;
}

static void nothing(void *context)
{
    (void)context;
}

static void leave_loop(tutti_comm *comm)
{
    worker_call(comm->worker, ring_close, comm);
    pthread_mutex_lock(&comm->lock);
    while (comm->ring.handles > 0)
        pthread_cond_wait(&comm->changed, &comm->lock);
    pthread_mutex_unlock(&comm->lock);
    worker_call(comm->worker, nothing, NULL); /* tasks that were posted before have run now */
}

/* From now on the family knows nothing of it. */
static void leave_family(tutti_comm *comm)
{
    struct family *family = comm->family;
    pthread_mutex_lock(&family->lock);
    if (family->root == comm) {
        family->root = NULL;
        comm_fail_orphans(family);
        pthread_cond_broadcast(&family->changed);
    } else if (comm->sibling_link) {
        *comm->sibling_link = comm->sibling;
        if (comm->sibling)
            comm->sibling->sibling_link = comm->sibling_link;
    }
    pthread_mutex_unlock(&family->lock);
}

void life_end(tutti_comm *comm)
{
    if (comm->place.size > 1 && comm->phase != COMM_FINALIZED && !comm_has_failed(comm)) {
        struct tutti_error error;
        int rank = comm_root_rank(comm, comm->place.rank);
        error_set(&error, TUTTI_ERR_ABORTED, "rank %d freed %s without finalizing it", rank,
                  comm->root_ranks ? "a communicator that it had split off" : "its communicator");
        error.rank = rank;
        comm_fail(comm, &error);
    }
    if (comm->worker) {
        if (comm_has_failed(comm))
            comm_await_abort_sent(comm);
        stripes_close(comm);
        leave_family(comm);
        if (comm->lane_of) /* the loop of the door may just be handing it a link */
            worker_call(comm->lane_of->worker, nothing, NULL);
        leave_loop(comm);
    } else {
        leave_family(comm);
    }
    colocation_close(comm);
    mesh_free(comm);
    if (comm->worker)
        worker_release(comm->worker);
    messages_free(comm);
    issue_free(comm);
    if (comm->doorbell >= 0)
        descriptor_close(comm->doorbell);
    if (comm->nudge >= 0)
        descriptor_close(comm->nudge);
    if (comm->completion_fd >= 0)
        descriptor_close(comm->completion_fd);
    pthread_cond_destroy(&comm->changed);
    pthread_mutex_destroy(&comm->lock);
    family_release(comm->family);
    settings_clean_up(&comm->settings);
    free(comm->root_ranks);
    free(comm->host_of);
    split_forget(comm);
    free(comm);
}
