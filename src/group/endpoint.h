/* Addresses as text: "unix:/path", "unix:@abstract", "host:4711", "10.0.0.1:4711", "[::1]:4711",
 * "file:/path". */
#ifndef TUTTI_GROUP_ENDPOINT_H
#define TUTTI_GROUP_ENDPOINT_H

#include <stdint.h>
#include "tutti/tutti.h"

enum endpoint_kind { ENDPOINT_NONE, ENDPOINT_UNIX, ENDPOINT_TCP, ENDPOINT_FILE };

#define ENDPOINT_UNIX_PATH_MAX 107

struct endpoint {
    enum endpoint_kind kind;
    char name[256]; /* path ("@..." is the abstract namespace), or host name or numeric address without
                       brackets */
    uint16_t port;  /* ENDPOINT_TCP */
};

/* TUTTI_OK, or ERR_CONFIG with a sentence that shows the text and the right forms. */
int endpoint_parse(const char *text, struct endpoint *endpoint, struct tutti_error *error);
const char *endpoint_print(const struct endpoint *endpoint, char *text, size_t text_size);

#endif
