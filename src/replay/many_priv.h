/* SPDX-License-Identifier: Apache-2.0
 *
 * What the two processes of a cluster of one's own share (src/replay/many.h): many.c starts the keeper and hears one
 * report, many_keeper.c is the keeper.
 */
#ifndef YK_REPLAY_MANY_PRIV_H
#define YK_REPLAY_MANY_PRIV_H

#include "replay/many.h"

/* The keeper; returns when life_fd has ended and all is gone. Tells whether nodes stand apart as the report's detail. */
void many_keep(const struct yk_many_opts *opts, struct yk_many *many, int life_fd, int report_fd);

/* The folder with all that is in it; dir is "" then. */
void many_remove(char *dir);

#endif
