#include "tools/bench_peers.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>
#include "tensor/type.h"
#include "tools/tools.h"

#define PATH_BYTES 4096
#define HINT_BYTES (PATH_BYTES + 256)

/* A setting of a library, as a contestant of its own. */
struct rival {
    const char *library; /* what --vs calls it */
    const char *name;
    const char *transport;
    const char *launcher; /* NULL: the program makes its ranks itself */
    const char *program;  /* beside ours */
    const char *words;    /* of the launcher's command line, separated by spaces */
    const char *unbound, *bound;
};

#define OPENMPI "--allow-run-as-root --oversubscribe"

/* Above 64 MiB Open MPI takes a temporary buffer for each call; malloc() then gets it from the kernel page by
 * page and gives it back, unless it is told to keep what it has. */
#define KEEPING "-x MALLOC_MMAP_MAX_=0 -x MALLOC_TRIM_THRESHOLD_=17179869184 -x MALLOC_TOP_PAD_=67108864"

static const struct rival rivals[] = {
    {"openmpi", "openmpi", "mpi", "mpirun.openmpi", "tutti-bench-openmpi", OPENMPI, "--bind-to none",
     "--bind-to core"},
    {"openmpi", "openmpi-nocma", "mpi", "mpirun.openmpi", "tutti-bench-openmpi",
     OPENMPI " --mca btl_vader_single_copy_mechanism none", "--bind-to none", "--bind-to core"},
    {"openmpi", "openmpi-keep", "mpi", "mpirun.openmpi", "tutti-bench-openmpi", OPENMPI " " KEEPING,
     "--bind-to none", "--bind-to core"},
    {"mpich", "mpich", "mpi", "mpirun.mpich", "tutti-bench-mpich", "", "-bind-to none", "-bind-to core"},
    {"limit", "limit", "shared", NULL, "pull_limit", "", "", ""},
};
#define RIVALS (sizeof rivals / sizeof *rivals)

char *bench_peers_unknown(const char *names)
{
    char *list = strdup(names), *rest = list, *unknown = NULL;
    for (const char *name; !unknown && (name = strsep(&rest, ","));) {
        bool is_known = false;
        for (size_t i = 0; i < RIVALS; i++)
            is_known = is_known || strcmp(name, rivals[i].library) == 0;
        unknown = is_known ? NULL : strdup(name);
    }
    free(list);
    return unknown;
}

static bool is_in_path(const char *program)
{
    const char *path = getenv("PATH");
    char *list = strdup(path ? path : ""), *rest = list, candidate[PATH_BYTES];
    bool is_there = false;
    for (const char *folder; !is_there && (folder = strsep(&rest, ":"));) {
        snprintf(candidate, sizeof candidate, "%s/%s", folder, program);
        is_there = access(candidate, X_OK) == 0;
    }
    free(list);
    return is_there;
}

static void add_words(struct bench_peer *peer, const char *words)
{
    char *list = strdup(words), *rest = list;
    for (const char *word; (word = strsep(&rest, " "));)
        if (*word)
            bench_peer_add(peer, word);
    free(list);
}

static void add_number(struct bench_peer *peer, const char *option, int number)
{
    char text[16];
    snprintf(text, sizeof text, "%d", number);
    bench_peer_add(peer, option);
    bench_peer_add(peer, text);
}

/* NULL where there is no room for another. */
static struct bench_peer *add_peer(struct bench_peers *peers, const char *name, const char *transport,
                                   int ranks)
{
    if (peers->count == BENCH_PEERS_MAX) {
        complain(BENCH_COMMAND, "%d take part at most: give fewer transports or rivals", BENCH_PEERS_MAX);
        return NULL;
    }
    struct bench_peer *peer = &peers->list[peers->count++];
    *peer = (struct bench_peer){.ranks = ranks};
    snprintf(peer->name, sizeof peer->name, "%s", name);
    snprintf(peer->transport, sizeof peer->transport, "%s", transport);
    return peer;
}

/* NULL, or why it cannot take part. */
static const char *missing(const struct rival *rival, const char *program,
                           const struct bench_options *options, char hint[HINT_BYTES])
{
    bool is_limit = !rival->launcher;
    if (is_limit && (options->ranks != 2 || options->operation != TUTTI_ALL_REDUCE))
        return "it knows the all_reduce of two ranks only";
    if (rival->launcher && !is_in_path(rival->launcher))
        snprintf(hint, HINT_BYTES, "there is no %s: `scripts/setup --bench` installs it", rival->launcher);
    else if (access(program, X_OK) != 0)
        snprintf(hint, HINT_BYTES, "there is no %s: %s", program,
                 is_limit ? "build the tests, whose it is"
                          : "after `scripts/setup --bench`, configure and build tutti again");
    else
        return NULL;
    return hint;
}

