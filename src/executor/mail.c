#include "executor/mail.h"

#include <stdio.h>
#include "base/error.h"
#include "tensor/type.h"

/* ---- A mail ------------------------------------------------------------------------------------ */

size_t mail_bytes(const struct mail *mail)
{
    return mail->count * type_size((enum tutti_type)mail->type);
}

const char *mail_print(const struct mail *mail, char *text, size_t text_size)
{
    char peer[32] = "any rank", tag[32] = "any tag";
    if (mail->peer != TUTTI_ANY_SOURCE)
        snprintf(peer, sizeof peer, "rank %d", mail->peer);
    if (mail->tag != TUTTI_ANY_TAG)
        snprintf(tag, sizeof tag, "tag %d", mail->tag);
    snprintf(text, text_size, "%s(%zu x %s, %s %s, %s)", mail->sends ? "send" : "recv", mail->count,
             type_name(mail->type), mail->sends ? "to" : "from", peer, tag);
    return text;
}

bool mail_takes(const struct mail *receive, int source, int tag)
{
    return (receive->peer == source || receive->peer == TUTTI_ANY_SOURCE) &&
           (receive->tag == tag || receive->tag == TUTTI_ANY_TAG);
}

int mail_check_fit(const struct mail *receive, int rank, const struct message *message,
                   struct tutti_error *error)
{
    if (receive->type == message->type && receive->count >= message->count)
        return TUTTI_OK;
    char theirs[128], ours[128];
    const struct mail sent = {
        .sends = true, .peer = rank, .tag = message->tag, .type = message->type, .count = message->count};
    error_set(error, TUTTI_ERR_MISMATCH,
              "rank %d called %s, which does not fit %s of rank %d: a receive needs the type of its message "
              "and room for all of it",
              message->source, mail_print(&sent, theirs, sizeof theirs),
              mail_print(receive, ours, sizeof ours), rank);
    error->rank = message->source;
    return TUTTI_ERR_MISMATCH;
}

/* ---- Queues ------------------------------------------------------------------------------------ */

void mail_queue_init(struct mail_queue *queue)
{
    queue->first = NULL;
    queue->end = &queue->first;
}

void mail_queue_add(struct mail_queue *queue, struct mail *mail)
{
    mail->next = NULL;
    *queue->end = mail;
    queue->end = &mail->next;
}

struct mail *mail_queue_remove(struct mail_queue *queue, struct mail **link)
{
    struct mail *mail = *link;
    *link = mail->next;
    if (queue->end == &mail->next)
        queue->end = link;
    mail->next = NULL;
    return mail;
}

size_t mail_queue_forget(struct mail_queue *queue, const void *owner)
{
    size_t forgotten = 0;
    for (struct mail **link = &queue->first; *link;) {
        if (owner && (*link)->owner != owner) {
            link = &(*link)->next;
        } else {
            mail_queue_remove(queue, link);
            forgotten++;
        }
    }
    return forgotten;
}
