/* An exchange of messages of one rank: its mails, with memory of their own, and what must come out. */
#ifndef TUTTI_TESTS_FAULT_EXCHANGE_H
#define TUTTI_TESTS_FAULT_EXCHANGE_H

#include "tests/sim/fault/comm.h"
#include "tests/sim/fault/plan.h"

#define EXCHANGE_MAILS_MAX (2 * LETTERS_MAX + RANKS_MAX * LETTERS_MAX)

struct exchange {
    struct letters letters; /* first */
    struct planned_call planned;
    int rank, size, number;
    int64_t began_ns, frozen_ns;
    struct mail mails[EXCHANGE_MAILS_MAX];
    struct tutti_received received[EXCHANGE_MAILS_MAX];
    uint8_t *memory;
    size_t memory_bytes;
    struct exchange *kept; /* the next one of those that failed */
};

/* `number`: of the exchange, which tells its tags from those of others. */
struct exchange *exchange_new(const struct planned_call *planned, int number, int rank, int size,
                              uint64_t *random);
bool exchange_is_right(const struct exchange *exchange);
void exchange_poison(struct exchange *exchange);
bool exchange_is_poisoned(const struct exchange *exchange);
void exchange_free(struct exchange *exchange);

#endif
