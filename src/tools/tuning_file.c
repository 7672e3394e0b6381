#include "tools/tuning_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/error.h"

/* Makes the folders of the default path, which need not be there yet.  What fails shows when the file is
 * opened. */
static void make_folders(const char *path)
{
    char folder[TUNING_PATH_BYTES];
    char standard[TUNING_PATH_BYTES];
    if (!tuning_file_default(standard) || strcmp(path, standard) != 0)
        return;
    snprintf(folder, sizeof folder, "%s", path);
    for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(folder, 0777);
        *slash = '/';
    }
}

static int fail(const char *path, struct tutti_error *error)
{
    return error_set_errno(error, errno, "cannot write '%s'", path);
}

int tuning_file_write(const char *path, const char *comment, const struct tuning *tuning,
                      struct tutti_error *error)
{
    char fresh[TUNING_PATH_BYTES + 16];
    make_folders(path);
    snprintf(fresh, sizeof fresh, "%s.%ld", path, (long)getpid());
    FILE *file = fopen(fresh, "we");
    if (!file)
        return fail(fresh, error);
    fprintf(file, "# %s\n", comment);
    tuning_print(tuning, file);
    bool written = !ferror(file);
    if (fclose(file) == 0 && written && rename(fresh, path) == 0)
        return TUTTI_OK;
    int status = fail(path, error);
    (void)unlink(fresh);
    return status;
}
