#include "executor/stray.h"

#include "tensor/type.h"

/* What comes early, or is due on another link, is as it should be: a frame of this call, or of a later one.
 */
static bool is_stray(const struct operation *operation, const struct frame *frame)
{
    struct fingerprint theirs = frame->call;
    if (operation_has_own_counts(theirs.operation))
        theirs.count = 0; /* that of a piece (executor.c) */
    return frame->sequence < operation->sequence ||
           (frame->sequence == operation->sequence && !fingerprint_equal(&theirs, &operation->call));
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
        const struct mismatch_side ours = executor_side(x, &frame, &operation->call);
        return mismatch_error(&theirs, &ours, error);
    }
    return TUTTI_OK;
}
