/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Sets of prefixes, as the datapath reads them.
 *
 * All sets share two tries (IPv4, IPv6), each in an array map of units of its own, root at unit 0.  The maps
 * of maps `set_trie4` and `set_trie6` (SET_PLACES entries) have two places, as policies have: bit SET_PLACE
 * of policy_now.places says which is in force.  An empty place is a trie without prefixes.  A lookup tells
 * the *combination* of sets that an address is in; combination 0 is none.  So a change of a set changes the
 * tries alone, in place, and policies are compiled without knowing what is in the sets: a policy has one row
 * for each combination, and is compiled anew before a combination that was not there yet gets into the trie.
 * Numbers of combinations are the same in both places and are not used again.
 *
 * Sets belong to the host: every policy may name them.  Sets of ports are compiled into the policies.
 */
#ifndef WEIR_SHARED_SET_H
#define WEIR_SHARED_SET_H

#include <linux/types.h>

#define SET_MAX              64   /* sets of addresses */
#define SET_COMBINATIONS_MAX 4096 /* combinations of them that occur */
#define SET_PLACE            63   /* bit of policy_now.places: no policy in force has this number */
#define SET_PLACES           3    /* entries of the maps of maps; the third is never read */
#define SET_PLACE_WAIT       2
#define SET_NAME_MAX         32      /* with the NUL */
#define SET_ENTRIES_MAX      4194304 /* of all sets */

#endif
