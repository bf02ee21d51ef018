// SPDX-License-Identifier: MIT OR GPL-2.0
/* The generic-netlink family `cvsw`: local administration (see netlink.h for messages and attributes). */
#include <linux/ethtool.h>
#include <linux/rtnetlink.h>
#include <linux/slab.h>
#include <net/genetlink.h>
#include "cvsw.h"
#include "netlink.h"

/* Longest listed flow: three counters, a match of 256 bytes and 16 actions of 64. */
#define FLOW_STATS_MAX 1304
#define FLOWS_PER_REPLY 12
#define TRACE_STEPS 64
#define FRAME_MAX 9216

static struct genl_family cvsw_family;

static const struct nla_policy cvsw_policy[CVSW_ATTR_MAX + 1] = {
	[CVSW_ATTR_IFINDEX] = { .type = NLA_U32 },
	[CVSW_ATTR_FLOW_MOD] = { .type = NLA_BINARY, .len = 4096 },
	[CVSW_ATTR_CURSOR] = { .type = NLA_U32 },
	[CVSW_ATTR_FRAME] = { .type = NLA_BINARY, .len = FRAME_MAX },
	[CVSW_ATTR_RECEIVE] = { .type = NLA_U32 },
	[CVSW_ATTR_SA] = { .type = NLA_BINARY, .len = 128 },
	[CVSW_ATTR_SA_LIMITS] = NLA_POLICY_EXACT_LEN(CVSW_SA_LIMITS_LEN),
	[CVSW_ATTR_ON] = { .type = NLA_U32 },
	[CVSW_ATTR_CONTROL_KEY] = { .type = NLA_BINARY, .len = CVSW_CONTROL_KEY_LEN },
};

/* The vNIC that a request names, in the sender's namespace. Under the RTNL. */
static struct cvsw *cvsw_find(struct genl_info *info)
{
	struct net_device *dev;

	if (!info->attrs[CVSW_ATTR_IFINDEX]) {
		GENL_SET_ERR_MSG(info, "the interface index is missing");
		return ERR_PTR(-EINVAL);
	}
	dev = __dev_get_by_index(genl_info_net(info), nla_get_u32(info->attrs[CVSW_ATTR_IFINDEX]));
	if (!dev)
		return ERR_PTR(-ENODEV);
	if (!cvsw_is_vnic(dev)) {
		GENL_SET_ERR_MSG(info, "the interface is not of type cvsw");
		return ERR_PTR(-EOPNOTSUPP);
	}
	return netdev_priv(dev);
}

static int cvsw_run_flow_mod(struct cvsw *vnic, struct genl_info *info, struct sk_buff *reply)
{
	struct nlattr *message = info->attrs[CVSW_ATTR_FLOW_MOD];
	u32 error;

	cvsw_lock_lanes(vnic);
	error = cvsw_engine_flow_mod(vnic->lanes[0]->engine, ktime_get_ns(), nla_data(message), nla_len(message));
	cvsw_unlock_lanes(vnic);
	return nla_put_u32(reply, CVSW_ATTR_ERROR, error);
}

static const struct cvsw_command cvsw_flow_mod = {
	.run = cvsw_run_flow_mod,
	.room = NLMSG_DEFAULT_SIZE,
	.needs = CVSW_ATTR_FLOW_MOD,
	.missing = "the OFPT_FLOW_MOD message is missing",
};

/* Puts flows from `cursor` on, and where to go on if there may be more. */
static int cvsw_put_flows(struct cvsw *vnic, struct sk_buff *reply, u8 *buffer, u32 cursor)
{
	u32 len = 0;
	int i, err = 0;

	/* The counters of all lanes. */
	cvsw_lock_lanes(vnic);
	cvsw_unlock_lanes(vnic);
	for (i = 0; i < FLOWS_PER_REPLY && !err; i++) {
		spin_lock_bh(&vnic->lanes[0]->lock);
		len = cvsw_engine_next_flow(vnic->lanes[0]->engine, ktime_get_ns(), &cursor, buffer, FLOW_STATS_MAX);
		spin_unlock_bh(&vnic->lanes[0]->lock);
		if (!len)
			return 0;
		err = nla_put(reply, CVSW_ATTR_FLOW_STATS, len, buffer);
	}
	return err ? err : nla_put_u32(reply, CVSW_ATTR_CURSOR, cursor);
}

