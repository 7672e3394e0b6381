#include "group/roll_call.h"

#include <stdio.h>
#include <stdlib.h>
#include "group/answer.h"

#define NAMED_MAX    8 /* members in a text */
#define OTHERS_BYTES 200

/* ---- The answer ---------------------------------------------------------------------------------- */

/* The latest call that the member is known to have made; who asks after an operation has called it, whether
 * its own answer has come or not.  Nothing is known of who has done neither. */
static bool is_known(const struct member *member)
{
    return member->answered || member->late_sequence > 0;
}

static uint64_t known_latest(const struct member *member)
{
    uint64_t latest = member->answered ? member->latest : 0;
    return latest > member->late_sequence ? latest : member->late_sequence;
}

/* By how far they are behind: the first is the one for which the others wait.  Those of which nothing is
 * known are the furthest. */
static int compare_missing(const void *left, const void *right, void *context)
{
    const struct job *job = context;
    uint32_t l = *(const uint32_t *)left, r = *(const uint32_t *)right;
    const struct member *a = job->by_rank[l], *b = job->by_rank[r];
    if (is_known(a) != is_known(b))
        return is_known(a) - is_known(b);
    uint64_t a_latest = known_latest(a), b_latest = known_latest(b);
    return a_latest != b_latest ? (a_latest > b_latest) - (a_latest < b_latest) : (l > r) - (l < r);
}

static int find_missing(struct job *job, uint64_t sequence, uint32_t *ranks)
{
    int count = 0;
    for (int rank = 0; rank < job->size; rank++) {
        const struct member *member = job->by_rank[rank];
        if (!job->standings[rank].left && (!is_known(member) || known_latest(member) < sequence))
            ranks[count++] = (uint32_t)rank;
    }
    qsort_r(ranks, (size_t)count, sizeof *ranks, compare_missing, job);
    return count;
}

/* "rank 3 (host b, pid 4711), whose last call was all_reduce(sum, 4 x float32) as operation 16" */
static int print_member(const struct member *member, char *text, size_t text_size)
{
    char who[MEMBER_TEXT_BYTES];
    member_print(member, who);
    if (!is_known(member))
        return snprintf(text, text_size, "%s, which does not answer", who);
    if (!member->answered || member->late_sequence > member->latest)
        return snprintf(text, text_size, "%s, which waits in operation %llu", who,
                        (unsigned long long)member->late_sequence);
    if (member->latest == 0)
        return snprintf(text, text_size, "%s, which has made no call yet", who);
    return snprintf(text, text_size, "%s, whose last call was %s as operation %llu", who, member->call,
                    (unsigned long long)member->latest);
}

static int compare_ranks(const void *left, const void *right)
{
    return *(const int *)left - *(const int *)right;
}

/* "; and ranks 9-12" */
static void print_others(const struct job *job, const uint32_t *ranks, int count, char *text,
                         size_t text_size)
{
    char list[OTHERS_BYTES];
    int *ascending = job->scratch + job->size; /* `ranks` lies in the first half */
    for (int i = 0; i < count; i++)
        ascending[i] = (int)ranks[i];
    qsort(ascending, (size_t)count, sizeof *ascending, compare_ranks);
    snprintf(text, text_size, "; and %s", topology_print_ranks(ascending, count, list, sizeof list));
}

static void print_missing(const struct job *job, const uint32_t *ranks, int count, char *text,
                          size_t text_size)
{
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < count && i < NAMED_MAX; i++) {
        used += (size_t)snprintf(text + used, text_size - used, "%s", i > 0 ? "; " : "");
        used += (size_t)print_member(job->by_rank[ranks[i]], text + used, text_size - used);
    }
    if (count > NAMED_MAX)
        print_others(job, ranks + NAMED_MAX, count - NAMED_MAX, text + used, text_size - used);
}

/* Everybody waits in the same operation as a rule, so that the answer to one asker serves the next. */
static void finish(const struct rendezvous_output *output, struct job *job)
{
    char text[NAMED_MAX * (MEMBER_TEXT_BYTES + MEMBER_CALL_BYTES + 64) + OTHERS_BYTES];
    uint32_t *ranks = (uint32_t *)job->scratch;
    uint64_t sequence = 0; /* to which the answer is there */
    int count = 0;
    for (int rank = 0; rank < job->size; rank++) {
        const struct member *asker = job->by_rank[rank];
        if (asker->late_sequence == 0 || !asker->connected)
            continue;
        if (asker->late_sequence != sequence) {
            sequence = asker->late_sequence;
            count = find_missing(job, sequence, ranks);
            print_missing(job, ranks, count, text, sizeof text);
        }
        answer_missing(output, asker, ranks, count, text);
    }
    roll_call_cancel(job);
}

/* ---- The call ------------------------------------------------------------------------------------ */

static void begin(const struct rendezvous_output *output, struct job *job, int64_t now_ms)
{
    job->roll_call = true;
    job->roll_call_ms = now_ms + ROLL_CALL_MS;
    job->unanswered = 0;
    for (int rank = 0; rank < job->size; rank++) {
        struct member *member = job->by_rank[rank];
        member->asked = member->connected;
        if (member->asked) {
            job->unanswered++;
            answer_roll_call(output, member);
        }
    }
}

int64_t roll_call_ask(const struct rendezvous_output *output, struct job *job, struct member *asker,
                      uint64_t sequence, int64_t now_ms)
{
    if (!job->roll_call)
        begin(output, job, now_ms);
    if (asker->late_sequence == 0)
        asker->late_sequence =
            sequence; /* operations complete in order: the first is the one that is stuck */
    return job->roll_call_ms;
}

static void wait_no_more(const struct rendezvous_output *output, struct job *job, struct member *member)
{
    member->asked = false;
    if (--job->unanswered == 0)
        finish(output, job);
}

void roll_call_answer(const struct rendezvous_output *output, struct job *job, struct member *member,
                      const Wire__Present *present)
{
    if (!member->asked)
        return;
    member->answered = true;
    member->latest = present->sequence;
    snprintf(member->call, sizeof member->call, "%s", present->call);
    wait_no_more(output, job, member);
}

void roll_call_lose(const struct rendezvous_output *output, struct job *job, struct member *member)
{
    if (member->asked)
        wait_no_more(output, job, member);
}

int64_t roll_call_tick(const struct rendezvous_output *output, struct job *job, int64_t now_ms)
{
    if (job->roll_call && job->roll_call_ms <= now_ms)
        finish(output, job);
    return job->roll_call_ms;
}

void roll_call_cancel(struct job *job)
{
    if (!job->roll_call)
        return;
    for (int rank = 0; rank < job->size; rank++) {
        struct member *member = job->by_rank[rank];
        member->asked = member->answered = false;
        member->late_sequence = 0;
    }
    job->roll_call = false;
    job->unanswered = 0;
    job->roll_call_ms = NEVER;
}
