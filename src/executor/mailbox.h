/* The mailbox: messages from rank to rank, matched by source and tag.  Pure, like the executor, and driven in
 * the same way by the holder of the progress token, but its links (channel 1) are its own, so that messages
 * and collectives do not wait for one another.
 *
 * A message travels as one or more FRAME_DATA frames of at most `slice_bytes` each, with nothing between
 * them: the sequence is its number on the link, from 1; `call` has operation TUTTI_SEND, the type, the count
 * of the whole message and, as root, the tag; `step` numbers the frames from 0.  A message of no elements is
 * one empty frame.
 *
 * Receiving.  The frames of a link are taken in order.  The first of a message is matched with the receives
 * that were posted, the earliest whose source and tag fit; where none does the message is kept in memory, up
 * to MAILBOX_KEPT_BYTES_MAX and MAILBOX_KEPT_MESSAGES_MAX for each peer (a message that alone is longer is
 * taken where nothing else is kept).  Beyond that the link is left unread until a receive takes something:
 * the sender waits.  A receive that is posted looks through what is kept first: the earliest of its source,
 * from any source the earliest of all.  It may find a message of which a part has come; the rest then goes
 * straight to its buffer.  Links are read in turn, one frame each, first those from which something is
 * wanted; all others are read too because ranks that wait for one another in a
 * circle might otherwise never get rid of what they send.
 *
 * A message from this rank to itself needs no link: it is matched, kept and limited as all others are, and
 * its sender waits as others do.
 *
 * Failure.  A message that does not fit its receive (longer, or of another type) is TUTTI_ERR_MISMATCH with
 * both sides in the sentence, and ends the group, as any error of a link does. */
#ifndef TUTTI_EXECUTOR_MAILBOX_H
#define TUTTI_EXECUTOR_MAILBOX_H

#include "executor/executor.h"

#ifndef MAILBOX_KEPT_BYTES_MAX /* a test may want less */
#define MAILBOX_KEPT_BYTES_MAX    ((size_t)64 << 20)
#define MAILBOX_KEPT_MESSAGES_MAX 65536
#endif

/* A send or a receive; storage of the caller, untouched until it is complete. */
struct mail {
    bool sends;
    int peer, tag; /* of a receive: or TUTTI_ANY_SOURCE, TUTTI_ANY_TAG */
    int type;
    void *buffer; /* of a send only read */
    size_t count;
    struct tutti_received *received; /* NULL: nobody asks */
    int64_t started_ns, deadline_ns; /* for the shell */
    void *owner;                     /* likewise */
    /* What follows is the mailbox's. */
    struct mail *next;
    bool complete;
};

struct mailbox;

/* `group` is borrowed: its links are by rank, NULL where they are not open (yet).  NULL when out of memory.
 */
struct mailbox *mailbox_new(const struct executor_group *group, int rank, int size);
void mailbox_free(struct mailbox *box); /* mails that are not complete are forgotten; NULL is accepted */

/* No I/O; call mailbox_progress() next. */
void mailbox_post(struct mailbox *box, struct mail *mail);

/* Moves what can be moved without blocking: up to a share of turns.  TUTTI_OK, or an error in *error: the end
 * of the group.  *moved: something was. */
int mailbox_progress(struct mailbox *box, bool *moved, struct tutti_error *error);

/* Takes a mail that is complete, when its `received` is filled, in the order of completion; NULL when there
 * is none. */
struct mail *mailbox_take_complete(struct mailbox *box);

/* Is a mail pending? */
bool mailbox_is_busy(const struct mailbox *box);

/* What to wait for, after mailbox_progress(): for each rank whether to receive from it and whether there is
 * something to send to it.  A receive from any source waits for every rank.  While anything is pending, every
 * open link is waited for, but for those that are left unread because too much is kept.  Neither is ever true
 * of this rank itself. */
bool mailbox_awaits(const struct mailbox *box, int from);
bool mailbox_sends(const struct mailbox *box, int to);

/* Ends without completion every mail with that owner that has not been taken or, where it is NULL, every one:
 * for a request that could be posted only in part, before the next mailbox_progress(); and after a failure,
 * with no mailbox_progress() to follow.  Nothing touches their buffers any more. */
void mailbox_forget(struct mailbox *box, const void *owner);

/* "recv(16 x float32, from rank 3, tag 7)", "send(16 x float32, to rank 2, tag 7)". */
const char *mail_print(const struct mail *mail, char *text, size_t text_size);

#endif
