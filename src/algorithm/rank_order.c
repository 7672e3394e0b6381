#include "algorithm/rank_order.h"

#include <assert.h>
#include <stdlib.h>

void rank_order_reduce(struct schedule *s, const struct team *team, struct range range, struct span own,
                       const struct inbox *inbox, struct span target)
{
    assert(team->size >= 2);
    struct span *operands = malloc((size_t)team->size * sizeof *operands);
    if (!operands) {
        s->failed = true;
        return;
    }
    operands[team->index] = own;
    for (int k = 1; k <= team->size - 1; k++)
        operands[team_index(team, -k)] = inbox_slot(inbox, k);
    schedule_reduce(s, range.chunk, range.chunks, operands, team->size, target);
    free(operands);
}
