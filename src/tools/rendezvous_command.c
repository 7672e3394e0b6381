#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <uv.h>
#include "engine/rendezvous_service.h"
#include "tools/listen.h"
#include "tools/tools.h"

#define COMMAND "rendezvous"

static const char usage[] =
    "Usage: tutti rendezvous [--listen ADDRESS]...\n"
    "\n"
    "Serves the meeting point of any number of jobs until SIGTERM or SIGINT.  A group that runs does not "
    "need\n"
    "it any more.  Prints a line \"listening on ADDRESS\" for each address.  Ranks find it by\n"
    "TUTTI_RENDEZVOUS=ADDRESS; jobs are told apart by TUTTI_JOB.\n"
    "\n"
    "Options:\n"
    "      --listen ADDRESS   HOST:PORT, [IPV6]:PORT or unix:PATH; port 0 takes a free one, 0.0.0.0 and "
    "[::]\n"
    "                         mean every interface (default: 127.0.0.1:0, for this host alone)\n"
    "  -h, --help             show this help\n"
    "\n"
    "Anyone who reaches a TCP address can join jobs there: listen on a network that you trust.\n";

static const struct option long_options[] = {
    {"listen", required_argument, NULL, 'l'},
    {"help", no_argument, NULL, 'h'},
    {0},
};

struct serving {
    struct rendezvous_service *service;
    uv_signal_t terminate, interrupt;
};

static void on_signal(uv_signal_t *signal, int number)
{
    (void)number;
    struct serving *serving = signal->data;
    rendezvous_service_close(serving->service, NULL, NULL);
    uv_close((uv_handle_t *)&serving->terminate, NULL);
    uv_close((uv_handle_t *)&serving->interrupt, NULL);
}

static int serve(uv_loop_t *loop, const struct listen_set *set)
{
    static const struct log log = {.level = LOG_LEVEL_WARNING, .rank = -1};
    struct tutti_error error = TUTTI_ERROR_INIT;
    struct serving serving;
    serving.service = rendezvous_service_new(loop, set->fds, set->count, false, &log, &error);
    if (!serving.service) {
        complain(COMMAND, "%s", error.message);
        uv_run(loop, UV_RUN_DEFAULT);
        return EXIT_FAILURE;
    }
    uv_signal_init(loop, &serving.terminate);
    uv_signal_init(loop, &serving.interrupt);
    serving.terminate.data = serving.interrupt.data = &serving;
    uv_signal_start(&serving.terminate, on_signal, SIGTERM);
    uv_signal_start(&serving.interrupt, on_signal, SIGINT);
    for (int i = 0; i < set->count; i++)
        printf("listening on %s\n", set->addresses[i]);
    if (!finish_output(COMMAND))
        on_signal(&serving.terminate, SIGTERM);
    uv_run(loop, UV_RUN_DEFAULT);
    return EXIT_SUCCESS;
}

static int add(struct listen_set *set, const char *text)
{
    struct endpoint endpoint;
    struct tutti_error error = TUTTI_ERROR_INIT;
    if (endpoint_parse(text, &endpoint, &error) < 0)
        return usage_error(COMMAND, "--listen: %s", error.message);
    if (listen_set_add(set, &endpoint, &error) == TUTTI_OK)
        return EXIT_SUCCESS;
    complain(COMMAND, "--listen %s: %s", text, error.message);
    return EXIT_FAILURE;
}

int rendezvous_command(int argc, char **argv)
{
    struct listen_set set = {.count = 0};
    int status = EXIT_SUCCESS;
    opterr = 0;
    for (int option; (option = getopt_long(argc, argv, ":h", long_options, NULL)) != -1;) {
        if (option == 'h') {
            status = tools_help(COMMAND, usage);
            goto listening;
        }
        status = option == 'l' ? add(&set, optarg) : option_error(COMMAND, argv, option);
        if (status != EXIT_SUCCESS)
            goto listening;
    }
    if (optind < argc) {
        status = usage_error(COMMAND, "unexpected '%s'", argv[optind]);
        goto listening;
    }
    if (set.count == 0 && (status = add(&set, "127.0.0.1:0")) != EXIT_SUCCESS)
        return status;
    uv_loop_t loop;
    if (uv_loop_init(&loop) < 0) {
        complain(COMMAND, "cannot make an event loop");
        status = EXIT_FAILURE;
        goto listening;
    }
    status = serve(&loop, &set);
    uv_loop_close(&loop);
    listen_set_remove_files(&set);
    return status;
listening:
    listen_set_close(&set);
    return status;
}
