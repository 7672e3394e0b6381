#include "tests/sim/fault/exchange.h"

#include <string.h>
#include "tests/sim/fault/allocation.h"
#include "tests/sim/fault/data.h"

#define POISON 0xA5

static int tag_of(const struct exchange *x, int letter)
{
    return x->number * LETTERS_MAX + letter;
}

static int64_t *buffer_of(const struct exchange *x, size_t mail)
{
    return (int64_t *)x->memory + mail * x->planned.count;
}

static void add(struct exchange *x, bool sends, int peer, int tag)
{
    size_t which = x->letters.count++;
    x->mails[which] = (struct mail){
        .sends = sends, .peer = peer, .tag = tag, .type = TUTTI_INT64, .count = x->planned.count};
}

/* To whom this rank sends; from whom it receives, or -1. */
static void find_peers(const struct exchange *x, int *to, int *from)
{
    int by = (int)x->planned.root;
    bool gathers = x->planned.way == EXCHANGE_ANY_SOURCE;
    *to = gathers ? by : (x->rank + by) % x->size;
    *from = gathers ? -1 : (x->rank + x->size - by) % x->size;
}

static void add_all(struct exchange *x, bool receives_first)
{
    int to, from;
    find_peers(x, &to, &from);
    for (int pass = 0; pass < 2; pass++)
        for (int letter = 0; letter < x->planned.letters; letter++) {
            int tag = tag_of(x, letter);
            if (receives_first != (pass == 0))
                add(x, true, to, tag);
            else if (from >= 0)
                add(x, false, from, x->planned.way == EXCHANGE_ANY_TAG ? TUTTI_ANY_TAG : tag);
            else
                for (int i = 0; x->rank == to && i < x->size; i++)
                    add(x, false, TUTTI_ANY_SOURCE, tag);
        }
}

struct exchange *exchange_new(const struct planned_call *planned, int number, int rank, int size,
                              uint64_t *random)
{
    struct exchange *x = world_alloc(sizeof *x);
    x->planned = *planned;
    x->number = number;
    x->rank = rank;
    x->size = size;
    add_all(x, random_chance(random, 50));
    x->letters.mails = x->mails;
    x->memory_bytes = x->letters.count * planned->count * sizeof(int64_t);
    x->memory = world_alloc_raw(x->memory_bytes);
    memset(x->memory, 0, x->memory_bytes);
    for (size_t which = 0; which < x->letters.count; which++) {
        struct mail *mail = &x->mails[which];
        mail->buffer = buffer_of(x, which);
        mail->received = mail->sends ? NULL : &x->received[which];
        for (size_t i = 0; mail->sends && i < planned->count; i++)
            buffer_of(x, which)[i] = data_message(rank, mail->tag, i);
    }
    return x;
}

/* Each message has come once, and whole. */
bool exchange_is_right(const struct exchange *x)
{
    int to, from;
    bool seen[LETTERS_MAX][RANKS_MAX] = {{false}};
    find_peers(x, &to, &from);
    for (size_t which = 0; which < x->letters.count; which++) {
        const struct mail *mail = &x->mails[which];
        const struct tutti_received *received = &x->received[which];
        int letter = received->tag - tag_of(x, 0);
        if (mail->sends)
            continue;
        bool is_asked_for = (mail->tag == TUTTI_ANY_TAG || mail->tag == received->tag) &&
                            (from < 0 || from == received->source) && received->count == x->planned.count;
        if (!is_asked_for || letter < 0 || letter >= x->planned.letters || received->source < 0 ||
            received->source >= x->size || seen[letter][received->source])
            return false;
        seen[letter][received->source] = true;
        for (size_t i = 0; i < mail->count; i++)
            if (buffer_of(x, which)[i] != data_message(received->source, received->tag, i))
                return false;
    }
    return true;
}

void exchange_poison(struct exchange *x)
{
    memset(x->memory, POISON, x->memory_bytes);
    memset(x->received, POISON, sizeof x->received);
}

bool exchange_is_poisoned(const struct exchange *x)
{
    const uint8_t *received = (const uint8_t *)x->received;
    for (size_t i = 0; i < x->memory_bytes; i++)
        if (x->memory[i] != POISON)
            return false;
    for (size_t i = 0; i < sizeof x->received; i++)
        if (received[i] != POISON)
            return false;
    return true;
}

void exchange_free(struct exchange *x)
{
    world_free(x->memory);
    world_free(x);
}
