/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include "model/config.h"

#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"
#include "basic/text.h"
#include "basic/units.h"
#include "model/policy_read.h"
#include "shared/flow.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* No configuration is near it; a device file given by mistake is. */
#define INTERFACE_NAME_MAX 15 /* IFNAMSIZ without the NUL */

#define MS 1000000ULL
#define S  (1000 * MS)
#define M  (60 * S)
#define H  (60 * M)
#define D  (24 * H)

/* What the offsets of the tables are in. */
struct reading {
	struct config config; /* first */
	size_t change_at;     /* the value of api.change */
};

static struct config *config_of(struct yaml *y)
{
	return &((struct reading *)y->target)->config;
}

static int read_log(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	static const char *const known[] = {[LOG_LEVEL_ERROR] = "error",
		[LOG_LEVEL_WARNING] = "warning",
		[LOG_LEVEL_INFO] = "info",
		[LOG_LEVEL_DEBUG] = "debug",
		NULL};
	unsigned int choice;
	int error = yaml_choice_read(y, field, value, key_at, known, &choice);

	if (error < 0)
		return error;
	config_of(y)->log_level = (enum log_level)choice;
	return 0;
}

static int read_change(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	static const char *const known[] = {"root", "group", NULL};
	unsigned int choice;
	int error = yaml_choice_read(y, field, value, key_at, known, &choice);

	if (error < 0)
		return error;
	config_of(y)->api_group_change = choice == 1;
	((struct reading *)y->target)->change_at = yaml_at(y, value, key_at);
	return 0;
}

static int read_mode(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	char buffer[YAML_SCALAR_MAX];
	const char *text = yaml_text(value, buffer, sizeof(buffer));
	size_t length = text ? strlen(text) : 0;

	if (length < 3 || length > 4 || strspn(text, "01234567") != length ||
		(length == 4 && text[0] != '0')) {
		yaml_fail_expected(y, field->path, "a file mode", value, key_at);
		error_want(y->error, "three octal digits behind a zero, such as \"0660\"");
		return -EINVAL;
	}
	config_of(y)->api_mode = (mode_t)strtoul(text, NULL, 8);
	return 0;
}

static int read_group(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	char buffer[YAML_SCALAR_MAX];
	const char *text = yaml_text(value, buffer, sizeof(buffer));

	if (!text || !*text || text[strcspn(text, " \t\r\n:")]) {
		yaml_fail_expected(y, field->path, "the name of a group", value, key_at);
		error_want(y->error, "one that getent group lists");
		return -EINVAL;
	}
	free(config_of(y)->api_group);
	config_of(y)->api_group = strdup(text);
	return config_of(y)->api_group ? 0 : yaml_fail_memory(y);
}

/*
 * metrics.listen: off, PORT, ADDRESS:PORT, [ADDRESS6]:PORT
 */

/* [ADDRESS:]PORT.  -EINVAL: malformed; -ERANGE: no such port; -EDESTADDRREQ: IPv6 without brackets. */
static int listen_parse(const char *text, struct address *ret_address, uint16_t *ret_port)
{
	struct address address = {.family = 4, .bytes = {127, 0, 0, 1}};
	const char *colon = strrchr(text, ':'), *port = colon ? colon + 1 : text;
	char host[ADDRESS_TEXT_MAX + 2];
	uint64_t number_of_port = 0;
	bool brackets;
	int error;

	if (colon) {
		size_t length = (size_t)(colon - text);

		if (length < 2 || length >= sizeof(host))
			return -EINVAL;
		brackets = text[0] == '[' && colon[-1] == ']';
		snprintf(host, sizeof(host), "%.*s", (int)(brackets ? length - 2 : length), text + brackets);
		error = address_parse(host, &address);
		if (!brackets && (error ? strchr(host, ':') != NULL : address.family == 6))
			return -EDESTADDRREQ;
		if (error < 0 || brackets != (address.family == 6))
			return -EINVAL;
	}

	if (yaml_number_parse(port, &number_of_port) == -EINVAL)
		return -EINVAL;
	if (number_of_port < 1 || number_of_port > UINT16_MAX)
		return -ERANGE;
	*ret_address = address;
	*ret_port = (uint16_t)number_of_port;
	return 0;
}

