/* Groups made of a group: split, sub-groups, the ranks of a host; independent calls on them, also from
 * several threads; messages; bad arguments; and one failure, which ends the family.  Any group of 1 to 8
 * ranks:
 *
 *     tutti run -n 4 -- groups [--expect-local RANKS] */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "check.h"

#define SIZE_MAX_HERE 8
#define ROUNDS        200

static tutti_comm *root;
static int rank, size;

/* An all_reduce, an all_gather and a message around the ring on `comm`, whose ranks are `ranks` of the root.
 */
static void works(tutti_comm *comm, const int *ranks, int count)
{
    int mine = tutti_rank(comm), all[SIZE_MAX_HERE], sum, expected = 0;
    CHECK(tutti_size(comm) == count && mine >= 0 && mine < count && ranks[mine] == rank);
    for (int r = 0; r < count; r++) {
        CHECK(tutti_root_rank(comm, r) == ranks[r]);
        expected += ranks[r];
    }
    CHECK(tutti_root_rank(comm, -1) == -1 && tutti_root_rank(comm, count) == -1);
    OK(comm, tutti_all_reduce(comm, &rank, &sum, 1, TUTTI_INT32, TUTTI_SUM));
    CHECK(sum == expected);
    OK(comm, tutti_all_gather(comm, &rank, all, 1, TUTTI_INT32));
    CHECK(memcmp(all, ranks, (size_t)count * sizeof *ranks) == 0);
    int previous = (mine + count - 1) % count, got = -1;
    struct tutti_received received;
    OK(comm, tutti_send(comm, &rank, 1, TUTTI_INT32, (mine + 1) % count, 3));
    OK(comm, tutti_recv(comm, &got, 1, TUTTI_INT32, TUTTI_ANY_SOURCE, 3, &received));
    CHECK(received.source == previous && got == ranks[previous]);
}

static void end(tutti_comm *comm)
{
    OK(comm, tutti_finalize(comm, 60000));
    tutti_free(comm);
}

/* The ranks of the root for which (r % modulus == which), upwards or downwards. */
static int list_ranks(int *ranks, int modulus, int which, bool upwards)
{
    int count = 0;
    for (int i = 0; i < size; i++) {
        int r = upwards ? i : size - 1 - i;
        if (r % modulus == which)
            ranks[count++] = r;
    }
    return count;
}

static void colours_part_and_keys_order(void)
{
    for (int modulus = 1; modulus <= 3; modulus++)
        for (int upwards = 0; upwards < 2; upwards++) {
            tutti_comm *child = NULL;
            int ranks[SIZE_MAX_HERE], count = list_ranks(ranks, modulus, rank % modulus, upwards == 1);
            /* Equal keys: in the order of the ranks. */
            OK(root, tutti_split(root, rank % modulus, upwards ? 7 : -rank, &child));
            works(child, ranks, count);
            end(child);
        }
}

static void a_rank_without_a_colour_is_in_no_group(void)
{
    int ranks[SIZE_MAX_HERE], count = list_ranks(ranks, 2, 0, true);
    tutti_comm *child = root;
    bool without = rank % 2 == 1;
    OK(root, tutti_split(root, without ? TUTTI_NO_COLOR : 5, 0, &child));
    CHECK(without == (child == NULL));
    if (child != NULL) {
        works(child, ranks, count);
        end(child);
    }
    child = root;
    OK(root, tutti_split(root, TUTTI_NO_COLOR, 0, &child)); /* nobody */
    CHECK(child == NULL);
}

/* In the order of the list; the others do not call, but go on. */
static void a_subgroup_is_made_by_its_members_alone(void)
{
    const int ranks[2] = {size - 1, 0};
    int count = size > 1 ? 2 : 1, sum;
    if (rank == 0 || rank == size - 1) {
        tutti_comm *child = NULL;
        OK(root, tutti_subgroup(root, ranks, count, &child));
        works(child, ranks, count);
        end(child);
    }
    OK(root, tutti_all_reduce(root, &rank, &sum, 1, TUTTI_INT32, TUTTI_MAX));
    CHECK(sum == size - 1);
}

static void the_ranks_of_a_host_are_a_group(int expected)
{
    tutti_comm *local = NULL;
    int ranks[SIZE_MAX_HERE];
    OK(root, tutti_local(root, &local));
    int count = tutti_size(local);
    CHECK(expected == 0 || count == expected);
    for (int r = 0; r < count; r++) /* of these tests the ranks of a host are consecutive */
        ranks[r] = rank - tutti_rank(local) + r;
    works(local, ranks, count);
    end(local);
}

