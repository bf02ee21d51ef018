/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The generic-netlink family `cvsw`, version 1. Every request names the vNIC by CVSW_ATTR_IFINDEX. Numbers are in
 * native byte order, OpenFlow structures in network byte order.
 *
 *   command     request                          reply
 *   FLOW_MOD    FLOW_MOD                         ERROR: 0, or 1 << 31 | OpenFlow error type << 16 | code
 *   FLOW_GET    CURSOR (first: none)             FLOW_STATS.., CURSOR if there may be more
 *   STATS_GET                                    COUNTER_NAMES (32 bytes each), COUNTER_VALUES (u64 each)
 *   TRACE       FRAME, RECEIVE (1: from the network)   VERDICT, FRAME as it leaves, STEPS (struct cvsw_step each)
 */
#ifndef CVSW_NETLINK_H
#define CVSW_NETLINK_H

enum {
	CVSW_CMD_FLOW_MOD = 1,
	CVSW_CMD_FLOW_GET,
	CVSW_CMD_STATS_GET,
	CVSW_CMD_TRACE,
	CVSW_CMD_MAX = CVSW_CMD_TRACE,
};

enum {
	CVSW_ATTR_IFINDEX = 1,
	/* An OFPT_FLOW_MOD or NXT_FLOW_MOD message. */
	CVSW_ATTR_FLOW_MOD,
	CVSW_ATTR_ERROR,
	CVSW_ATTR_CURSOR,
	/* Packets, bytes and age in nanoseconds (u64 each), then the flow as an OFPT_FLOW_MOD or NXT_FLOW_MOD message. */
	CVSW_ATTR_FLOW_STATS,
	CVSW_ATTR_COUNTER_NAMES,
	CVSW_ATTR_COUNTER_VALUES,
	CVSW_ATTR_FRAME,
	CVSW_ATTR_RECEIVE,
	/* 0 forward, 1 consumed, 256 + index of the drop reason. */
	CVSW_ATTR_VERDICT,
	CVSW_ATTR_STEPS,
	CVSW_ATTR_MAX = CVSW_ATTR_STEPS,
};

#endif
