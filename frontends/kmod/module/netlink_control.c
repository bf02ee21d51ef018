// SPDX-License-Identifier: MIT OR GPL-2.0
/* The control channel in the generic-netlink family `cvsw`: its key goes in and never comes out. */
#include <linux/random.h>
#include <linux/rtnetlink.h>
#include <net/genetlink.h>
#include "cvsw.h"
#include "netlink.h"

int cvsw_control_key(struct sk_buff *request, struct genl_info *info)
{
	struct nlattr *key = info->attrs[CVSW_ATTR_CONTROL_KEY];
	struct sk_buff *reply;
	struct cvsw *vnic;
	bool taken = false;
	void *header;
	int err;

	if (!key) {
		GENL_SET_ERR_MSG(info, "the key is missing");
		return -EINVAL;
	}
	reply = cvsw_reply(info, NLMSG_DEFAULT_SIZE, CVSW_CMD_CONTROL_KEY, &header);
	if (!reply)
		return -ENOMEM;
	rtnl_lock();
	vnic = cvsw_find(info);
	err = PTR_ERR_OR_ZERO(vnic);
	if (!err) {
		cvsw_lock_lanes(vnic);
		/* 0 stands for no instance. */
		taken = cvsw_engine_control_key(vnic->lanes[0]->engine, get_random_u64() | 1, nla_data(key),
						nla_len(key));
		cvsw_unlock_lanes(vnic);
		if (taken && netif_running(vnic->dev))
			cvsw_announce(vnic);
	}
	rtnl_unlock();
	memzero_explicit(nla_data(key), nla_len(key));
	if (!err && !taken) {
		GENL_SET_ERR_MSG(info, "a control key has 16 bytes that are not all 0");
		err = -EINVAL;
	}
	if (!err)
		err = nla_put_u32(reply, CVSW_ATTR_ERROR, 0);
	return cvsw_send(info, reply, header, err);
}

int cvsw_control_get(struct sk_buff *request, struct genl_info *info)
{
	struct cvsw_control_status status = {};
	struct sk_buff *reply;
	struct cvsw *vnic;
	void *header;
	int err;

	reply = cvsw_reply(info, NLMSG_DEFAULT_SIZE, CVSW_CMD_CONTROL_GET, &header);
	if (!reply)
		return -ENOMEM;
	rtnl_lock();
	vnic = cvsw_find(info);
	err = PTR_ERR_OR_ZERO(vnic);
	if (!err) {
		spin_lock_bh(&vnic->lanes[0]->lock);
		cvsw_engine_control_status(vnic->lanes[0]->engine, &status);
		spin_unlock_bh(&vnic->lanes[0]->lock);
		err = nla_put(reply, CVSW_ATTR_CONTROL_STATUS, sizeof(status), &status);
	}
	rtnl_unlock();
	return cvsw_send(info, reply, header, err);
}
