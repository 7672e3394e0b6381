/* A job of the rendezvous: who has joined, what they must agree on, and who had which rank before.  Only
 * data: the states and what is sent are in rendezvous.c, which alone uses this. */
#ifndef TUTTI_GROUP_JOB_H
#define TUTTI_GROUP_JOB_H

#include <stdbool.h>
#include <sys/queue.h>
#include "base/settings.h"
#include "group/topology.h"
#include "wire/control.h"
#include "wire/hello.h"

enum job_state { JOB_RESTING, JOB_FILLING, JOB_COMPLETE };

struct member {
    uint64_t connection;
    uint8_t id[MEMBER_ID_BYTES];
    struct job *job;
    Wire__Join *join; /* owned copy */
    int wanted;       /* rank, or TUTTI_RANK_ANY */
    bool connected;   /* false: hung up after its Welcome */
    bool parked;
    int64_t joined_ms;
    int64_t warn_ms, refuse_ms, unpark_ms; /* when each is due; INT64_MAX: never */
    int rank, local_rank, local_size;      /* once the job is complete */
    TAILQ_ENTRY(member) entry;
};
TAILQ_HEAD(member_list, member);

struct seat {
    uint8_t id[MEMBER_ID_BYTES];
    int rank;
};

struct job {
    char name[SETTING_JOB_BYTES_MAX + 1]; /* first: the key of the tree of jobs */
    enum job_state state;
    uint32_t generation; /* of the latest group; 0: there was none */
    uint64_t instance;
    int size;
    uint64_t slice_bytes;
    bool checksum;
    char opener[160];           /* who fixed the three above */
    struct member_list members; /* in the order of arrival */
    int count;                  /* of members */
    int any_count;              /* of them, those without a wanted rank */
    int connected;              /* of them, once the job is complete */
    int host_count;             /* likewise */
    struct member_list parked;
    void *by_id;             /* tree of members */
    struct member **by_rank; /* [size]; this and the next three only while there are members */
    struct place *places;
    int *scratch;
    struct seat *next_seats; /* those of this group once it is complete */
    struct seat *seats;      /* sorted by id: who had which rank in the latest group */
    int seat_count;          /* the size of that group; 0: there was none */
    TAILQ_ENTRY(job) entry;
};
TAILQ_HEAD(job_list, job);

/* What can be wrong with a Join by itself. */
int join_check(const Wire__Join *join, struct tutti_error *error);

/* Copies the Join.  NULL when out of memory. */
struct member *member_new(uint64_t connection, const Wire__Join *join, int64_t now_ms);
void member_free(struct member *member);

struct job *job_new(const char *name); /* resting; NULL when out of memory */
void job_free(struct job *job);        /* that has no members */

/* From resting to filling: takes what must be agreed from the Join of the first member, and all the memory
 * that the job will need until it rests, save what each member brings. */
int job_open(struct job *job, const struct member *first, struct tutti_error *error);

/* Frees the members; back to resting. */
void job_close(struct job *job);

struct member *job_find(const struct job *job, const struct member *like); /* by member id */

/* Whether the Join agrees with the job. */
int job_check_agreement(const struct job *job, const Wire__Join *join, struct tutti_error *error);

/* Whether a filling job can take `member`, which is there already as `old` (or NULL). */
int job_check(const struct job *job, const struct member *member, const struct member *old,
              struct tutti_error *error);

int job_add(struct job *job, struct member *member, struct tutti_error *error); /* only fails on memory */
void job_replace(struct job *job, struct member *old, struct member *member);   /* frees `old` */
void job_remove(struct job *job, struct member *member); /* of a filling job; frees it */

/* Gives everyone a rank and remembers it. */
void job_assign(struct job *job);

/* "ranks 2, 5-7", or "3 members" where ranks are assigned on arrival. */
const char *job_print_missing(const struct job *job, char *text, size_t text_size);
/* "2 on host a, 1 on host b" */
const char *job_print_present(struct job *job, char *text, size_t text_size);

#endif
