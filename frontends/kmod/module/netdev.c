// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The network device `cvsw`: a virtual NIC stacked on a lower Ethernet device.
 *
 *   transmit   cvsw_start_xmit -> cvsw_process -> engine -> dev_queue_xmit(lower)
 *   receive    cvsw_handle_frame (rx handler of the lower device) -> cvsw_process -> engine -> gro_cells_receive
 *
 * The engine wants what a wire carries: super-frames are cut, checksums filled in, VLAN tags put back into the
 * frame, the bytes made linear and private before it sees a frame. So nothing depends on the lower device's
 * offload features, and a change of them needs no reaction.
 *
 * Locking: one engine and one spin lock per vNIC, taken with bottom halves off once per burst (once per 32
 * segments of a super-frame), never while a frame is handed on. The engine's counters, replay windows and
 * sequence numbers belong to the vNIC and not to a CPU: engines per CPU would need them merged (an entry that is
 * idle on one CPU is in use on another) and, with encryption, would use a nonce twice. What sleeps, needs the RTNL
 * (MTU, offloads) or may be long (listings) is left to `work`, which only tries to take the RTNL: so it can be
 * cancelled under the RTNL.
 */
#include <linux/etherdevice.h>
#include <linux/if_arp.h>
#include <linux/ethtool.h>
#include <linux/if_vlan.h>
#include <linux/module.h>
#include <linux/random.h>
#include <linux/vmalloc.h>
#include <net/rtnetlink.h>
#include "cvsw.h"

static rx_handler_result_t cvsw_handle_frame(struct sk_buff **pskb);

/* Called by the engine's panic handler; the build makes sure that no path leads to it. */
void cvsw_panicked(void)
{
	BUG();
}

static u32 cvsw_link_mtu(const struct net_device *lower)
{
	/* A tag does not count, as everywhere in Linux (see is_skb_forwardable()). */
	return READ_ONCE(lower->mtu) + ETH_HLEN + VLAN_HLEN;
}

/* Packet path */

/* Cuts a super-frame; returns a list, or NULL if that failed (the frame is freed then). */
static struct sk_buff *cvsw_segment(struct sk_buff *skb, bool receive)
{
	struct sk_buff *segments;

	if (!skb_is_gso(skb))
		return skb;
	segments = __skb_gso_segment(skb, 0, !receive);
	if (!segments)
		return skb;
	if (IS_ERR(segments)) {
		kfree_skb(skb);
		return NULL;
	}
	consume_skb(skb);
	return segments;
}

/* Makes the frame what a wire carries, linear, writable and with room; NULL (and freed) if memory is short. */
static struct sk_buff *cvsw_prepare(struct sk_buff *skb)
{
	int head, tail;

	if (skb_vlan_tag_present(skb)) {
		skb = __vlan_hwaccel_push_inside(skb);
		if (!skb)
			return NULL;
	}
	if (skb->ip_summed == CHECKSUM_PARTIAL && skb_checksum_help(skb))
		goto drop;
	if (skb_linearize(skb))
		goto drop;
	head = max_t(int, CVSW_HEADROOM - skb_headroom(skb), 0);
	tail = max_t(int, CVSW_TAILROOM - skb_tailroom(skb), 0);
	if ((head || tail || skb_cloned(skb)) && pskb_expand_head(skb, head, tail, GFP_ATOMIC))
		goto drop;
	return skb;

drop:
	kfree_skb(skb);
	return NULL;
}

static void cvsw_send_down(struct cvsw *vnic, struct sk_buff *skb)
{
	struct net_device *lower = vnic->lower;
	int result;

	skb_scrub_packet(skb, !net_eq(dev_net(vnic->dev), dev_net(lower)));
	skb->dev = lower;
	skb->encapsulation = 0;
	skb_reset_mac_header(skb);
	skb_set_network_header(skb, ETH_HLEN);
	skb_reset_mac_len(skb);
	skb->protocol = eth_hdr(skb)->h_proto;
	skb_probe_transport_header(skb);
	result = dev_queue_xmit(skb);
	/* A macro that evaluates its argument twice. */
	if (net_xmit_eval(result))
		dev_core_stats_tx_dropped_inc(vnic->dev);
}

