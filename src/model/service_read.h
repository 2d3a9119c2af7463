/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Reading what a service is.  Only for the files of this room.
 */
#ifndef WEIR_MODEL_SERVICE_READ_H
#define WEIR_MODEL_SERVICE_READ_H

#include "model/sentence.h"
#include "model/service.h"

/* What a sentence says at most once, in the order in which it is printed. */
enum service_option {
	SERVICE_OPTION_DELIVER,
	SERVICE_OPTION_CHOOSE,
	SERVICE_OPTION_AFFINITY,
	SERVICE_OPTION_QUIC,
	SERVICE_OPTION_MSS,
	SERVICE_OPTION_MTU,
	SERVICE_OPTION_RING,
	SERVICE_OPTION_CHECK,
	SERVICE_OPTION_FAIL,
	SERVICE_OPTION_FLOWS,
	SERVICE_OPTIONS,
};

struct service_reader {
	struct sentence *s;
	struct service_text *service;
	const char *said[SERVICE_OPTIONS]; /* the word that said it */
	const char *name_word, *port_word, *gue_word, *nat_word;
	const char **backend_words; /* one each; NULL: of this sentence is none */
	size_t backend_room;
};

/* A service with all that is not said. */
void service_init(struct service_text *service);
struct service_text *service_copy(const struct service_text *service); /* NULL: no memory */

/* BACKEND, at the end of `service->backends`.  0, -EINVAL or -ENOMEM. */
int service_backend_read(struct service_reader *r);
/* ADDRESS [port PORT], as far as it is there: port 0 if none is said. */
int service_backend_name_read(
	struct service_reader *r, struct service_backend_text *ret_backend, const char **ret_word);
int service_weight_read(struct service_reader *r, uint32_t *ret_weight);
/* CHECK, behind the word `check`. */
int service_check_read(struct service_reader *r);
/* A word of a check where none is being read? */
bool service_check_has_word(const char *word);

/* What each word allows, but they do not together.  0 or -EINVAL. */
int service_verify(struct service_reader *r);
/* A backend's port that is the service's is as if it were not said. */
void service_settle(struct service_text *service);

/* Values.  `want` says what would be right. */
int service_number_read(
	struct service_reader *r, const char *what, unsigned int min, unsigned int max, unsigned int *ret);
int service_duration_read(
	struct service_reader *r, const char *what, uint64_t min, uint64_t max, uint64_t *ret_ns);
int service_port_read(struct service_reader *r, uint16_t *ret_port); /* one: 1 to 65535 */

/* All that a rule has behind the verb `service`. */
int service_read(struct sentence *s, struct service_text **ret_service);

#endif
