#include "group/endpoint.h"

#include <stdio.h>
#include <string.h>
#include "base/error.h"
#include "base/text.h"

#define PORT_DIGITS_MAX 5 /* "65535" */

static int malformed(struct tutti_error *error, const char *text, const char *why)
{
    return error_set(error, TUTTI_ERR_CONFIG,
                     "'%.200s' is no address: %s; write unix:PATH, unix:@NAME, HOST:PORT, [IPV6]:PORT or "
                     "file:PATH",
                     text, why);
}

static int parse_path(const char *text, const char *path, size_t max, enum endpoint_kind kind,
                      struct endpoint *endpoint, struct tutti_error *error)
{
    size_t length = strlen(path);
    if (length == 0 || strcmp(path, "@") == 0)
        return malformed(error, text, "the path is empty");
    if (length > max)
        return error_set(error, TUTTI_ERR_CONFIG,
                         "'%.200s' is no address: its path has %zu bytes, and %zu are the most; use a "
                         "shorter path",
                         text, length, max);
    endpoint->kind = kind;
    endpoint->port = 0;
    memcpy(endpoint->name, path, length + 1);
    return TUTTI_OK;
}

static bool parse_port(const char *text, uint16_t *port)
{
    uint64_t number;
    if (strlen(text) > PORT_DIGITS_MAX || !text_to_number(text, UINT16_MAX, &number))
        return false;
    *port = (uint16_t)number;
    return true;
}

static int parse_tcp(const char *text, struct endpoint *endpoint, struct tutti_error *error)
{
    static const char name_bytes[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    static const char ipv6_bytes[] = "0123456789abcdefABCDEF:.";
    const char *colon = strrchr(text, ':');
    if (!colon)
        return malformed(error, text, "it has no ':'");
    const char *name = text, *end = colon;
    if (*name == '[') {
        name++;
        end = strchr(name, ']');
        if (!end || end + 1 != colon)
            return malformed(error, text, "after '[IPV6]' must come ':PORT'");
        /* "%eth0" names the interface of a link-local address. */
        size_t digits = strspn(name, ipv6_bytes);
        const char *zone = name + digits;
        size_t valid = digits;
        if (*zone == '%')
            valid += 1 + strspn(zone + 1, name_bytes);
        if (!memchr(name, ':', digits) || name + valid != end)
            return malformed(error, text, "between the brackets must be a numeric IPv6 address");
    } else if (memchr(name, ':', (size_t)(end - name))) {
        return malformed(error, text, "a host with ':' in it must be an IPv6 address in brackets");
    } else if (name == end || name + strspn(name, name_bytes) != end) {
        return malformed(error, text, "before the ':' must be a host name or a numeric address");
    }
    size_t length = (size_t)(end - name);
    if (length >= sizeof endpoint->name)
        return malformed(error, text, "the name of the host is too long");
    uint16_t port;
    if (!parse_port(colon + 1, &port))
        return malformed(error, text, "the port must be a number up to 65535");
    endpoint->kind = ENDPOINT_TCP;
    endpoint->port = port;
    memcpy(endpoint->name, name, length);
    endpoint->name[length] = '\0';
    return TUTTI_OK;
}

int endpoint_parse(const char *text, struct endpoint *endpoint, struct tutti_error *error)
{
    if (strncmp(text, "unix:", 5) == 0)
        return parse_path(text, text + 5, ENDPOINT_UNIX_PATH_MAX, ENDPOINT_UNIX, endpoint, error);
    if (strncmp(text, "file:", 5) == 0)
        return parse_path(text, text + 5, sizeof endpoint->name - 1, ENDPOINT_FILE, endpoint, error);
    return parse_tcp(text, endpoint, error);
}

const char *endpoint_print(const struct endpoint *endpoint, char *text, size_t text_size)
{
    switch (endpoint->kind) {
    case ENDPOINT_UNIX:
        snprintf(text, text_size, "unix:%s", endpoint->name);
        break;
    case ENDPOINT_FILE:
        snprintf(text, text_size, "file:%s", endpoint->name);
        break;
    case ENDPOINT_TCP:
        snprintf(text, text_size, strchr(endpoint->name, ':') ? "[%s]:%u" : "%s:%u", endpoint->name,
                 (unsigned)endpoint->port);
        break;
    case ENDPOINT_NONE:
        snprintf(text, text_size, "none");
        break;
    }
    return text;
}
