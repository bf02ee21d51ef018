// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Control frames, and what the engine wants done outside of the packet path: MTU, offloads, keys, the passing of time.
 * All of it is left to one work item, since it sleeps, needs the RTNL or may be long. The work item only tries to take the RTNL
 * and comes back if it cannot: so it can be cancelled under the RTNL.
 */
#include <linux/etherdevice.h>
#include <linux/if_vlan.h>
#include <net/rtnetlink.h>
#include "cvsw.h"

void cvsw_wake(struct cvsw *vnic)
{
	mod_delayed_work(system_wq, &vnic->work, 0);
}

u32 cvsw_link_mtu(const struct net_device *lower)
{
	/* A tag does not count, as everywhere in Linux (see is_skb_forwardable()). */
	return READ_ONCE(lower->mtu) + ETH_HLEN + VLAN_HLEN;
}

/* Tells the engine what the devices look like now. */
void cvsw_update_link(struct cvsw *vnic)
{
	cvsw_lock_lanes(vnic);
	cvsw_engine_set_link(vnic->lanes[0]->engine, vnic->dev->dev_addr, cvsw_link_mtu(vnic->lower));
	cvsw_unlock_lanes(vnic);
}

void cvsw_announce(struct cvsw *vnic)
{
	spin_lock_bh(&vnic->lanes[0]->lock);
	cvsw_engine_announce(vnic->lanes[0]->engine);
	spin_unlock_bh(&vnic->lanes[0]->lock);
	cvsw_wake(vnic);
}

/* What was in a control frame, which may have been a key, does not stay behind in freed memory. */
static void cvsw_free_control(struct sk_buff *skb)
{
	memzero_explicit(skb->data, skb->len);
	kfree_skb(skb);
}

/* A control frame from the network, private and linear, waits for the work item: it may change the vNIC, which takes long. */
void cvsw_queue_control(struct cvsw *vnic, struct sk_buff *skb)
{
	if (skb_queue_len_lockless(&vnic->control) >= CVSW_CONTROL_QUEUE) {
		atomic64_inc(&vnic->control_overflow);
		dev_core_stats_rx_dropped_inc(vnic->dev);
		cvsw_free_control(skb);
		return;
	}
	/* It may be charged to the socket of a sender on this machine, whom the work item does not concern. */
	skb_orphan(skb);
	skb_queue_tail(&vnic->control, skb);
	cvsw_wake(vnic);
}

/* Forgets those that still wait, when the vNIC ends. */
void cvsw_purge_control(struct cvsw *vnic)
{
	struct sk_buff *skb;

	while ((skb = skb_dequeue(&vnic->control)))
		cvsw_free_control(skb);
}

/* The next control frame that the engine wants sent; NULL if there is none, or no memory (it stays queued). */
static struct sk_buff *cvsw_control_frame(struct cvsw *vnic)
{
	struct sk_buff *skb = netdev_alloc_skb(vnic->lower, CVSW_HEADROOM + CVSW_CONTROL_MAX);
	u32 len;

	if (!skb)
		return NULL;
	skb_reserve(skb, CVSW_HEADROOM);
	spin_lock_bh(&vnic->lanes[0]->lock);
	len = cvsw_engine_poll_transmit(vnic->lanes[0]->engine, skb->data, CVSW_CONTROL_MAX);
	spin_unlock_bh(&vnic->lanes[0]->lock);
	if (!len) {
		consume_skb(skb);
		return NULL;
	}
	skb_put(skb, len);
	return skb_put_padto(skb, ETH_ZLEN) ? NULL : skb;
}

static void cvsw_send_control_frames(struct cvsw *vnic)
{
	struct sk_buff *skb;

	while ((skb = cvsw_control_frame(vnic))) {
		skb->dev = vnic->lower;
		skb_reset_mac_header(skb);
		skb->protocol = eth_hdr(skb)->h_proto;
		skb_set_network_header(skb, ETH_HLEN);
		dev_queue_xmit(skb);
		cond_resched();
	}
}

/*
 * Gives the engine the control frames that came, in their order. No more than a queue of them, so that a flood holds up
 * nothing else; those that come meanwhile have woken the work item again.
 */
static void cvsw_take_control(struct cvsw *vnic)
{
	u32 budget = CVSW_CONTROL_QUEUE;
	struct cvsw_frame frame;
	struct sk_buff *skb;

	while (budget-- && (skb = skb_dequeue(&vnic->control))) {
		cvsw_describe(&frame, skb);
		cvsw_lock_lanes(vnic);
		cvsw_engine_control(vnic->lanes[0]->engine, ktime_get_ns(), &frame);
		cvsw_unlock_lanes(vnic);
		cvsw_free_control(skb);
		/* The answer, before the next command's. */
		cvsw_send_control_frames(vnic);
		cond_resched();
	}
}

