/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The sections of a policy, for files that have others too (config.c).  Only for the files of this room.
 */
#ifndef WEIR_MODEL_POLICY_READ_H
#define WEIR_MODEL_POLICY_READ_H

#include "model/policy.h"
#include "model/yaml.h"

/* Reads the section that field->path names: default, sets, shapes, rules or tenants.  y->target is the
 * policy. */
int policy_field_read(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at);

#endif
