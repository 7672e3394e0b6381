#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "tensor/type.h"
#include "tools/bench.h"
#include "tools/bench_serve.h"
#include "tools/tools.h"

#define ALIGNMENT   (2u << 20) /* as the rivals' */
#define FINALIZE_MS 10000

int bench_complain_of(tutti_comm *comm, int status)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    if (status >= 0)
        return status;
    tutti_get_error(comm, &error);
    const char *message = error.code != TUTTI_OK ? error.message : tutti_strerror(status);
    if (tutti_rank(comm) < 0) /* it has not come so far */
        complain(BENCH_COMMAND, "%s", message);
    else
        complain(BENCH_COMMAND, "rank %d: %s", tutti_rank(comm), message);
    return status;
}

/* ---- Calls -------------------------------------------------------------------------------------- */

/* In place, one buffer is a part of the other, as tutti.h says. */
void bench_buffers(const struct bench_case *which, uint8_t *first, uint8_t *second, uint8_t **send,
                   uint8_t **recv)
{
    size_t part = which->count * type_size((int)which->type) * (size_t)which->rank;
    *send = first;
    *recv = second;
    if (!which->in_place)
        return;
    if (operation_gathers((int)which->operation))
        *send = second + part;
    else if (operation_scatters((int)which->operation))
        *recv = first + part;
    else
        *send = second;
}

int bench_call(tutti_comm *comm, const struct bench_case *which, const void *send, void *recv)
{
    tutti_request *request;
    struct tutti_call call = {.op = which->operation,
                              .send = send,
                              .recv = recv,
                              .count = which->count,
                              .type = which->type,
                              .reduction = which->reduction,
                              .root = which->root,
                              .factor = bench_factor(which, which->rank),
                              .algorithm = which->algorithm};
    return tutti_run(comm, &call, 1, -1, &request);
}

struct bench_case bench_case_of(const struct bench_options *options, size_t bytes, int rank)
{
    struct bench_case which = {.operation = options->operation,
                               .type = options->type,
                               .reduction = options->reduction,
                               .root = options->root,
                               .rank = rank,
                               .size = options->ranks,
                               .algorithm = options->algorithm};
    which.count = bench_count_for(&which, bytes);
    return which;
}

/* ---- As a contestant ---------------------------------------------------------------------------- */

/* The library's functions know no context, and a process has one communicator to be measured. */
static tutti_comm *served_comm;
static const char *served_algorithm;

/* A group that has failed will do nothing more; whoever gives the orders sees the process end. */
static void end_on_error(int status)
{
    if (bench_complain_of(served_comm, status) < 0)
        exit(EXIT_FAILURE);
}

static const char *serve_refuse(const struct bench_case *which)
{
    (void)which; /* what tutti cannot do, it says itself */
    return NULL;
}

static void serve_call(const struct bench_case *which, void *send, void *recv)
{
    struct bench_case asked = *which;
    asked.algorithm = served_algorithm;
    end_on_error(bench_call(served_comm, &asked, send, recv));
}

static void serve_barrier(void)
{
    end_on_error(tutti_barrier(served_comm));
}

static int serve(struct bench_worker *worker)
{
    const struct bench_options *options = worker->options;
    char name[64];
    served_comm = worker->comm;
    served_algorithm = options->algorithm;
    snprintf(name, sizeof name, "%s tutti %s", worker->transport, tutti_version());
    struct bench_library library = {.name = name,
                                    .rank = worker->rank,
                                    .size = worker->size,
                                    .refuse = serve_refuse,
                                    .buffers = bench_buffers,
                                    .call = serve_call,
                                    .barrier = serve_barrier,
                                    .first = worker->send,
                                    .second = worker->recv};
    return bench_serve(&library, options->serve, options->max_bytes) == EXIT_SUCCESS ? TUTTI_OK
                                                                                     : TUTTI_ERR_SYSTEM;
}

/* ---- For --algorithms --------------------------------------------------------------------------- */

static int compare(struct bench_worker *worker)
{
    const struct bench_options *options = worker->options;
    if (worker->rank == 0 && options->json) {
        worker->json = fopen(options->json, "ae");
        if (!worker->json) {
            complain(BENCH_COMMAND, "cannot write to '%s': %s", options->json, strerror(errno));
            return TUTTI_ERR_SYSTEM;
        }
    }
    int status = bench_complain_of(worker->comm, bench_compare_algorithms(worker));
    if (worker->json && fclose(worker->json) != 0 && status == TUTTI_OK) {
        complain(BENCH_COMMAND, "cannot write to '%s': %s", options->json, strerror(errno));
        status = TUTTI_ERR_SYSTEM;
    }
    return status;
}

/* ---- Setting up --------------------------------------------------------------------------------- */

static bool allocate(struct bench_worker *worker)
{
    const struct bench_options *options = worker->options;
    struct bench_case least = bench_case_of(options, 0, worker->rank);
    size_t bytes = bench_bytes(&least) > options->max_bytes ? bench_bytes(&least) : options->max_bytes;
    if (options->symmetric) {
        void *send = NULL, *recv = NULL;
        int status = tutti_alloc(worker->comm, bytes, &send);
        if (status == TUTTI_OK)
            status = tutti_alloc(worker->comm, bytes, &recv);
        worker->send = send;
        worker->recv = recv;
        return status == TUTTI_OK;
    }
    size_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    worker->send = aligned_alloc(ALIGNMENT, rounded);
    worker->recv = aligned_alloc(ALIGNMENT, rounded);
    return worker->send && worker->recv;
}

static void release(struct bench_worker *worker)
{
    if (worker->options->symmetric) {
        (void)tutti_dealloc(worker->send);
        (void)tutti_dealloc(worker->recv);
    } else {
        free(worker->send);
        free(worker->recv);
    }
}

static int work(struct bench_worker *worker)
{
    struct tutti_link_info link = TUTTI_LINK_INFO_INIT;
    worker->rank = tutti_rank(worker->comm);
    worker->size = tutti_size(worker->comm);
    snprintf(worker->transport, sizeof worker->transport, "none");
    if (worker->size > 1 && tutti_get_link(worker->comm, 0, &link) == TUTTI_OK)
        memcpy(worker->transport, link.transport, sizeof worker->transport);
    if (!allocate(worker)) {
        complain(BENCH_COMMAND, "rank %d: out of memory for two buffers of %zu bytes; give a smaller -e",
                 worker->rank, worker->options->max_bytes);
        return TUTTI_ERR_MEMORY;
    }
    return worker->options->serve ? serve(worker) : compare(worker);
}

int bench_work(const struct bench_options *options)
{
    struct bench_worker worker = {.options = options};
    struct tutti_config config = TUTTI_CONFIG_INIT;
    int status = tutti_init(&config, &worker.comm);
    bench_complain_of(worker.comm, status);
    if (status == TUTTI_OK)
        status = work(&worker);
    if (status == TUTTI_OK)
        status = bench_complain_of(worker.comm, tutti_finalize(worker.comm, FINALIZE_MS));
    tutti_free(worker.comm);
    release(&worker);
    if (!finish_output(BENCH_COMMAND))
        return EXIT_FAILURE;
    return status == TUTTI_OK && worker.wrong == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
