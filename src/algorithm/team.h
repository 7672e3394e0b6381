/* Who takes part in a phase of an algorithm, and which chunks are whose: what lets an emitter for the whole
 * group serve as one phase of a hierarchical algorithm. */
#ifndef TUTTI_ALGORITHM_TEAM_H
#define TUTTI_ALGORITHM_TEAM_H

#include "schedule/schedule.h"

/* Ranks that work together, this one among them: the whole group, those of a host, or one of each host. */
struct team {
    const int *ranks; /* borrowed; NULL: consecutive ranks from `first` on */
    int first, size, index;
};

static inline struct team team_all(const struct schedule *s)
{
    return (struct team){NULL, 0, s->size, s->rank};
}

/* The index `distance` after this one, before it where negative, modulo the size; at most `size` away. */
static inline int team_index(const struct team *team, int distance)
{
    return (team->index + distance + team->size) % team->size;
}

static inline int team_rank(const struct team *team, int distance)
{
    int index = team_index(team, distance);
    return team->ranks ? team->ranks[index] : team->first + index;
}

/* A range of consecutive chunks; `chunks` 0: nothing, and no step is emitted for it. */
struct range {
    int chunk, chunks;
};

/* One range for each index of a team: index i has the `chunks` chunks from first + i * chunks on, and indices
 * from `count` on have nothing. */
struct parts {
    int first, chunks, count;
};

/* One chunk each. */
static inline struct parts parts_all(const struct schedule *s)
{
    return (struct parts){0, 1, s->size};
}

static inline struct range parts_at(const struct parts *parts, const struct team *team, int distance)
{
    int index = team_index(team, distance);
    if (index >= parts->count)
        return (struct range){0, 0};
    return (struct range){parts->first + index * parts->chunks, parts->chunks};
}

#endif
