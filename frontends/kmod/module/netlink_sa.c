// SPDX-License-Identifier: MIT OR GPL-2.0
/* Security associations in the generic-netlink family `cvsw`. */
#include <linux/rtnetlink.h>
#include <linux/slab.h>
#include <net/genetlink.h>
#include "cvsw.h"
#include "netlink.h"

/* Longest listed association. */
#define SA_LISTED_MAX 192
#define SAS_PER_REPLY 32
/* The engine marks no more networks. */
#define ENCRYPTED_ONLY_MAX 64

int cvsw_sa_set(struct sk_buff *request, struct genl_info *info)
{
	struct nlattr *sa = info->attrs[CVSW_ATTR_SA];
	struct nlattr *limits = info->attrs[CVSW_ATTR_SA_LIMITS];
	u32 result = U32_MAX;
	struct sk_buff *reply;
	struct cvsw *vnic;
	void *header;
	int err;

	if (!sa) {
		GENL_SET_ERR_MSG(info, "the body of a SET_SA is missing");
		return -EINVAL;
	}
	/* Before the change: a change whose answer gets lost would look like none. */
	reply = cvsw_reply(info, NLMSG_DEFAULT_SIZE, CVSW_CMD_SA_SET, &header);
	if (!reply)
		return -ENOMEM;
	rtnl_lock();
	vnic = cvsw_find(info);
	err = PTR_ERR_OR_ZERO(vnic);
	if (!err) {
		cvsw_lock_lanes(vnic);
		result = cvsw_engine_set_sa(vnic->lanes[0]->engine, ktime_get_ns(), nla_data(sa), nla_len(sa),
					    limits ? nla_data(limits) : NULL);
		cvsw_unlock_lanes(vnic);
		cvsw_wake(vnic);
	}
	rtnl_unlock();
	/* It may hold a key. */
	memzero_explicit(nla_data(sa), nla_len(sa));
	if (!err && result == U32_MAX) {
		GENL_SET_ERR_MSG(info, "this is no body of a SET_SA");
		err = -EINVAL;
	}
	if (!err)
		err = nla_put_u32(reply, CVSW_ATTR_ERROR, result);
	return cvsw_send(info, reply, header, err);
}

/* Puts associations from `cursor` on, and where to go on if there may be more. Under the RTNL. */
static int cvsw_put_sas(struct cvsw *vnic, struct sk_buff *reply, u32 cursor)
{
	u64 buffer[SA_LISTED_MAX / sizeof(u64)];
	u32 len = 0;
	int i, err = 0;

	for (i = 0; i < SAS_PER_REPLY && !err; i++) {
		spin_lock_bh(&vnic->lanes[0]->lock);
		len = cvsw_engine_next_sa(vnic->lanes[0]->engine, ktime_get_ns(), &cursor, (u8 *)buffer, sizeof(buffer));
		spin_unlock_bh(&vnic->lanes[0]->lock);
		if (!len)
			return 0;
		err = nla_put(reply, CVSW_ATTR_SA_LISTED, len, buffer);
	}
	return err ? err : nla_put_u32(reply, CVSW_ATTR_CURSOR, cursor);
}

static int cvsw_put_encrypted_only(struct cvsw *vnic, struct sk_buff *reply)
{
	u32 vnis[ENCRYPTED_ONLY_MAX];
	u32 count;

	spin_lock_bh(&vnic->lanes[0]->lock);
	count = cvsw_engine_encrypted_only(vnic->lanes[0]->engine, vnis, ENCRYPTED_ONLY_MAX);
	spin_unlock_bh(&vnic->lanes[0]->lock);
	return nla_put(reply, CVSW_ATTR_ENCRYPTED_ONLY, count * sizeof(vnis[0]), vnis);
}

int cvsw_sa_get(struct sk_buff *request, struct genl_info *info)
{
	struct nlattr *from = info->attrs[CVSW_ATTR_CURSOR];
	struct sk_buff *reply;
	struct cvsw *vnic;
	void *header;
	int err;

	reply = cvsw_reply(info, (SA_LISTED_MAX + 8) * SAS_PER_REPLY + 4 * ENCRYPTED_ONLY_MAX + 64, CVSW_CMD_SA_GET,
			   &header);
	if (!reply)
		return -ENOMEM;
	rtnl_lock();
	vnic = cvsw_find(info);
	err = PTR_ERR_OR_ZERO(vnic);
	if (!err)
		err = cvsw_put_encrypted_only(vnic, reply);
	if (!err)
		err = cvsw_put_sas(vnic, reply, from ? nla_get_u32(from) : 0);
	rtnl_unlock();
	return cvsw_send(info, reply, header, err);
}

int cvsw_keys_in_clear(struct sk_buff *request, struct genl_info *info)
{
	struct nlattr *on = info->attrs[CVSW_ATTR_ON];
	struct sk_buff *reply;
	struct cvsw *vnic;
	void *header;
	int err;

	if (!on) {
		GENL_SET_ERR_MSG(info, "on or off is missing");
		return -EINVAL;
	}
	reply = cvsw_reply(info, NLMSG_DEFAULT_SIZE, CVSW_CMD_KEYS_IN_CLEAR, &header);
	if (!reply)
		return -ENOMEM;
	rtnl_lock();
	vnic = cvsw_find(info);
	err = PTR_ERR_OR_ZERO(vnic);
	if (!err) {
		spin_lock_bh(&vnic->lanes[0]->lock);
		cvsw_engine_accept_keys(vnic->lanes[0]->engine, nla_get_u32(on));
		spin_unlock_bh(&vnic->lanes[0]->lock);
		err = nla_put_u32(reply, CVSW_ATTR_ERROR, 0);
	}
	rtnl_unlock();
	return cvsw_send(info, reply, header, err);
}
