/* The choice: the cost model, what may be chosen, and the least of it.
 *
 * Every rank computes it by itself and all must come to the same, so it reads nothing but its arguments, and
 * uses only arithmetic that IEEE 754 fixes. */
#include "algorithm/select.h"

#include <assert.h>
#include <math.h>
#include <string.h>
#include "base/error.h"

/* ---- Hosts --------------------------------------------------------------------------------------- */

void select_count_hosts(struct select_group *group, const struct host_map *hosts)
{
    group->host_count = hosts->host_count;
    group->hosts_consecutive = true;
    group->local_min = group->size;
    group->local_max = 0;
    for (int host = 0; host < hosts->host_count; host++) {
        int ranks = 0, last = -1;
        for (int rank = 0; rank < group->size; rank++) {
            if (hosts->host_of[rank] != host)
                continue;
            if (last >= 0 && last != rank - 1)
                group->hosts_consecutive = false;
            last = rank;
            ranks++;
        }
        group->local_min = ranks < group->local_min ? ranks : group->local_min;
        group->local_max = ranks > group->local_max ? ranks : group->local_max;
    }
}

void select_share_cores(struct select_group *group, int ranks, int cores)
{
    double crowding = (double)ranks / cores;
    int each = cores / ranks;
    crowding = crowding > 1 ? crowding : 1;
    each = each > 1 ? each : 1;
    group->crowding = crowding > group->crowding ? crowding : group->crowding;
    group->channels_max = each < group->channels_max ? each : group->channels_max;
}

/* ---- Links within a host ------------------------------------------------------------------------- */

enum local_transport local_transport_of(const char *transports)
{
    return local_transport_from(strncmp(transports, "tcp", 3) != 0, setting_list_holds(transports, "shm"));
}

const char *local_transport_name(enum local_transport transport)
{
    static const char *const names[] = {[LOCAL_TCP] = "tcp", [LOCAL_UDS] = "uds", [LOCAL_SHM] = "shm"};
    return names[transport];
}

size_t select_slice_bytes(const struct select_group *group, size_t setting_bytes)
{
    bool all_shared = group->host_count == 1 && group->local == LOCAL_SHM;
    return all_shared && setting_bytes > SELECT_SHM_SLICE_BYTES ? SELECT_SHM_SLICE_BYTES : setting_bytes;
}

/* ---- The model ------------------------------------------------------------------------------------ */

static const struct tuning_link *link_constants(const struct select_group *group, int kind)
{
    if (kind == COST_REMOTE)
        return &group->tuning.tcp;
    switch (group->local) {
    case LOCAL_SHM:
        return &group->tuning.shm;
    case LOCAL_UDS:
        return &group->tuning.uds;
    default:
        return &group->tuning.tcp_local;
    }
}

/* Frames that carry `bytes` in `messages` of equal length. */
static double frames_of(double messages, double bytes, double slice_bytes)
{
    double slices = messages > 0 ? ceil(bytes / messages / slice_bytes) : 0;
    return slices > 1 ? messages * slices : messages;
}

/* The formula of cost.h. */
static double cost_us(const struct select_group *group, const struct algorithm *algorithm,
                      const struct cost *cost)
{
    double crowding = group->crowding > 1 ? group->crowding : 1;
    double shared = crowding * (cost->load > 0 ? cost->load : 1), work = shared > 1 ? shared : 1;
    double copied = cost->copied + (algorithm->traits & ALGORITHM_RANK_ORDER ? cost->reduced : 0);
    double us = 0;
    for (int kind = 0; kind < COST_LINKS; kind++) {
        const struct tuning_link *link = link_constants(group, kind);
        double frames = frames_of(cost->messages[kind], cost->bytes[kind], (double)group->slice_bytes);
        us += cost->rounds[kind] * (link->latency_us + link->shared_latency_us * (crowding - 1));
        us += frames * link->overhead_us * work;
        us += cost->bytes[kind] * link->us_per_byte * (kind == COST_LOCAL ? work : 1);
    }
    us += cost->reduced * group->tuning.reduce_us_per_byte * work;
    us += copied * group->tuning.copy_us_per_byte * work;
    /* To a nanosecond, so that ranks whose compilers differ in the last bit see the same ties. */
    return floor(us * 1000 + 0.5) / 1000;
}

