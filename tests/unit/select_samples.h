/* Groups and calls, as the choice of an algorithm sees them. */
#ifndef TUTTI_TESTS_SELECT_SAMPLES_H
#define TUTTI_TESTS_SELECT_SAMPLES_H

#include "algorithm/select.h"

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

/* Ranks of one host, a core for each. */
static inline struct select_group one_host(int size)
{
    return (struct select_group){.size = size,
                                 .host_count = 1,
                                 .local_min = size,
                                 .local_max = size,
                                 .hosts_consecutive = true,
                                 .local = LOCAL_UDS,
                                 .crowding = 1,
                                 .slice_bytes = 256 * KIB,
                                 .channels_max = 1,
                                 .tuning = tuning_default};
}

static inline struct select_group several_hosts(int hosts, int ranks_on_each)
{
    struct select_group group = one_host(hosts * ranks_on_each);
    group.host_count = hosts;
    group.local_min = group.local_max = ranks_on_each;
    return group;
}

static inline struct select_call call_of(int operation, size_t bytes)
{
    bool reduces = operation_reduces(operation);
    return (struct select_call){.operation = operation,
                                .type = TUTTI_FLOAT32,
                                .reduction = reduces ? TUTTI_SUM : 0,
                                .bytes = operation == TUTTI_BARRIER ? 0 : bytes};
}

static inline struct selection choose(const struct select_group *group, const struct select_call *call)
{
    struct selection selection = {0};
    struct tutti_error error = TUTTI_ERROR_INIT;
    if (algorithm_select(group, call, &selection, &error) != TUTTI_OK)
        fail_msg("%s: %s", operation_name(call->operation), error.message);
    assert_non_null(selection.algorithm);
    return selection;
}

#endif
