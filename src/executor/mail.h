/* Mails by themselves and in queues: what the mailbox is made of. */
#ifndef TUTTI_EXECUTOR_MAIL_H
#define TUTTI_EXECUTOR_MAIL_H

#include "executor/mailbox.h"

/* A message as its sender describes it. */
struct message {
    int source, tag, type;
    size_t count, bytes;
};

/* Does the receive ask for such a message?  Source and tag decide, and nothing else. */
bool mail_takes(const struct mail *receive, int source, int tag);

/* Does the message that a receive of rank `rank` asked for have its type, and room in it?  TUTTI_OK, or
 * ERR_MISMATCH with both sides, whose rank is the source. */
int mail_check_fit(const struct mail *receive, int rank, const struct message *message,
                   struct tutti_error *error);

size_t mail_bytes(const struct mail *mail);

/* Mails one after the other, linked through themselves. */
struct mail_queue {
    struct mail *first, **end;
};

void mail_queue_init(struct mail_queue *queue);
void mail_queue_add(struct mail_queue *queue, struct mail *mail);

/* Takes out the mail to which `link` points. */
struct mail *mail_queue_remove(struct mail_queue *queue, struct mail **link);

/* Takes out those with that owner, or all where it is NULL.  Returns how many they were. */
size_t mail_queue_forget(struct mail_queue *queue, const void *owner);

#endif
