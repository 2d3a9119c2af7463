// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Which interfaces take frames from XDP: what the kernel tells by generic netlink, family "netdev" (from 6.3
 * on).
 *
 * Numbers as linux/netdev.h has them, which older headers do not.
 */
#include <errno.h>
#include <linux/genetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <string.h>

#include "engine/forward.h"
#include "engine/internal.h"

enum { NETDEV_DEV_GET = 1 };                              /* commands */
enum { NETDEV_DEV_IFINDEX = 1, NETDEV_DEV_FEATURES = 3 }; /* attributes: u32, u64 */
#define NETDEV_NDO_XMIT 4ULL                              /* of the features: frames from XDP are sent */

/* An attribute of the answer. */
struct answer {
	int attribute;
	uint64_t value;
	bool found;
};

static int answer_read(struct nl_msg *message, void *context)
{
	struct nlmsghdr *header = nlmsg_hdr(message);
	struct answer *answer = context;
	struct nlattr *attribute = nlmsg_find_attr(header, GENL_HDRLEN, answer->attribute);
	int length = attribute ? nla_len(attribute) : 0;

	if (length == 2)
		answer->value = nla_get_u16(attribute);
	if (length == 8)
		answer->value = nla_get_u64(attribute);
	answer->found = length == 2 || length == 8;
	return NL_OK;
}

/* Takes the message over. */
static int ask(struct nl_sock *socket, struct nl_msg *message, struct answer *answer)
{
	struct nl_cb *own = nl_socket_get_cb(socket), *callbacks = nl_cb_clone(own);
	int r = callbacks ? 0 : -ENOMEM;

	if (r == 0) {
		nl_cb_set(callbacks, NL_CB_VALID, NL_CB_CUSTOM, answer_read, answer);
		if (nl_send_auto(socket, message) < 0 || nl_recvmsgs(socket, callbacks) < 0 ||
			nl_wait_for_ack(socket) < 0 || !answer->found)
			r = -ENOENT;
	}
	nlmsg_free(message);
	nl_cb_put(callbacks);
	nl_cb_put(own);
	return r;
}

static struct nl_msg *question(int family, uint8_t command)
{
	struct genlmsghdr header = {.cmd = command, .version = 1};
	struct nl_msg *message = nlmsg_alloc_simple(family, NLM_F_ACK);

	if (message && nlmsg_append(message, &header, sizeof(header), NLMSG_ALIGNTO) == 0)
		return message;
	nlmsg_free(message);
	return NULL;
}

static int family_find(struct nl_sock *socket)
{
	struct nl_msg *message = question(GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
	struct answer answer = {.attribute = CTRL_ATTR_FAMILY_ID};

	if (!message)
		return -ENOMEM;
	if (nla_put_string(message, CTRL_ATTR_FAMILY_NAME, "netdev") < 0) {
		nlmsg_free(message);
		return -ENOMEM;
	}
	return ask(socket, message, &answer) < 0 ? -EOPNOTSUPP : (int)answer.value;
}

static int socket_open(struct engine *engine)
{
	struct nl_sock *socket = nl_socket_alloc();

	if (!socket || nl_connect(socket, NETLINK_GENERIC) < 0) {
		nl_socket_free(socket);
		return -ENOMEM;
	}
	engine->generic = socket;
	engine->netdev_family = family_find(socket);
	return 0;
}

int engine_takes_frames(struct engine *engine, uint32_t index)
{
	struct answer answer = {.attribute = NETDEV_DEV_FEATURES};
	struct nl_msg *message;

	if (!engine->generic && socket_open(engine) < 0)
		return -EOPNOTSUPP;
	if (engine->netdev_family < 0)
		return -EOPNOTSUPP;
	message = question(engine->netdev_family, NETDEV_DEV_GET);
	if (!message)
		return -EOPNOTSUPP;
	if (nla_put_u32(message, NETDEV_DEV_IFINDEX, index) < 0) {
		nlmsg_free(message);
		return -EOPNOTSUPP;
	}
	return ask(engine->generic, message, &answer) == 0 && answer.value & NETDEV_NDO_XMIT;
}
