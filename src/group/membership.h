/* A member of a running group, as a state machine: who of the neighbours lives, what a failure is and who
 * must be told, who is late, who has said goodbye.  Pure: connections are sides, time is an argument.
 *
 * Happy path.  Open from when the ring is wired.  Every `heartbeat_ms` each neighbour hears that this rank
 * lives, which call it has made last and in which it waits; frames of the neighbours say the same of them. At
 * the end both sides say goodbye; what closes after that is no loss.
 *
 * Failure modes.
 * - A neighbour's control connection closes without a goodbye, or is silent for `dead_after_ms`: that
 *   neighbour is lost.  A tick that comes late by itself (this process was suspended) judges nobody: what the
 *   neighbours sent meanwhile is still unread.
 * - An Abort comes from a neighbour or from the rendezvous: the group has failed, for the reason in it.
 * - However this member learns of a failure, it tells both neighbours and the rendezvous, once.
 * - The rendezvous connection closes: nothing; a running group survives its loss.
 * - A neighbour waits in another call than this rank made under the same number: a mismatch, though neither
 *   may ever send a frame that shows it (each waits for the other's broadcast, say).
 * - Frames of another (instance, generation) come from a neighbour that is no longer in this group: lost.
 *   From the rendezvous they are late news of an earlier group, and ignored. */
#ifndef TUTTI_GROUP_MEMBERSHIP_H
#define TUTTI_GROUP_MEMBERSHIP_H

#include <stdatomic.h>
#include <stdbool.h>
#include "group/place.h"
#include "wire/frame.h"

enum membership_side { SIDE_NEXT, SIDE_PREVIOUS, SIDE_RENDEZVOUS, SIDES };
#define SIDE_NEIGHBOURS 2 /* the first two */

/* The calls of this rank, as neighbours and the rendezvous are told. */
struct membership_calls {
    uint64_t latest; /* number of the latest call made; 0: none */
    struct fingerprint latest_call;
    uint64_t under_way; /* number of the operation that moves data now; 0: none */
    struct fingerprint under_way_call;
};

/* What the machine wants of the shell; called from within the functions below, which must not be re-entered,
 * but for membership_tell() from within fail(). */
struct membership_output {
    void *context;
    /* Sends on the connection of that side.  `message` NULL: the frame alone, a heartbeat; else its payload
     * is the message, and `frame` gives instance and generation (0 to the rendezvous). */
    void (*send)(void *context, enum membership_side side, const struct frame *frame,
                 const Wire__Control *message);
    /* The group has failed, unless it had already.  `noticed_here`: the sentence tells what this rank saw,
     * and the shell adds in which operation; else it is complete.  The shell answers, at once or later, with
     * membership_tell() of the first cause that there was, whoever noticed it. */
    void (*fail)(void *context, const struct tutti_error *cause, bool noticed_here);
    void (*look)(void *context, struct membership_calls *calls);
    /* The call that this rank made under that number; false where it is not known (any more, or yet). */
    bool (*recall)(void *context, uint64_t sequence, struct fingerprint *call);
    /* The answer to membership_ask(): `rank` on `host` is the furthest behind of those that are missing,
     * `text` names all of them and their last operations; not called when nobody is missing. */
    void (*missing)(void *context, uint64_t sequence, int rank, const char *host, const char *text);
    void (*goodbye)(void *context); /* a neighbour said it */
    /* A card has come from the previous rank (group/roster.h). */
    void (*card)(void *context, const Wire__Card *card);
};

struct membership {
    const struct group_place *place; /* borrowed */
    struct membership_output output;
    int64_t heartbeat_ms, dead_after_ms;
    atomic_bool open[SIDES]; /* any thread reads */
    int64_t heard_ms[SIDE_NEIGHBOURS];
    atomic_uint_fast64_t heard_latest[SIDE_NEIGHBOURS]; /* their latest call, as far as known; likewise */
    struct {
        atomic_uint_fast64_t sequence; /* 0: none; likewise */
        struct fingerprint call;
    } heard_call[SIDE_NEIGHBOURS];              /* in which they waited when they last said so */
    atomic_bool goodbye_heard[SIDE_NEIGHBOURS]; /* likewise */
    bool goodbye_said, left;
    bool told;
    int64_t ticked_ms, sent_ms;
};

/* Opens it on a wired ring and sends the first heartbeats.  Neighbours may still be wiring with theirs, so
 * their silence counts only after `grace_ms`.  `rendezvous`: whether there is a connection to it. */
void membership_open(struct membership *membership, const struct group_place *place,
                     const struct membership_output *output, int64_t heartbeat_ms, int64_t dead_after_ms,
                     int64_t grace_ms, bool rendezvous, int64_t now_ms);

/* A whole frame has arrived on that side; `payload` has frame->length bytes. */
void membership_receive(struct membership *membership, enum membership_side side, const struct frame *frame,
                        const uint8_t *payload, int64_t now_ms);

/* The connection of that side is gone; `why->code` is TUTTI_OK when the peer closed it. */
void membership_closed(struct membership *membership, enum membership_side side,
                       const struct tutti_error *why);

/* To be called MEMBERSHIP_TICKS times in `heartbeat_ms`: silence is judged more often than it is broken, so
 * that a rank that is dead is known soon after `dead_after_ms`. */
#define MEMBERSHIP_TICKS 4
void membership_tick(struct membership *membership, int64_t now_ms);

/* Sends a card to the next rank: the own one, or one that has come and goes round. */
void membership_pass_card(struct membership *membership, Wire__Card *card);

/* This rank waits in a call: tells the neighbours now, and compares with what they have told. */
void membership_announce(struct membership *membership);

/* Operation `sequence` is past its deadline: asks the rendezvous who is missing.  missing() answers, or
 * nobody does. */
void membership_ask(struct membership *membership, uint64_t sequence);

/* The group has failed: passes the cause on to all sides that are open, the first time. */
void membership_tell(struct membership *membership, const struct tutti_error *failure);

/* The last operation has completed: says goodbye to the neighbours. */
void membership_say_goodbye(struct membership *membership);

/* This member is in the group no longer, for it is finalized or freed: tells the rendezvous, so that nobody
 * waits for it.  Not before both neighbours have said goodbye: they might yet need it to re-form. */
void membership_leave(struct membership *membership);

/* Both neighbours have said goodbye.  A group of one: true. */
bool membership_goodbyes_heard(const struct membership *membership);

#endif
