#include <stddef.h>
#include "base/settings.h"

#define SECOND_MS ((int64_t)1000)
#define HOUR_MS   (3600 * SECOND_MS)
#define KIB       ((int64_t)1024)
#define MIB       (1024 * KIB)

/* The longest time: a week, well within an int of milliseconds. */
#define TIME_MAX_MS (168 * HOUR_MS)

#define SETTING(name, variable_name, setting_kind)                                                           \
    .field = #name, .variable = variable_name, .kind = setting_kind,                                         \
    .offset = offsetof(struct tutti_config, name)

const struct setting settings_table[] = {
    {SETTING(rank, "TUTTI_RANK", SETTING_INT), .by_launcher = true,
     .help =
         "This process's rank, from 0. Read only together with the size; -1 lets the rendezvous assign one."},
    {SETTING(size, "TUTTI_SIZE", SETTING_INT), .by_launcher = true,
     .help = "The number of ranks in the group. Not given: what the launcher's variables say, else a group "
             "of one."},
    {SETTING(rendezvous, "TUTTI_RENDEZVOUS", SETTING_TEXT), .by_launcher = true,
     .help = "Where the group meets: unix:PATH, HOST:PORT or file:PATH."},
    {SETTING(job, "TUTTI_JOB", SETTING_TEXT), .max = SETTING_JOB_BYTES_MAX,
     .help =
         "The name of the job, so that one rendezvous can serve many. Not given: derived from the launcher."},
    {SETTING(member, "TUTTI_MEMBER", SETTING_TEXT), .max = 255,
     .help =
         "The name of this member: who comes back with the same name gets the same rank. Not given: random."},
    {SETTING(host, "TUTTI_HOST", SETTING_TEXT), .max = 255,
     .help = "The identity of this host: ranks that give the same are taken to share it. "
             "Not given: the kernel's boot id."},
    {SETTING(transports, "TUTTI_TRANSPORTS", SETTING_LIST), .default_value = "shm,uds,tcp",
     .choices = "shm|uds|tcp",
     .help = "The transports that may be used, in order of preference. shm is memory that ranks of one host "
             "share: wherever it stands in the list, their collectives go through it. It is set up over Unix "
             "sockets, which serve where it cannot be had."},
    {SETTING(interface, "TUTTI_INTERFACE", SETTING_TEXT), .max = 1023,
     .help = "The network interfaces to listen on: names, ^exclusions and CIDRs, separated by commas. "
             "Not given: the one on the route to the rendezvous."},
    {SETTING(port_range, "TUTTI_PORT_RANGE", SETTING_PORT_RANGE), .min = 1, .max = 65535,
     .help = "The TCP ports to listen on. Not given: any free port."},
    {SETTING(join_timeout_ms, "TUTTI_JOIN_TIMEOUT", SETTING_MS), .default_value = "60s", .min = 1,
     .max = TIME_MAX_MS, .help = "Until when the group must be complete."},
    {SETTING(missing_after_ms, "TUTTI_MISSING_AFTER", SETTING_MS), .default_value = "10s", .min = 1,
     .max = TIME_MAX_MS, .help = "After how long a warning names the members that have not joined."},
    {SETTING(call_timeout_ms, "TUTTI_CALL_TIMEOUT", SETTING_MS), .default_value = "600s", .min = 1,
     .max = TIME_MAX_MS,
     .help = "The deadline of a call that brings none of its own. When it passes, the group ends."},
    {SETTING(straggler_after_ms, "TUTTI_STRAGGLER_AFTER", SETTING_MS), .default_value = "30s", .min = 1,
     .max = TIME_MAX_MS,
     .help = "After how long a call that waits names, in a warning, the rank it waits for."},
    {SETTING(heartbeat_ms, "TUTTI_HEARTBEAT", SETTING_MS), .default_value = "1s", .min = 10, .max = HOUR_MS,
     .help = "The time between heartbeats to the ring neighbours."},
    {SETTING(dead_after_ms, "TUTTI_DEAD_AFTER", SETTING_MS), .default_value = "5s", .min = 20,
     .max = 24 * HOUR_MS,
     .help = "The silence after which a neighbour counts as dead. Longer than the heartbeat."},
    {SETTING(slice_bytes, "TUTTI_SLICE_BYTES", SETTING_BYTES), .default_value = "256K", .min = 4 * KIB,
     .max = 512 * MIB,
     .help = "The pipeline's unit of transfer; at most 64 KiB where shared memory "
             "carries every link. The same on every rank."},
    {SETTING(checksum, "TUTTI_CHECKSUM", SETTING_FLAG), .default_value = "0", .min = 0, .max = 1,
     .help = "1: payloads carry a CRC-32C. The same on every rank."},
    {SETTING(wait, "TUTTI_WAIT", SETTING_CHOICE), .default_value = "adaptive", .choices = "adaptive|spin",
     .help = "How a call waits: \"adaptive\" spins, then yields, then sleeps; \"spin\" is for ranks "
             "that own their cores."},
    {SETTING(congestion, "TUTTI_CONGESTION", SETTING_TEXT), .default_value = "cubic", .max = 15,
     .help = "TCP congestion control between ranks of one host; \"default\" leaves the kernel's."},
    {SETTING(socket_buffer_bytes, "TUTTI_SOCKET_BUFFER", SETTING_BUFFER), .default_value = "4M",
     .min = 4 * KIB, .max = 1024 * MIB,
     .help = "The send and receive buffers (SO_SNDBUF, SO_RCVBUF) of data links; \"default\", or -1 "
             "in the field, leaves the kernel's."},
    {SETTING(log, "TUTTI_LOG", SETTING_CHOICE), .default_value = "warning",
     .choices = "error|warning|info|debug",
     .help = "What is written to standard error: this level and those before it."},
    {SETTING(algorithm, "TUTTI_ALGORITHM", SETTING_TEXT), .max = 511,
     .help =
         "Algorithms instead of those that the cost model chooses: \"all_reduce:ring,broadcast:tree\". The "
         "same on every rank."},
    {SETTING(deterministic, "TUTTI_DETERMINISTIC", SETTING_FLAG), .default_value = "0", .min = 0, .max = 1,
     .help =
         "1: reductions are made in the order of the ranks, so that results have the same bits whatever the "
         "transport, the channels and the hosts. The same on every rank."},
    {SETTING(channels, "TUTTI_CHANNELS", SETTING_INT), .default_value = "4", .min = 1, .max = 8,
     .help = "The most channels over which a large operation is striped, where every rank has cores for "
             "them. The same on every rank."},
    {SETTING(tuning, "TUTTI_TUNING", SETTING_TEXT), .max = 1023,
     .help = "The file of `tutti tune` whose constants choose algorithms; rank 0's counts. \"none\": those "
             "built in. "
             "Not given: tutti/tuning in $XDG_CONFIG_HOME or ~/.config, if it is there."},
};

const size_t settings_count = sizeof settings_table / sizeof settings_table[0];
