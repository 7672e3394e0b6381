#include "executor/kept.h"

#include <stdlib.h>
#include "base/error.h"

void kept_init(struct kept_list *list)
{
    *list = (struct kept_list){.end = &list->first};
}

void kept_clear(struct kept_list *list)
{
    while (list->first)
        free(kept_remove(list, &list->first));
}

bool kept_has_room(const struct kept_list *list, size_t bytes)
{
    return list->messages == 0 ||
           (list->messages < MAILBOX_KEPT_MESSAGES_MAX && list->bytes < MAILBOX_KEPT_BYTES_MAX &&
            bytes <= MAILBOX_KEPT_BYTES_MAX - list->bytes);
}

struct kept *kept_add(struct kept_list *list, const struct message *message, uint64_t arrival,
                      struct tutti_error *error)
{
    size_t bytes = message->bytes;
    struct kept *kept = bytes <= SIZE_MAX - sizeof *kept ? malloc(sizeof *kept + bytes) : NULL;
    if (!kept) {
        error_set(error, TUTTI_ERR_MEMORY,
                  "out of memory for a message of %zu bytes from rank %d, tag %d, that no receive has asked "
                  "for: receive earlier, or send less at once",
                  bytes, message->source, message->tag);
        return NULL;
    }
    *kept = (struct kept){.arrival = arrival, .message = *message};
    *list->end = kept;
    list->end = &kept->next;
    list->bytes += bytes;
    list->messages++;
    return kept;
}

struct kept *kept_remove(struct kept_list *list, struct kept **link)
{
    struct kept *kept = *link;
    *link = kept->next;
    if (list->end == &kept->next)
        list->end = link;
    list->bytes -= kept->message.bytes;
    list->messages--;
    return kept;
}
