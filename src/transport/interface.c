#include "transport/interface.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/error.h"

#define SPEC_BYTES_MAX 1024 /* as long as a setting may be */

static bool is_link_local(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET6)
        return IN6_IS_ADDR_LINKLOCAL(&((const struct sockaddr_in6 *)address)->sin6_addr);
    return (ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 16) == 0xa9fe;
}

static const uint8_t *address_bytes(const struct sockaddr *address, int *bits)
{
    *bits = address->sa_family == AF_INET6 ? 128 : 32;
    return address->sa_family == AF_INET6
               ? ((const struct sockaddr_in6 *)address)->sin6_addr.s6_addr
               : (const uint8_t *)&((const struct sockaddr_in *)address)->sin_addr.s_addr;
}

static bool in_network(const struct sockaddr *address, const char *item)
{
    char network[INET6_ADDRSTRLEN];
    uint8_t bytes[16];
    const char *slash = strchr(item, '/');
    if (!slash || (size_t)(slash - item) >= sizeof network)
        return false;
    memcpy(network, item, (size_t)(slash - item));
    network[slash - item] = '\0';
    char *end;
    int bits;
    long prefix = strtol(slash + 1, &end, 10);
    if (slash[1] < '0' || slash[1] > '9' || *end != '\0')
        return false;
    const uint8_t *own = address_bytes(address, &bits);
    if (inet_pton(address->sa_family, network, bytes) != 1 || prefix < 0 || prefix > bits)
        return false;
    int whole = (int)prefix / 8, rest = (int)prefix % 8;
    if (memcmp(own, bytes, (size_t)whole) != 0)
        return false;
    return rest == 0 || ((own[whole] ^ bytes[whole]) >> (8 - rest)) == 0;
}

/* Does the specification choose this address of this interface? */
static bool is_chosen(const char *spec, const struct ifaddrs *entry)
{
    char items[SPEC_BYTES_MAX];
    bool any_positive = false, chosen = false;
    snprintf(items, sizeof items, "%s", spec ? spec : "");
    char *rest = items;
    for (char *item; (item = strsep(&rest, ",")) != NULL;) {
        if (*item == '\0')
            continue;
        if (*item == '^') {
            if (strcmp(item + 1, entry->ifa_name) == 0 || in_network(entry->ifa_addr, item + 1))
                return false;
            continue;
        }
        any_positive = true;
        if (strcmp(item, entry->ifa_name) == 0 || in_network(entry->ifa_addr, item))
            chosen = true;
    }
    return any_positive ? chosen : !(entry->ifa_flags & IFF_LOOPBACK);
}

static void list_interfaces(const struct ifaddrs *entries, char *text, size_t size)
{
    char address[INET6_ADDRSTRLEN];
    size_t used = 0;
    text[0] = '\0';
    for (const struct ifaddrs *entry = entries; entry && used < size; entry = entry->ifa_next) {
        int bits;
        if (!entry->ifa_addr ||
            (entry->ifa_addr->sa_family != AF_INET && entry->ifa_addr->sa_family != AF_INET6))
            continue;
        inet_ntop(entry->ifa_addr->sa_family, address_bytes(entry->ifa_addr, &bits), address, sizeof address);
        used += (size_t)snprintf(text + used, size - used, "%s%s %s%s", used ? ", " : "", entry->ifa_name,
                                 address, entry->ifa_flags & IFF_UP ? "" : " (down)");
    }
}

int interface_addresses(const char *spec, struct sockaddr_storage *addresses, int max,
                        struct tutti_error *error)
{
    struct ifaddrs *entries = NULL;
    if (getifaddrs(&entries) < 0)
        return error_set_errno(error, errno, "cannot list the network interfaces");
    int count = 0;
    for (const struct ifaddrs *entry = entries; entry && count < max; entry = entry->ifa_next) {
        const struct sockaddr *address = entry->ifa_addr;
        if (!address || (address->sa_family != AF_INET && address->sa_family != AF_INET6) ||
            !(entry->ifa_flags & IFF_UP) || is_link_local(address) || !is_chosen(spec, entry))
            continue;
        memset(&addresses[count], 0, sizeof addresses[count]);
        memcpy(&addresses[count], address,
               address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
        count++;
    }
    if (count == 0) {
        char there[512];
        list_interfaces(entries, there, sizeof there);
        count =
            error_set(error, TUTTI_ERR_CONFIG, "no network interface fits TUTTI_INTERFACE=%s; there are: %s",
                      spec && *spec ? spec : "(every one but loopback)", there);
    }
    freeifaddrs(entries);
    return count;
}

bool address_is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
    return (ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24) == 127;
}

bool name_is_loopback(const char *name)
{
    struct in_addr address; /* inet_pton(): "127.example.com" is a name like any other */
    bool numeric = inet_pton(AF_INET, name, &address) == 1;
    return strcmp(name, "localhost") == 0 || strcmp(name, "::1") == 0 ||
           (numeric && strncmp(name, "127.", 4) == 0);
}
