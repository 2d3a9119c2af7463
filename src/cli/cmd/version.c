/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
#include <stdio.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "weir/weir.h"

int cmd_version(const struct cli *cli)
{
	printf(cli->json ? "{\"version\":\"%s\"}\n" : "weir %s\n", weir_version());
	return output_end(EXIT_OK);
}