static void cvsw_set_offload(struct net_device *dev, u32 wanted)
{
	static const struct {
		u32 bit;
		netdev_features_t features;
	} map[] = {
		{ CVSW_OFFLOAD_CSUM, NETIF_F_HW_CSUM | NETIF_F_RXCSUM },
		{ CVSW_OFFLOAD_TSO, NETIF_F_ALL_TSO },
		/* UDP fragmentation offload is gone from Linux; segmentation is its successor. */
		{ CVSW_OFFLOAD_UFO, NETIF_F_GSO_UDP_L4 },
		{ CVSW_OFFLOAD_GSO, NETIF_F_GSO },
		{ CVSW_OFFLOAD_GRO, NETIF_F_GRO },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(map); i++) {
		if (wanted & map[i].bit)
			dev->wanted_features |= map[i].features;
		else
			dev->wanted_features &= ~map[i].features;
	}
	netdev_update_features(dev);
}

/* Never a key: the engine does not know them. */
static void cvsw_report_sa(struct cvsw *vnic, const struct cvsw_sa_news *news)
{
	const char *what = "near its end: it wants a new key";

	if (news->kind == CVSW_SA_HARD_LIMIT)
		what = "at its limit: its packets are dropped";
	else if (news->kind == CVSW_SA_EXHAUSTED)
		what = "without a sequence number left: its packets are dropped";
	else if (news->kind == CVSW_SA_STALE)
		what = "older than this copy of the VM: nothing is sent until there is a new key";
	if (net_ratelimit())
		netdev_warn(vnic->dev, "%s association %u (SPI %#x) is %s\n", news->receives ? "receiving" : "sending",
			    news->id, news->spi, what);
}

/* Fetches what the engine wants done; returns whether the RTNL is needed for something. */
static bool cvsw_poll(struct cvsw *vnic)
{
	struct cvsw_sa_news news;
	u32 kind, argument;
	bool due;

	cvsw_lock_lanes(vnic);
	cvsw_engine_tick(vnic->lanes[0]->engine, ktime_get_ns());
	while ((kind = cvsw_engine_poll_event(vnic->lanes[0]->engine, &argument)) != CVSW_EVENT_NONE) {
		if (kind == CVSW_EVENT_MTU) {
			vnic->mtu_due = argument;
		} else if (kind == CVSW_EVENT_OFFLOAD) {
			vnic->offload = argument;
			vnic->offload_due = true;
		}
	}
	while (cvsw_engine_poll_sa(vnic->lanes[0]->engine, &news))
		cvsw_report_sa(vnic, &news);
	due = vnic->mtu_due || vnic->offload_due;
	cvsw_unlock_lanes(vnic);
	return due;
}

static void cvsw_set_mtu(struct cvsw *vnic, u32 mtu)
{
	if (dev_set_mtu(vnic->dev, mtu)) {
		atomic64_inc(&vnic->mtu_refused);
		netdev_warn(vnic->dev, "the controller's MTU %u does not fit %s with MTU %u: raise that one first\n", mtu,
			    netdev_name(vnic->lower), vnic->lower->mtu);
		return;
	}
	/* From now on the VM is held to it, whatever it sets on the device itself. */
	cvsw_lock_lanes(vnic);
	cvsw_engine_set_mtu(vnic->lanes[0]->engine, mtu);
	cvsw_unlock_lanes(vnic);
	WRITE_ONCE(vnic->limited, true);
}

/* Does what needs the RTNL, which the caller holds. */
static void cvsw_reconfigure(struct cvsw *vnic)
{
	u32 mtu, offload;
	bool offload_due;

	spin_lock_bh(&vnic->lanes[0]->lock);
	mtu = vnic->mtu_due;
	offload = vnic->offload;
	offload_due = vnic->offload_due;
	vnic->mtu_due = 0;
	vnic->offload_due = false;
	spin_unlock_bh(&vnic->lanes[0]->lock);
	if (mtu)
		cvsw_set_mtu(vnic, mtu);
	if (offload_due)
		cvsw_set_offload(vnic->dev, offload);
}

void cvsw_work(struct work_struct *work)
{
	struct cvsw *vnic = container_of(to_delayed_work(work), struct cvsw, work);
	unsigned long delay = HZ;

	cvsw_take_control(vnic);
	/* Before the next packet if it can be: until then a new key works with the portable ciphers. */
	cvsw_keys_work(vnic);
	if (cvsw_poll(vnic)) {
		if (rtnl_trylock()) {
			if (vnic->dev->reg_state == NETREG_REGISTERED)
				cvsw_reconfigure(vnic);
			rtnl_unlock();
		} else {
			delay = 1;
		}
	}
	cvsw_send_control_frames(vnic);
	queue_delayed_work(system_wq, &vnic->work, delay);
}