/* Children of children: root_rank() is always of the root. */
static void a_group_can_be_split_again(void)
{
    int ranks[SIZE_MAX_HERE], count = list_ranks(ranks, 2, rank % 2, false), half[SIZE_MAX_HERE], halves = 0;
    tutti_comm *child = NULL, *grandchild = NULL;
    OK(root, tutti_split(root, rank % 2, -rank, &child));
    int mine = tutti_rank(child), part = mine < (count + 1) / 2 ? 0 : 1;
    for (int r = part == 0 ? 0 : (count + 1) / 2; r < (part == 0 ? (count + 1) / 2 : count); r++)
        half[halves++] = ranks[r];
    OK(child, tutti_split(child, part, 0, &grandchild));
    works(grandchild, half, halves);
    works(child, ranks, count);
    works(grandchild, half, halves);
    end(child); /* before its own child, which lives on */
    works(grandchild, half, halves);
    end(grandchild);
}

/* Calls of the parent and of two children under way at once, which rank order may differ. */
static void calls_on_different_groups_are_independent(void)
{
    tutti_comm *same = NULL, *reversed = NULL;
    OK(root, tutti_split(root, 0, 0, &same));
    OK(root, tutti_split(root, 0, -rank, &reversed));
    tutti_comm *comms[3] = {root, same, reversed};
    static int32_t vectors[3][10007];
    for (int turn = 0; turn < 20; turn++) {
        tutti_request *requests[3];
        for (int c = 0; c < 3; c++) {
            /* Each rank issues them in an order of its own. */
            int which = (c + rank + turn) % 3;
            for (int i = 0; i < 10007; i++)
                vectors[which][i] = i + which * 1000 + rank;
            const struct tutti_call call = {.op = TUTTI_ALL_REDUCE,
                                            .send = vectors[which],
                                            .recv = vectors[which],
                                            .count = 10007,
                                            .type = TUTTI_INT32,
                                            .reduction = TUTTI_SUM};
            OK(comms[which], tutti_start(comms[which], &call, 1, &requests[which]));
        }
        for (int c = 0; c < 3; c++) {
            int which = (c + 2 * rank + turn) % 3;
            OK(comms[which], tutti_wait(&requests[which], -1));
            for (int i = 0; i < 10007; i++)
                CHECK(vectors[which][i] == size * (i + which * 1000) + size * (size - 1) / 2);
        }
    }
    tutti_free(NULL);
    end(reversed);
    end(same);
}

struct worker {
    tutti_comm *comm;
    int number;
};

/* Mixed calls, as fast as they go. */
static void *work(void *argument)
{
    const struct worker *w = argument;
    int count = tutti_size(w->comm), mine = tutti_rank(w->comm);
    for (int round = 0; round < ROUNDS; round++) {
        int32_t value = mine + round * (w->number + 1), sum, all[SIZE_MAX_HERE], got = -1;
        OK(w->comm, tutti_all_reduce(w->comm, &value, &sum, 1, TUTTI_INT32, TUTTI_SUM));
        CHECK(sum == count * round * (w->number + 1) + count * (count - 1) / 2);
        OK(w->comm, tutti_all_gather(w->comm, &value, all, 1, TUTTI_INT32));
        for (int r = 0; r < count; r++)
            CHECK(all[r] == r + round * (w->number + 1));
        OK(w->comm, tutti_send(w->comm, &value, 1, TUTTI_INT32, (mine + 1) % count, w->number));
        OK(w->comm, tutti_recv(w->comm, &got, 1, TUTTI_INT32, (mine + count - 1) % count, w->number, NULL));
        CHECK(got == all[(mine + count - 1) % count]);
        OK(w->comm, tutti_barrier(w->comm));
    }
    return NULL;
}

static void each_thread_has_a_group_of_its_own(void)
{
    enum { WORKERS = 3 };
    struct worker workers[WORKERS] = {{root, 0}, {NULL, 1}, {NULL, 2}};
    pthread_t threads[WORKERS];
    OK(root, tutti_split(root, 0, -rank, &workers[1].comm));
    OK(root, tutti_split(root, rank % 2, 0, &workers[2].comm));
    for (int i = 0; i < WORKERS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, &workers[i]) == 0);
    for (int i = 0; i < WORKERS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    end(workers[1].comm);
    end(workers[2].comm);
}

