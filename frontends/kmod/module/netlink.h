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
 *   SA_SET      SA, SA_LIMITS (optional)         ERROR: a result of SET_SA's answer
 *   SA_GET      CURSOR (first: none)             SA_LISTED.., CURSOR if there may be more; ENCRYPTED_ONLY
 *   KEYS_IN_CLEAR   ON                           ERROR: 0
 *   CONTROL_KEY CONTROL_KEY                      ERROR: 0; from now on only version 3, with this key, is believed
 *   CONTROL_GET                                  CONTROL_STATUS
 *
 * Keys go in and never come out.
 */
#ifndef CVSW_NETLINK_H
#define CVSW_NETLINK_H

enum {
	CVSW_CMD_FLOW_MOD = 1,
	CVSW_CMD_FLOW_GET,
	CVSW_CMD_STATS_GET,
	CVSW_CMD_TRACE,
	CVSW_CMD_SA_SET,
	CVSW_CMD_SA_GET,
	CVSW_CMD_KEYS_IN_CLEAR,
	CVSW_CMD_CONTROL_KEY,
	CVSW_CMD_CONTROL_GET,
	CVSW_CMD_MAX = CVSW_CMD_CONTROL_GET,
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
	/* The body of a SET_SA, as in control messages, with the key if it has one. */
	CVSW_ATTR_SA,
	/* Last sequence number; packets, bytes and seconds of the soft and of the hard limit (u64 each). */
	CVSW_ATTR_SA_LIMITS,
	/* struct Listed of ../src/sa.rs. */
	CVSW_ATTR_SA_LISTED,
	/* VNIs (u32 each) whose frames may not travel in clear. */
	CVSW_ATTR_ENCRYPTED_ONLY,
	/* Whether keys are taken from control messages, where they travel in clear. */
	CVSW_ATTR_ON,
	/* The key of the control channel (docs/src/protocol-v3.md), 16 bytes. */
	CVSW_ATTR_CONTROL_KEY,
	/* struct cvsw_control_status. */
	CVSW_ATTR_CONTROL_STATUS,
	CVSW_ATTR_MAX = CVSW_ATTR_CONTROL_STATUS,
};

#define CVSW_SA_LIMITS_LEN 56
#define CVSW_CONTROL_KEY_LEN 16

struct cvsw;
struct genl_info;
struct sk_buff;

/* What is done with a request, shared by the files of the family. */
struct cvsw_command {
	/* Acts on the vNIC and puts the answer; an error is the answer instead. Under the RTNL. */
	int (*run)(struct cvsw *vnic, struct genl_info *info, struct sk_buff *reply);
	/* Bytes of the longest answer. */
	size_t room;
	/* The attribute that the request must have, and what to say if it has not; 0: none. */
	int needs;
	const char *missing;
};

/* netlink_sa.c */
extern const struct cvsw_command cvsw_sa_set;
extern const struct cvsw_command cvsw_sa_get;
extern const struct cvsw_command cvsw_keys_in_clear;

/* netlink_control.c */
extern const struct cvsw_command cvsw_control_key;
extern const struct cvsw_command cvsw_control_get;

#endif