/* Of a direct collective.  An all_reduce passes each byte through the core of every rank three times (into
 * the arena, the reduction, out of it), a reduce_scatter twice, others about once; ranks that share a core do
 * that one after the other. */
static double shared_us(const struct select_group *group, const struct select_call *call)
{
    const struct tuning_shared *constants = &group->tuning.shared;
    double crowding = group->crowding > 1 ? group->crowding : 1;
    double passes = call->operation == TUTTI_ALL_REDUCE       ? 1
                    : call->operation == TUTTI_REDUCE_SCATTER ? 2.0 / 3
                                                              : 1.0 / 3; /* of those of an all_reduce */
    return constants->latency_us + constants->shared_latency_us * (crowding - 1) +
           (double)call->bytes * constants->us_per_byte * passes * crowding;
}

/* What a mixed one does within hosts: as much as an all_reduce there, with one wait more. */
static double shared_phases_us(const struct select_group *group, const struct select_call *call)
{
    const struct tuning_shared *constants = &group->tuning.shared;
    return shared_us(group, call) + constants->latency_us +
           constants->shared_latency_us * (group->crowding > 1 ? group->crowding - 1 : 0);
}

static double bytes_of(const struct select_group *group, const struct select_call *call)
{
    switch (call->operation) {
    case TUTTI_GATHER_V:
    case TUTTI_SCATTER_V:
    case TUTTI_ALL_TO_ALL_V:
        return (double)group->slice_bytes * group->size;
    default:
        return (double)call->bytes;
    }
}

/* What one of `channels` channels costs: its share of the bytes, in as many messages. */
static void count_cost(const struct select_group *group, const struct select_call *call,
                       const struct algorithm *algorithm, int channels, struct cost *cost)
{
    struct cost_case c = {.operation = operation_plain(call->operation),
                          .size = group->size,
                          .host_count = group->host_count,
                          .local_min = group->local_min,
                          .local_max = group->local_max,
                          .hosts_consecutive = group->hosts_consecutive,
                          .bytes = bytes_of(group, call) / channels,
                          .slice_bytes = (double)group->slice_bytes};
    *cost = (struct cost){.copied = 0};
    algorithm->cost(&c, cost);
}

/* Only a vector can be cut anywhere; parts of ranks would need a second cut through each. */
static bool can_be_striped(const struct select_call *call)
{
    return call->operation == TUTTI_ALL_REDUCE || call->operation == TUTTI_REDUCE ||
           call->operation == TUTTI_BROADCAST;
}

/* Sets the algorithm, the number of channels that serves it best, and the time with them.  A further channel
 * is driven by a thread of its own: it is of use while there is a core for it, and a slice for it to move. */
static void predict(const struct select_group *group, const struct select_call *call,
                    const struct algorithm *algorithm, struct selection *selection)
{
    struct cost cost;
    *selection = (struct selection){.algorithm = algorithm, .channels = 1};
    if (group->size <= 1)
        return;
    if (algorithm_is_shared(algorithm)) {
        selection->predicted_us = shared_us(group, call);
        return;
    }
    count_cost(group, call, algorithm, 1, &cost);
    selection->predicted_us = cost_us(group, algorithm, &cost);
    if (algorithm_is_mixed(algorithm)) { /* a lane has no arena */
        selection->predicted_us += shared_phases_us(group, call);
        return;
    }
    if (group->crowding > 1 || !can_be_striped(call))
        return;
    for (int channels = 2; channels <= group->channels_max; channels++) {
        if (bytes_of(group, call) < (double)group->slice_bytes * channels)
            return;
        count_cost(group, call, algorithm, channels, &cost);
        double us = cost_us(group, algorithm, &cost) + group->tuning.stripe_overhead_us * (channels - 1);
        if (us < selection->predicted_us) {
            selection->channels = channels;
            selection->predicted_us = us;
        }
    }
}

