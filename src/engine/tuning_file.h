/* The file of `tutti tune`, where the library looks for it. */
#ifndef TUTTI_ENGINE_TUNING_FILE_H
#define TUTTI_ENGINE_TUNING_FILE_H

#include "algorithm/select.h"

#define TUNING_PATH_BYTES 1024

/* The constants that `setting` (that of the configuration; NULL and "" are not given) asks for: of the file
 * at the default path if there is one, for "none" the built-in ones, else of that file, which must be there.
 * `path`: where they come from, "" for the built-in ones.  ERR_CONFIG with file and line. */
int tuning_file_read(const char *setting, struct tuning *tuning, char path[TUNING_PATH_BYTES],
                     struct tutti_error *error);

/* The default path; false where the environment does not say. */
bool tuning_file_default(char path[TUNING_PATH_BYTES]);

#endif
