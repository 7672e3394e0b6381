#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tools/tools.h"

static const struct command {
    const char *name;
    const char *summary;
    int (*function)(int argc, char **argv);
} commands[] = {
    {"run", "start the ranks of a job, here or on several hosts", run_command},
    {"rendezvous", "serve the meeting point of jobs, alone", rendezvous_command},
    {"bench", "measure a collective between ranks of this host", bench_command},
    {"tune", "measure the constants by which algorithms are chosen on this host", tune_command},
    {"info", "show version, processor support, transports, settings and choices", info_command},
};

#define COMMAND_COUNT (sizeof commands / sizeof *commands)

static void print_usage(FILE *out)
{
    fputs("Usage: tutti COMMAND [OPTIONS]\n\n"
          "Collective communication for distributed machine learning on CPUs.\n\nCommands:\n",
          out);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].summary);
    fputs("\nOptions:\n"
          "  --help       show this help; `tutti COMMAND --help` shows that of a command\n"
          "  --version    show the version\n",
          out);
}

/* Descriptors 0 to 2 must be taken: a pipe or socket of ours in their place would be written to by mistake.
 */
static void fill_standard_descriptors(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

int main(int argc, char **argv)
{
    fill_standard_descriptors();
    if (argc < 2) {
        print_usage(stderr);
        return EXIT_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_usage(stdout);
        return finish_output("help") ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    if (strcmp(name, "--version") == 0) {
        printf("tutti %s\n", tutti_version());
        return finish_output("version") ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].function(argc - 1, argv + 1);
    fprintf(stderr, "tutti: there is no command '%s'\nSee `tutti --help`.\n", name);
    return EXIT_USAGE;
}
