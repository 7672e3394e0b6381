#include "group/lateness.h"

#include <stdio.h>
#include "base/error.h"

#define NS_PER_MS   INT64_C(1000000)
#define ANNOUNCE_NS (20 * NS_PER_MS) /* so long a wait is worth a heartbeat of its own */
#define PATIENCE_NS (LATENESS_PATIENCE_MS * NS_PER_MS)

enum knowledge { HAS_NOT_CALLED, WAITS_BEFORE, HAS_CALLED, UNKNOWN };

struct suspect {
    int rank; /* -1: the operation does not wait */
    const char *text;
    enum knowledge knowledge; /* has it made this call, too? */
};

static bool is_alone(const struct lateness_view *view)
{
    return !view->membership || view->membership->place->size == 1;
}

static bool can_ask(const struct lateness_view *view)
{
    return !is_alone(view) && !view->is_child && view->membership->open[SIDE_RENDEZVOUS];
}

static const struct neighbour *neighbour_at(const struct lateness_view *view, int side)
{
    const struct group_place *place = view->membership->place;
    return side == SIDE_NEXT ? &place->next : &place->previous;
}

static bool has_called(const struct lateness_view *view, int side)
{
    return atomic_load_explicit(&view->membership->heard_latest[side], memory_order_relaxed) >=
           view->operation->sequence;
}

/* It has not made this call, and waits in an earlier one. */
static bool waits_before(const struct lateness_view *view, int side)
{
    return !has_called(view, side) &&
           atomic_load_explicit(&view->membership->heard_call[side].sequence, memory_order_relaxed) != 0;
}

static bool is_late(const struct lateness_view *view, int side)
{
    return !has_called(view, side) && !waits_before(view, side);
}

/* Where it is known that a neighbour is late, that one; first the one that the operation waits for,
 * which would have told at once.  What another has not told since two heartbeats it has not done either. */
static int find_culprit(const struct lateness_view *view, int64_t now_ns)
{
    bool told = now_ns - view->operation->started_ns > 2 * view->membership->heartbeat_ms * NS_PER_MS;
    for (int side = 0; side < SIDE_NEIGHBOURS; side++)
        if (neighbour_at(view, side)->rank == view->peer && is_late(view, side))
            return side;
    for (int side = 0; told && side < SIDE_NEIGHBOURS; side++)
        if (is_late(view, side))
            return side;
    return -1;
}

/* Of the rank that the operation waits for, who is not late as far as known. */
static enum knowledge knowledge_of_peer(const struct lateness_view *view)
{
    for (int side = 0; side < SIDE_NEIGHBOURS; side++)
        if (neighbour_at(view, side)->rank == view->peer)
            return waits_before(view, side) ? WAITS_BEFORE : HAS_CALLED;
    return UNKNOWN;
}

static struct suspect find_suspect(const struct lateness_view *view, int64_t now_ns)
{
    if (is_alone(view) || view->peer < 0)
        return (struct suspect){-1, "", HAS_CALLED};
    if (view->is_child)
        return (struct suspect){view->peer, view->peer_text, UNKNOWN};
    int culprit = find_culprit(view, now_ns);
    if (culprit >= 0)
        return (struct suspect){neighbour_at(view, culprit)->rank, neighbour_at(view, culprit)->text,
                                HAS_NOT_CALLED};
    return (struct suspect){view->peer, view->peer_text, knowledge_of_peer(view)};
}

/* ---- Sentences --------------------------------------------------------------------------------- */

static double seconds(int64_t ns)
{
    return (double)ns / 1e9;
}

static void describe_wait(const struct operation *operation, int peer, struct suspect suspect, char *text,
                          size_t size)
{
    static const char *const known[] = {
        [HAS_NOT_CALLED] = ", which has not made this call",
        [WAITS_BEFORE] = ", which waits in an earlier call: another rank is late",
        [HAS_CALLED] = ", which has made this call and waits as well: another rank is late",
        [UNKNOWN] = ", which may be late or wait as well",
    };
    if (suspect.rank < 0)
        snprintf(text, size, "still moving data");
    else
        snprintf(text, size, "waiting %s %s%s",
                 suspect.rank != peer        ? "for"
                 : operation->wait.from >= 0 ? "for data from"
                                             : "to send to",
                 suspect.text, known[suspect.knowledge]);
}

