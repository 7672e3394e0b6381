#include "engine/motion.h"

#include <stdlib.h>
#include <string.h>
#include "engine/clock.h"
#include "engine/mesh.h"
#include "executor/stray.h"

/* ---- Moving ------------------------------------------------------------------------------------ */

/* Not blocked: progress() has only had its share of turns. */
static bool can_go_on(const struct operation *operation)
{
    return operation->wait.from < 0 && operation->wait.to < 0 && !operation->wait.elsewhere;
}

static const struct operation *operation_of(const tutti_request *request)
{
    return &request->operations[request->current].operation;
}

/* Tells the other ranks of this host that the call begins, so that one that makes another is noticed whatever
 * carries it.  A direct collective does it by itself, and an uncounted call is not theirs.  false: one of
 * them is too far behind. */
static bool begin(tutti_comm *comm, struct operation *operation)
{
    int index;
    if (operation->begun || !comm->arena || operation_is_direct(operation) || operation->sequence == 0)
        return true;
    operation->begun = arena_begin(comm->arena, operation->sequence, &operation->call, true, &index);
    if (!operation->begun)
        operation->wait =
            (struct operation_wait){.from = comm->arena->ranks[index], .to = -1, .shared = true};
    return operation->begun;
}

/* Moves the collectives, without the lock and with the token, until `until` is complete (NULL: until the
 * queue is empty) or the head is blocked.  Returns the blocked head, or NULL.  A failure of the group
 * completes everything. */
static tutti_request *move_queue(tutti_comm *comm, tutti_request *head, const tutti_request *until,
                                 bool on_loop)
{
    struct tutti_error error; /* filled by progress() when it fails; too large to clear on every turn */
    while (head) {
        int status = TUTTI_OK;
        if (comm->link_error_until_ns != 0) {
            status = comm->link_error.code;
        } else if (!comm_has_failed(comm)) {
            struct operation *operation = &head->operations[head->current].operation;
            status = begin(comm, operation) ? operation->progress(operation, &error) : TUTTI_PENDING;
            if (status == TUTTI_PENDING)
                return head;
            failpoint_hit(&comm->failpoints, FAILPOINT_operation_done);
            if (status == TUTTI_OK &&
                atomic_fetch_add_explicit(&head->current, 1, memory_order_relaxed) + 1 < head->count)
                continue;
        }
        if (status < 0 && !comm_fail_from_link(comm, &error, on_loop))
            return head;
        pthread_mutex_lock(&comm->lock);
        bool stop = head == until;
        if (comm_has_failed(comm))
            comm_fail_pending(comm);
        else
            progress_complete_head(comm, TUTTI_OK);
        head = stop ? NULL : comm->head;
        pthread_mutex_unlock(&comm->lock);
    }
    return NULL;
}

/* Messages, if there are any.  An error is the end of the group. */
static bool move_messages(tutti_comm *comm, const struct motion *motion)
{
    struct tutti_error error;
    bool moved = false;
    if ((!messages_are_pending(comm) && !motion->takes_in) || comm_has_failed(comm))
        return false;
    if (comm->link_error_until_ns != 0) {
        if (!motion->head) /* else it was seen to with that */
            comm_fail_from_link(comm, &comm->link_error, motion->on_loop);
    } else if (messages_move(comm, &moved, &error) < 0) {
        comm_fail_from_link(comm, &error, motion->on_loop);
    }
    return moved;
}

/* Moves what can be moved.  true: something was, or could be at once. */
bool motion_move(tutti_comm *comm, struct motion *motion)
{
    mesh_install(comm);
    motion->lanes_seen = atomic_load_explicit(&comm->lanes_done, memory_order_acquire);
    if (!motion->head && atomic_load_explicit(&comm->queue_count, memory_order_relaxed) > 0) {
        pthread_mutex_lock(&comm->lock);
        motion->head = comm->head;
        pthread_mutex_unlock(&comm->lock);
    }
    bool moved = false;
    if (motion->head) {
        tutti_request *blocked = move_queue(comm, motion->head, motion->until, motion->on_loop);
        uint64_t bytes = blocked ? operation_of(blocked)->moved_bytes : 0;
        moved = blocked != motion->head || bytes != motion->moved_bytes || can_go_on(operation_of(blocked));
        motion->head = blocked;
        motion->moved_bytes = bytes;
    }
    motion->messages_moved = move_messages(comm, motion);
    motion->takes_in = false;
    return motion->messages_moved || moved;
}

bool motion_awaits_bell(const tutti_comm *comm, const struct motion *motion)
{
    return comm->arena && motion->head && operation_of(motion->head)->wait.shared;
}

/* ---- Lateness ---------------------------------------------------------------------------------- */

static struct lateness_view view_of(const tutti_comm *comm, const tutti_request *head)
{
    const struct operation *operation = operation_of(head);
    int peer = comm_root_rank(comm, operation->wait.from >= 0 ? operation->wait.from : operation->wait.to);
    return (struct lateness_view){
        .operation = operation,
        .due_ns = atomic_load_explicit(&head->due_ns, memory_order_relaxed),
        .straggler_after_ns = comm->settings.values.straggler_after_ms * NS_PER_MS,
        .membership = comm->membership,
        .is_child = comm->root_ranks != NULL,
        .peer = peer,
        .peer_text = peer >= 0 ? comm->family->roster.members[peer].text : "",
    };
}

