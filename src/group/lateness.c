#include "group/lateness.h"

#include <stdio.h>
#include "base/error.h"

#define NS_PER_MS   INT64_C(1000000)
#define ANNOUNCE_NS (20 * NS_PER_MS) /* so long a wait is worth a heartbeat of its own */
#define PATIENCE_NS (LATENESS_PATIENCE_MS * NS_PER_MS)

struct suspect {
    const struct neighbour *neighbour; /* that the operation waits for; NULL: it does not wait */
    bool has_called;                   /* it has made this call too */
};

static bool is_alone(const struct lateness_view *view)
{
    return !view->membership || view->membership->place->size == 1;
}

static bool can_ask(const struct lateness_view *view)
{
    return !is_alone(view) && view->membership->open[SIDE_RENDEZVOUS];
}

static struct suspect find_suspect(const struct lateness_view *view)
{
    const struct operation *operation = view->operation;
    const struct membership *membership = view->membership;
    if (is_alone(view) || (!operation->wait.receive && !operation->wait.send))
        return (struct suspect){NULL, true};
    /* A ring receives from the previous rank and sends to the next. */
    enum membership_side side = operation->wait.receive ? SIDE_PREVIOUS : SIDE_NEXT;
    const struct group_place *place = membership->place;
    uint64_t heard = atomic_load_explicit(&membership->heard_latest[side], memory_order_relaxed);
    return (struct suspect){side == SIDE_NEXT ? &place->next : &place->previous,
                            heard >= operation->sequence};
}

/* ---- Sentences --------------------------------------------------------------------------------- */

static double seconds(int64_t ns)
{
    return (double)ns / 1e9;
}

static void describe_wait(const struct operation *operation, struct suspect suspect, char *text, size_t size)
{
    if (!suspect.neighbour)
        snprintf(text, size, "still moving data");
    else
        snprintf(text, size, "waiting %s %s, which %s",
                 operation->wait.receive ? "for data from" : "to send to", suspect.neighbour->text,
                 suspect.has_called ? "has made this call and waits as well: another rank is late"
                                    : "has not made this call");
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
    describe_wait(view->operation, suspect, waiting, sizeof waiting);
    expire(view, suspect.has_called ? -1 : suspect.neighbour->rank, "", waiting, error);
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
    describe_wait(operation, suspect, waiting, sizeof waiting);
    error_set(error, TUTTI_ERR_TIMEOUT,
              "%s (operation %llu) has been under way for %.1f s, %s; its deadline is %.1f s",
              fingerprint_name(&operation->call), (unsigned long long)operation->sequence,
              seconds(now_ns - operation->started_ns), waiting,
              seconds(operation->deadline_ns - operation->started_ns));
    error->rank = suspect.neighbour->rank;
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
    return from_ns + (can_ask(view) + suspect.has_called + looked_late) * PATIENCE_NS;
}

enum lateness_step lateness_judge(struct lateness *lateness, const struct lateness_view *view, int64_t now_ns,
                                  struct tutti_error *error)
{
    struct suspect suspect = find_suspect(view);
    if (now_ns >= view->due_ns && lateness->overdue_ns == 0)
        lateness->overdue_ns = now_ns;
    if (now_ns >= expiry_ns(lateness, view, suspect)) {
        expire_by_suspect(view, suspect, error);
        return LATENESS_EXPIRE;
    }
    if (is_alone(view))
        return LATENESS_NONE;
    if (!lateness->announced && now_ns >= announce_ns(view)) {
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
        if (!suspect.has_called) { /* else the rank beside the late one warns */
            warn(view, suspect, now_ns, error);
            return LATENESS_WARN;
        }
    }
    return LATENESS_NONE;
}

int64_t lateness_next_ns(const struct lateness *lateness, const struct lateness_view *view, int64_t now_ns)
{
    int64_t next_ns = expiry_ns(lateness, view, find_suspect(view));
    if (is_alone(view))
        return next_ns;
    if (!lateness->announced && announce_ns(view) < next_ns)
        next_ns = announce_ns(view);
    if (now_ns < view->due_ns) {
        if (view->due_ns < next_ns)
            next_ns = view->due_ns;
        if (!lateness->warned && straggler_ns(view) < next_ns)
            next_ns = straggler_ns(view);
    }
    return next_ns;
}
