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
struct cvsw *cvsw_find(struct genl_info *info)
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

struct sk_buff *cvsw_reply(struct genl_info *info, size_t size, u8 command, void **header)
{
	struct sk_buff *reply = genlmsg_new(size, GFP_KERNEL);

	if (!reply)
		return NULL;
	*header = genlmsg_put_reply(reply, info, &cvsw_family, 0, command);
	if (!*header) {
		nlmsg_free(reply);
		return NULL;
	}
	return reply;
}

/* Ends and sends a reply, or frees it if something did not fit. */
int cvsw_send(struct genl_info *info, struct sk_buff *reply, void *header, int err)
{
	if (err) {
		nlmsg_free(reply);
		return err;
	}
	genlmsg_end(reply, header);
	return genlmsg_reply(reply, info);
}

static int cvsw_flow_mod(struct sk_buff *request, struct genl_info *info)
{
	struct nlattr *message = info->attrs[CVSW_ATTR_FLOW_MOD];
	struct sk_buff *reply;
	struct cvsw *vnic;
	void *header;
	u32 error;

	if (!message) {
		GENL_SET_ERR_MSG(info, "the OFPT_FLOW_MOD message is missing");
		return -EINVAL;
	}
	/* Before the change: a change whose answer gets lost would look like none. */
	reply = cvsw_reply(info, NLMSG_DEFAULT_SIZE, CVSW_CMD_FLOW_MOD, &header);
	if (!reply)
		return -ENOMEM;
	rtnl_lock();
	vnic = cvsw_find(info);
	if (IS_ERR(vnic)) {
		rtnl_unlock();
		return cvsw_send(info, reply, header, PTR_ERR(vnic));
	}
	cvsw_lock_lanes(vnic);
	error = cvsw_engine_flow_mod(vnic->lanes[0]->engine, ktime_get_ns(), nla_data(message), nla_len(message));
	cvsw_unlock_lanes(vnic);
	rtnl_unlock();
	return cvsw_send(info, reply, header, nla_put_u32(reply, CVSW_ATTR_ERROR, error));
}

/* Puts flows from `cursor` on, and where to go on if there may be more. Under the RTNL. */
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

static int cvsw_flow_get(struct sk_buff *request, struct genl_info *info)
{
	struct nlattr *from = info->attrs[CVSW_ATTR_CURSOR];
	struct sk_buff *reply;
	struct cvsw *vnic;
	void *header;
	u8 *buffer;
	int err;

	buffer = kmalloc(FLOW_STATS_MAX, GFP_KERNEL);
	if (!buffer)
		return -ENOMEM;
	reply = cvsw_reply(info, (FLOW_STATS_MAX + 8) * FLOWS_PER_REPLY + 64, CVSW_CMD_FLOW_GET, &header);
	if (!reply) {
		kfree(buffer);
		return -ENOMEM;
	}
	rtnl_lock();
	vnic = cvsw_find(info);
	err = PTR_ERR_OR_ZERO(vnic);
	if (!err)
		err = cvsw_put_flows(vnic, reply, buffer, from ? nla_get_u32(from) : 0);
	rtnl_unlock();
	kfree(buffer);
	return cvsw_send(info, reply, header, err);
}

/* The counters, as ethtool has them: names and values side by side. */
static int cvsw_put_counters(struct net_device *dev, struct sk_buff *reply)
{
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

static int cvsw_stats_get(struct sk_buff *request, struct genl_info *info)
{
	struct sk_buff *reply;
	struct cvsw *vnic;
	void *header;
	int err;

	reply = cvsw_reply(info, 8192, CVSW_CMD_STATS_GET, &header);
	if (!reply)
		return -ENOMEM;
	rtnl_lock();
	vnic = cvsw_find(info);
	err = PTR_ERR_OR_ZERO(vnic);
	if (!err)
		err = cvsw_put_counters(vnic->dev, reply);
	rtnl_unlock();
	return cvsw_send(info, reply, header, err);
}

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

static int cvsw_trace_frame(struct sk_buff *request, struct genl_info *info)
{
	struct nlattr *frame = info->attrs[CVSW_ATTR_FRAME];
	struct nlattr *receive = info->attrs[CVSW_ATTR_RECEIVE];
	struct cvsw_trace *trace;
	struct sk_buff *reply;
	struct cvsw *vnic;
	void *header;
	int err;

	if (!frame) {
		GENL_SET_ERR_MSG(info, "the frame is missing");
		return -EINVAL;
	}
	trace = kzalloc(sizeof(*trace), GFP_KERNEL);
	if (!trace)
		return -ENOMEM;
	reply = cvsw_reply(info, sizeof(*trace) + 128, CVSW_CMD_TRACE, &header);
	if (!reply) {
		kfree(trace);
		return -ENOMEM;
	}
	rtnl_lock();
	vnic = cvsw_find(info);
	err = PTR_ERR_OR_ZERO(vnic);
	if (!err)
		err = cvsw_put_trace(vnic, reply, trace, frame, receive && nla_get_u32(receive));
	rtnl_unlock();
	kfree(trace);
	return cvsw_send(info, reply, header, err);
}

static int (*const cvsw_handlers[CVSW_CMD_MAX + 1])(struct sk_buff *request, struct genl_info *info) = {
	[CVSW_CMD_FLOW_MOD] = cvsw_flow_mod,
	[CVSW_CMD_FLOW_GET] = cvsw_flow_get,
	[CVSW_CMD_STATS_GET] = cvsw_stats_get,
	[CVSW_CMD_TRACE] = cvsw_trace_frame,
	[CVSW_CMD_SA_SET] = cvsw_sa_set,
	[CVSW_CMD_SA_GET] = cvsw_sa_get,
	[CVSW_CMD_KEYS_IN_CLEAR] = cvsw_keys_in_clear,
	[CVSW_CMD_CONTROL_KEY] = cvsw_control_key,
	[CVSW_CMD_CONTROL_GET] = cvsw_control_get,
};

struct cvsw_request {
	struct sk_buff *skb;
	struct genl_info *info;
};

static int cvsw_run_request(void *argument)
{
	struct cvsw_request *request = argument;

	return cvsw_handlers[request->info->genlhdr->cmd](request->skb, request->info);
}

/* The sender's rights were checked; what it wants runs where there is stack for it. */
static int cvsw_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct cvsw_request request = { .skb = skb, .info = info };

	return cvsw_on_worker(cvsw_run_request, &request);
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