static void cvsw_send_up(struct cvsw *vnic, struct sk_buff *skb)
{
	skb_scrub_packet(skb, !net_eq(dev_net(vnic->dev), dev_net(vnic->lower)));
	skb_clear_hash(skb);
	skb->encapsulation = 0;
	skb->csum_level = 0;
	skb->csum_valid = 0;
	dev_sw_netstats_rx_add(vnic->dev, skb->len);
	/* For us until the addresses say otherwise. */
	skb->pkt_type = PACKET_HOST;
	skb->protocol = eth_type_trans(skb, vnic->dev);
	skb_reset_network_header(skb);
	gro_cells_receive(&vnic->gro, skb);
}

/* Writes what the engine did into the skb and the device's counters; returns the verdict. */
static u16 cvsw_apply(struct cvsw *vnic, struct sk_buff *skb, const struct cvsw_frame *frame, bool receive)
{
	if (frame->verdict == CVSW_FORWARD) {
		if (!receive)
			dev_sw_netstats_tx_add(vnic->dev, 1, skb->len);
		skb->data = skb->head + frame->head;
		skb->len = frame->len;
		skb_set_tail_pointer(skb, frame->len);
		skb->ip_summed = receive && frame->verified ? CHECKSUM_UNNECESSARY : CHECKSUM_NONE;
	} else if (frame->verdict != CVSW_CONSUMED) {
		if (receive)
			dev_core_stats_rx_dropped_inc(vnic->dev);
		else
			dev_core_stats_tx_dropped_inc(vnic->dev);
	}
	return frame->verdict;
}

/* One burst: one acquisition of the lock. Returns whether there was a control message. */
static bool cvsw_run_engine(struct cvsw *vnic, struct sk_buff **skbs, u16 *verdicts, u32 count, bool receive)
{
	bool consumed = false;
	u32 i;

	spin_lock_bh(&vnic->lock);
	vnic->lock_operations++;
	for (i = 0; i < count; i++) {
		vnic->frames[i] = (struct cvsw_frame){
			.start = skbs[i]->head,
			.size = skb_end_offset(skbs[i]),
			.head = skb_headroom(skbs[i]),
			.len = skbs[i]->len,
			.verified = skbs[i]->ip_summed == CHECKSUM_UNNECESSARY,
		};
	}
	cvsw_engine_burst(vnic->engine, ktime_get_ns(), receive, vnic->frames, count);
	for (i = 0; i < count; i++) {
		verdicts[i] = cvsw_apply(vnic, skbs[i], &vnic->frames[i], receive);
		consumed |= verdicts[i] == CVSW_CONSUMED;
	}
	spin_unlock_bh(&vnic->lock);
	return consumed;
}

static void cvsw_process(struct cvsw *vnic, struct sk_buff *list, bool receive)
{
	struct sk_buff *burst[CVSW_BURST];
	u16 verdicts[CVSW_BURST];
	struct sk_buff *skb;
	u32 count, i;

	while (list) {
		for (count = 0; list && count < CVSW_BURST;) {
			skb = list;
			list = skb->next;
			skb_mark_not_on_list(skb);
			burst[count] = cvsw_prepare(skb);
			if (burst[count])
				count++;
			else
				atomic64_inc(receive ? &vnic->rx_no_memory : &vnic->tx_no_memory);
		}
		if (cvsw_run_engine(vnic, burst, verdicts, count, receive))
			mod_delayed_work(system_wq, &vnic->work, 0);
		for (i = 0; i < count; i++) {
			if (verdicts[i] == CVSW_CONSUMED)
				consume_skb(burst[i]);
			else if (verdicts[i] != CVSW_FORWARD)
				kfree_skb(burst[i]);
			else if (receive)
				cvsw_send_up(vnic, burst[i]);
			else
				cvsw_send_down(vnic, burst[i]);
		}
	}
}

static netdev_tx_t cvsw_start_xmit(struct sk_buff *skb, struct net_device *dev)
{
	struct cvsw *vnic = netdev_priv(dev);

	skb = cvsw_segment(skb, false);
	if (skb)
		cvsw_process(vnic, skb, false);
	else
		atomic64_inc(&vnic->tx_no_memory);
	return NETDEV_TX_OK;
}

