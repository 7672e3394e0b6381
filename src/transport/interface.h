/* The addresses of this host, chosen by interface. */
#ifndef TUTTI_TRANSPORT_INTERFACE_H
#define TUTTI_TRANSPORT_INTERFACE_H

#include <stdbool.h>
#include <sys/socket.h>
#include "tutti/tutti.h"

/* Addresses of interfaces that are up, link-local ones left out.  `spec`: comma-separated names ("eth0"),
 * exclusions ("^docker0") and CIDRs ("10.0.0.0/8", "fd00::/8"); with exclusions only, everything else but
 * loopback; NULL or "": everything but loopback.  Returns how many of `max` were written; when none fits, an
 * ERR_CONFIG that lists what there is. */
int interface_addresses(const char *spec, struct sockaddr_storage *addresses, int max,
                        struct tutti_error *error);

bool address_is_loopback(const struct sockaddr *address);
bool name_is_loopback(const char *name); /* "localhost" or a numeric loopback address */

#endif
