/* The `tutti` command: what its subcommands share.  main.c has the table of them. */
#ifndef TUTTI_TOOLS_TOOLS_H
#define TUTTI_TOOLS_TOOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include "tutti/tutti.h"

#define EXIT_USAGE    2   /* the command line is wrong */
#define EXIT_NOT_RUN  127 /* a program could not be executed, as shells have it */
#define EXIT_SIGNALED 128 /* plus the number of the signal */

/* Each gets its own name as argv[0] and returns the exit status. */
int run_command(int argc, char **argv);
int rendezvous_command(int argc, char **argv);
int info_command(int argc, char **argv);
int bench_command(int argc, char **argv);
int tune_command(int argc, char **argv);

/* "tutti run: TEXT" on standard error, and where help is; returns EXIT_USAGE. */
int usage_error(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The usage error for what getopt_long() returned, ':' (no argument) or '?' (no such option); its option
 * string must begin with ':' or "+:". */
int option_error(const char *command, char **argv, int result);

/* "tutti run: TEXT" on standard error, as one line. */
void complain(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Takes getopt's optarg as a number from `min`, which is not negative, to `max`.  0, or the usage error. */
int tools_number(const char *command, const char *option, int min, int max, int *value);

/* Takes getopt's optarg as a number of bytes above 0, such as 64K.  0, or the usage error. */
int tools_bytes(const char *command, const char *option, size_t *bytes);

/* Writes everything to a descriptor, whatever its mode; false (errno) when it takes no more. */
bool write_all(int fd, const void *bytes, size_t size);

/* Flushes standard output; false, after a complaint, when what was printed could not be written. */
bool finish_output(const char *command);

/* Prints the help of a command; its exit status. */
int tools_help(const char *command, const char *usage);

#endif