static int cvsw_run_flow_get(struct cvsw *vnic, struct genl_info *info, struct sk_buff *reply)
{
	struct nlattr *from = info->attrs[CVSW_ATTR_CURSOR];
	u8 *buffer = kmalloc(FLOW_STATS_MAX, GFP_KERNEL);
	int err = -ENOMEM;

	if (buffer)
		err = cvsw_put_flows(vnic, reply, buffer, from ? nla_get_u32(from) : 0);
	kfree(buffer);
	return err;
}

static const struct cvsw_command cvsw_flow_get = {
	.run = cvsw_run_flow_get,
	.room = (FLOW_STATS_MAX + 8) * FLOWS_PER_REPLY + 64,
};

/* The counters, as ethtool has them: names and values side by side. */
static int cvsw_run_stats_get(struct cvsw *vnic, struct genl_info *info, struct sk_buff *reply)
{
	struct net_device *dev = vnic->dev;
	struct ethtool_stats stats = { .n_stats = cvsw_ethtool_ops.get_sset_count(dev, ETH_SS_STATS) };
	u8 *names = kcalloc(stats.n_stats, ETH_GSTRING_LEN, GFP_KERNEL);
	u64 *values = kcalloc(stats.n_stats, sizeof(u64), GFP_KERNEL);
	int err = -ENOMEM;

	if (names && values) {
		cvsw_ethtool_ops.get_strings(dev, ETH_SS_STATS, names);
		cvsw_ethtool_ops.get_ethtool_stats(dev, &stats, values);
		err = nla_put(reply, CVSW_ATTR_COUNTER_NAMES, stats.n_stats * ETH_GSTRING_LEN, names);
		if (!err)
			err = nla_put(reply, CVSW_ATTR_COUNTER_VALUES, stats.n_stats * sizeof(u64), values);
	}
	kfree(values);
	kfree(names);
	return err;
}

static const struct cvsw_command cvsw_stats_get = {
	.run = cvsw_run_stats_get,
	.room = 8192,
};

struct cvsw_trace {
	struct cvsw_step steps[TRACE_STEPS];
	u8 bytes[CVSW_HEADROOM + FRAME_MAX + CVSW_TAILROOM];
};

static int cvsw_put_trace(struct cvsw *vnic, struct sk_buff *reply, struct cvsw_trace *trace, struct nlattr *frame_attr,
			  bool receive)
{
	struct cvsw_frame frame = {
		.start = trace->bytes,
		.size = sizeof(trace->bytes),
		.head = CVSW_HEADROOM,
		.len = nla_len(frame_attr),
	};
	u32 count;
	int err;

	memcpy(trace->bytes + CVSW_HEADROOM, nla_data(frame_attr), nla_len(frame_attr));
	spin_lock_bh(&vnic->lanes[0]->lock);
	count = cvsw_engine_trace(vnic->lanes[0]->engine, ktime_get_ns(), receive, &frame, trace->steps, TRACE_STEPS);
	spin_unlock_bh(&vnic->lanes[0]->lock);
	err = nla_put_u32(reply, CVSW_ATTR_VERDICT, frame.verdict);
	if (!err)
		err = nla_put(reply, CVSW_ATTR_FRAME, frame.len, trace->bytes + frame.head);
	if (!err)
		err = nla_put(reply, CVSW_ATTR_STEPS, count * sizeof(trace->steps[0]), trace->steps);
	return err;
}

static int cvsw_run_trace(struct cvsw *vnic, struct genl_info *info, struct sk_buff *reply)
{
	struct nlattr *receive = info->attrs[CVSW_ATTR_RECEIVE];
	struct cvsw_trace *trace = kzalloc(sizeof(*trace), GFP_KERNEL);
	int err = -ENOMEM;

	if (trace)
		err = cvsw_put_trace(vnic, reply, trace, info->attrs[CVSW_ATTR_FRAME], receive && nla_get_u32(receive));
	kfree(trace);
	return err;
}

static const struct cvsw_command cvsw_trace_frame = {
	.run = cvsw_run_trace,
	.room = sizeof(struct cvsw_trace) + 128,
	.needs = CVSW_ATTR_FRAME,
	.missing = "the frame is missing",
};

