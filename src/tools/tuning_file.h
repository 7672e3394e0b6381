/* Writing the file of `tutti tune`; engine/tuning_file.h reads it. */
#ifndef TUTTI_TOOLS_TUNING_FILE_H
#define TUTTI_TOOLS_TUNING_FILE_H

#include "engine/tuning_file.h"

/* Replaces the file as a whole, makes the folder of the default path where it is missing, and puts `comment`,
 * one line, first.  TUTTI_OK or TUTTI_ERR_SYSTEM. */
int tuning_file_write(const char *path, const char *comment, const struct tuning *tuning,
                      struct tutti_error *error);

#endif
