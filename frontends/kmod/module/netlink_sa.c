// SPDX-License-Identifier: MIT OR GPL-2.0
/* Security associations in the generic-netlink family `cvsw`. */
#include <net/genetlink.h>
#include "cvsw.h"
#include "netlink.h"

/* Longest listed association. */
#define SA_LISTED_MAX 192
#define SAS_PER_REPLY 32
/* The engine marks no more networks. */
#define ENCRYPTED_ONLY_MAX 64

static int cvsw_run_sa_set(struct cvsw *vnic, struct genl_info *info, struct sk_buff *reply)
{
	struct nlattr *sa = info->attrs[CVSW_ATTR_SA];
	struct nlattr *limits = info->attrs[CVSW_ATTR_SA_LIMITS];
	u32 result;

	cvsw_lock_lanes(vnic);
	result = cvsw_engine_set_sa(vnic->lanes[0]->engine, ktime_get_ns(), nla_data(sa), nla_len(sa),
				    limits ? nla_data(limits) : NULL);
	cvsw_unlock_lanes(vnic);
	cvsw_wake(vnic);
	if (result == U32_MAX) {
		GENL_SET_ERR_MSG(info, "this is no body of a SET_SA");
		return -EINVAL;
	}
	return nla_put_u32(reply, CVSW_ATTR_ERROR, result);
}

const struct cvsw_command cvsw_sa_set = {
	.run = cvsw_run_sa_set,
	.room = NLMSG_DEFAULT_SIZE,
	.needs = CVSW_ATTR_SA,
	.missing = "the body of a SET_SA is missing",
};

/* Puts associations from `cursor` on, and where to go on if there may be more. */
static int cvsw_put_sas(struct cvsw *vnic, struct sk_buff *reply, u32 cursor)
{
	u64 buffer[SA_LISTED_MAX / sizeof(u64)];
	u32 len = 0;
	int i, err = 0;

	/* Gathers what all lanes counted. */
	cvsw_lock_lanes(vnic);
	cvsw_unlock_lanes(vnic);
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

static int cvsw_run_sa_get(struct cvsw *vnic, struct genl_info *info, struct sk_buff *reply)
{
	struct nlattr *from = info->attrs[CVSW_ATTR_CURSOR];
	int err = cvsw_put_encrypted_only(vnic, reply);

	return err ? err : cvsw_put_sas(vnic, reply, from ? nla_get_u32(from) : 0);
}

const struct cvsw_command cvsw_sa_get = {
	.run = cvsw_run_sa_get,
	.room = (SA_LISTED_MAX + 8) * SAS_PER_REPLY + 4 * ENCRYPTED_ONLY_MAX + 64,
};

static int cvsw_run_keys_in_clear(struct cvsw *vnic, struct genl_info *info, struct sk_buff *reply)
{
	spin_lock_bh(&vnic->lanes[0]->lock);
	cvsw_engine_accept_keys(vnic->lanes[0]->engine, nla_get_u32(info->attrs[CVSW_ATTR_ON]));
	spin_unlock_bh(&vnic->lanes[0]->lock);
	return nla_put_u32(reply, CVSW_ATTR_ERROR, 0);
}

const struct cvsw_command cvsw_keys_in_clear = {
	.run = cvsw_run_keys_in_clear,
	.room = NLMSG_DEFAULT_SIZE,
	.needs = CVSW_ATTR_ON,
	.missing = "on or off is missing",
};