double select_predict_us(const struct select_group *group, const struct select_call *call,
                         const struct algorithm *algorithm)
{
    struct selection selection;
    predict(group, call, algorithm, &selection);
    return selection.predicted_us;
}

/* ---- What may be chosen ---------------------------------------------------------------------------- */

static bool has_levels(const struct select_group *group)
{
    return group->host_count > 1 && group->local_max > 1 && group->hosts_consecutive;
}

bool select_is_eligible(const struct select_group *group, const struct select_call *call,
                        const struct algorithm *algorithm)
{
    bool needs_direct = call->operation == TUTTI_GATHER_V || call->operation == TUTTI_SCATTER_V;
    if (algorithm_is_shared(algorithm))
        return group->shared && algorithm->operation == call->operation;
    if (algorithm->operation != operation_plain(call->operation))
        return false;
    if (needs_direct && !(algorithm->traits & ALGORITHM_DIRECT))
        return false;
    if ((algorithm->traits & ALGORITHM_HIERARCHICAL) && !has_levels(group))
        return false;
    if (algorithm_is_mixed(algorithm) && !group->mixed)
        return false;
    return !group->deterministic || (algorithm->traits & ALGORITHM_RANK_ORDER);
}

/* Names of algorithms, "ring, tree and direct"; a list too long is cut. */
struct names {
    char text[400];
    size_t length;
    const char *pending; /* the latest: the last one follows an "and" */
    int count;
};

static void names_append(struct names *names, const char *before, const char *name)
{
    int length =
        snprintf(names->text + names->length, sizeof names->text - names->length, "%s%s", before, name);
    size_t room = sizeof names->text - names->length - 1;
    names->length += length < 0 ? 0 : (size_t)length < room ? (size_t)length : room;
}

static void names_add(struct names *names, const char *name)
{
    if (names->pending)
        names_append(names, names->count > 1 ? ", " : "", names->pending);
    names->pending = name;
    names->count++;
}

static const char *names_end(struct names *names)
{
    if (names->pending)
        names_append(names, names->count > 1 ? " and " : "", names->pending);
    return names->count > 0 ? names->text : "none";
}

static const char *name_all(int operation, struct names *names)
{
    for (size_t i = 0; i < algorithm_places; i++)
        if (algorithm_at(i)->operation == operation_plain(operation))
            names_add(names, algorithm_at(i)->name);
    const struct algorithm *direct = algorithm_shared(operation_plain(operation));
    if (direct)
        names_add(names, direct->name);
    return names_end(names);
}

static const char *name_eligible(const struct select_group *group, const struct select_call *call,
                                 struct names *names)
{
    for (size_t i = 0; i < algorithm_places; i++)
        if (select_is_eligible(group, call, algorithm_at(i)))
            names_add(names, algorithm_at(i)->name);
    const struct algorithm *direct = algorithm_shared(call->operation);
    if (direct && select_is_eligible(group, call, direct))
        names_add(names, direct->name);
    return names_end(names);
}

/* ---- The choice ------------------------------------------------------------------------------------ */

/* Does the sum of halves depend on where it is rounded?  Minima and maxima are not rounded at all. */
static bool rounding_matters(const struct select_call *call)
{
    return type_is_half(call->type) && operation_reduces(call->operation) && call->reduction != TUTTI_MIN &&
           call->reduction != TUTTI_MAX;
}

static bool moves_no_more(const struct select_group *group, const struct select_call *call,
                          const struct algorithm *algorithm, const struct algorithm *than)
{
    struct cost cost, other;
    count_cost(group, call, algorithm, 1, &cost);
    count_cost(group, call, than, 1, &other);
    for (int kind = 0; kind < COST_LINKS; kind++)
        if (cost.bytes[kind] > other.bytes[kind])
            return false;
    return true;
}

/* The fastest eligible one; where `instead_of` is given, among those in the order of the ranks that move no
 * more bytes.  false: there is none. */
