/* The life of a communicator: it is made, joins a group, leaves it, is re-formed, and ends. */
#ifndef TUTTI_ENGINE_LIFE_H
#define TUTTI_ENGINE_LIFE_H

#include "engine/comm.h"

/* As tutti_init(); `read` reads environment variables. */
int life_begin(const struct tutti_config *config, settings_getenv read, tutti_comm **comm);

/* As tutti_reform(), of a communicator that was in a group and has failed. */
int life_reform(tutti_comm *failed, int timeout_ms, tutti_comm **survivors);

/* For split.c: a communicator of that family (NULL: the root of a new one) with nothing in it, NULL when out
 * of memory; its descriptors; what its links, its ways of waiting and its choices need, once its place, root
 * ranks, hosts and tables of links are there. */
tutti_comm *life_new(struct family *family);
int life_take_descriptors(tutti_comm *comm, struct tutti_error *error);
int life_be_joined(tutti_comm *comm, struct tutti_error *error);

int life_finalize(tutti_comm *comm, int timeout_ms);
void life_end(tutti_comm *comm);

#endif