/* Refused on this rank alone: nothing is sent, and the group lives. */
static void bad_arguments_disturb_nobody(void)
{
    const int twice[2] = {rank, rank}, beyond[2] = {rank, size}, others[1] = {(rank + 1) % size};
    tutti_comm *child;
#define BAD(call)                                                                                            \
    do {                                                                                                     \
        child = root;                                                                                        \
        CHECK((call) == TUTTI_ERR_ARGUMENT && child == NULL);                                                \
    } while (0)
    BAD(tutti_split(root, -2, 0, &child));
    BAD(tutti_split(NULL, 0, 0, &child));
    BAD(tutti_subgroup(root, twice, 2, &child));
    BAD(tutti_subgroup(root, beyond, 2, &child));
    BAD(tutti_subgroup(root, beyond, 0, &child));
    BAD(tutti_subgroup(root, NULL, 1, &child));
    if (size > 1)
        BAD(tutti_subgroup(root, others, 1, &child));
#undef BAD
    CHECK(tutti_split(root, 0, 0, NULL) == TUTTI_ERR_ARGUMENT);
    CHECK(tutti_local(root, NULL) == TUTTI_ERR_ARGUMENT);
    CHECK(tutti_root_rank(NULL, 0) == -1 && tutti_root_rank(root, rank) == rank);
    OK(root, tutti_barrier(root));
}

/* An abort in one group, which not even all ranks are in, is the end of all; causes are told in ranks of the
 * root. */
static void a_failure_is_the_end_of_the_family(void)
{
    tutti_comm *all = NULL, *parity = NULL;
    struct tutti_error error = TUTTI_ERROR_INIT;
    int guilty = size - 1, value = 1, sum;
    OK(root, tutti_split(root, 0, -rank, &all));
    OK(root, tutti_split(root, rank % 2, 0, &parity));
    int status = tutti_barrier(root); /* whose end the abort may meet */
    CHECK(status == TUTTI_OK || (status == TUTTI_ERR_ABORTED && rank != guilty));
    if (rank == guilty)
        OK(parity, tutti_abort(parity, "enough"));
    tutti_comm *comms[3] = {rank % 3 == 0 ? root : all, rank % 3 == 0 ? all : root, parity};
    for (int i = 0; i < 3; i++) {
        status = tutti_all_reduce(comms[i], &value, &sum, 1, TUTTI_INT32, TUTTI_SUM);
        check_status(__FILE__, __LINE__, comms[i], status, TUTTI_ERR_ABORTED);
        OK(comms[i], tutti_get_error(comms[i], &error));
        if (error.code != TUTTI_ERR_ABORTED || error.rank != guilty || !strstr(error.message, "enough")) {
            fprintf(stderr, "rank %d, communicator %d: %s, rank %d: %s\n", rank, i,
                    tutti_error_name(error.code), error.rank, error.message);
            exit(1);
        }
    }
    tutti_comm *late = root;
    check_status(__FILE__, __LINE__, root, tutti_split(root, 0, 0, &late), TUTTI_ERR_ABORTED);
    CHECK(late == NULL);
    /* In any order, the root in the middle. */
    tutti_free(rank % 2 == 0 ? all : parity);
    tutti_free(root);
    tutti_free(rank % 2 == 0 ? parity : all);
}

int main(int argc, char **argv)
{
    int local = argc == 3 && strcmp(argv[1], "--expect-local") == 0 ? atoi(argv[2]) : 0;
    OK(root, tutti_init(NULL, &root));
    rank = check_rank = tutti_rank(root);
    size = tutti_size(root);
    CHECK(size <= SIZE_MAX_HERE);
    colours_part_and_keys_order();
    a_rank_without_a_colour_is_in_no_group();
    a_subgroup_is_made_by_its_members_alone();
    the_ranks_of_a_host_are_a_group(local);
    a_group_can_be_split_again();
    calls_on_different_groups_are_independent();
    each_thread_has_a_group_of_its_own();
    bad_arguments_disturb_nobody();
    a_failure_is_the_end_of_the_family();
    if (rank == 0)
        printf("groups within a group of %d ranks are right\n", size);
    return 0;
}