static rx_handler_result_t cvsw_handle_frame(struct sk_buff **pskb)
{
	struct sk_buff *skb = *pskb;
	struct cvsw *vnic = rcu_dereference(skb->dev->rx_handler_data);

	if (skb->pkt_type == PACKET_LOOPBACK)
		return RX_HANDLER_PASS;
	skb = skb_share_check(skb, GFP_ATOMIC);
	if (skb) {
		skb_push(skb, skb->data - skb_mac_header(skb));
		skb = cvsw_segment(skb, true);
	}
	if (skb)
		cvsw_process(vnic, skb, true);
	else
		atomic64_inc(&vnic->rx_no_memory);
	return RX_HANDLER_CONSUMED;
}

/* Control */

/* The next control frame that the engine wants sent; NULL if there is none, or no memory (it stays queued). */
static struct sk_buff *cvsw_control_frame(struct cvsw *vnic)
{
	struct sk_buff *skb = netdev_alloc_skb(vnic->lower, CVSW_HEADROOM + CVSW_CONTROL_MAX);
	u32 len;

	if (!skb)
		return NULL;
	skb_reserve(skb, CVSW_HEADROOM);
	spin_lock_bh(&vnic->lock);
	len = cvsw_engine_poll_transmit(vnic->engine, skb->data, CVSW_CONTROL_MAX);
	spin_unlock_bh(&vnic->lock);
	if (!len) {
		consume_skb(skb);
		return NULL;
	}
	skb_put(skb, len);
	return skb_put_padto(skb, ETH_ZLEN) ? NULL : skb;
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

/* Fetches what the engine wants done; returns whether the RTNL is needed for something. */
static bool cvsw_poll(struct cvsw *vnic)
{
	u32 kind, argument;
	bool due;

	spin_lock_bh(&vnic->lock);
	cvsw_engine_tick(vnic->engine, ktime_get_ns());
	while ((kind = cvsw_engine_poll_event(vnic->engine, &argument)) != CVSW_EVENT_NONE) {
		if (kind == CVSW_EVENT_MTU) {
			vnic->mtu_due = argument;
		} else if (kind == CVSW_EVENT_OFFLOAD) {
			vnic->offload = argument;
			vnic->offload_due = true;
		}
	}
	due = vnic->mtu_due || vnic->offload_due;
	spin_unlock_bh(&vnic->lock);
	return due;
}

/* Does what needs the RTNL, which the caller holds. */
static void cvsw_reconfigure(struct cvsw *vnic)
{
	u32 mtu, offload;
	bool offload_due;

	spin_lock_bh(&vnic->lock);
	mtu = vnic->mtu_due;
	offload = vnic->offload;
	offload_due = vnic->offload_due;
	vnic->mtu_due = 0;
	vnic->offload_due = false;
	spin_unlock_bh(&vnic->lock);
	if (mtu && dev_set_mtu(vnic->dev, mtu)) {
		atomic64_inc(&vnic->mtu_refused);
		netdev_warn(vnic->dev, "the controller's MTU %u does not fit %s with MTU %u: raise that one first\n", mtu,
			    netdev_name(vnic->lower), vnic->lower->mtu);
	}
	if (offload_due)
		cvsw_set_offload(vnic->dev, offload);
}

static void cvsw_work(struct work_struct *work)
{
	struct cvsw *vnic = container_of(to_delayed_work(work), struct cvsw, work);
	unsigned long delay = HZ;
	struct sk_buff *skb;

	if (cvsw_poll(vnic)) {
		if (rtnl_trylock()) {
			if (vnic->dev->reg_state == NETREG_REGISTERED)
				cvsw_reconfigure(vnic);
			rtnl_unlock();
		} else {
			delay = 1;
		}
	}
	while ((skb = cvsw_control_frame(vnic))) {
		skb->dev = vnic->lower;
		skb_reset_mac_header(skb);
		skb->protocol = eth_hdr(skb)->h_proto;
		skb_set_network_header(skb, ETH_HLEN);
		dev_queue_xmit(skb);
		cond_resched();
	}
	queue_delayed_work(system_wq, &vnic->work, delay);
}

/* Device operations */

/* Tells the engine what the devices look like now. */
static void cvsw_update_link(struct cvsw *vnic)
{
	spin_lock_bh(&vnic->lock);
	cvsw_engine_set_link(vnic->engine, vnic->dev->dev_addr, cvsw_link_mtu(vnic->lower));
	spin_unlock_bh(&vnic->lock);
}

static void cvsw_announce(struct cvsw *vnic)
{
	spin_lock_bh(&vnic->lock);
	cvsw_engine_announce(vnic->engine);
	spin_unlock_bh(&vnic->lock);
	mod_delayed_work(system_wq, &vnic->work, 0);
}

static int cvsw_init(struct net_device *dev)
{
	struct cvsw *vnic = netdev_priv(dev);
	int err = -ENOMEM;

	vnic->engine = vzalloc(cvsw_engine_size());
	if (!vnic->engine)
		return err;
	dev->tstats = netdev_alloc_pcpu_stats(struct pcpu_sw_netstats);
	if (!dev->tstats)
		goto free_engine;
	err = gro_cells_init(&vnic->gro, dev);
	if (err)
		goto free_stats;
	spin_lock_init(&vnic->lock);
	INIT_DELAYED_WORK(&vnic->work, cvsw_work);
	cvsw_engine_init(vnic->engine, dev->dev_addr, get_random_u64(), cvsw_link_mtu(vnic->lower));
	netdev_hold(vnic->lower, &vnic->lower_tracker, GFP_KERNEL);
	return 0;

free_stats:
	free_percpu(dev->tstats);
free_engine:
	vfree(vnic->engine);
	return err;
}

static void cvsw_uninit(struct net_device *dev)
{
	struct cvsw *vnic = netdev_priv(dev);

	cancel_delayed_work_sync(&vnic->work);
	gro_cells_destroy(&vnic->gro);
}

/* The last one to see the device: nobody can reach the engine any more. */
static void cvsw_free(struct net_device *dev)
{
	struct cvsw *vnic = netdev_priv(dev);

	vfree(vnic->engine);
	free_percpu(dev->tstats);
	netdev_put(vnic->lower, &vnic->lower_tracker);
}

static int cvsw_open(struct net_device *dev)
{
	struct cvsw *vnic = netdev_priv(dev);
	int err;

	if (!(vnic->lower->flags & IFF_UP)) {
		netdev_err(dev, "%s is down: set it up first\n", netdev_name(vnic->lower));
		return -ENETDOWN;
	}
	/* Outer headers may carry addresses that the lower device does not know. */
	err = dev_set_promiscuity(vnic->lower, 1);
	if (err)
		return err;
	cvsw_announce(vnic);
	return 0;
}

static int cvsw_stop(struct net_device *dev)
{
	struct cvsw *vnic = netdev_priv(dev);

	dev_uc_unsync(vnic->lower, dev);
	dev_mc_unsync(vnic->lower, dev);
	dev_set_promiscuity(vnic->lower, -1);
	return 0;
}

static void cvsw_set_rx_mode(struct net_device *dev)
{
	struct cvsw *vnic = netdev_priv(dev);

	dev_uc_sync(vnic->lower, dev);
	dev_mc_sync(vnic->lower, dev);
}

static int cvsw_change_mtu(struct net_device *dev, int mtu)
{
	struct cvsw *vnic = netdev_priv(dev);

	if (mtu > vnic->lower->mtu)
		return -ERANGE;
	WRITE_ONCE(dev->mtu, mtu);
	return 0;
}

static int cvsw_set_mac_address(struct net_device *dev, void *address)
{
	struct cvsw *vnic = netdev_priv(dev);
	int err = eth_mac_addr(dev, address);

	if (err)
		return err;
	vnic->own_mac = true;
	cvsw_update_link(vnic);
	if (netif_running(dev))
		cvsw_announce(vnic);
	return 0;
}

static int cvsw_get_iflink(const struct net_device *dev)
{
	const struct cvsw *vnic = netdev_priv(dev);

	return READ_ONCE(vnic->lower->ifindex);
}

static const struct net_device_ops cvsw_netdev_ops = {
	.ndo_init = cvsw_init,
	.ndo_uninit = cvsw_uninit,
	.ndo_open = cvsw_open,
	.ndo_stop = cvsw_stop,
	.ndo_start_xmit = cvsw_start_xmit,
	.ndo_set_rx_mode = cvsw_set_rx_mode,
	.ndo_set_mac_address = cvsw_set_mac_address,
	.ndo_validate_addr = eth_validate_addr,
	.ndo_change_mtu = cvsw_change_mtu,
	.ndo_get_stats64 = dev_get_tstats64,
	.ndo_get_iflink = cvsw_get_iflink,
};

bool cvsw_is_vnic(const struct net_device *dev)
{
	return dev->netdev_ops == &cvsw_netdev_ops;
}

/* Link type */

#define CVSW_FEATURES                                                                                                  \
	(NETIF_F_SG | NETIF_F_HW_CSUM | NETIF_F_RXCSUM | NETIF_F_ALL_TSO | NETIF_F_GSO_UDP_L4 | NETIF_F_HIGHDMA)

static void cvsw_setup(struct net_device *dev)
{
	ether_setup(dev);
	dev->netdev_ops = &cvsw_netdev_ops;
	dev->ethtool_ops = &cvsw_ethtool_ops;
	dev->needs_free_netdev = true;
	dev->priv_destructor = cvsw_free;
	dev->priv_flags |= IFF_NO_QUEUE | IFF_DISABLE_NETPOLL | IFF_LIVE_ADDR_CHANGE;
	dev->priv_flags &= ~IFF_TX_SKB_SHARING;
	cvsw_set_lockless(dev);
	dev->features |= CVSW_FEATURES;
	dev->hw_features |= CVSW_FEATURES;
	dev->vlan_features |= CVSW_FEATURES;
	dev->min_mtu = ETH_MIN_MTU;
	dev->max_mtu = ETH_MAX_MTU;
}

/* The vNIC on top of a device; NULL if there is none. Under the RTNL. */
static struct cvsw *cvsw_of_lower(const struct net_device *lower)
{
	if (rcu_access_pointer(lower->rx_handler) != cvsw_handle_frame)
		return NULL;
	return rtnl_dereference(lower->rx_handler_data);
}

static int cvsw_check_lower(const struct net_device *lower, struct netlink_ext_ack *extack)
{
	if (lower->type != ARPHRD_ETHER || lower->flags & IFF_LOOPBACK) {
		NL_SET_ERR_MSG(extack, "the lower device must be an Ethernet device");
		return -EINVAL;
	}
	if (cvsw_is_vnic(lower)) {
		NL_SET_ERR_MSG(extack, "the lower device is a cvsw itself");
		return -EINVAL;
	}
	if (netdev_is_rx_handler_busy((struct net_device *)lower)) {
		NL_SET_ERR_MSG(extack, "the lower device is in use by a bridge, bond, macvlan or cvsw");
		return -EBUSY;
	}
	return 0;
}

CVSW_NEWLINK(cvsw_newlink)
{
	struct cvsw *vnic = netdev_priv(dev);
	struct net_device *lower;
	int err;

	if (!CVSW_NEWLINK_TB[IFLA_LINK]) {
		NL_SET_ERR_MSG(extack, "a lower device is needed: ip link add link DEVICE name NAME type cvsw");
		return -EINVAL;
	}
	lower = __dev_get_by_index(CVSW_NEWLINK_NET, nla_get_u32(CVSW_NEWLINK_TB[IFLA_LINK]));
	if (!lower)
		return -ENODEV;
	err = cvsw_check_lower(lower, extack);
	if (err)
		return err;
	vnic->dev = dev;
	vnic->lower = lower;
	vnic->own_mac = CVSW_NEWLINK_TB[IFLA_ADDRESS];
	if (!vnic->own_mac)
		eth_hw_addr_inherit(dev, lower);
	if (!CVSW_NEWLINK_TB[IFLA_MTU])
		dev->mtu = lower->mtu;
	else if (dev->mtu > lower->mtu)
		return -ERANGE;
	dev->needed_headroom = CVSW_HEADROOM + lower->needed_headroom;
	dev->needed_tailroom = CVSW_TAILROOM + lower->needed_tailroom;
	err = register_netdevice(dev);
	if (err)
		return err;
	err = netdev_upper_dev_link(lower, dev, extack);
	if (err)
		goto unregister;
	err = netdev_rx_handler_register(lower, cvsw_handle_frame, vnic);
	if (err)
		goto unlink;
	/* Large receive offload loses what is needed to cut its frames again. */
	dev_disable_lro(lower);
	netif_stacked_transfer_operstate(lower, dev);
	linkwatch_fire_event(dev);
	return 0;

unlink:
	netdev_upper_dev_unlink(lower, dev);
unregister:
	unregister_netdevice(dev);
	return err;
}

static void cvsw_dellink(struct net_device *dev, struct list_head *head)
{
	struct cvsw *vnic = netdev_priv(dev);

	/* Waits for the frames under way. */
	netdev_rx_handler_unregister(vnic->lower);
	netdev_upper_dev_unlink(vnic->lower, dev);
	unregister_netdevice_queue(dev, head);
}

static struct net *cvsw_get_link_net(const struct net_device *dev)
{
	const struct cvsw *vnic = netdev_priv(dev);

