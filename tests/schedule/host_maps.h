/* Ways to lay ranks out on hosts, the ranks of each host being consecutive. */
#ifndef TUTTI_TESTS_SCHEDULE_HOST_MAPS_H
#define TUTTI_TESTS_SCHEDULE_HOST_MAPS_H

#include "algorithm/cost.h"
#include "schedule/schedule.h"

#define HOSTS_RANKS_MAX 64

enum host_layout {
    HOSTS_ONE,
    HOSTS_OF_ONE,
    HOSTS_OF_TWO,
    HOSTS_OF_THREE,
    HOSTS_OF_FOUR,
    HOSTS_HALVES,
    HOSTS_LONELY_FIRST, /* one rank, then all others */
    HOSTS_LONELY_LAST,
    HOSTS_GROWING, /* 2, 3, 4, ... ranks */
    HOST_LAYOUTS
};

struct hosts {
    struct host_map map; /* refers to what follows: do not copy */
    int host_of[HOSTS_RANKS_MAX];
    int local_min, local_max;
};

static inline const char *host_layout_name(int layout)
{
    static const char *const names[] = {"one host",       "hosts of 1",        "hosts of 2",
                                        "hosts of 3",     "hosts of 4",        "two hosts",
                                        "1 and the rest", "all but one and 1", "hosts of 2, 3, 4, ..."};
    return names[layout];
}

/* Ranks on the host that begins with rank `first`. */
static inline int host_ranks(int layout, int size, int host, int first)
{
    switch (layout) {
    case HOSTS_OF_ONE:
    case HOSTS_OF_TWO:
    case HOSTS_OF_THREE:
    case HOSTS_OF_FOUR:
        return layout - HOSTS_OF_ONE + 1;
    case HOSTS_HALVES:
        return size / 2 > 0 ? (size + 1) / 2 : 1;
    case HOSTS_LONELY_FIRST:
        return first == 0 ? 1 : size;
    case HOSTS_LONELY_LAST:
        return size > 1 && first == 0 ? size - 1 : 1;
    case HOSTS_GROWING:
        return host + 2;
    default:
        return size;
    }
}

static inline void hosts_lay_out(struct hosts *hosts, int layout, int size)
{
    int host = 0;
    hosts->map = (struct host_map){0, hosts->host_of};
    hosts->local_min = size;
    hosts->local_max = 0;
    for (int first = 0; first < size; host++) {
        int ranks = host_ranks(layout, size, host, first);
        ranks = first + ranks <= size ? ranks : size - first;
        hosts->local_min = ranks < hosts->local_min ? ranks : hosts->local_min;
        hosts->local_max = ranks > hosts->local_max ? ranks : hosts->local_max;
        for (int end = first + ranks; first < end; first++)
            hosts->host_of[first] = host;
    }
    hosts->map.host_count = host;
}

/* The question to a cost function about these hosts. */
static inline struct cost_case hosts_case(const struct hosts *hosts, int operation, int size, double bytes,
                                          double slice_bytes)
{
    return (struct cost_case){.operation = operation,
                              .size = size,
                              .host_count = hosts->map.host_count,
                              .local_min = hosts->local_min,
                              .local_max = hosts->local_max,
                              .hosts_consecutive = true,
                              .bytes = bytes,
                              .slice_bytes = slice_bytes};
}

#endif
