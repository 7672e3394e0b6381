/* What schedules cost, counted.  Messages and bytes are sums over the steps.  Rounds come from a run in which
 * only the way of a message takes time, always one unit: a message leaves as soon as it may, the receiving
 * half of a step is over when that of the step before is and what it takes has arrived, and the end of the
 * slowest rank is the number of rounds.  A step is not cut into slices: as nothing but the way takes time,
 * its slices leave together and arrive together.  Sending takes no time, so nobody waits for `after` or for
 * room. */
#include "schedule/schedule.h"

#include <stdlib.h>

/* One rank's run. */
struct runner {
    const struct schedule *schedule;
    int step; /* the next */
    int clock;
    int *sent_at; /* by step: the clock when its sending half could leave */
    int *matched; /* by peer: the step after the last one there whose message this rank has taken */
};

/* ---- Rounds ------------------------------------------------------------------------------------ */

static void clean_up(struct runner *runners, int size)
{
    for (int rank = 0; rank < size; rank++) {
        free(runners[rank].sent_at);
        free(runners[rank].matched);
    }
    free(runners);
}

static struct runner *runners_new(struct schedule *const *ranks, int size)
{
    struct runner *runners = calloc((size_t)size, sizeof *runners);
    bool complete = runners != NULL;
    for (int rank = 0; rank < size && complete; rank++) {
        struct runner *r = &runners[rank];
        r->schedule = ranks[rank];
        r->sent_at = calloc((size_t)ranks[rank]->count + 1, sizeof *r->sent_at);
        r->matched = calloc((size_t)size, sizeof *r->matched);
        complete = r->sent_at && r->matched;
    }
    if (runners && !complete) {
        clean_up(runners, size);
        return NULL;
    }
    return runners;
}

/* The step of `sender` whose message rank `to` takes next, `from` being the first that may be it. */
static int next_send(const struct runner *sender, int to, int from)
{
    const struct schedule *s = sender->schedule;
    while (from < s->count && !(step_sends(&s->steps[from]) && s->steps[from].to == to))
        from++;
    return from;
}

/* Runs the rank's next step: false when what it takes has not been sent yet. */
static bool run_step(struct runner *runners, int rank)
{
    struct runner *r = &runners[rank];
    const struct step *step = &r->schedule->steps[r->step];
    if (step_receives(step)) {
        const struct runner *sender = &runners[step->from];
        int sent = next_send(sender, rank, r->matched[step->from]);
        r->matched[step->from] = sent;
        if (sent >= sender->step)
            return false;
        r->matched[step->from]++;
        if (sender->sent_at[sent] + 1 > r->clock)
            r->clock = sender->sent_at[sent] + 1;
    }
    r->sent_at[r->step++] = r->clock;
    return true;
}

static int rounds_of(struct runner *runners, int size)
{
    int rounds = 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (int rank = 0; rank < size; rank++) {
            while (runners[rank].step < runners[rank].schedule->count && run_step(runners, rank))
                moved = true;
        }
    }
    for (int rank = 0; rank < size; rank++)
        rounds = runners[rank].clock > rounds ? runners[rank].clock : rounds;
    return rounds;
}

/* ---- Sums -------------------------------------------------------------------------------------- */

/* Of one rank; what is not messages is in chunks. */
struct sums {
    int messages_sent, messages_received, remote_messages_sent, remote_messages_received;
    int64_t sent, received, remote_sent, remote_received, reduced, copied;
};

static bool is_remote(const struct host_map *hosts, int rank, int peer)
{
    return hosts && hosts->host_of[rank] != hosts->host_of[peer];
}

static void add_step(struct sums *sums, const struct step *step, int rank, const struct host_map *hosts)
{
    if (step_sends(step)) {
        bool remote = is_remote(hosts, rank, step->to);
        sums->messages_sent++;
        sums->sent += step->chunks;
        sums->remote_messages_sent += remote;
        sums->remote_sent += remote ? step->chunks : 0;
    }
    if (step_receives(step)) {
        bool remote = is_remote(hosts, rank, step->from);
        sums->messages_received++;
        sums->received += step->chunks;
        sums->remote_messages_received += remote;
        sums->remote_received += remote ? step->chunks : 0;
    }
    if (step->kind == STEP_RECV_REDUCE || step->kind == STEP_RECV_REDUCE_SEND)
        sums->reduced += step->chunks;
    else if (step->kind == STEP_REDUCE)
        sums->reduced += (int64_t)step->chunks * (step->operands - 1);
    else if (step->kind == STEP_COPY)
        sums->copied += step->chunks;
}

static struct sums sums_of(const struct schedule *s, const struct host_map *hosts)
{
    struct sums sums = {0};
    for (int i = 0; i < s->count; i++)
        add_step(&sums, &s->steps[i], s->rank, hosts);
    return sums;
}

static void raise_count(int *most, int value)
{
    *most = value > *most ? value : *most;
}

static void raise_share(double *most, int64_t chunks, double unit)
{
    double share = unit > 0 ? (double)chunks / unit : 0;
    *most = share > *most ? share : *most;
}

/* Chunks of what the count is in units of; 0 where nothing is moved. */
static double unit_of(const struct schedule *s)
{
    if (s->operation == TUTTI_BARRIER)
        return 0;
    return s->operation == TUTTI_ALL_TO_ALL ? s->size : s->chunks;
}

static void count_ranks(struct schedule *const *ranks, int size, const struct host_map *hosts,
                        struct schedule_count *count)
{
    double unit = unit_of(ranks[0]);
    for (int rank = 0; rank < size; rank++) {
        struct sums sums = sums_of(ranks[rank], hosts);
        raise_count(&count->messages_sent_max, sums.messages_sent);
        raise_count(&count->messages_received_max, sums.messages_received);
        raise_count(&count->messages_sent_between_hosts_max, sums.remote_messages_sent);
        raise_count(&count->messages_received_between_hosts_max, sums.remote_messages_received);
        raise_share(&count->sent_max, sums.sent, unit);
        raise_share(&count->received_max, sums.received, unit);
        raise_share(&count->reduced_max, sums.reduced, unit);
        raise_share(&count->copied_max, sums.copied, unit);
    }
}

static void count_hosts(struct schedule *const *ranks, int size, const struct host_map *hosts,
                        struct schedule_count *count)
{
    for (int host = 0; hosts && host < hosts->host_count; host++) {
        int64_t sent = 0, received = 0;
        for (int rank = 0; rank < size; rank++) {
            if (hosts->host_of[rank] != host)
                continue;
            struct sums sums = sums_of(ranks[rank], hosts);
            sent += sums.remote_sent;
            received += sums.remote_received;
        }
        raise_share(&count->sent_between_hosts_max, sent, unit_of(ranks[0]));
        raise_share(&count->received_between_hosts_max, received, unit_of(ranks[0]));
    }
}

bool schedule_measure(struct schedule *const *ranks, int size, const struct host_map *hosts,
                      struct schedule_count *count)
{
    struct runner *runners = runners_new(ranks, size);
    if (!runners)
        return false;
    *count = (struct schedule_count){.rounds = rounds_of(runners, size)};
    clean_up(runners, size);
    count_ranks(ranks, size, hosts, count);
    count_hosts(ranks, size, hosts, count);
    return true;
}