static int read_listen(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	struct config *config = config_of(y);
	char buffer[YAML_SCALAR_MAX];
	const char *text = yaml_text(value, buffer, sizeof(buffer));
	int error;

	if (text && strcmp(text, "off") == 0) {
		config->metrics_on = false;
		return 0;
	}
	error = text ? listen_parse(text, &config->metrics_address, &config->metrics_port) : -EINVAL;
	switch (error) {
	case 0:
		config->metrics_on = true;
		return 0;
	case -ERANGE:
		yaml_fail(y, yaml_at(y, value, key_at), "%s: the port of '%.64s' is out of range",
			field->path, text);
		error_want(y->error, "1 to 65535");
		break;
	case -EDESTADDRREQ:
		yaml_fail_expected(y, field->path, "an address and a port", value, key_at);
		error_want(y->error, "an IPv6 address stands in brackets: \"[2001:db8::1]:9100\"");
		break;
	default:
		yaml_fail_expected(y, field->path, "off or where to listen", value, key_at);
		error_want(y->error, "off, a PORT on 127.0.0.1, ADDRESS:PORT, or \"[ADDRESS6]:PORT\"");
	}
	return -EINVAL;
}

/*
 * interfaces: auto or a list
 */

/* What the kernel's dev_valid_name() refuses can never appear. */
static bool interface_name_is_valid(const char *text)
{
	return *text && !text[strcspn(text, "/: \t\r\n")] && strcmp(text, ".") != 0 &&
	       strcmp(text, "..") != 0;
}

/* One name or pattern of the list; `names` holds those before it. */
static int interface_check(struct yaml *y, const char *text, char **names, size_t at)
{
	bool is_pattern = text[strcspn(text, "*?[")] != '\0';

	if (strcmp(text, "auto") == 0) {
		yaml_fail(y, at, "interfaces: 'auto' in a list");
		error_want(y->error, "interfaces: auto");
		return -EINVAL;
	}
	if (!interface_name_is_valid(text)) {
		yaml_fail(y, at, "interfaces: '%.64s' can be no interface's name", text);
		error_want(y->error, "a name such as eth0, or a pattern such as \"veth*\"");
		return -EINVAL;
	}
	if (!is_pattern && strlen(text) > INTERFACE_NAME_MAX) {
		yaml_fail(y, at, "interfaces: the name '%.64s' is too long", text);
		error_want(y->error, "at most %d bytes", INTERFACE_NAME_MAX);
		return -EINVAL;
	}
	for (; *names; names++) {
		if (strcmp(*names, text) == 0) {
			yaml_fail(y, at, "interfaces: a second '%.64s'", text);
			error_want(y->error, "each name once");
			return -EINVAL;
		}
	}
	return 0;
}

static int read_interfaces(
	struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	char buffer[YAML_SCALAR_MAX];
	const char *word = yaml_text(value, buffer, sizeof(buffer));
	char **names;
	struct fy_node *item;
	void *iterator = NULL;
	size_t count = 0;
	int error;

	if (word && strcmp(word, "auto") == 0) {
		config_of(y)->interfaces_auto = true;
		return 0;
	}
	if (!value || !fy_node_is_sequence(value)) {
		yaml_fail_expected(y, field->path, "auto or a list", value, key_at);
		if (word && *word)
			error_want(y->error, "[%.64s]", word);
		else
			error_want(y->error, "auto, or names and patterns such as [eth0, \"veth*\"]");
		return -EINVAL;
	}
	if (fy_node_sequence_is_empty(value)) {
		yaml_fail(y, key_at, "interfaces: the list is empty");
		error_want(y->error, "auto, or at least one name or pattern");
		return -EINVAL;
	}

	/* One more than the items: the end of the list, at every moment. */
	yaml_list_free(&config_of(y)->interfaces);
	names = calloc((size_t)fy_node_sequence_item_count(value) + 1, sizeof(*names));
	config_of(y)->interfaces = names;
	if (!names)
		return yaml_fail_memory(y);

	while ((item = fy_node_sequence_iterate(value, &iterator))) {
		const char *name =
			yaml_text(item, buffer, sizeof(buffer)); /* `word` is not needed any more */

		if (!name) {
			yaml_fail_expected(y, field->path, "an interface's name", item, key_at);
			error_want(y->error, "a name such as eth0, or a pattern such as \"veth*\"");
			return -EINVAL;
		}
		error = interface_check(y, name, names, yaml_at(y, item, key_at));
		if (error < 0)
			return error;
		names[count] = strdup(name);
		if (!names[count++])
			return yaml_fail_memory(y);
	}
	config_of(y)->interfaces_auto = false;
	return 0;
}

