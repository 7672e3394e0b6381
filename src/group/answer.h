/* What the rendezvous says to a member: each function makes one message of what the job knows and sends it.
 */
#ifndef TUTTI_GROUP_ANSWER_H
#define TUTTI_GROUP_ANSWER_H

#include "group/job.h"
#include "group/rendezvous.h"

/* Refused with the code and the sentence of `error`; closes the connection. */
void answer_refused(const struct rendezvous_output *output, uint64_t connection, struct tutti_error *error);

/* `member` has a rank in the latest group. */
void answer_welcome(const struct rendezvous_output *output, const struct member *member, bool embedded);

/* `text` is "3 of 4 ranks have joined..." */
void answer_waiting(const struct rendezvous_output *output, const struct member *member, const char *text);

/* The cause of the failure of the member's group. */
void answer_abort(const struct rendezvous_output *output, const struct member *member);

void answer_roll_call(const struct rendezvous_output *output, const struct member *member);

/* `ranks` have not made the call after which the member has asked; `text` names them. */
void answer_missing(const struct rendezvous_output *output, const struct member *member, uint32_t *ranks,
                    int count, const char *text);

#endif
