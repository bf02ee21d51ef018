// SPDX-License-Identifier: MIT OR GPL-2.0
/* The control channel in the generic-netlink family `cvsw`: its key goes in and never comes out. */
#include <linux/random.h>
#include <net/genetlink.h>
#include "cvsw.h"
#include "netlink.h"

static int cvsw_run_control_key(struct cvsw *vnic, struct genl_info *info, struct sk_buff *reply)
{
	struct nlattr *key = info->attrs[CVSW_ATTR_CONTROL_KEY];
	bool taken;

	cvsw_lock_lanes(vnic);
	/* 0 stands for no instance. */
	taken = cvsw_engine_control_key(vnic->lanes[0]->engine, get_random_u64() | 1, nla_data(key), nla_len(key));
	cvsw_unlock_lanes(vnic);
	if (!taken) {
		GENL_SET_ERR_MSG(info, "a control key has 16 bytes that are not all 0");
		return -EINVAL;
	}
	if (netif_running(vnic->dev))
		cvsw_announce(vnic);
	return nla_put_u32(reply, CVSW_ATTR_ERROR, 0);
}

const struct cvsw_command cvsw_control_key = {
	.run = cvsw_run_control_key,
	.room = NLMSG_DEFAULT_SIZE,
	.needs = CVSW_ATTR_CONTROL_KEY,
	.missing = "the key is missing",
};

static int cvsw_run_control_get(struct cvsw *vnic, struct genl_info *info, struct sk_buff *reply)
{
	struct cvsw_control_status status = {};

	spin_lock_bh(&vnic->lanes[0]->lock);
	cvsw_engine_control_status(vnic->lanes[0]->engine, &status);
	spin_unlock_bh(&vnic->lanes[0]->lock);
	return nla_put(reply, CVSW_ATTR_CONTROL_STATUS, sizeof(status), &status);
}

const struct cvsw_command cvsw_control_get = {
	.run = cvsw_run_control_get,
	.room = NLMSG_DEFAULT_SIZE,
};