/*
 * default, sets, shapes, rules, tenants: a policy
 */

static int read_policy(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	void *target = y->target;
	int r;

	y->target = &config_of(y)->policy;
	r = policy_field_read(y, field, value, key_at);
	y->target = target;
	return r;
}

static int read_policy_file(
	struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	char buffer[YAML_SCALAR_MAX];
	const char *text = yaml_text(value, buffer, sizeof(buffer));

	if (!text || !*text) {
		yaml_fail_expected(y, field->path, "the name of a file", value, key_at);
		error_want(y->error, "where 'weir save' keeps the policy, such as /etc/weir/policy.yaml");
		return -EINVAL;
	}
	free(config_of(y)->policy_file);
	config_of(y)->policy_file = strdup(text);
	return config_of(y)->policy_file ? 0 : yaml_fail_memory(y);
}

/*
 * connections.timeouts: by protocol, and by stage where a protocol has several
 */

/* One time for every stage. */
static int read_times(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	uint64_t *times = (uint64_t *)((char *)y->target + field->offset);
	int r = yaml_quantity_read(y, field, value, key_at);

	for (int i = 1; r == 0 && i < CONNECTION_STAGES; i++)
		times[i] = times[0];
	return r;
}

/*
 * balance
 */

static int read_balance_hook(
	struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	static const char *const known[] = {[CONFIG_BALANCE_AUTO] = "auto",
		[CONFIG_BALANCE_XDP] = "xdp",
		[CONFIG_BALANCE_GENERIC] = "generic",
		[CONFIG_BALANCE_OFF] = "off",
		NULL};
	unsigned int choice = 0;
	int r = yaml_choice_read(y, field, value, key_at, known, &choice);

	if (r == 0)
		config_of(y)->balance = (enum config_balance)choice;
	return r;
}

static int nat_from_read(struct yaml *y, const struct yaml_field *field, struct fy_node *item, size_t key_at)
{
	char buffer[YAML_SCALAR_MAX];
	const char *text = yaml_text(item, buffer, sizeof(buffer));
	struct error problem = {0};
	struct config_nat nat, *own;
	int r;

	r = service_addresses_parse(text ? text : "", &nat.first, &nat.last, &problem);
	if (!text)
		yaml_fail_expected(y, field->path, "addresses", item, key_at);
	else if (r < 0)
		yaml_fail(y, yaml_at(y, item, key_at), "%s: %s", field->path, problem.what);
	if (r < 0) {
		error_want(y->error, "%s", problem.want);
		return -EINVAL;
	}
	own = &config_of(y)->balance_nat[nat.first.family == 6];
	if (own->first.family) {
		yaml_fail(y, yaml_at(y, item, key_at), "%s: a second range of IPv%d", field->path,
			nat.first.family);
		error_want(y->error, "one range of each family");
		return -EINVAL;
	}
	*own = nat;
	return 0;
}

/* One range, or a list of them. */
static int read_nat_from(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	struct fy_node *item;
	void *iterator = NULL;
	int r = 0;

	if (yaml_is_null(value))
		return 0;
	if (!fy_node_is_sequence(value))
		return nat_from_read(y, field, value, key_at);
	while (r == 0 && (item = fy_node_sequence_iterate(value, &iterator)))
		r = nat_from_read(y, field, item, key_at);
	return r;
}

