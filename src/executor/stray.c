#include "executor/stray.h"

#include "executor/mismatch.h"
#include "tensor/type.h"

/* What comes early, or is due on another link, is as it should be: a frame of this call, or of a later one.
 */
static bool is_stray(const struct operation *operation, const struct frame *frame)
{
    struct fingerprint theirs = frame->call;
    if (operation_has_counts(theirs.operation) && operation->call.count == 0)
        theirs.count = 0; /* that of a piece (executor.c) */
    return frame->sequence < operation->sequence ||
           (frame->sequence == operation->sequence && !fingerprint_equal(&theirs, &operation->call));
}

/* Which of our calls to show beside theirs: that of the same number where it is known. */
static struct mismatch_side our_side(const struct executor *x, const struct frame *frame)
{
    const struct operation *operation = &x->operation;
    const struct fingerprint *recent = x->group->recent_calls;
    int rank = executor_rank_name(x->group, x->schedule->rank);
    uint64_t theirs = frame->sequence;
    if (recent && theirs > 0 && theirs < operation->sequence &&
        theirs + EXECUTOR_RECENT_CALLS > operation->sequence)
        return (struct mismatch_side){rank, theirs, &recent[theirs % EXECUTOR_RECENT_CALLS]};
    return (struct mismatch_side){rank, operation->sequence, &operation->call};
}

int stray_check(const struct executor *x, struct tutti_error *error)
{
    const struct operation *operation = &x->operation;
    for (int rank = 0; rank < x->schedule->size; rank++) {
        struct link *link = x->group->in[rank];
        struct frame frame;
        if (!link || rank == operation->wait.from)
            continue;
        /* A link that has closed may have done so in peace; who needs it will see. */
        if (link->ops->peek(link, &frame, error) != LINK_DONE || frame.instance != x->group->instance ||
            !is_stray(operation, &frame))
            continue;
        const struct mismatch_side theirs = {link->peer, frame.sequence, &frame.call};
        const struct mismatch_side ours = our_side(x, &frame);
        return mismatch_error(&theirs, &ours, error);
    }
    return TUTTI_OK;
}
