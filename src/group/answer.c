#include "group/answer.h"

static void send(const struct rendezvous_output *output, uint64_t connection, const Wire__Control *message)
{
    output->send(output->context, connection, message);
}

void answer_refused(const struct rendezvous_output *output, uint64_t connection, struct tutti_error *error)
{
    Wire__Refused body = WIRE__REFUSED__INIT;
    Wire__Control message = WIRE__CONTROL__INIT;
    body.status = error->code;
    body.reason = error->message;
    message.body_case = WIRE__CONTROL__BODY_REFUSED;
    message.refused = &body;
    send(output, connection, &message);
    output->close(output->context, connection);
}

static void fill_peer(Wire__Peer *peer, const struct member *member)
{
    wire__peer__init(peer);
    peer->rank = (uint32_t)member->rank;
    peer->member_id = member->join->member_id;
    peer->host = member->join->host;
    peer->host_name = member->join->host_name;
    peer->pid = member->join->pid;
    peer->n_addresses = member->join->n_addresses;
    peer->addresses = member->join->addresses;
}

static void fill_cause(Wire__Abort *body, const struct job_cause *cause)
{
    control_from_error(&cause->error, cause->from, body);
    body->instance = cause->instance;
    body->generation = cause->generation;
}

static void fill_reformed(Wire__Reformed *body, Wire__Abort *cause, const struct member *member)
{
    const struct job_report *report = &member->job->report;
    wire__reformed__init(body);
    fill_cause(cause, &report->cause);
    body->previous_generation = report->previous_generation;
    body->previous_rank = (uint32_t)member->previous_rank;
    body->previous_size = (uint32_t)report->previous_size;
    body->completed_everywhere = report->completed_everywhere;
    body->completed_anywhere = report->completed_anywhere;
    body->lost = (char *)report->lost;
    body->cause = cause;
}

void answer_welcome(const struct rendezvous_output *output, const struct member *member, bool embedded)
{
    const struct job *job = member->job;
    int rank = member->rank, size = job->size;
    Wire__Welcome body = WIRE__WELCOME__INIT;
    Wire__Control message = WIRE__CONTROL__INIT;
    Wire__Peer next, previous;
    Wire__Reformed reformed;
    Wire__Abort cause;
    body.instance = job->instance;
    body.generation = job->generation;
    body.rank = (uint32_t)rank;
    body.size = (uint32_t)size;
    body.local_rank = (uint32_t)member->local_rank;
    body.local_size = (uint32_t)member->local_size;
    body.host_count = (uint32_t)job->host_count;
    body.embedded = embedded;
    body.server = job->server;
    if (size > 1) {
        fill_peer(&next, job->by_rank[(rank + 1) % size]);
        fill_peer(&previous, job->by_rank[(rank + size - 1) % size]);
        body.next = &next;
        body.previous = &previous;
    }
    if (job->report.previous_generation != 0) {
        fill_reformed(&reformed, &cause, member);
        body.reformed = &reformed;
    }
    message.body_case = WIRE__CONTROL__BODY_WELCOME;
    message.welcome = &body;
    send(output, member->connection, &message);
}

void answer_waiting(const struct rendezvous_output *output, const struct member *member, const char *text)
{
    Wire__Waiting body = WIRE__WAITING__INIT;
    Wire__Control message = WIRE__CONTROL__INIT;
    body.text = (char *)text;
    message.body_case = WIRE__CONTROL__BODY_WAITING;
    message.waiting = &body;
    send(output, member->connection, &message);
}

void answer_abort(const struct rendezvous_output *output, const struct member *member)
{
    Wire__Abort body;
    Wire__Control message = WIRE__CONTROL__INIT;
    fill_cause(&body, &member->job->cause);
    message.body_case = WIRE__CONTROL__BODY_ABORT;
    message.abort = &body;
    send(output, member->connection, &message);
}

void answer_roll_call(const struct rendezvous_output *output, const struct member *member)
{
    Wire__RollCall body = WIRE__ROLL_CALL__INIT;
    Wire__Control message = WIRE__CONTROL__INIT;
    body.generation = member->job->generation;
    message.body_case = WIRE__CONTROL__BODY_ROLL_CALL;
    message.roll_call = &body;
    send(output, member->connection, &message);
}

void answer_missing(const struct rendezvous_output *output, const struct member *member, uint32_t *ranks,
                    int count, const char *text)
{
    Wire__Missing body = WIRE__MISSING__INIT;
    Wire__Control message = WIRE__CONTROL__INIT;
    body.generation = member->job->generation;
    body.sequence = member->late_sequence;
    body.ranks = ranks;
    body.n_ranks = (size_t)count;
    body.host = count > 0 ? (char *)member_host(member->job->by_rank[ranks[0]]) : (char *)"";
    body.text = (char *)text;
    message.body_case = WIRE__CONTROL__BODY_MISSING;
    message.missing = &body;
    send(output, member->connection, &message);
}