	return dev_net(vnic->lower);
}

static struct rtnl_link_ops cvsw_link_ops __read_mostly = {
	.kind = CVSW_NAME,
	.priv_size = sizeof(struct cvsw),
	.setup = cvsw_setup,
	.newlink = cvsw_newlink,
	.dellink = cvsw_dellink,
	.get_link_net = cvsw_get_link_net,
};

/* The lower device's address changed: a vNIC that has no own one follows. */
static void cvsw_follow_address(struct cvsw *vnic)
{
	if (vnic->own_mac)
		return;
	eth_hw_addr_set(vnic->dev, vnic->lower->dev_addr);
	call_netdevice_notifiers(NETDEV_CHANGEADDR, vnic->dev);
	cvsw_update_link(vnic);
	if (netif_running(vnic->dev))
		cvsw_announce(vnic);
}

static int cvsw_event(struct notifier_block *unused, unsigned long event, void *info)
{
	struct net_device *lower = netdev_notifier_info_to_dev(info);
	struct cvsw *vnic = cvsw_of_lower(lower);
	LIST_HEAD(doomed);

	if (!vnic)
		return NOTIFY_DONE;
	switch (event) {
	case NETDEV_UP:
	case NETDEV_DOWN:
	case NETDEV_CHANGE:
		netif_stacked_transfer_operstate(lower, vnic->dev);
		break;
	case NETDEV_CHANGEMTU:
		cvsw_update_link(vnic);
		if (vnic->dev->mtu > lower->mtu)
			dev_set_mtu(vnic->dev, lower->mtu);
		break;
	case NETDEV_CHANGEADDR:
		cvsw_follow_address(vnic);
		break;
	case NETDEV_UNREGISTER:
		/* A device that moves to another namespace sends this too; the vNIC stays on it. */
		if (lower->reg_state == NETREG_UNREGISTERING) {
			cvsw_dellink(vnic->dev, &doomed);
			unregister_netdevice_many(&doomed);
		}
		break;
	case NETDEV_PRE_TYPE_CHANGE:
		return NOTIFY_BAD;
	}
	return NOTIFY_DONE;
}

static struct notifier_block cvsw_notifier = { .notifier_call = cvsw_event };

static int __init cvsw_module_init(void)
{
	int err = register_netdevice_notifier(&cvsw_notifier);

	if (err)
		return err;
	err = cvsw_netlink_init();
	if (err)
		goto unregister_notifier;
	err = rtnl_link_register(&cvsw_link_ops);
	if (err)
		goto exit_netlink;
	return 0;

exit_netlink:
	cvsw_netlink_exit();
unregister_notifier:
	unregister_netdevice_notifier(&cvsw_notifier);
	return err;
}

static void __exit cvsw_module_exit(void)
{
	cvsw_netlink_exit();
	/* Deletes every vNIC. */
	rtnl_link_unregister(&cvsw_link_ops);
	unregister_netdevice_notifier(&cvsw_notifier);
}

module_init(cvsw_module_init);
module_exit(cvsw_module_exit);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("CVSW: a switch inside the virtual NIC");
MODULE_ALIAS_RTNL_LINK(CVSW_NAME);