static bool find_fastest(const struct select_group *group, const struct select_call *call,
                         const struct algorithm *instead_of, struct selection *fastest)
{
    bool found = false;
    for (size_t i = 0; i < algorithm_places; i++) {
        const struct algorithm *algorithm = algorithm_at(i);
        struct selection candidate;
        if (!select_is_eligible(group, call, algorithm))
            continue;
        if (instead_of && (!(algorithm->traits & ALGORITHM_RANK_ORDER) ||
                           !moves_no_more(group, call, algorithm, instead_of)))
            continue;
        predict(group, call, algorithm, &candidate);
        if (!found || candidate.predicted_us < fastest->predicted_us)
            *fastest = candidate;
        found = true;
    }
    return found;
}

/* Why a call may not have the algorithm that it names. */
static const char *name_obstacle(const struct select_group *group, const struct algorithm *named)
{
    if (algorithm_is_shared(named))
        return group->shared ? "parts of different lengths do not go through shared memory"
                             : "no shared memory joins all ranks of the group";
    if (group->deterministic && !(named->traits & ALGORITHM_RANK_ORDER))
        return "TUTTI_DETERMINISTIC asks for sums in the order of the ranks";
    if ((named->traits & ALGORITHM_HIERARCHICAL) && !has_levels(group))
        return "the group has not several hosts with several consecutive ranks";
    if (algorithm_is_mixed(named) && !group->mixed)
        return "not every host of the group has shared memory for as many consecutive ranks, at least two";
    return "ranks between the root and a part do not know its length";
}

/* The algorithm that the caller or the override names, else the direct collective where there is one; NULL:
 * choose.  An error: it may not be used. */
static int find_named(const struct select_group *group, const struct select_call *call,
                      const struct algorithm **named, struct tutti_error *error)
{
    int operation = operation_plain(call->operation);
    *named = group->override.by_operation[operation];
    if (!call->name) {
        if (*named && !select_is_eligible(group, call, *named))
            *named = NULL;
        if (!*named && group->shared)
            *named = algorithm_shared(call->operation);
        return TUTTI_OK;
    }
    struct names names = {.count = 0};
    *named = algorithm_find(operation, call->name);
    if (!*named)
        return error_set(error, TUTTI_ERR_ARGUMENT,
                         "there is no algorithm '%s' of %s; those that may be used here: %s", call->name,
                         operation_name(call->operation), name_eligible(group, call, &names));
    if (select_is_eligible(group, call, *named))
        return TUTTI_OK;
    return error_set(error, TUTTI_ERR_ARGUMENT,
                     "the algorithm '%s' of %s may not be used here, since %s; use %s", call->name,
                     operation_name(call->operation), name_obstacle(group, *named),
                     name_eligible(group, call, &names));
}

int algorithm_select(const struct select_group *group, const struct select_call *call,
                     struct selection *selection, struct tutti_error *error)
{
    const struct algorithm *named;
    struct selection instead;
    assert(operation_is_valid(call->operation) && !operation_is_message(call->operation));
    assert(group->size >= 1 && group->slice_bytes > 0 && group->channels_max >= 1);
    /* A call of a fraction of a microsecond has no time for more. */
    if (group->shared && !call->name && !group->override.by_operation[call->operation] &&
        (named = algorithm_shared(call->operation)) != NULL) {
        *selection = (struct selection){named, 1, shared_us(group, call)};
        return TUTTI_OK;
    }
    int status = find_named(group, call, &named, error);
    if (status != TUTTI_OK)
        return status;
    if (named) {
        predict(group, call, named, selection);
        return TUTTI_OK;
    }
    if (!find_fastest(group, call, NULL, selection))
        return error_set(error, TUTTI_ERR_INTERNAL, "no algorithm of %s may be used here: a bug in tutti",
                         operation_name(call->operation));
    if (group->size > 1 && rounding_matters(call) && !(selection->algorithm->traits & ALGORITHM_RANK_ORDER) &&
        find_fastest(group, call, selection->algorithm, &instead))
        *selection = instead;
    return TUTTI_OK;
}