/* LOW-HIGH, or one. */
static int read_nat_ports(
	struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	char buffer[YAML_SCALAR_MAX], *dash;
	uint64_t low = 0, high = 0;

	if (yaml_text(value, buffer, sizeof(buffer))) {
		dash = strchr(buffer, '-');
		if (dash)
			*dash++ = '\0';
		if (yaml_number_parse(buffer, &low) == 0 &&
			yaml_number_parse(dash ? dash : buffer, &high) == 0 && low && low <= high &&
			high <= UINT16_MAX) {
			config_of(y)->balance_ports = (struct port_range){(uint16_t)low, (uint16_t)high};
			return 0;
		}
	}
	yaml_fail_expected(y, field->path, "a range of ports", value, key_at);
	error_want(y->error, "such as %d-65535", SERVICE_PORT_FIRST);
	return -EINVAL;
}

/*
 * xdp: one word, or a mapping
 */

static const char *const xdp_modes[] = {[CONFIG_XDP_AUTO] = "auto",
	[CONFIG_XDP_NATIVE] = "native",
	[CONFIG_XDP_GENERIC] = "generic",
	[CONFIG_XDP_OFF] = "off",
	NULL};

static int read_xdp_mode(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	unsigned int mode = 0;
	int r = yaml_choice_read(y, field, value, key_at, xdp_modes, &mode);

	if (r == 0)
		config_of(y)->xdp = (enum config_xdp)mode;
	return r;
}

static int read_xdp_interfaces(
	struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	struct config *config = config_of(y);
	struct fy_node_pair *pair;
	void *iterator = NULL;

	if (yaml_is_null(value))
		return 0;
	if (!fy_node_is_mapping(value)) {
		yaml_fail_expected(y, field->path, "interfaces with their mode", value, key_at);
		error_want(y->error, "such as {eth0: off}");
		return -EINVAL;
	}
	config->xdp_interfaces =
		calloc((size_t)fy_node_mapping_item_count(value) + 1, sizeof(*config->xdp_interfaces));
	if (!config->xdp_interfaces)
		return yaml_fail_memory(y);
	while ((pair = fy_node_mapping_iterate(value, &iterator))) {
		struct config_xdp_interface *interface = &config->xdp_interfaces[config->xdp_interface_count];
		size_t at = yaml_at(y, fy_node_pair_key(pair), key_at);
		char buffer[YAML_SCALAR_MAX];
		const char *name = yaml_text(fy_node_pair_key(pair), buffer, sizeof(buffer));
		unsigned int mode = 0;
		int r;

		if (!name || !interface_name_is_valid(name) || strlen(name) > INTERFACE_NAME_MAX) {
			yaml_fail_expected(
				y, field->path, "an interface's name", fy_node_pair_key(pair), key_at);
			error_want(y->error, "a name such as eth0");
			return -EINVAL;
		}
		for (size_t i = 0; i < config->xdp_interface_count; i++)
			if (strcmp(config->xdp_interfaces[i].name, name) == 0)
				return yaml_fail(y, at, "%s: a second '%s'", field->path, name);
		r = yaml_choice_read(y, field, fy_node_pair_value(pair), at, xdp_modes, &mode);
		if (r < 0)
			return r;
		snprintf(interface->name, sizeof(interface->name), "%.15s", name);
		interface->mode = (enum config_xdp)mode;
		config->xdp_interface_count++;
	}
	return 0;
}

/*
 * Mappings: the tables of keys
 */

static const struct yaml_field cache_fields[] = {
	{.path = "flows.cache.ipv4",
		.read = yaml_quantity_read,
		.quantity = &yaml_number,
		.offset = offsetof(struct config, cache4_lines),
		.min = 64,
		.max = 4194304,
		.power_of_two = true},
	{.path = "flows.cache.ipv6",
		.read = yaml_quantity_read,
		.quantity = &yaml_number,
		.offset = offsetof(struct config, cache6_lines),
		.min = 64,
		.max = 4194304,
		.power_of_two = true},
	{NULL},
};

