/* Messages that came before a receive asked for them: those of one peer, in the order of arrival. */
#ifndef TUTTI_EXECUTOR_KEPT_H
#define TUTTI_EXECUTOR_KEPT_H

#include "executor/mail.h"

struct kept {
    struct kept *next;
    uint64_t arrival; /* number among all that this rank has kept */
    struct message message;
    uint8_t data[];
};

struct kept_list {
    struct kept *first, **end;
    size_t bytes, messages; /* at most MAILBOX_KEPT_BYTES_MAX, unless one alone is more; _MESSAGES_MAX */
};

void kept_init(struct kept_list *list);
void kept_clear(struct kept_list *list); /* frees all */

/* Is there room for a message of so many bytes? */
bool kept_has_room(const struct kept_list *list, size_t bytes);

/* Memory for the message, which the list owns, at its end.  NULL, and an error that says so, when there is
 * none. */
struct kept *kept_add(struct kept_list *list, const struct message *message, uint64_t arrival,
                      struct tutti_error *error);

/* Takes out the message to which `link` points: the caller frees it. */
struct kept *kept_remove(struct kept_list *list, struct kept **link);

#endif
