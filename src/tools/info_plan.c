/* `tutti info --plan`: which algorithm the cost model chooses, by size, for ranks that need not exist. */
#include "tools/info.h"

#include <stdlib.h>
#include <string.h>
#include "algorithm/select.h"
#include "base/settings.h"
#include "engine/wait.h"
#include "tools/tools.h"
#include "tools/tuning_file.h"

#define COMMAND "info"

static const char *read_environment(void *context, const char *name)
{
    (void)context;
    return getenv(name);
}

/* Ranks of the first hosts are one more where they do not come out even. */
static int describe_group(const struct info_plan *plan, const struct tutti_config *settings,
                          struct select_group *group, char source[TUNING_PATH_BYTES],
                          struct tutti_error *error)
{
    int cores = plan->cores > 0 ? plan->cores : wait_usable_cores();
    int local_max = (plan->ranks + plan->hosts - 1) / plan->hosts;
    const char *transports = plan->transport ? plan->transport : settings->transports;
    *group = (struct select_group){.size = plan->ranks,
                                   .host_count = plan->hosts,
                                   .local_min = plan->ranks / plan->hosts,
                                   .local_max = local_max,
                                   .hosts_consecutive = true,
                                   .local = local_transport_of(transports),
                                   .shared = plan->hosts == 1 && plan->ranks > 1 &&
                                             setting_list_holds(transports, "shm"),
                                   .mixed = plan->hosts > 1 && plan->ranks % plan->hosts == 0 &&
                                            local_max > 1 && setting_list_holds(transports, "shm"),
                                   .channels_max = settings->channels,
                                   .deterministic = settings->deterministic};
    group->slice_bytes = select_slice_bytes(group, settings->slice_bytes);
    select_share_cores(group, local_max, cores);
    int status = tuning_file_read(settings->tuning, &group->tuning, source, error);
    if (status == TUTTI_OK)
        status = algorithm_override_parse(settings->algorithm, &group->override, error);
    return status == TUTTI_OK ? select_check(group, error) : status;
}

/* The second best, which the choice is to be compared with; NULL: there is no other. */
static const struct algorithm *find_runner_up(const struct select_group *group,
                                              const struct select_call *call, const struct algorithm *chosen)
{
    const struct algorithm *best = algorithm_shared(call->operation);
    if (best == chosen || (best && !select_is_eligible(group, call, best)))
        best = NULL;
    for (size_t i = 0; i < algorithm_places; i++) {
        const struct algorithm *other = algorithm_at(i);
        if (other == chosen || !select_is_eligible(group, call, other))
            continue;
        if (!best || select_predict_us(group, call, other) < select_predict_us(group, call, best))
            best = other;
    }
    return best;
}

static int print_row(const struct select_group *group, const struct select_call *call,
                     struct tutti_error *error)
{
    struct selection selection;
    int status = algorithm_select(group, call, &selection, error);
    if (status != TUTTI_OK)
        return status;
    const struct algorithm *other = find_runner_up(group, call, selection.algorithm);
    printf("%12zu %-19s %3d %13.2f   ", call->bytes, selection.algorithm->name, selection.channels,
           selection.predicted_us);
    if (other)
        printf("%-19s %13.2f\n", other->name, select_predict_us(group, call, other));
    else
        printf("%-19s %13s\n", "none", "-");
    return TUTTI_OK;
}

static void print_header(const struct info_plan *plan, const struct select_group *group, const char *source)
{
    printf("# %s: n = %d ranks on %d host%s, %s, links within a host: %s, ranks per core: %.3g%s\n",
           operation_name(plan->operation), plan->ranks, plan->hosts, plan->hosts > 1 ? "s" : "",
           type_name(plan->type), local_transport_name(group->local), group->crowding,
           group->deterministic ? ", deterministic" : "");
    printf("# constants (version %d): %s\n", TUNING_VERSION, *source ? source : "built in");
    printf("# %10s %-19s %3s %13s   %-19s %13s\n", "size (B)", "algorithm", "ch", "predicted us", "runner-up",
           "predicted us");
}

int info_print_plan(const struct info_plan *plan)
{
    struct settings settings;
    struct tutti_error error = TUTTI_ERROR_INIT;
    struct select_group group;
    char source[TUNING_PATH_BYTES];
    int status = settings_resolve(&settings, NULL, read_environment, NULL, &error);
    if (status != TUTTI_OK) {
        complain(COMMAND, "%s", error.message);
        return EXIT_FAILURE;
    }
    status = describe_group(plan, &settings.values, &group, source, &error);
    if (status == TUTTI_OK)
        print_header(plan, &group, source);
    struct select_call call = {.operation = plan->operation,
                               .type = plan->type,
                               .reduction = operation_reduces(plan->operation) ? TUTTI_SUM : 0,
                               .bytes = plan->operation == TUTTI_BARRIER ? 0 : plan->min_bytes};
    while (status == TUTTI_OK) {
        status = print_row(&group, &call, &error);
        if (call.bytes == 0 || call.bytes > plan->max_bytes / (size_t)plan->factor)
            break;
        call.bytes *= (size_t)plan->factor;
    }
    settings_clean_up(&settings);
    if (status != TUTTI_OK)
        complain(COMMAND, "%s", error.message);
    return status == TUTTI_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