static const struct yaml_field flows_fields[] = {
	{.path = "flows.cache", .read = yaml_mapping_read, .children = cache_fields},
	{.path = "flows.table",
		.read = yaml_quantity_read,
		.quantity = &yaml_number,
		.offset = offsetof(struct config, table_flows),
		.min = 1024,
		.max = 16777216},
	{.path = "flows.hosts",
		.read = yaml_quantity_read,
		.quantity = &yaml_number,
		.offset = offsetof(struct config, table_hosts),
		.min = 64,
		.max = 1048576},
	{.path = "flows.ring",
		.read = yaml_quantity_read,
		.quantity = &yaml_size,
		.offset = offsetof(struct config, ring_bytes),
		.min = 65536,
		.max = 67108864,
		.power_of_two = true},
	{.path = "flows.scan",
		.read = yaml_quantity_read,
		.quantity = &yaml_duration,
		.offset = offsetof(struct config, scan_ns),
		.min = 100 * MS,
		.max = M},
	{.path = "flows.idle",
		.read = yaml_quantity_read,
		.quantity = &yaml_duration,
		.offset = offsetof(struct config, idle_ns),
		.min = S,
		.max = D},
	{.path = "flows.closed",
		.read = yaml_quantity_read,
		.quantity = &yaml_duration,
		.offset = offsetof(struct config, closed_ns),
		.min = S,
		.max = H},
	{.path = "flows.active",
		.read = yaml_quantity_read,
		.quantity = &yaml_duration,
		.offset = offsetof(struct config, active_ns),
		.min = 10 * S,
		.max = 7 * D,
		.or_zero = true},
	{NULL},
};

static const struct yaml_field api_fields[] = {
	{.path = "api.mode", .read = read_mode},
	{.path = "api.group", .read = read_group},
	{.path = "api.change", .read = read_change},
	{NULL},
};

static const struct yaml_field metrics_fields[] = {
	{.path = "metrics.listen", .read = read_listen},
	{.path = "metrics.processes",
		.read = yaml_quantity_read,
		.quantity = &yaml_number,
		.offset = offsetof(struct config, metrics_processes),
		.max = 1000},
	{NULL},
};

static const struct yaml_field owners_fields[] = {
	{.path = "owners.enabled",
		.read = yaml_switch_read,
		.offset = offsetof(struct config, owners_enabled)},
	{.path = "owners.table",
		.read = yaml_quantity_read,
		.quantity = &yaml_number,
		.offset = offsetof(struct config, owners_table),
		.min = 256,
		.max = 1048576},
	{.path = "owners.keep",
		.read = yaml_quantity_read,
		.quantity = &yaml_duration,
		.offset = offsetof(struct config, owners_keep_ns),
		.min = S,
		.max = 7 * D},
	{NULL},
};

static const struct yaml_field sockets_fields[] = {
	{.path = "sockets.enabled",
		.read = yaml_switch_read,
		.offset = offsetof(struct config, sockets_enabled)},
	{.path = "sockets.interval",
		.read = yaml_quantity_read,
		.quantity = &yaml_duration,
		.offset = offsetof(struct config, sockets_interval_ns),
		.min = S,
		.max = H,
		.or_zero = true},
	{.path = "sockets.remembered",
		.read = yaml_quantity_read,
		.quantity = &yaml_number,
		.offset = offsetof(struct config, sockets_remembered),
		.min = 64,
		.max = 1048576},
	{NULL},
};

static const struct yaml_field audit_fields[] = {
	{.path = "audit.entries",
		.read = yaml_quantity_read,
		.quantity = &yaml_number,
		.offset = offsetof(struct config, audit_entries),
		.min = 1024,
		.max = 16777216,
		.or_zero = true},
	{NULL},
};

static const struct yaml_field drops_fields[] = {
	{.path = "drops.enabled", .read = yaml_switch_read, .offset = offsetof(struct config, drops_enabled)},
	{.path = "drops.rate",
		.read = yaml_quantity_read,
		.quantity = &yaml_number,
		.offset = offsetof(struct config, drops_rate),
		.max = 1000000},
	{NULL},
};

