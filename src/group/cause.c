#include "group/cause.h"

#include <stdio.h>
#include <string.h>
#include "base/error.h"

static void add_host(struct tutti_error *cause, const struct group_place *place, const char *host_name)
{
    if (cause->rank < 0 || cause->host[0] != '\0')
        return;
    const char *host = "";
    if (cause->rank == place->rank)
        host = host_name;
    else if (cause->rank == place->next.rank)
        host = place->next.host_name;
    else if (cause->rank == place->previous.rank)
        host = place->previous.host_name;
    snprintf(cause->host, sizeof cause->host, "%s", host);
}

void cause_set_operation(struct tutti_error *cause, const struct operation *operation)
{
    snprintf(cause->operation, sizeof cause->operation, "%s",
             operation ? fingerprint_name(&operation->call) : "");
    cause->sequence = operation ? operation->sequence : 0;
    cause->moved_bytes = operation ? operation->moved_bytes : 0;
}

void cause_complete(struct tutti_error *cause, const struct group_place *place, const char *host_name,
                    const struct operation *operation, bool noticed_here)
{
    add_host(cause, place, host_name);
    if (operation && noticed_here) {
        struct tutti_error prefixed;
        error_set(&prefixed, cause->code, "%s (operation %llu on rank %d, %llu bytes moved): %s",
                  fingerprint_name(&operation->call), (unsigned long long)operation->sequence, place->rank,
                  (unsigned long long)operation->moved_bytes, cause->message);
        memcpy(cause->message, prefixed.message, sizeof cause->message);
    }
    cause_set_operation(cause, operation);
}
