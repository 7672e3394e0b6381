/* A job of the rendezvous: who has joined, what they must agree on, what its latest group is, and who had
 * which rank in it.  Only data: the states and what is sent are in rendezvous.c and the files that it uses.
 */
#ifndef TUTTI_GROUP_JOB_H
#define TUTTI_GROUP_JOB_H

#include <stdbool.h>
#include <sys/queue.h>
#include "base/settings.h"
#include "group/topology.h"
#include "wire/control.h"
#include "wire/hello.h"

#define NEVER             INT64_MAX /* a time in ms at which nothing is due */
#define MEMBER_TEXT_BYTES 160
#define MEMBER_CALL_BYTES 192

enum job_state {
    JOB_RESTING,  /* nobody is here */
    JOB_FILLING,  /* members arrive */
    JOB_COMPLETE, /* all have been welcomed */
    JOB_FAILED,   /* the group has failed, and its members know why */
    JOB_REFORMING /* and some of them have come to make a new one of it */
};

struct member {
    uint64_t connection;
    uint8_t id[MEMBER_ID_BYTES];
    struct job *job;
    Wire__Join *join; /* owned copy */
    int wanted;       /* rank, or TUTTI_RANK_ANY */
    bool connected;
    bool parked;
    int64_t joined_ms;
    int64_t warn_ms, refuse_ms, unpark_ms; /* when each is due; NEVER: not at all */
    int rank, local_rank, local_size; /* once there is a group; while it re-forms, those of the old one */
    int previous_rank;                /* in the group that the job's report tells of */
    /* The roll call under way (roll_call.h): */
    bool asked;                   /* it has been asked and has not answered yet */
    bool answered;                /* it has, and said the next two */
    uint64_t latest;              /* the number of its latest call; 0: none */
    char call[MEMBER_CALL_BYTES]; /* that call */
    uint64_t late_sequence;       /* the operation after which it has asked itself; 0: it has not */
    TAILQ_ENTRY(member) entry;
};
TAILQ_HEAD(member_list, member);

/* How a rank of the latest group stands, whether a member is known for it or not (reforming.h). */
struct standing {
    bool wired;         /* it has connected its ring */
    bool left;          /* it has said goodbye */
    bool willing;       /* it has come to re-form the group */
    bool awaited;       /* it may still come; kept while the group has failed */
    bool asked;         /* whether it lives, since the group re-forms, and has not answered */
    int64_t gone_ms;    /* since when it is not connected; NEVER: it is, or was never seen */
    int64_t accused_ms; /* since when another member has it for lost; NEVER: nobody has */
};

/* Why a group has failed; ranks as in that group. */
struct job_cause {
    struct tutti_error error;
    uint32_t from; /* the rank that noticed */
    uint64_t instance;
    uint32_t generation;
};

/* How the latest group came out of the one before. */
struct job_report {
    uint32_t previous_generation; /* 0: it did not */
    int previous_size;
    uint64_t completed_everywhere, completed_anywhere;
    char lost[256]; /* "ranks 2, 5-7"; "" when all are here */
    struct job_cause cause;
};

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
    char agreement[1024];
    char opener[MEMBER_TEXT_BYTES]; /* who fixed the four above */
    struct member_list members;     /* in the order of arrival */
    int count;                      /* of members */
    int any_count;                  /* of them, those without a wanted rank; while it fills */
    int connected;                  /* of them, once there is a group */
    int host_count;                 /* likewise */
    struct member_list parked;
    void *by_id;             /* tree of members */
    struct member **by_rank; /* [size]; this and the next four only while there are members */
    struct standing *standings;
    struct place *places;
    int *scratch;
    struct seat *next_seats; /* those of this group once it is complete */
    struct seat *seats;      /* sorted by id: who had which rank in the latest group */
    int seat_count;          /* the size of that group; 0: there was none */

    struct job_report report;
    struct job_cause cause; /* of the failure, when there is one */
    int server;             /* the rank in whose process the rendezvous lives; -1: in none */
    bool adopted;           /* known only from the members that have come to re-form it */
    int willing, awaited;   /* ranks, counted while the group has failed */
    int64_t reforming_ms;   /* since when it re-forms; the least number while it does not */
    int64_t silence_ms;     /* the longest dead_after of the willing ones; 0: none has told its own */
    int64_t lost_ms;        /* when to look for members that were lost before they were wired */
    bool roll_call;         /* is under way */
    int unanswered;         /* members that it has asked */
    int64_t roll_call_ms;   /* when it ends without them */
    TAILQ_ENTRY(job) entry;
};
TAILQ_HEAD(job_list, job);

static inline bool job_has_failed(const struct job *job)
{
    return job->state == JOB_FAILED || job->state == JOB_REFORMING;
}

/* What can be wrong with a Join by itself. */
int join_check(const Wire__Join *join, struct tutti_error *error);

/* Copies the Join.  NULL when out of memory. */
struct member *member_new(uint64_t connection, const Wire__Join *join, int64_t now_ms);
void member_free(struct member *member);

/* The name of its host for people, or what identifies the host. */
const char *member_host(const struct member *member);

/* "rank 2 (host a, pid 7)", of a member that has a rank */
const char *member_print(const struct member *member, char text[MEMBER_TEXT_BYTES]);

/* The same, of one that may not have been given a rank: what it asked for, "a member on host a (pid 7)". */
const char *member_print_wish(const struct member *member, char text[MEMBER_TEXT_BYTES]);

struct job *job_new(const char *name); /* resting; NULL when out of memory */
void job_free(struct job *job);        /* that has no members */

/* From resting to filling: takes what must be agreed from the Join of the first member, and all the memory
 * that the job will need until it rests, save what each member brings. */
int job_open(struct job *job, const struct member *first, struct tutti_error *error);

/* From resting to re-forming: the same, for the group that the first member says that it was in.  Who else
 * was in it is not known. */
int job_adopt(struct job *job, const struct member *first, struct tutti_error *error);

/* Frees the members; back to resting. */
void job_close(struct job *job);

struct member *job_find(const struct job *job, const struct member *like); /* by member id */

/* Whether the Join agrees with the job: in slices and checksums, and in these and the size. */
int job_check_settings(const struct job *job, const Wire__Join *join, struct tutti_error *error);
int job_check_agreement(const struct job *job, const Wire__Join *join, struct tutti_error *error);

/* Whether a filling job can take `member`, which is there already as `old` (or NULL). */
int job_check(const struct job *job, const struct member *member, const struct member *old,
              struct tutti_error *error);

int job_add(struct job *job, struct member *member, struct tutti_error *error); /* only fails on memory */
void job_replace(struct job *job, struct member *old, struct member *member);   /* frees `old` */
void job_remove(struct job *job, struct member *member);                        /* frees it */

/* Gives everyone a rank and remembers it; everyone stands as a member of a new group does. */
void job_assign(struct job *job);

/* "ranks 2, 5-7", or "3 members" where ranks are assigned on arrival. */
const char *job_print_missing(const struct job *job, char *text, size_t text_size);
/* "2 on host a, 1 on host b" */
const char *job_print_present(struct job *job, char *text, size_t text_size);

#endif