static const struct cvsw_command *const cvsw_commands[CVSW_CMD_MAX + 1] = {
	[CVSW_CMD_FLOW_MOD] = &cvsw_flow_mod,
	[CVSW_CMD_FLOW_GET] = &cvsw_flow_get,
	[CVSW_CMD_STATS_GET] = &cvsw_stats_get,
	[CVSW_CMD_TRACE] = &cvsw_trace_frame,
	[CVSW_CMD_SA_SET] = &cvsw_sa_set,
	[CVSW_CMD_SA_GET] = &cvsw_sa_get,
	[CVSW_CMD_KEYS_IN_CLEAR] = &cvsw_keys_in_clear,
	[CVSW_CMD_CONTROL_KEY] = &cvsw_control_key,
	[CVSW_CMD_CONTROL_GET] = &cvsw_control_get,
};

/* Carries a command out and puts its answer. */
static int cvsw_run(const struct cvsw_command *command, struct genl_info *info, struct sk_buff *reply)
{
	struct cvsw *vnic;
	int err;

	if (command->needs && !info->attrs[command->needs]) {
		if (info->extack)
			info->extack->_msg = command->missing;
		return -EINVAL;
	}
	rtnl_lock();
	vnic = cvsw_find(info);
	err = IS_ERR(vnic) ? PTR_ERR(vnic) : command->run(vnic, info, reply);
	rtnl_unlock();
	return err;
}

/* The answer's memory is had before the change: a change whose answer gets lost would look like none. */
static int cvsw_answer(const struct cvsw_command *command, struct genl_info *info)
{
	struct sk_buff *reply = genlmsg_new(command->room, GFP_KERNEL);
	void *header;
	int err;

	if (!reply)
		return -ENOMEM;
	header = genlmsg_put_reply(reply, info, &cvsw_family, 0, info->genlhdr->cmd);
	err = header ? cvsw_run(command, info, reply) : -EMSGSIZE;
	if (err) {
		nlmsg_free(reply);
		return err;
	}
	genlmsg_end(reply, header);
	return genlmsg_reply(reply, info);
}

/*
 * All of a request that holds a key, in attributes that came twice, too. It would stay behind in freed memory, and the kernel
 * sends a request that failed back. What it refuses by itself (for want of rights, or an attribute that is too long) never
 * comes here.
 */
static void cvsw_wipe(struct genl_info *info)
{
	if (info->attrs[CVSW_ATTR_SA] || info->attrs[CVSW_ATTR_CONTROL_KEY])
		memzero_explicit(genlmsg_data(info->genlhdr), genlmsg_len(info->genlhdr));
}

static int cvsw_doit(struct sk_buff *request, struct genl_info *info)
{
	int err = cvsw_answer(cvsw_commands[info->genlhdr->cmd], info);

	cvsw_wipe(info);
	return err;
}

/* CAP_NET_ADMIN in the sender's namespace, which is where the device is looked for. */
#define CVSW_OP(command)                                                                                               \
	{                                                                                                              \
		.cmd = (command), .doit = cvsw_doit, .flags = GENL_UNS_ADMIN_PERM,                                     \
	}
static const struct genl_small_ops cvsw_ops[] = {
	CVSW_OP(CVSW_CMD_FLOW_MOD),
	CVSW_OP(CVSW_CMD_FLOW_GET),
	CVSW_OP(CVSW_CMD_STATS_GET),
	CVSW_OP(CVSW_CMD_TRACE),
	CVSW_OP(CVSW_CMD_SA_SET),
	CVSW_OP(CVSW_CMD_SA_GET),
	CVSW_OP(CVSW_CMD_KEYS_IN_CLEAR),
	CVSW_OP(CVSW_CMD_CONTROL_KEY),
	CVSW_OP(CVSW_CMD_CONTROL_GET),
};

static struct genl_family cvsw_family __ro_after_init = {
	.name = CVSW_NAME,
	.version = 1,
	.maxattr = CVSW_ATTR_MAX,
	.policy = cvsw_policy,
	.netnsok = true,
	.module = THIS_MODULE,
	.small_ops = cvsw_ops,
	.n_small_ops = ARRAY_SIZE(cvsw_ops),
	.resv_start_op = CVSW_CMD_MAX + 1,
};

int __init cvsw_netlink_init(void)
{
	return genl_register_family(&cvsw_family);
}

void cvsw_netlink_exit(void)
{
	genl_unregister_family(&cvsw_family);
}
