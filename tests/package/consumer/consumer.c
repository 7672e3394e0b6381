/* A program that uses tutti as installed: a group of one, valid C and C++ alike. */
#include <stdio.h>
#include <tutti/tutti.h>

int main(void)
{
    struct tutti_config config = TUTTI_CONFIG_INIT;
    tutti_comm *comm = NULL;
    float values[3] = {1, 2, 3}, sums[3] = {0, 0, 0};
    int status = tutti_init(&config, &comm);

    if (status == TUTTI_OK)
        status = tutti_all_reduce(comm, values, sums, 3, TUTTI_FLOAT32, TUTTI_SUM);
    if (status == TUTTI_OK)
        status = tutti_finalize(comm, 1000);
    if (status == TUTTI_OK) {
        printf("tutti %s: sum %g\n", tutti_version(), (double)(sums[0] + sums[1] + sums[2]));
    } else {
        struct tutti_error error = TUTTI_ERROR_INIT;
        tutti_get_error(comm, &error);
        fprintf(stderr, "%s: %s\n", tutti_error_name(status), error.message);
    }
    tutti_free(comm);
    return status == TUTTI_OK ? 0 : 1;
}