static const struct yaml_field names_fields[] = {
	{.path = "names.enabled", .read = yaml_switch_read, .offset = offsetof(struct config, names_on)},
	{.path = "names.table",
		.read = yaml_quantity_read,
		.quantity = &yaml_number,
		.offset = offsetof(struct config, names_table),
		.min = 64,
		.max = 1048576},
	{NULL},
};

/* off, or a size. */
static int read_before(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	char buffer[YAML_SCALAR_MAX];
	const char *text = yaml_text(value, buffer, sizeof(buffer));

	if (!text || strcmp(text, "off") != 0)
		return yaml_quantity_read(y, field, value, key_at);
	config_of(y)->capture_before = 0;
	return 0;
}

static const struct yaml_field capture_fields[] = {
	{.path = "capture.before",
		.read = read_before,
		.quantity = &yaml_size,
		.offset = offsetof(struct config, capture_before),
		.min = 1000000,
		.max = 1000000000},
	{.path = "capture.snaplen",
		.read = yaml_quantity_read,
		.quantity = &yaml_number,
		.offset = offsetof(struct config, capture_snaplen),
		.min = 32,
		.max = 262144},
	{NULL},
};

/* off, on, or settings. */
static int read_names(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	return (fy_node_is_mapping(value) ? yaml_mapping_read : yaml_switch_read)(y, field, value, key_at);
}

static const struct yaml_field tcp_fields[] = {
	{.path = "connections.timeouts.tcp.new",
		.read = yaml_quantity_read,
		.quantity = &yaml_duration,
		.offset = offsetof(struct config, connections_ns[CONNECTION_TCP][CONNECTION_NEW]),
		.min = S,
		.max = 30 * D},
	{.path = "connections.timeouts.tcp.answered",
		.read = yaml_quantity_read,
		.quantity = &yaml_duration,
		.offset = offsetof(struct config, connections_ns[CONNECTION_TCP][CONNECTION_ANSWERED]),
		.min = S,
		.max = 30 * D},
	{.path = "connections.timeouts.tcp.open",
		.read = yaml_quantity_read,
		.quantity = &yaml_duration,
		.offset = offsetof(struct config, connections_ns[CONNECTION_TCP][CONNECTION_OPEN]),
		.min = S,
		.max = 30 * D},
	{.path = "connections.timeouts.tcp.closing",
		.read = yaml_quantity_read,
		.quantity = &yaml_duration,
		.offset = offsetof(struct config, connections_ns[CONNECTION_TCP][CONNECTION_CLOSING]),
		.min = S,
		.max = 30 * D},
	{.path = "connections.timeouts.tcp.closed",
		.read = yaml_quantity_read,
		.quantity = &yaml_duration,
		.offset = offsetof(struct config, connections_ns[CONNECTION_TCP][CONNECTION_CLOSED]),
		.min = S,
		.max = 30 * D},
	{.path = "connections.timeouts.tcp.reset",
		.read = yaml_quantity_read,
		.quantity = &yaml_duration,
		.offset = offsetof(struct config, connections_ns[CONNECTION_TCP][CONNECTION_RESET]),
		.min = S,
		.max = 30 * D},
	{NULL},
};

static const struct yaml_field udp_fields[] = {
	{.path = "connections.timeouts.udp.new",
		.read = yaml_quantity_read,
		.quantity = &yaml_duration,
		.offset = offsetof(struct config, connections_ns[CONNECTION_UDP][CONNECTION_NEW]),
		.min = S,
		.max = 30 * D},
	{.path = "connections.timeouts.udp.answered",
		.read = yaml_quantity_read,
		.quantity = &yaml_duration,
		.offset = offsetof(struct config, connections_ns[CONNECTION_UDP][CONNECTION_ANSWERED]),
		.min = S,
		.max = 30 * D},
	{.path = "connections.timeouts.udp.open",
		.read = yaml_quantity_read,
		.quantity = &yaml_duration,
		.offset = offsetof(struct config, connections_ns[CONNECTION_UDP][CONNECTION_OPEN]),
		.min = S,
		.max = 30 * D},
	{NULL},
};

