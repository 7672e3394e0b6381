/* The roster of a root: sends the cards round, and makes of them what the choice of algorithms needs. */
#ifndef TUTTI_ENGINE_ROLL_H
#define TUTTI_ENGINE_ROLL_H

#include "engine/comm.h"

/* Do the settings name algorithms that there are, and that go together?  Also reads the tuning file. */
int roll_check_settings(tutti_comm *root, struct tutti_error *error);

/* Begins with the own card.  On the worker's thread, when the ring is open; where there is none (a group of
 * one), on any. */
int roll_open(tutti_comm *root, struct tutti_error *error);
void roll_on_card(void *root, const Wire__Card *card);

/* Returns when all cards are here, or with the failure of the group, or TUTTI_ERR_TIMEOUT after `timeout_ms`.
 * Not on the worker's thread. */
int roll_await(tutti_comm *root, int timeout_ms, struct tutti_error *error);

/* Fills comm->select of a communicator whose family's roster is complete, and whose place, hosts and
 * root_ranks are known; but for `shared`, which is for whoever makes the arena.  Its slice_bytes is that of
 * the channels, too. */
int roll_prepare_selection(tutti_comm *comm, struct tutti_error *error);

/* What members must agree about beyond the rest of a Join, as text. */
void roll_agreement(const tutti_comm *root, char *text, size_t size);

#endif