/* So long a wait may be one for a rank that made another call; from then on this rank looks around. */
#define STRAY_AFTER_NS (20 * NS_PER_MS)
#define STRAY_EVERY_NS (250 * NS_PER_MS)

static bool waits_for_a_rank(const tutti_request *head)
{
    return operation_of(head)->wait.from >= 0 || operation_of(head)->wait.to >= 0;
}

static int64_t stray_due_ns(const tutti_request *head)
{
    int64_t looked_ns = head->looked_ns;
    return looked_ns > 0 ? looked_ns + STRAY_EVERY_NS : operation_of(head)->started_ns + STRAY_AFTER_NS;
}

/* Frames of other calls that have come over links, where the operation uses them. */
static int check_links(const union any_operation *any, struct tutti_error *error)
{
    if (operation_is_direct(&any->operation))
        return TUTTI_OK;
    return stray_check(operation_is_mixed(&any->operation) ? &any->mixed.executor : &any->executor, error);
}

static bool meets_stray(tutti_comm *comm, tutti_request *head, int64_t now_ns)
{
    struct tutti_error error;
    if (!waits_for_a_rank(head) || now_ns < stray_due_ns(head))
        return false;
    head->looked_ns = now_ns;
    const struct operation *operation = operation_of(head);
    int status = check_links(&head->operations[head->current], &error);
    if (status == TUTTI_OK && comm->arena && operation->begun)
        status = arena_check_call(comm->arena, operation->sequence, &error);
    if (status == TUTTI_OK)
        return false;
    comm_fail(comm, &error);
    return true;
}

/* The head of the queue is blocked: tells the neighbours, warns, asks or ends the group when it is late. */
static void judge_head(tutti_comm *comm, tutti_request *head, int64_t now_ns)
{
    struct lateness_view view = view_of(comm, head);
    struct tutti_error error;
    for (;;) {
        switch (lateness_judge(&head->lateness, &view, now_ns, &error)) {
        case LATENESS_ANNOUNCE:
            worker_post(comm->worker, &comm->announce_task);
            break;
        case LATENESS_WARN:
            log_warning(&comm->log, "%s", error.message);
            break;
        case LATENESS_ASK:
            atomic_store(&comm->late_sequence, view.operation->sequence);
            worker_post(comm->worker, &comm->ask_task);
            break;
        case LATENESS_EXPIRE:
            comm_fail(comm, &error);
            return;
        case LATENESS_NONE:
            return;
        }
    }
}

/* With the token, without the lock. */
void motion_judge(tutti_comm *comm, const struct motion *motion, int64_t now_ns)
{
    struct tutti_error error;
    if (motion->head && !meets_stray(comm, motion->head, now_ns))
        judge_head(comm, motion->head, now_ns);
    if (messages_are_pending(comm) && messages_judge(comm, now_ns, &error))
        comm_fail(comm, &error);
}

int64_t motion_next_judgement_ns(const tutti_comm *comm, const struct motion *motion, int64_t now_ns)
{
    int64_t next_ns = messages_are_pending(comm) ? messages_due_ns(comm) : INT64_MAX;
    if (motion->head) {
        struct lateness_view view = view_of(comm, motion->head);
        int64_t its_ns = lateness_next_ns(&motion->head->lateness, &view, now_ns);
        next_ns = its_ns < next_ns ? its_ns : next_ns;
        if (waits_for_a_rank(motion->head) && stray_due_ns(motion->head) < next_ns)
            next_ns = stray_due_ns(motion->head);
    }
    return next_ns;
}

/* ---- What is waited for -------------------------------------------------------------------------- */

/* Where memory is lacking, what is left out is found when the deadline or the caller next looks around. */
static void watch_list_add(struct watch_list *watched, struct link *link, bool out)
{
    if (!link)
        return;
    if (watched->count == watched->capacity) {
        size_t capacity = 2 * watched->capacity;
        struct watched *list = malloc(capacity * sizeof *list);
        if (!list)
            return;
        memcpy(list, watched->list, watched->count * sizeof *list);
        if (watched->list != watched->few)
            free(watched->list);
        watched->list = list;
        watched->capacity = capacity;
    }
    watched->list[watched->count++] = (struct watched){link, out};
}

/* The links that the holder of the token waits for. */
void watch_list_fill(struct watch_list *watched, const tutti_comm *comm, const struct motion *motion)
{
    watched->list = watched->few;
    watched->count = 0;
    watched->capacity = WATCHED_FEW;
    if (motion->head) {
        const struct operation_wait *wait = &operation_of(motion->head)->wait;
        watch_list_add(watched, wait->receive, false);
        watch_list_add(watched, wait->send, true);
    }
    if (!messages_are_pending(comm) && !motion_may_take_in(comm))
        return;
    const struct channel *channel = &comm->channels[CHANNEL_MESSAGES];
    for (int rank = 0; rank < comm->place.size; rank++) {
        if (comm->mailbox ? mailbox_awaits(comm->mailbox, rank) : channel->in[rank] != NULL)
            watch_list_add(watched, channel->in[rank], false);
        if (comm->mailbox && mailbox_sends(comm->mailbox, rank))
            watch_list_add(watched, channel->out[rank], true);
    }
}

void watch_list_free(struct watch_list *watched)
{
    if (watched->list != watched->few)
        free(watched->list);
}