static const struct yaml_field timeouts_fields[] = {
	{.path = "connections.timeouts.tcp", .read = yaml_mapping_read, .children = tcp_fields},
	{.path = "connections.timeouts.udp", .read = yaml_mapping_read, .children = udp_fields},
	{.path = "connections.timeouts.icmp",
		.read = read_times,
		.quantity = &yaml_duration,
		.offset = offsetof(struct config, connections_ns[CONNECTION_ICMP][0]),
		.min = S,
		.max = 30 * D},
	{.path = "connections.timeouts.other",
		.read = read_times,
		.quantity = &yaml_duration,
		.offset = offsetof(struct config, connections_ns[CONNECTION_OTHER][0]),
		.min = S,
		.max = 30 * D},
	{NULL},
};

static const struct yaml_field connections_fields[] = {
	{.path = "connections.table",
		.read = yaml_quantity_read,
		.quantity = &yaml_number,
		.offset = offsetof(struct config, connections_table),
		.min = 1024,
		.max = 16777216},
	{.path = "connections.embryonic",
		.read = yaml_quantity_read,
		.quantity = &yaml_number,
		.offset = offsetof(struct config, connections_embryonic),
		.min = 1024,
		.max = 16777216},
	{.path = "connections.timeouts", .read = yaml_mapping_read, .children = timeouts_fields},
	{NULL},
};

static const struct yaml_field nat_fields[] = {
	{.path = "balance.nat.from", .read = read_nat_from},
	{.path = "balance.nat.ports", .read = read_nat_ports},
	{NULL},
};

static const struct yaml_field balance_fields[] = {
	{.path = "balance.hook", .read = read_balance_hook},
	{.path = "balance.flows",
		.read = yaml_quantity_read,
		.quantity = &yaml_number,
		.offset = offsetof(struct config, balance_flows),
		.min = 1024,
		.max = 16777216},
	{.path = "balance.nat", .read = yaml_mapping_read, .children = nat_fields},
	{NULL},
};

static const struct yaml_field xdp_fields[] = {
	{.path = "xdp.mode", .read = read_xdp_mode},
	{.path = "xdp.interfaces", .read = read_xdp_interfaces},
	{NULL},
};

/* auto, native, generic, off, or settings. */
static int read_xdp(struct yaml *y, const struct yaml_field *field, struct fy_node *value, size_t key_at)
{
	return (fy_node_is_mapping(value) ? yaml_mapping_read : read_xdp_mode)(y, field, value, key_at);
}

static const struct yaml_field root_fields[] = {
	{.path = "interfaces", .read = read_interfaces},
	{.path = "flows", .read = yaml_mapping_read, .children = flows_fields},
	{.path = "api", .read = yaml_mapping_read, .children = api_fields},
	{.path = "metrics", .read = yaml_mapping_read, .children = metrics_fields},
	{.path = "owners", .read = yaml_mapping_read, .children = owners_fields},
	{.path = "sockets", .read = yaml_mapping_read, .children = sockets_fields},
	{.path = "audit", .read = yaml_mapping_read, .children = audit_fields},
	{.path = "drops", .read = yaml_mapping_read, .children = drops_fields},
	{.path = "capture", .read = yaml_mapping_read, .children = capture_fields},
	{.path = "default", .read = read_policy},
	{.path = "sets", .read = read_policy},
	{.path = "shapes", .read = read_policy},
	{.path = "services", .read = read_policy},
	{.path = "forward", .read = read_policy},
	{.path = "steer", .read = read_policy},
	{.path = "rules", .read = read_policy},
	{.path = "tenants", .read = read_policy},
	{.path = "policy", .read = read_policy_file},
	{.path = "connections", .read = yaml_mapping_read, .children = connections_fields},
	{.path = "balance", .read = yaml_mapping_read, .children = balance_fields},
	{.path = "xdp", .read = read_xdp, .children = xdp_fields},
	{.path = "log_packets",
		.read = yaml_quantity_read,
		.quantity = &yaml_number,
		.offset = offsetof(struct config, log_packets),
		.max = 100000},
	{.path = "log_drops",
		.read = yaml_quantity_read,
		.quantity = &yaml_number,
		.offset = offsetof(struct config, log_drops),
		.max = 1000},
	{.path = "names",
		.read = read_names,
		.children = names_fields,
		.offset = offsetof(struct config, names_on)},
	{.path = "log", .read = read_log},
	{NULL},
};

