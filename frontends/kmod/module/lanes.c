// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Lanes: engines and their locks, one per processor, as many as the lower device has queues.
 *
 * A frame is processed by the lane of the processor that it comes on, under that lane's lock, which is therefore hardly
 * ever contended. A change of the vNIC (control frame, flow, time, MTU) is made to the engine of lane 0 with all lanes
 * locked: before it the counters and times of use of all entries are gathered from the replicas, after it the replicas
 * follow. So every processor sees a change at once, an idle timeout knows the last use on any of them, and what is
 * reported about an entry is complete.
 *
 * A sequence number used twice with one key gives the key away, and a replayed packet must not find a second window. So the
 * numbers and windows of security associations, and the keys, exist once, in `struct cvsw_shared`: the former change by atomic
 * operations, keys with all lanes locked. Ciphers compute under the lock of their own lane only.
 */
#include <linux/cpumask.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/topology.h>
#include <linux/vmalloc.h>
#include "cvsw.h"

/* One lane per queue of the lower device and per processor. */
static u32 cvsw_lanes_wanted(const struct net_device *lower)
{
	u32 queues = max(lower->real_num_tx_queues, lower->real_num_rx_queues);

	return clamp_t(u32, min(queues, num_online_cpus()), 1, CVSW_LANES_MAX);
}

/* NULL if memory is short, or if there are no `keys`. Not inlined, so that /proc/vmallocinfo names it. */
noinline struct cvsw_shared *cvsw_shared_alloc(struct cvsw_keys *keys)
{
	struct cvsw_shared *shared = keys ? vzalloc(cvsw_shared_size()) : NULL;

	if (shared)
		cvsw_shared_init(shared, keys);
	return shared;
}

/* Wipes all keys. */
void cvsw_shared_free(struct cvsw_shared *shared)
{
	if (!shared)
		return;
	cvsw_shared_end(shared);
	vfree(shared);
}

/* Makes the lanes of a new vNIC and what they share. On error the caller frees what was made. */
int cvsw_lanes_alloc(struct cvsw *vnic)
{
	u32 wanted = cvsw_lanes_wanted(vnic->lower);
	struct cvsw_lane *lane;
	int node;

	vnic->keys = cvsw_keys_alloc(wanted);
	vnic->shared = cvsw_shared_alloc(vnic->keys);
	if (!vnic->shared)
		return -ENOMEM;
	while (vnic->lane_count < wanted) {
		node = cpu_to_node(vnic->lane_count % nr_cpu_ids);
		lane = kzalloc_node(sizeof(*lane), GFP_KERNEL, node);
		if (!lane)
			return -ENOMEM;
		lane->engine = vzalloc_node(cvsw_engine_size(), node);
		if (!lane->engine) {
			kfree(lane);
			return -ENOMEM;
		}
		spin_lock_init(&lane->lock);
		lane->scratch.keys = vnic->keys;
		lane->scratch.lane = vnic->lane_count;
		cvsw_engine_init(lane->engine, vnic->shared, &lane->scratch, vnic->dev->dev_addr, get_random_u64(),
				 get_random_u64(), cvsw_link_mtu(vnic->lower));
		vnic->lanes[vnic->lane_count++] = lane;
	}
	cvsw_lock_lanes(vnic);
	cvsw_unlock_lanes(vnic);
	return 0;
}

/* Wipes all keys, too. */
void cvsw_lanes_free(struct cvsw *vnic)
{
	while (vnic->lane_count) {
		struct cvsw_lane *lane = vnic->lanes[--vnic->lane_count];

		cvsw_engine_end(lane->engine);
		vfree(lane->engine);
		kfree(lane);
	}
	cvsw_shared_free(vnic->shared);
	cvsw_keys_free(vnic->keys);
}

/* Locks all lanes and gathers what the replicas counted: now lane 0's engine knows everything and may change. */
void cvsw_lock_lanes(struct cvsw *vnic)
{
	u32 i;

	local_bh_disable();
	for (i = 0; i < vnic->lane_count; i++)
		spin_lock_nested(&vnic->lanes[i]->lock, i);
	for (i = 1; i < vnic->lane_count; i++)
		cvsw_engine_gather(vnic->lanes[0]->engine, vnic->lanes[i]->engine);
}

/* Lets the replicas follow a change, and unlocks all lanes. */
void cvsw_unlock_lanes(struct cvsw *vnic)
{
	u32 i;

	for (i = 1; i < vnic->lane_count; i++)
		cvsw_engine_follow(vnic->lanes[i]->engine, vnic->lanes[0]->engine);
	for (i = vnic->lane_count; i-- > 0;)
		spin_unlock(&vnic->lanes[i]->lock);
	local_bh_enable();
}
