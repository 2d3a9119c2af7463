// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Any bytes as a configuration file: accepted within every bound, or refused with a place and a reason. */
#include <string.h>

#include "fuzz/fuzz.h"
#include "model/config.h"

#define SECOND 1000000000ULL

static bool is_between(uint64_t value, uint64_t min, uint64_t max)
{
	return value >= min && value <= max;
}

static bool is_power_of_two(uint32_t value)
{
	return value && !(value & (value - 1));
}

static void accepted_check(const struct config *config)
{
	REQUIRE(config->interfaces_auto == !config->interfaces);
	REQUIRE(config->interfaces_auto || config->interfaces[0]);
	REQUIRE(is_between(config->cache4_lines, 64, 4194304) && is_power_of_two(config->cache4_lines));
	REQUIRE(is_between(config->cache6_lines, 64, 4194304) && is_power_of_two(config->cache6_lines));
	REQUIRE(is_between(config->table_flows, 1024, 16777216));
	REQUIRE(is_between(config->table_hosts, 64, 1048576));
	REQUIRE(is_between(config->ring_bytes, 65536, 67108864) && is_power_of_two(config->ring_bytes));
	REQUIRE(is_between(config->scan_ns, SECOND / 10, 60 * SECOND));
	REQUIRE(is_between(config->idle_ns, SECOND, 86400 * SECOND));
	REQUIRE(is_between(config->closed_ns, SECOND, 3600 * SECOND));
	REQUIRE(!config->active_ns || is_between(config->active_ns, 10 * SECOND, 7 * 86400 * SECOND));
	REQUIRE(config->api_mode <= 0777);
	REQUIRE(!config->api_group || *config->api_group);
	REQUIRE(!config->api_group_change || config->api_group);
	REQUIRE(!config->metrics_on || config->metrics_port);
	REQUIRE(config->metrics_address.family == 4 || config->metrics_address.family == 6);
	REQUIRE(config->metrics_processes <= 1000);
	REQUIRE(is_between(config->owners_table, 256, 1048576));
	REQUIRE(is_between(config->owners_keep_ns, SECOND, 7 * 86400 * SECOND));
	REQUIRE(config->log_level <= LOG_LEVEL_DEBUG);
	config_names_interface(config, "eth0");
}

/* The line is one of the text's, and the column stands in it or just behind it. */
static void refused_check(const struct error *error, const uint8_t *input, size_t size)
{
	unsigned int lines = 1;

	REQUIRE(error->code < 0 && error->what[0]);
	REQUIRE(strcmp(error->file, "weir.yaml") == 0);
	for (size_t i = 0; i < size; i++)
		lines += input[i] == '\n';
	REQUIRE(error->line >= 1 && error->line <= lines);
	REQUIRE(error->column >= 1 && error->column <= size + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	static FILE *nowhere;
	struct config config;
	struct error error = {0};

	if (!nowhere)
		nowhere = fopen("/dev/null", "we");
	if (config_read_text((const char *)input, size, "weir.yaml", &config, &error) < 0) {
		refused_check(&error, input, size);
		if (nowhere)
			error_print(&error, "weir: ", nowhere);
		return 0;
	}
	accepted_check(&config);
	config_free(&config);
	return 0;
}