static void expire(const struct lateness_view *view, int rank, const char *label, const char *why,
                   struct tutti_error *error)
{
    const struct operation *operation = view->operation;
    error_set(error, TUTTI_ERR_TIMEOUT, "did not complete within %.1f s, %s: %s%s",
              seconds(view->due_ns - operation->started_ns),
              view->due_ns < operation->deadline_ns ? "when the deadline of a call behind it passed"
                                                    : "its deadline",
              label, why);
    error->rank = rank;
}

static void expire_by_suspect(const struct lateness_view *view, struct suspect suspect,
                              struct tutti_error *error)
{
    char waiting[480];
    describe_wait(view->operation, view->peer, suspect, waiting, sizeof waiting);
    expire(view, suspect.knowledge == HAS_NOT_CALLED ? suspect.rank : -1, "", waiting, error);
}

void lateness_expire_by_roll_call(const struct lateness_view *view, int rank, const char *host,
                                  const char *missing, struct tutti_error *error)
{
    expire(view, rank, "missing: ", missing, error);
    snprintf(error->host, sizeof error->host, "%s", host);
}

static void warn(const struct lateness_view *view, struct suspect suspect, int64_t now_ns,
                 struct tutti_error *error)
{
    const struct operation *operation = view->operation;
    char waiting[480];
    describe_wait(operation, view->peer, suspect, waiting, sizeof waiting);
    error_set(error, TUTTI_ERR_TIMEOUT,
              "%s (operation %llu) has been under way for %.1f s, %s; its deadline is %.1f s",
              fingerprint_name(&operation->call), (unsigned long long)operation->sequence,
              seconds(now_ns - operation->started_ns), waiting,
              seconds(operation->deadline_ns - operation->started_ns));
    error->rank = suspect.rank;
}

/* ---- When what is due -------------------------------------------------------------------------- */

static int64_t announce_ns(const struct lateness_view *view)
{
    return view->operation->started_ns + ANNOUNCE_NS;
}

static int64_t straggler_ns(const struct lateness_view *view)
{
    return view->operation->started_ns + view->straggler_after_ns;
}

static int64_t expiry_ns(const struct lateness *lateness, const struct lateness_view *view,
                         struct suspect suspect)
{
    if (is_alone(view))
        return view->due_ns;
    int64_t from_ns = lateness->overdue_ns > 0 ? lateness->overdue_ns : view->due_ns;
    bool looked_late = from_ns - view->due_ns >= PATIENCE_NS;
    return from_ns + (can_ask(view) + (suspect.knowledge != HAS_NOT_CALLED) + looked_late) * PATIENCE_NS;
}

enum lateness_step lateness_judge(struct lateness *lateness, const struct lateness_view *view, int64_t now_ns,
                                  struct tutti_error *error)
{
    struct suspect suspect = find_suspect(view, now_ns);
    if (now_ns >= view->due_ns && lateness->overdue_ns == 0)
        lateness->overdue_ns = now_ns;
    if (now_ns >= expiry_ns(lateness, view, suspect)) {
        expire_by_suspect(view, suspect, error);
        return LATENESS_EXPIRE;
    }
    if (is_alone(view))
        return LATENESS_NONE;
    if (!view->is_child && !lateness->announced && now_ns >= announce_ns(view)) {
        lateness->announced = true;
        return LATENESS_ANNOUNCE;
    }
    if (now_ns >= view->due_ns) {
        if (lateness->asked || !can_ask(view))
            return LATENESS_NONE;
        lateness->asked = true;
        return LATENESS_ASK;
    }
    if (!lateness->warned && now_ns >= straggler_ns(view)) {
        lateness->warned = true;
        bool waits = suspect.knowledge == HAS_CALLED || suspect.knowledge == WAITS_BEFORE;
        if (!waits) { /* else the rank beside the late one warns */
            warn(view, suspect, now_ns, error);
            return LATENESS_WARN;
        }
    }
    return LATENESS_NONE;
}

int64_t lateness_next_ns(const struct lateness *lateness, const struct lateness_view *view, int64_t now_ns)
{
    int64_t next_ns = expiry_ns(lateness, view, find_suspect(view, now_ns));
    if (is_alone(view))
        return next_ns;
    if (!view->is_child && !lateness->announced && announce_ns(view) < next_ns)
        next_ns = announce_ns(view);
    if (now_ns < view->due_ns) {
        if (view->due_ns < next_ns)
            next_ns = view->due_ns;
        if (!lateness->warned && straggler_ns(view) < next_ns)
            next_ns = straggler_ns(view);
    }
    return next_ns;
}
