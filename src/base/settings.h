/* The one table of settings.  It reads the environment, checks ranges, fills struct tutti_config, and
 * prints `tutti info --settings` and docs/configuration.md. */
#ifndef TUTTI_BASE_SETTINGS_H
#define TUTTI_BASE_SETTINGS_H

#include <stdbool.h>
#include <stdio.h>
#include "tutti/tutti.h"

/* The longest name of a job, wherever it comes from. */
#define SETTING_JOB_BYTES_MAX 127

enum setting_kind {
    SETTING_TEXT,       /* const char *; no control characters */
    SETTING_CHOICE,     /* const char *, one of `choices`, "a|b" */
    SETTING_LIST,       /* const char *, "a,b": some of `choices`, each once */
    SETTING_PORT_RANGE, /* const char *, "20000-20100" */
    SETTING_INT,        /* int */
    SETTING_MS,         /* int, milliseconds; the variable also takes "10s", "2m" */
    SETTING_BYTES,      /* size_t; the variable also takes "256K", "1M" */
    SETTING_BUFFER,     /* int, bytes; -1: as the kernel does; the variable takes "4M", "default" */
    SETTING_FLAG        /* int, 0 or 1 */
};

struct setting {
    const char *field;    /* of struct tutti_config, also the keyword in Python */
    const char *variable; /* "TUTTI_CALL_TIMEOUT" */
    enum setting_kind kind;
    size_t offset;             /* in struct tutti_config */
    const char *default_value; /* as one would write it in the variable; NULL: none */
    int64_t min, max;          /* of a number; the most bytes of a text, 0: says its parser */
    const char *choices;       /* SETTING_CHOICE and SETTING_LIST only */
    bool by_launcher;          /* group/launcher.c reads it: settings_resolve() only hands the field on */
    const char *help;          /* one sentence or two */
};

extern const struct setting settings_table[];
extern const size_t settings_count;

/* Reads a variable; NULL when it is not set.  An argument, so that tests need not touch the environment. */
typedef const char *(*settings_getenv)(void *context, const char *name);

struct settings {
    struct tutti_config values; /* every field is resolved but size, rank, rendezvous: they are as given */
    char *text[16];             /* owns the strings of `values` */
    int text_count;
};

/* What is given in `config` (may be NULL), then the environment (an empty variable is not given), then the
 * default.  An error names the field or variable, its value and what is allowed; nothing needs to be freed
 * then. `config->struct_size` smaller than ours is an older caller: fields beyond it are not given. Larger
 * with non-zero bytes beyond ours is an error. */
int settings_resolve(struct settings *settings, const struct tutti_config *config, settings_getenv read,
                     void *context, struct tutti_error *error);
void settings_clean_up(struct settings *settings);

/* The row of a field of struct tutti_config; NULL when there is none. */
const struct setting *setting_find(const char *field);

/* Whether the setting, which is no number, may be `text`.  An error names `name`: the field or the variable,
 * whichever it was given in. */
int setting_check_text(const struct setting *setting, const char *name, const char *text,
                       struct tutti_error *error);

/* Whether the value of a SETTING_LIST, "shm,uds,tcp", holds `choice`. */
bool setting_list_holds(const char *list, const char *choice);

/* What the variable of a setting may hold, "a time (500ms, 10s, 2m, 1h) from 1ms to 168h". */
void setting_print_allowed(const struct setting *setting, char *text, size_t text_size);

/* The table as Markdown (docs/configuration.md) or as plain text for --help. */
void settings_print(FILE *out, int markdown);

#endif
