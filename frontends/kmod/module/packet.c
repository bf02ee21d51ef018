// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * A frame's way through a vNIC:
 *
 *   transmit   cvsw_start_xmit -> cvsw_process -> engine -> dev_queue_xmit(lower)
 *   receive    cvsw_handle_frame (rx handler of the lower device) -> cvsw_process -> engine -> gro_cells_receive
 *   control    cvsw_handle_frame -> cvsw_process -> cvsw_queue_control (control.c)
 *
 * The engine wants what a wire carries: super-frames are cut, checksums filled in, VLAN tags put back into the
 * frame, the bytes made linear and private before it sees a frame. So nothing depends on the lower device's
 * offload features, and a change of them needs no reaction.
 */
#include <linux/etherdevice.h>
#include <linux/if_vlan.h>
#include "cvsw.h"

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

/* Where the frame lies, for the engine. */
void cvsw_describe(struct cvsw_frame *frame, const struct sk_buff *skb)
{
	*frame = (struct cvsw_frame){
		.start = skb->head,
		.size = skb_end_offset(skb),
		.head = skb_headroom(skb),
		.len = skb->len,
		.verified = skb->ip_summed == CHECKSUM_UNNECESSARY,
	};
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

/* Hands the engine's answers to packets that were too big to the host. */
static void cvsw_answer_host(struct cvsw *vnic, struct cvsw_lane *lane)
{
	struct sk_buff *skb;
	u32 len;

	for (;;) {
		skb = netdev_alloc_skb(vnic->dev, NET_IP_ALIGN + CVSW_ANSWER_MAX);
		if (!skb)
			return;
		skb_reserve(skb, NET_IP_ALIGN);
		spin_lock_bh(&lane->lock);
		len = cvsw_engine_poll_host(lane->engine, skb->data, CVSW_ANSWER_MAX);
		spin_unlock_bh(&lane->lock);
		if (!len) {
			consume_skb(skb);
			return;
		}
		skb_put(skb, len);
		cvsw_send_up(vnic, skb);
	}
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

/* One burst: one acquisition of the lock. */
static void cvsw_run_engine(struct cvsw *vnic, struct cvsw_lane *lane, struct sk_buff **skbs, u16 *verdicts, u32 count,
			    bool receive)
{
	u32 i;

	local_bh_disable();
	if (!spin_trylock(&lane->lock)) {
		spin_lock(&lane->lock);
		lane->lock_contended++;
	}
	lane->lock_operations++;
	for (i = 0; i < count; i++)
		cvsw_describe(&lane->frames[i], skbs[i]);
	cvsw_engine_burst(lane->engine, ktime_get_ns(), receive, lane->frames, count);
	for (i = 0; i < count; i++)
		verdicts[i] = cvsw_apply(vnic, skbs[i], &lane->frames[i], receive);
	spin_unlock(&lane->lock);
	local_bh_enable();
}

/* Sends every frame of a burst where its verdict says. */
static void cvsw_hand_on(struct cvsw *vnic, struct cvsw_lane *lane, struct sk_buff **skbs, const u16 *verdicts,
			 u32 count, bool receive)
{
	bool dropped = false;
	u32 i;

	for (i = 0; i < count; i++) {
		/* Those are not for the packet path. */
		WARN_ON_ONCE(verdicts[i] == CVSW_CONSUMED);
		if (verdicts[i] != CVSW_FORWARD) {
			dropped = true;
			kfree_skb(skbs[i]);
		} else if (receive) {
			cvsw_send_up(vnic, skbs[i]);
		} else {
			cvsw_send_down(vnic, skbs[i]);
		}
	}
	if (dropped && !receive && READ_ONCE(vnic->limited))
		cvsw_answer_host(vnic, lane);
}

/* Bottom halves are off: the processor stays the same. */
static struct cvsw_lane *cvsw_lane_here(struct cvsw *vnic)
{
	return vnic->lanes[smp_processor_id() % vnic->lane_count];
}

static void cvsw_process(struct cvsw *vnic, struct sk_buff *list, bool receive)
{
	struct cvsw_lane *lane = cvsw_lane_here(vnic);
	struct sk_buff *burst[CVSW_BURST];
	u16 verdicts[CVSW_BURST];
	struct sk_buff *skb;
	u32 count;

	while (list) {
		for (count = 0; list && count < CVSW_BURST;) {
			skb = list;
			list = skb->next;
			skb_mark_not_on_list(skb);
			skb = cvsw_prepare(skb);
			if (!skb)
				atomic64_inc(receive ? &vnic->rx_no_memory : &vnic->tx_no_memory);
			else if (receive && cvsw_frame_is_control(skb->data, skb->len))
				cvsw_queue_control(vnic, skb);
			else
				burst[count++] = skb;
		}
		if (!count)
			continue;
		cvsw_run_engine(vnic, lane, burst, verdicts, count, receive);
		cvsw_hand_on(vnic, lane, burst, verdicts, count, receive);
	}
}

netdev_tx_t cvsw_start_xmit(struct sk_buff *skb, struct net_device *dev)
{
	struct cvsw *vnic = netdev_priv(dev);

	skb = cvsw_segment(skb, false);
	if (skb)
		cvsw_process(vnic, skb, false);
	else
		atomic64_inc(&vnic->tx_no_memory);
	return NETDEV_TX_OK;
}

rx_handler_result_t cvsw_handle_frame(struct sk_buff **pskb)
{
	struct sk_buff *skb = *pskb;
	struct cvsw *vnic = rcu_dereference(skb->dev->rx_handler_data);

	if (skb->pkt_type == PACKET_LOOPBACK)
		return RX_HANDLER_PASS;
	/* A NIC that is down receives nothing; an ESP packet, opened now, would be lost and look replayed later. */
	if (unlikely(!(READ_ONCE(vnic->dev->flags) & IFF_UP))) {
		dev_core_stats_rx_dropped_inc(vnic->dev);
		kfree_skb(skb);
		return RX_HANDLER_CONSUMED;
	}
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
