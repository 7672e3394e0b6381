#include "engine/tuning_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/error.h"

#define TEXT_BYTES_MAX 4096 /* what a member's card has room for */

static const char *read_environment(void *context, const char *name)
{
    (void)context;
    return getenv(name);
}

bool tuning_file_default(char path[TUNING_PATH_BYTES])
{
    return tuning_default_path(read_environment, NULL, path, TUNING_PATH_BYTES);
}

static int parse(FILE *file, const char *path, struct tuning *tuning, struct tutti_error *error)
{
    char text[TEXT_BYTES_MAX + 1];
    size_t length = fread(text, 1, TEXT_BYTES_MAX, file);
    text[length] = '\0';
    if (ferror(file) || fgetc(file) != EOF)
        return error_set(error, TUTTI_ERR_CONFIG,
                         "'%s' is no file of at most %d bytes that can be read; make it by `tutti tune`",
                         path, TEXT_BYTES_MAX);
    struct tutti_error wrong = TUTTI_ERROR_INIT;
    if (tuning_parse(text, tuning, &wrong) < 0)
        return error_set(error, wrong.code, "%.300s: %.600s", path, wrong.message);
    return TUTTI_OK;
}

int tuning_file_read(const char *setting, struct tuning *tuning, char path[TUNING_PATH_BYTES],
                     struct tutti_error *error)
{
    bool is_given = setting && *setting;
    *tuning = tuning_default;
    path[0] = '\0';
    if (is_given ? strcmp(setting, "none") == 0 : !tuning_file_default(path))
        return TUTTI_OK;
    if (is_given)
        snprintf(path, TUNING_PATH_BYTES, "%s", setting);
    FILE *file = fopen(path, "re");
    if (!file && !is_given) {
        path[0] = '\0';
        return TUTTI_OK;
    }
    if (!file)
        return error_set(error, TUTTI_ERR_CONFIG, "cannot open the tuning file '%s': %s", path,
                         strerror(errno));
    int status = parse(file, path, tuning, error);
    fclose(file);
    return status;
}
