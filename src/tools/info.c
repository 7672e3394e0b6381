#include <getopt.h>
#include <netinet/in.h>
#include <protobuf-c/protobuf-c.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>
#include "base/settings.h"
#include "tensor/reduce.h"
#include "tools/tools.h"
#include "transport/socket.h"
#include "wire/frame.h"

#define COMMAND "info"

static const char usage[] =
    "Usage: tutti info [--settings] [--markdown]\n"
    "\n"
    "Shows the version, what the processor offers, and which transports work here.\n"
    "\n"
    "Options:\n"
    "      --settings   show every setting instead: field, variable, default and meaning\n"
    "      --markdown   with --settings: as Markdown\n"
    "  -h, --help       show this help\n";

static const struct option long_options[] = {
    {"settings", no_argument, NULL, 's'},
    {"markdown", no_argument, NULL, 'm'},
    {"help", no_argument, NULL, 'h'},
    {0},
};

/* A transport is there when a socket of its kind can be listened on; if not, why. */
static void print_attempt(const char *name, int fd, const char *where, const struct tutti_error *error)
{
    if (fd < 0) {
        printf("  %-17s missing: %s\n", name, error->message);
        return;
    }
    printf("  %-17s available (%s)\n", name, where);
    close(fd);
}

static void print_transports(void)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    char name[ENDPOINT_UNIX_PATH_MAX + 1];
    int fd = socket_listen_unix_anywhere(name, sizeof name, &error);
    print_attempt("uds", fd, "Unix domain sockets, between ranks of one host", &error);

    struct sockaddr_storage v4 = {.ss_family = AF_INET}, v6 = {.ss_family = AF_INET6};
    ((struct sockaddr_in *)&v4)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ((struct sockaddr_in6 *)&v6)->sin6_addr = in6addr_loopback;
    fd = socket_listen_tcp(&v4, 0, 0, &error);
    print_attempt("tcp", fd, "IPv4", &error);
    fd = socket_listen_tcp(&v6, 0, 0, &error);
    print_attempt("tcp", fd, "IPv6", &error);
}

static void print_info(void)
{
    const struct {
        const char *set;
        const struct reduce_table *table;
    } kernels[] = {{"scalar", reduce_table_scalar()}, {"avx2", reduce_table_avx2()}};

    printf("%-19s %s\n", "tutti", tutti_version());
    printf("%-19s %d\n", "wire version", WIRE_VERSION);
    printf("%-19s %s\n", "libuv", uv_version_string());
    printf("%-19s %s\n", "protobuf-c", protobuf_c_version());
    printf("%-19s %u\n", "processors usable", uv_available_parallelism());
    printf("%-19s %s (of", "reduction kernels", reduce_table()->name);
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++)
        printf(" %s%s%s", kernels[i].set, kernels[i].table ? "" : " [not on this processor]",
               i + 1 < sizeof kernels / sizeof *kernels ? "," : ")\n");
    printf("%-19s %s\n", "default transports", setting_find("transports")->default_value);
    printf("transports\n");
    print_transports();
}

int info_command(int argc, char **argv)
{
    bool settings = false, markdown = false;
    opterr = 0;
    for (int option; (option = getopt_long(argc, argv, ":h", long_options, NULL)) != -1;) {
        if (option == 's') {
            settings = true;
        } else if (option == 'm') {
            markdown = true;
        } else if (option == 'h') {
            return tools_help(COMMAND, usage);
        } else {
            return option_error(COMMAND, argv, option);
        }
    }
    if (optind < argc)
        return usage_error(COMMAND, "unexpected '%s'", argv[optind]);
    if (markdown && !settings)
        return usage_error(COMMAND, "--markdown goes with --settings");
    if (settings)
        settings_print(stdout, markdown);
    else
        print_info();
    return finish_output(COMMAND) ? EXIT_SUCCESS : EXIT_FAILURE;
}
