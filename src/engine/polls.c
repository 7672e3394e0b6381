#include "engine/polls.h"

#include <stdlib.h>
#include "engine/colocation.h"

struct link_poll {
    uv_poll_t poll; /* first */
    struct link_poll *next;
    const struct link *link; /* NULL: the bell of shared memory */
    bool armed;
};

static void on_data_link(uv_poll_t *poll, int status, int events)
{
    (void)status, (void)events; /* whatever it is, the link will tell */
    progress_drive_on_loop(poll->data);
}

/* NULL: the deadline timer looks from time to time. */
static struct link_poll *poll_of(tutti_comm *comm, const struct link *link)
{
    int fd = link ? link->ops->descriptor(link) : colocation_bell(comm);
    struct link_poll *found = comm->ring.polls;
    while (found && found->link != link)
        found = found->next;
    if (found)
        return found;
    found = calloc(1, sizeof *found);
    if (!found || uv_poll_init(worker_loop(comm->worker), &found->poll, fd) < 0) {
        free(found);
        return NULL;
    }
    found->poll.data = comm;
    found->link = link;
    found->next = comm->ring.polls;
    comm->ring.polls = found;
    comm->ring.handles++;
    return found;
}

static void arm(struct link_poll *poll, int events)
{
    if (!poll)
        return;
    poll->armed = true;
    uv_poll_start(&poll->poll, events, on_data_link);
}

bool polls_arm(tutti_comm *comm, struct link *link, bool out)
{
    bool ready = link->ops->arm && link->ops->arm(link); /* which may change the ops */
    arm(poll_of(comm, link), (out && !link->ops->arm ? UV_WRITABLE : UV_READABLE) | UV_DISCONNECT);
    return ready;
}

void polls_arm_bell(tutti_comm *comm)
{
    arm(poll_of(comm, NULL), UV_READABLE);
}

void polls_stop(tutti_comm *comm)
{
    for (struct link_poll *poll = comm->ring.polls; poll; poll = poll->next) {
        if (poll->armed)
            uv_poll_stop(&poll->poll);
        poll->armed = false;
    }
}

static void on_poll_closed(uv_handle_t *handle)
{
    tutti_comm *comm = handle->data;
    free(handle);
    pthread_mutex_lock(&comm->lock);
    comm->ring.handles--;
    pthread_cond_broadcast(&comm->changed);
    pthread_mutex_unlock(&comm->lock);
}

void polls_close(tutti_comm *comm)
{
    while (comm->ring.polls) {
        struct link_poll *poll = comm->ring.polls;
        comm->ring.polls = poll->next;
        uv_close((uv_handle_t *)&poll->poll, on_poll_closed);
    }
}
