/* The average of a vector over all ranks.
 *     tutti run -n 4 -- build/release/bin/all_reduce
 * Alone it is a group of one; under mpirun and torchrun it finds its rank as well. */
#include <stdio.h>
#include <tutti/tutti.h>

#define COUNT 8

static int fail(tutti_comm *comm)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    tutti_get_error(comm, &error);
    fprintf(stderr, "%s: %s\n", tutti_error_name(error.code), error.message);
    tutti_free(comm);
    return 1;
}

int main(void)
{
    tutti_comm *comm = NULL;
    if (tutti_init(NULL, &comm) < 0)
        return fail(comm);

    int rank = tutti_rank(comm), size = tutti_size(comm);
    float gradients[COUNT];
    for (int i = 0; i < COUNT; i++)
        gradients[i] = (float)(i + rank);

    if (tutti_all_reduce(comm, gradients, gradients, COUNT, TUTTI_FLOAT32, TUTTI_AVG) < 0)
        return fail(comm);

    /* Every rank has the same bits now. */
    for (int i = 0; i < COUNT; i++)
        if (gradients[i] != (float)i + (float)(size - 1) / 2) {
            fprintf(stderr, "rank %d: element %d is %g\n", rank, i, (double)gradients[i]);
            tutti_free(comm);
            return 1;
        }
    printf("rank %d of %d: the average of element 0 is %g\n", rank, size, (double)gradients[0]);

    if (tutti_finalize(comm, 10000) < 0)
        return fail(comm);
    tutti_free(comm);
    return 0;
}
