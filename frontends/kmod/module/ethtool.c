// SPDX-License-Identifier: MIT OR GPL-2.0
/* What ethtool shows: the engine's counters, each drop under its reason's name. */
#include <linux/ethtool.h>
#include <linux/module.h>
#include "cvsw.h"

/* Counters of the shim, in front of the engine's. */
static const char own_names[][ETH_GSTRING_LEN] = {
	"lock_operations", "tx_no_memory",    "rx_no_memory",	 "control_mtu_refused", "flows", "session",
	"cipher_fast",	   "cipher_generic", "cipher_portable", "lanes",		 "lock_contended",
	"control_overflow", "cipher_lanes",
};
#define OWN_COUNT ARRAY_SIZE(own_names)

static u32 engine_count(const struct cvsw *vnic)
{
	u8 name[ETH_GSTRING_LEN];
	u32 count = 0;

	while (cvsw_counter_name(vnic->lanes[0]->engine, count, name, sizeof(name)))
		count++;
	return count;
}

static int cvsw_get_sset_count(struct net_device *dev, int set)
{
	return set == ETH_SS_STATS ? OWN_COUNT + engine_count(netdev_priv(dev)) : -EOPNOTSUPP;
}

static void cvsw_get_strings(struct net_device *dev, u32 set, u8 *data)
{
	struct cvsw *vnic = netdev_priv(dev);
	u32 index;

	if (set != ETH_SS_STATS)
		return;
	memcpy(data, own_names, sizeof(own_names));
	data += sizeof(own_names);
	for (index = 0; cvsw_counter_name(vnic->lanes[0]->engine, index, data, ETH_GSTRING_LEN); index++)
		data += ETH_GSTRING_LEN;
}

/* Adds what one lane counted. */
static void cvsw_add_lane(const struct cvsw_lane *lane, const struct ethtool_stats *stats, u64 *data)
{
	u64 fast = lane->scratch.packets[CVSW_FAST], generic = lane->scratch.packets[CVSW_GENERIC];
	u64 portable = cvsw_engine_portable_packets(lane->engine);

	data[0] += lane->lock_operations;
	data[6] += fast;
	data[7] += generic;
	data[8] += portable;
	data[10] += lane->lock_contended;
	/* Lanes that have sealed or opened anything. */
	data[12] += fast || generic || portable;
	cvsw_engine_counters(lane->engine, data + OWN_COUNT, stats->n_stats - OWN_COUNT);
}

static void cvsw_get_ethtool_stats(struct net_device *dev, struct ethtool_stats *stats, u64 *data)
{
	struct cvsw *vnic = netdev_priv(dev);
	struct cvsw_engine *first = vnic->lanes[0]->engine;
	u32 i;

	memset(data, 0, stats->n_stats * sizeof(*data));
	cvsw_lock_lanes(vnic);
	data[4] = cvsw_engine_flow_count(first);
	data[5] = cvsw_engine_session(first);
	data[9] = vnic->lane_count;
	for (i = 0; i < vnic->lane_count; i++)
		cvsw_add_lane(vnic->lanes[i], stats, data);
	cvsw_unlock_lanes(vnic);
	data[1] = atomic64_read(&vnic->tx_no_memory);
	data[2] = atomic64_read(&vnic->rx_no_memory);
	data[3] = atomic64_read(&vnic->mtu_refused);
	data[11] = atomic64_read(&vnic->control_overflow);
}

static void cvsw_get_drvinfo(struct net_device *dev, struct ethtool_drvinfo *info)
{
	struct cvsw *vnic = netdev_priv(dev);

	strscpy(info->driver, CVSW_NAME, sizeof(info->driver));
	strscpy(info->version, CVSW_VERSION, sizeof(info->version));
	strscpy(info->bus_info, netdev_name(vnic->lower), sizeof(info->bus_info));
}

static int cvsw_get_link_ksettings(struct net_device *dev, struct ethtool_link_ksettings *settings)
{
	struct cvsw *vnic = netdev_priv(dev);

	return __ethtool_get_link_ksettings(vnic->lower, settings);
}

const struct ethtool_ops cvsw_ethtool_ops = {
	.get_drvinfo = cvsw_get_drvinfo,
	.get_link = ethtool_op_get_link,
	.get_link_ksettings = cvsw_get_link_ksettings,
	.get_sset_count = cvsw_get_sset_count,
	.get_strings = cvsw_get_strings,
	.get_ethtool_stats = cvsw_get_ethtool_stats,
};
