#include "schedule/expression.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY_START 256

void expressions_init(struct expressions *e, int size)
{
    *e = (struct expressions){.words = (size + 63) / 64};
}

void expressions_clean_up(struct expressions *e)
{
    free(e->list);
    free(e->ranks);
    free(e->table);
}

static uint64_t *ranks_of(const struct expressions *e, int id)
{
    return e->ranks + (size_t)id * (size_t)e->words;
}

static bool same(const struct expression *a, const struct expression *b)
{
    return a->kind == b->kind && a->chunk == b->chunk && a->left == b->left && a->right == b->right;
}

/* Where `wanted` lies in the table, or the free place where it would. */
static int *find(const struct expressions *e, const struct expression *wanted)
{
    uint64_t hash = (uint64_t)wanted->kind;
    const int parts[] = {wanted->chunk, wanted->left, wanted->right};
    for (int i = 0; i < 3; i++)
        hash = (hash ^ (uint32_t)parts[i]) * 0x9e3779b97f4a7c15u;
    uint64_t mask = (uint64_t)e->table_size - 1;
    uint64_t place = (hash >> 32) & mask;
    while (e->table[place] >= 0 && !same(&e->list[e->table[place]], wanted))
        place = (place + 1) & mask;
    return &e->table[place];
}

static bool grow(struct expressions *e)
{
    int capacity = e->capacity > 0 ? e->capacity * 2 : CAPACITY_START;
    struct expression *list = realloc(e->list, (size_t)capacity * sizeof *list);
    if (!list)
        return false;
    e->list = list;
    uint64_t *ranks = realloc(e->ranks, (size_t)capacity * (size_t)e->words * sizeof *ranks);
    if (!ranks)
        return false;
    e->ranks = ranks;
    int *table = realloc(e->table, 2 * (size_t)capacity * sizeof *table);
    if (!table)
        return false;
    e->table = table;
    e->table_size = 2 * capacity;
    e->capacity = capacity;
    memset(table, 0xff, (size_t)e->table_size * sizeof *table);
    for (int id = 0; id < e->count; id++)
        *find(e, &e->list[id]) = id;
    return true;
}

/* The number of `wanted`, which gets an empty set of ranks when it is new; -1 when out of memory. */
static int intern(struct expressions *e, struct expression wanted, bool *is_new)
{
    if (e->count == e->capacity && !grow(e))
        return -1;
    int *place = find(e, &wanted);
    *is_new = *place < 0;
    if (*is_new) {
        *place = e->count++;
        e->list[*place] = wanted;
        memset(ranks_of(e, *place), 0, (size_t)e->words * sizeof *e->ranks);
    }
    return *place;
}

int expression_leaf(struct expressions *e, int rank, int chunk)
{
    bool is_new;
    int id = intern(e, (struct expression){EXPRESSION_LEAF, chunk, rank, -1}, &is_new);
    if (id >= 0 && is_new)
        ranks_of(e, id)[rank / 64] |= (uint64_t)1 << (rank % 64);
    return id;
}

static int compose(struct expressions *e, int kind, int left, int right)
{
    bool is_new;
    int id = intern(e, (struct expression){kind, e->list[left].chunk, left, right}, &is_new);
    for (int w = 0; id >= 0 && is_new && w < e->words; w++)
        ranks_of(e, id)[w] = ranks_of(e, left)[w] | (right >= 0 ? ranks_of(e, right)[w] : 0);
    return id;
}

int expression_reduction(struct expressions *e, int left, int right)
{
    return compose(e, EXPRESSION_REDUCTION, left, right);
}

int expression_accumulation(struct expressions *e, int accumulated, int operand)
{
    return compose(e, EXPRESSION_ACCUMULATION, accumulated, operand);
}

int expression_rounded(struct expressions *e, int accumulated)
{
    return compose(e, EXPRESSION_ROUNDED, accumulated, -1);
}

int expression_finished(struct expressions *e, int operand)
{
    return compose(e, EXPRESSION_FINISHED, operand, -1);
}

int expression_common_rank(const struct expressions *e, int a, int b)
{
    for (int w = 0; w < e->words; w++) {
        uint64_t common = ranks_of(e, a)[w] & ranks_of(e, b)[w];
        if (common != 0)
            return w * 64 + __builtin_ctzll(common);
    }
    return -1;
}

int expression_missing_rank(const struct expressions *e, int id, int size)
{
    for (int rank = 0; rank < size; rank++) {
        if (!(ranks_of(e, id)[rank / 64] >> (rank % 64) & 1))
            return rank;
    }
    return -1;
}