static const struct yaml_field root = {
	.path = "the file", .read = yaml_mapping_read, .children = root_fields};

/*
 * The configuration
 */

int config_init(struct config *ret_config)
{
	*ret_config = (struct config){
		.interfaces_auto = true,
		.cache4_lines = FLOW_LINES4_DEFAULT,
		.cache6_lines = FLOW_LINES6_DEFAULT,
		.table_flows = 131072,
		.table_hosts = 65536,
		.ring_bytes = 1024 * 1024,
		.scan_ns = 5 * S,
		.idle_ns = 2 * M,
		.closed_ns = M,
		.active_ns = 30 * M,
		.api_mode = 0660,
		.metrics_address = {.family = 4, .bytes = {127, 0, 0, 1}},
		.metrics_processes = 50,
		.owners_table = 16384,
		.owners_keep_ns = 10 * M,
		.sockets_interval_ns = M,
		.sockets_remembered = 8192,
		.audit_entries = 65536,
		.owners_enabled = true,
		.sockets_enabled = true,
		.drops_enabled = true,
		.drops_rate = 1000,
		.names_on = true,
		.names_table = 16384,
		.capture_snaplen = 96,
		.connections_table = 262144,
		.connections_embryonic = 65536,
		/* as nf_conntrack has them */
		.connections_ns =
			{
				[CONNECTION_TCP] = {2 * M, M, 5 * D, 2 * M, 2 * M, 10 * S},
				[CONNECTION_UDP] = {30 * S, 30 * S, 2 * M, 2 * M, 2 * M, 2 * M},
				[CONNECTION_ICMP] = {30 * S, 30 * S, 30 * S, 30 * S, 30 * S, 30 * S},
				[CONNECTION_OTHER] = {10 * M, 10 * M, 10 * M, 10 * M, 10 * M, 10 * M},
			},
		.balance_flows = SERVICE_FLOWS_DEFAULT,
		.balance_ports = {SERVICE_PORT_FIRST, UINT16_MAX},
		.log_packets = 100,
		.log_drops = 50,
		.log_level = LOG_LEVEL_INFO,
	};
	return 0;
}

void config_free(struct config *config)
{
	yaml_list_free(&config->interfaces);
	policy_text_clear(&config->policy);
	free(config->policy_file);
	free(config->xdp_interfaces);
	free(config->api_group);
	*config = (struct config){0};
}

static int finish(struct yaml *y)
{
	if (config_of(y)->api_group_change && !config_of(y)->api_group) {
		yaml_fail(y, ((struct reading *)y->target)->change_at,
			"api.change: no group is named whose members may change");
		error_want(y->error, "api.group: NAME, or change: root");
		return -EINVAL;
	}
	return 0;
}

int config_read_text(
	const char *text, size_t length, const char *name, struct config *ret_config, struct error *error)
{
	struct reading reading = {0};
	struct yaml y = {.name = name, .error = error, .root = &root, .target = &reading, .finish = finish};
	int r = config_init(&reading.config);

	if (r == 0)
		r = yaml_read(&y, text, length);
	if (r < 0) {
		config_free(&reading.config);
		return r;
	}
	*ret_config = reading.config;
	return 0;
}

int config_read_file(const char *file, struct config *ret_config, struct error *error)
{
	_cleanup_free_ char *text = NULL;
	size_t length = 0;
	int r = yaml_file_read(file, CONFIG_BYTES_MAX, &text, &length, error);

	return r < 0 ? r : config_read_text(text, length, file, ret_config, error);
}

bool config_names_interface(const struct config *config, const char *name)
{
	for (char **pattern = config->interfaces; pattern && *pattern; pattern++) {
		if (fnmatch(*pattern, name, 0) == 0)
			return true;
	}
	return false;
}