/* ---- Overrides ------------------------------------------------------------------------------------- */

#define ENTRY_BYTES 80 /* no operation with an algorithm is as long */

static int refuse_operation(const char *name, struct tutti_error *error)
{
    char names[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < algorithm_count; i++)
        if ((i == 0 || algorithms[i].operation != algorithms[i - 1].operation) && used < sizeof names)
            used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", used > 0 ? ", " : "",
                                     operation_name(algorithms[i].operation));
    return error_set(error, TUTTI_ERR_CONFIG,
                     "TUTTI_ALGORITHM: there is no collective operation '%s': use one of %s", name, names);
}

/* One "all_reduce:ring". */
static int take_override(char *entry, struct algorithm_override *override, struct tutti_error *error)
{
    struct names names = {.count = 0};
    char *name = strchr(entry, ':');
    if (!name)
        return error_set(error, TUTTI_ERR_CONFIG,
                         "TUTTI_ALGORITHM: '%s' is not OPERATION:ALGORITHM, such as all_reduce:ring", entry);
    *name++ = '\0';
    int operation = operation_from_name(entry), plain = operation ? operation_plain(operation) : 0;
    if (operation == 0 || operation_is_message(operation))
        return refuse_operation(entry, error);
    if (operation != plain)
        return error_set(error, TUTTI_ERR_CONFIG,
                         "TUTTI_ALGORITHM: %s runs the algorithms of %s; write %s:%s, which is for both",
                         entry, operation_name(plain), operation_name(plain), name);
    if (override->by_operation[operation])
        return error_set(error, TUTTI_ERR_CONFIG, "TUTTI_ALGORITHM: %s is given twice, %s and %s; leave one",
                         entry, override->by_operation[operation]->name, name);
    override->by_operation[operation] = algorithm_find(operation, name);
    if (!override->by_operation[operation])
        return error_set(error, TUTTI_ERR_CONFIG,
                         "TUTTI_ALGORITHM: there is no algorithm '%s' of %s; there are %s", name, entry,
                         name_all(operation, &names));
    return TUTTI_OK;
}

int algorithm_override_parse(const char *text, struct algorithm_override *override, struct tutti_error *error)
{
    *override = (struct algorithm_override){{NULL}};
    for (const char *rest = text; rest && *rest != '\0';) {
        char entry[ENTRY_BYTES];
        size_t length = strcspn(rest, ",");
        bool is_last = rest[length] == '\0';
        int written = snprintf(entry, sizeof entry, "%.*s", (int)(length < 1000 ? length : 1000), rest);
        if (written < 0 || (size_t)written >= sizeof entry)
            return error_set(error, TUTTI_ERR_CONFIG,
                             "TUTTI_ALGORITHM: '%s...' is too long for OPERATION:ALGORITHM", entry);
        int status = take_override(entry, override, error);
        if (status != TUTTI_OK)
            return status;
        if (!is_last && rest[length + 1] == '\0')
            return error_set(error, TUTTI_ERR_CONFIG, "TUTTI_ALGORITHM: nothing follows the last comma");
        rest += length + (is_last ? 0 : 1);
    }
    return TUTTI_OK;
}

int select_check(const struct select_group *group, struct tutti_error *error)
{
    for (int operation = 0; operation < OPERATION_COUNT && group->deterministic; operation++) {
        const struct algorithm *algorithm = group->override.by_operation[operation];
        struct select_call call = {.operation = operation};
        struct names names = {.count = 0};
        if (!algorithm || (algorithm->traits & ALGORITHM_RANK_ORDER))
            continue;
        return error_set(
            error, TUTTI_ERR_CONFIG,
            "TUTTI_ALGORITHM: %s:%s does not go with TUTTI_DETERMINISTIC, which asks for sums in "
            "the order of the ranks; use %s",
            operation_name(operation), algorithm->name, name_eligible(group, &call, &names));
    }
    return TUTTI_OK;
}
