/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What the files of the shim share, and the functions of the Rust engine (../src/sys.rs). */
#ifndef CVSW_H
#define CVSW_H

#include <linux/netdevice.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>
#include <net/gro_cells.h>
#include "compat.h"

#define CVSW_NAME "cvsw"

/* Room for encapsulations: VXLAN over IPv4 with an outer tag is 54 bytes, ESP with its trailer below 64. */
#define CVSW_HEADROOM 128
#define CVSW_TAILROOM 64
/* Frames per call of the engine, and so per acquisition of the lock. */
#define CVSW_BURST 32
/* Longest control frame of a vNIC (the engine asserts that its own are not longer). */
#define CVSW_CONTROL_MAX 1536

struct cvsw_engine;

struct cvsw_frame {
	u8 *start;
	u32 size;
	u32 pad;
	u32 head;
	u32 len;
	u16 verdict;
	u16 verified;
};

#define CVSW_FORWARD 0
#define CVSW_CONSUMED 1

struct cvsw_step {
	u8 kind;
	u8 effect;
	u16 priority;
	u32 argument;
	u64 cookie;
};

enum { CVSW_EVENT_NONE, CVSW_EVENT_SESSION, CVSW_EVENT_MTU, CVSW_EVENT_OFFLOAD };

#define CVSW_OFFLOAD_CSUM BIT(0)
#define CVSW_OFFLOAD_TSO BIT(1)
#define CVSW_OFFLOAD_UFO BIT(2)
#define CVSW_OFFLOAD_GSO BIT(3)
#define CVSW_OFFLOAD_GRO BIT(4)

size_t cvsw_engine_size(void);
void cvsw_engine_init(struct cvsw_engine *engine, const u8 *mac, u64 seed, u32 link_mtu);
void cvsw_engine_set_link(struct cvsw_engine *engine, const u8 *mac, u32 link_mtu);
void cvsw_engine_announce(struct cvsw_engine *engine);
void cvsw_engine_burst(struct cvsw_engine *engine, u64 now, u32 receive, struct cvsw_frame *frames, u32 count);
u32 cvsw_engine_poll_transmit(struct cvsw_engine *engine, u8 *out, u32 size);
u32 cvsw_engine_poll_event(struct cvsw_engine *engine, u32 *argument);
void cvsw_engine_tick(struct cvsw_engine *engine, u64 now);
u32 cvsw_engine_flow_mod(struct cvsw_engine *engine, u64 now, const u8 *message, u32 len);
u32 cvsw_engine_next_flow(const struct cvsw_engine *engine, u64 now, u32 *cursor, u8 *out, u32 size);
u32 cvsw_engine_flow_count(const struct cvsw_engine *engine);
u32 cvsw_engine_session(const struct cvsw_engine *engine);
/* Needs no lock: only the number of counters and their names matter. */
bool cvsw_counter_name(const struct cvsw_engine *engine, u32 index, u8 *out, u32 size);
void cvsw_engine_counters(const struct cvsw_engine *engine, u64 *out, u32 count);
u32 cvsw_engine_trace(struct cvsw_engine *engine, u64 now, u32 receive, struct cvsw_frame *frame,
		      struct cvsw_step *steps, u32 room);
void cvsw_panicked(void);

/* One vNIC: the private part of its net_device. */
struct cvsw {
	struct net_device *dev;
	struct net_device *lower;
	netdevice_tracker lower_tracker;
	struct gro_cells gro;
	struct delayed_work work;
	/* The address was given by the user: it does not follow the lower device's. */
	bool own_mac;
	/* Frames for which no memory could be had before the engine saw them, or that could not be cut. */
	atomic64_t tx_no_memory;
	atomic64_t rx_no_memory;
	/* MTUs of a controller that the lower device's did not allow. */
	atomic64_t mtu_refused;

	/* Guards everything below. Taken with bottom halves off; held for one burst. */
	spinlock_t lock;
	struct cvsw_engine *engine;
	/* Scratch of a burst: too large for the stack. */
	struct cvsw_frame frames[CVSW_BURST];
	/* Acquisitions of the lock by the packet path, shown by `ethtool -S`. */
	u64 lock_operations;
	/* What a controller asked for and the work item has not done yet. 0: nothing. */
	u32 mtu_due;
	bool offload_due;
	u32 offload;
};

extern const struct ethtool_ops cvsw_ethtool_ops;

bool cvsw_is_vnic(const struct net_device *dev);

int cvsw_netlink_init(void);
void cvsw_netlink_exit(void);

#endif
