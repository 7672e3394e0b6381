/* Training that goes on when ranks die.
 *     tutti run -n 4 --keep-going -- build/release/bin/survive 2 40
 * fits a line to points; rank 2 kills itself at step 40, and the others re-form the group and go on from the
 * newest state that one of them has.  The rendezvous lives in `tutti run` and not in a rank, so any may die.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <tutti/tutti.h>

#define STEPS  400
#define POINTS 1000

struct state { /* all that a step changes: what a checkpoint would hold */
    int64_t step;
    double slope, offset;
};

/* The rank and step of the one that kills itself; -1: nobody does. */
static int killed_rank = -1, killed_step = -1;

static void print_error(tutti_comm *comm)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    tutti_get_error(comm, &error);
    fprintf(stderr, "%s: %s\n", tutti_error_name(error.code), error.message);
}

/* Gives every rank the newest state that one of them has: some may have failed a step before the others. */
static int share(tutti_comm *comm, struct state *state)
{
    int size = tutti_size(comm), newest = 0;
    int64_t *steps = calloc((size_t)size, sizeof *steps);
    if (!steps)
        return TUTTI_ERR_MEMORY;
    int status = tutti_all_gather(comm, &state->step, steps, 1, TUTTI_INT64);
    for (int rank = 1; rank < size; rank++)
        if (steps[rank] > steps[newest])
            newest = rank;
    free(steps);
    struct state copy = *state; /* because a call that fails may leave anything in its buffer */
    if (status == TUTTI_OK)
        status = tutti_broadcast(comm, &copy, &copy, sizeof copy, TUTTI_UINT8, newest);
    if (status == TUTTI_OK)
        *state = copy;
    return status;
}

static int train(tutti_comm *comm, struct state *state)
{
    while (state->step < STEPS) {
        int rank = tutti_rank(comm), size = tutti_size(comm);
        struct tutti_reform_info info = TUTTI_REFORM_INFO_INIT;
        tutti_get_reform(comm, &info);
        if (rank == killed_rank && state->step == killed_step && info.generation == 1)
            raise(SIGKILL);
        double gradient[2] = {0};
        for (int i = rank; i < POINTS; i += size) { /* this rank's part of the points of y = 3x + 1 */
            double x = 2.0 * i / POINTS - 1, error = state->slope * x + state->offset - (3 * x + 1);
            gradient[0] += error * x;
            gradient[1] += error;
        }
        int status = tutti_all_reduce(comm, gradient, gradient, 2, TUTTI_FLOAT64, TUTTI_SUM);
        if (status < 0)
            return status;
        state->slope -= 0.1 * gradient[0] / POINTS;
        state->offset -= 0.1 * gradient[1] / POINTS;
        state->step++;
    }
    return TUTTI_OK;
}

/* Replaces the failed communicator by that of the survivors; negative when there is no such group. */
static int reform(tutti_comm **comm)
{
    tutti_comm *survivors;
    int status = tutti_reform(*comm, 0, &survivors);
    tutti_free(*comm);
    *comm = survivors;
    /* When another rank died meanwhile, the new group has failed already: its next call will say so. */
    if (tutti_rank(survivors) < 0)
        return status;
    struct tutti_reform_info info = TUTTI_REFORM_INFO_INIT;
    tutti_get_reform(survivors, &info);
    printf("now rank %d of %d, without %s\n", tutti_rank(survivors), tutti_size(survivors),
           info.lost[0] ? info.lost : "loss");
    return TUTTI_OK;
}

int main(int argc, char **argv)
{
    if (argc > 2) {
        killed_rank = atoi(argv[1]);
        killed_step = atoi(argv[2]);
    }
    tutti_comm *comm;
    struct state state = {0};
    int status = tutti_init(NULL, &comm);
    while (status == TUTTI_OK) {
        status = share(comm, &state);
        if (status == TUTTI_OK)
            status = train(comm, &state);
        if (status == TUTTI_OK)
            break;
        print_error(comm);
        status = reform(&comm);
    }
    if (status == TUTTI_OK && tutti_rank(comm) == 0)
        printf("%d ranks, %d steps, y = %.3fx + %.3f\n", tutti_size(comm), (int)state.step, state.slope,
               state.offset);
    if (status == TUTTI_OK)
        status = tutti_finalize(comm, 10000);
    if (status < 0)
        print_error(comm);
    tutti_free(comm);
    return status < 0;
}
