/* Sends and receives, as engine/messages.c has the mailbox move them. */
#include "base/error.h"
#include "executor/mail.h"
#include "tests/sim/fault/comm.h"

int comm_exchange(struct comm *comm, struct letters *letters)
{
    struct tutti_error error;
    int64_t now_ns = comm->sim->network.now_ns;
    int status = comm_refuse_if_dead(comm);
    if (status < 0)
        return status;
    if (!comm->mailbox)
        comm->mailbox =
            mailbox_new(&comm->channels[CHANNEL_MESSAGES].group, comm->place.rank, comm->place.size);
    if (!comm->mailbox) {
        error_set(&error, TUTTI_ERR_MEMORY, "no memory for messages");
        error.rank = comm->place.rank;
        comm_fail(comm, &error, true);
        return TUTTI_ERR_MEMORY;
    }
    letters->comm = comm;
    letters->status = TUTTI_PENDING;
    letters->pending = letters->count;
    letters->due_ns = now_ns + letters->timeout_ms * NS_PER_MS;
    letters->next = comm->letters;
    comm->letters = letters;
    for (size_t i = 0; i < letters->count; i++) {
        struct mail *mail = &letters->mails[i];
        mail->owner = letters;
        mail->started_ns = now_ns;
        mail->deadline_ns = letters->due_ns;
        if (mail->sends)
            mesh_shell_want(comm, CHANNEL_MESSAGES, mail->peer);
        mailbox_post(comm->mailbox, mail);
    }
    comm_drive(comm);
    return TUTTI_PENDING;
}

static void complete(struct comm *comm, struct letters *letters, int status)
{
    struct letters **link = &comm->letters;
    while (*link != letters)
        link = &(*link)->next;
    *link = letters->next;
    letters->status = status;
    process_exchanged(letters);
}

int messages_move(struct comm *comm, bool *moved, struct tutti_error *error)
{
    int status = mailbox_progress(comm->mailbox, moved, error);
    struct mail *mail;
    while ((mail = mailbox_take_complete(comm->mailbox)) != NULL) {
        struct letters *letters = mail->owner;
        *moved = true;
        if (--letters->pending == 0)
            complete(comm, letters, TUTTI_OK);
    }
    return status;
}

int64_t messages_due_ns(const struct comm *comm)
{
    int64_t due_ns = INT64_MAX;
    for (const struct letters *letters = comm->letters; letters; letters = letters->next)
        due_ns = letters->due_ns < due_ns ? letters->due_ns : due_ns;
    return due_ns;
}

static const struct mail *first_pending(const struct letters *letters)
{
    for (size_t i = 0; i < letters->count; i++)
        if (!letters->mails[i].complete)
            return &letters->mails[i];
    return NULL;
}

bool messages_judge(const struct comm *comm, struct tutti_error *error)
{
    for (const struct letters *letters = comm->letters; letters; letters = letters->next) {
        const struct mail *mail = first_pending(letters);
        char text[192];
        if (!mail || comm->sim->network.now_ns < letters->due_ns)
            continue;
        error_set(error, TUTTI_ERR_TIMEOUT, "%s did not complete by its deadline: %s",
                  mail_print(mail, text, sizeof text),
                  mail->sends ? "it was not received" : "no such message has come");
        return true;
    }
    return false;
}

void messages_fail(struct comm *comm)
{
    if (comm->mailbox)
        mailbox_forget(comm->mailbox, NULL);
    while (comm->letters)
        complete(comm, comm->letters, comm->failure.code);
}