/* False when there are too many. */
static bool add_rival(struct bench_peers *peers, const struct rival *rival,
                      const struct bench_options *options, const char *folder)
{
    char program[PATH_BYTES + 64], hint[HINT_BYTES];
    snprintf(program, sizeof program, "%s/%s", folder, rival->program);
    const char *reason = missing(rival, program, options, hint);
    if (reason) {
        complain(BENCH_COMMAND, "without %s: %s", rival->name, reason);
        return true;
    }
    struct bench_peer *peer = add_peer(peers, rival->name, rival->transport, options->ranks);
    if (!peer)
        return false;
    if (rival->launcher) {
        bench_peer_add(peer, rival->launcher);
        add_words(peer, rival->words);
        add_words(peer, options->bind ? rival->bound : rival->unbound);
        add_number(peer, "-n", options->ranks);
    }
    bench_peer_add(peer, program);
    bench_peer_add(peer, BENCH_PEER_FOLDER);
    bench_peer_add(peer, BENCH_PEER_MAX_BYTES);
    return true;
}

/* Tutti over one transport: `tutti run`, whose ranks are `tutti bench --serve`. */
static bool add_tutti(struct bench_peers *peers, const struct bench_options *options, const char *transport,
                      const char *program)
{
    struct bench_peer *peer = add_peer(peers, "tutti", transport ? transport : "", options->ranks);
    if (!peer)
        return false;
    peer->is_ours = true;
    bench_peer_add(peer, program);
    bench_peer_add(peer, "run");
    add_number(peer, "-n", options->ranks);
    bench_peer_add(peer, "--no-prefix");
    if (options->bind)
        bench_peer_add(peer, "--bind");
    if (transport) {
        bench_peer_add(peer, "--transports");
        bench_peer_add(peer, transport);
    }
    bench_peer_add(peer, "--");
    bench_peer_add(peer, program);
    bench_peer_add(peer, BENCH_COMMAND);
    bench_peer_add(peer, operation_name((int)options->operation));
    add_number(peer, "--ranks", options->ranks);
    bench_peer_add(peer, "--maxbytes");
    bench_peer_add(peer, BENCH_PEER_MAX_BYTES);
    if (options->symmetric)
        bench_peer_add(peer, "--symmetric");
    if (options->algorithm) {
        bench_peer_add(peer, "--algorithm");
        bench_peer_add(peer, options->algorithm);
    }
    bench_peer_add(peer, "--serve");
    bench_peer_add(peer, BENCH_PEER_FOLDER);
    return true;
}

/* 0, or an exit status after a complaint. */
static int add_each_transport(struct bench_peers *peers, const struct bench_options *options,
                              const char *program)
{
    if (!options->transports)
        return add_tutti(peers, options, NULL, program) ? 0 : EXIT_FAILURE;
    int status = 0;
    char *list = strdup(options->transports), *rest = list;
    for (const char *transport; status == 0 && (transport = strsep(&rest, ","));) {
        if (!*transport)
            status = usage_error(BENCH_COMMAND, "--transports: a name is empty");
        else if (!add_tutti(peers, options, transport, program))
            status = EXIT_FAILURE;
    }
    free(list);
    return status;
}

/* Is `library` one of `names`? */
static bool is_asked_for(const char *names, const char *library)
{
    size_t length = strlen(library);
    for (const char *found = names; (found = strstr(found, library)); found += length)
        if ((found == names || found[-1] == ',') && (found[length] == ',' || found[length] == '\0'))
            return true;
    return false;
}

int bench_peers_choose(struct bench_peers *peers, const struct bench_options *options)
{
    char program[PATH_BYTES], folder[PATH_BYTES];
    size_t program_size = sizeof program;
    peers->count = 0;
    if (uv_exepath(program, &program_size) < 0) {
        complain(BENCH_COMMAND, "cannot tell where this program is");
        return EXIT_FAILURE;
    }
    int status = add_each_transport(peers, options, program);
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(program, '/') - program), program);
    for (size_t i = 0; i < RIVALS && status == 0; i++)
        if (options->rivals && is_asked_for(options->rivals, rivals[i].library) &&
            !add_rival(peers, &rivals[i], options, folder))
            status = EXIT_FAILURE;
    return status;
}
