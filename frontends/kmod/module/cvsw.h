/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What the files of the shim share, and the functions of the Rust engine (../src/sys.rs).
 *
 *   packet.c       a frame's way through a vNIC
 *   lanes.c        engines and their locks, one per processor
 *   control.c      control frames, and what the engine wants done outside of the packet path
 *   keys.c         the kernel's ciphers
 *   netdev.c       the operations of the network device
 *   link.c         the link type, the lower device's events, the module
 *   ethtool.c      counters
 *   netlink.c, netlink_sa.c, netlink_control.c   local administration
 */
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
/* Longest control frame of a vNIC, and longest answer to its host (the engine asserts that its own are not longer). */
#define CVSW_CONTROL_MAX 1536
#define CVSW_ANSWER_MAX 1536
/* Security associations of a vNIC (the engine asserts that it has as many). */
#define CVSW_SAS 256
/* Lanes of a vNIC, at most: lockdep knows no more locks of a kind, held at once. */
#define CVSW_LANES_MAX 8
/* Control frames that wait for the work item, at most: more than a controller has under way. */
#define CVSW_CONTROL_QUEUE 256

struct cvsw_engine;
struct cvsw_shared;
struct cvsw_keys;
struct cvsw_ciphers;

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

/* Something that happened to a security association. */
struct cvsw_sa_news {
	u32 id;
	u32 spi;
	u32 kind;
	u32 receives;
};

enum { CVSW_SA_SOFT_LIMIT = 1, CVSW_SA_HARD_LIMIT = 2, CVSW_SA_EXHAUSTED = 4, CVSW_SA_STALE = 8 };

struct cvsw_key_material {
	u8 cipher_key[32];
	u8 mac_key[32];
	u32 cipher_key_len;
	u32 mac_key_len;
	u32 gcm;
};

/* How a vNIC is controlled. Never its key. */
struct cvsw_control_status {
	u32 version;
	u32 version_3;
	u32 authenticated;
	u32 pad;
	u64 instance;
	u64 epoch;
	u64 executed;
	u64 duplicates;
};

/* What one packet is computed with beside its key. */
struct cvsw_packet {
	u8 counter_block[16];
	u8 aad[12];
	u32 aad_len;
	u8 mac_prefix[16];
	u8 mac_suffix[4];
	u32 mac_suffix_len;
	u32 icv_len;
};

/* Index of a transform. In the engine's words (Way) these are 1 and 2. */
enum { CVSW_FAST, CVSW_GENERIC, CVSW_WAYS };

/* What one lane computes ciphers with, under its lock. Never on a stack: scatterlists point to it. */
struct cvsw_scratch {
	struct cvsw_keys *keys;
	/* Whose requests it uses. */
	u32 lane;
	/* Packets, by way. */
	u64 packets[CVSW_WAYS];
	u8 iv[16];
	u8 aad[12];
	u8 icv[32];
};

/*
 * Functions of the engine, each with at most 2 KiB of stack (xtask checks it). All but cvsw_frame_is_control and those that tell
 * sizes, begin and end something need the lock of the engine's lane. cvsw_engine_gather, cvsw_engine_follow,
 * cvsw_engine_control and cvsw_engine_set_sa need those of all lanes of the vNIC: flows and keys change with them.
 */
bool cvsw_frame_is_control(const u8 *bytes, u32 len);
size_t cvsw_shared_size(void);
void cvsw_shared_init(struct cvsw_shared *shared, struct cvsw_keys *keys);
void cvsw_shared_end(struct cvsw_shared *shared);
size_t cvsw_engine_size(void);
void cvsw_engine_init(struct cvsw_engine *engine, struct cvsw_shared *shared, struct cvsw_scratch *scratch,
		      const u8 *mac, u64 seed, u64 generation, u32 link_mtu);
void cvsw_engine_end(struct cvsw_engine *engine);
void cvsw_engine_gather(struct cvsw_engine *first, struct cvsw_engine *replica);
void cvsw_engine_follow(struct cvsw_engine *replica, const struct cvsw_engine *first);
void cvsw_engine_set_link(struct cvsw_engine *engine, const u8 *mac, u32 link_mtu);
void cvsw_engine_set_mtu(struct cvsw_engine *engine, u32 mtu);
void cvsw_engine_announce(struct cvsw_engine *engine);
/* No control frame from the network may be among them. */
void cvsw_engine_burst(struct cvsw_engine *engine, u64 now, u32 receive, struct cvsw_frame *frames, u32 count);
u32 cvsw_engine_poll_host(struct cvsw_engine *engine, u8 *out, u32 size);
u32 cvsw_engine_poll_event(struct cvsw_engine *engine, u32 *argument);
bool cvsw_engine_poll_sa(struct cvsw_engine *engine, struct cvsw_sa_news *news);
void cvsw_engine_tick(struct cvsw_engine *engine, u64 now);
u32 cvsw_engine_next_sa(const struct cvsw_engine *engine, u64 now, u32 *cursor, u8 *out, u32 size);
u32 cvsw_engine_encrypted_only(const struct cvsw_engine *engine, u32 *out, u32 room);
void cvsw_engine_accept_keys(struct cvsw_engine *engine, u32 on);
bool cvsw_engine_key(const struct cvsw_engine *engine, u32 slot, struct cvsw_key_material *to);
u64 cvsw_engine_portable_packets(const struct cvsw_engine *engine);
u32 cvsw_engine_flow_count(const struct cvsw_engine *engine);
u32 cvsw_engine_session(const struct cvsw_engine *engine);
void cvsw_engine_control_status(const struct cvsw_engine *engine, struct cvsw_control_status *to);
/* Needs no lock: only the number of counters and their names matter. */
bool cvsw_counter_name(const struct cvsw_engine *engine, u32 index, u8 *out, u32 size);
/* Adds its counters to the first `count` numbers. */
void cvsw_engine_counters(const struct cvsw_engine *engine, u64 *out, u32 count);
bool cvsw_key_of(const struct cvsw_ciphers *ciphers, u32 slot, struct cvsw_key_material *to);
void cvsw_engine_control(struct cvsw_engine *engine, u64 now, struct cvsw_frame *frame);
u32 cvsw_engine_poll_transmit(struct cvsw_engine *engine, u8 *out, u32 size);
u32 cvsw_engine_flow_mod(struct cvsw_engine *engine, u64 now, const u8 *message, u32 len);
u32 cvsw_engine_next_flow(const struct cvsw_engine *engine, u64 now, u32 *cursor, u8 *out, u32 size);
u32 cvsw_engine_set_sa(struct cvsw_engine *engine, u64 now, const u8 *body, u32 len, const void *limits);
u32 cvsw_engine_trace(struct cvsw_engine *engine, u64 now, u32 receive, struct cvsw_frame *frame,
		      struct cvsw_step *steps, u32 room);
bool cvsw_engine_control_key(struct cvsw_engine *engine, u64 instance, const u8 *key, u32 len);
u32 cvsw_selftest(struct cvsw_shared *shared, struct cvsw_scratch *scratch, u8 *buffer, u32 size);

/* Functions for the engine. */
void cvsw_panicked(void);
void cvsw_keys_want(struct cvsw_keys *keys, u32 slot);
void cvsw_keys_retire(struct cvsw_keys *keys, u32 slot);
int cvsw_keys_crypt(struct cvsw_scratch *scratch, u32 slot, u32 open, const struct cvsw_packet *packet, u8 *data,
		    u32 len);
void cvsw_keys_prepare(struct cvsw_keys *keys, u32 way, const struct cvsw_ciphers *ciphers);

/*
 * An engine with its lock, which is taken with bottom halves off and held for one burst. The engine of lane 0 is the
 * vNIC; those of other lanes are its replicas, one per processor, and change only with all lanes locked (cvsw_lock_lanes).
 */
struct cvsw_lane {
	spinlock_t lock;
	struct cvsw_engine *engine;
	/* Scratch of a burst: too large for the stack. */
	struct cvsw_frame frames[CVSW_BURST];
	/* Acquisitions of the lock by the packet path, and how many of them had to wait; shown by `ethtool -S`. */
	u64 lock_operations;
	u64 lock_contended;
	struct cvsw_scratch scratch;
} ____cacheline_aligned_in_smp;

/* One vNIC: the private part of its net_device. */
struct cvsw {
	struct net_device *dev;
	struct net_device *lower;
	netdevice_tracker lower_tracker;
	struct gro_cells gro;
	struct delayed_work work;
	/* The address was given by the user: it does not follow the lower device's. */
	bool own_mac;
	/* The VM is held to an MTU: there may be answers to packets that are too big. */
	bool limited;
	u32 lane_count;
	struct cvsw_lane *lanes[CVSW_LANES_MAX];
	/* Frames for which no memory could be had before the engine saw them, or that could not be cut. */
	atomic64_t tx_no_memory;
	atomic64_t rx_no_memory;
	/* MTUs of a controller that the lower device's did not allow. */
	atomic64_t mtu_refused;
	/* Control frames from the network, for the work item; and those for which the queue was too full. */
	struct sk_buff_head control;
	atomic64_t control_overflow;

	/* Keys change with all lanes locked; what lanes share besides them, by atomic operations. */
	struct cvsw_keys *keys;
	struct cvsw_shared *shared;
	/* Guarded by the lock of lane 0, as everything below. */
	/* What a controller asked for and the work item has not done yet. 0: nothing. */
	u32 mtu_due;
	bool offload_due;
	u32 offload;
};

extern const struct ethtool_ops cvsw_ethtool_ops;
extern const struct net_device_ops cvsw_netdev_ops;

static inline bool cvsw_is_vnic(const struct net_device *dev)
{
	return dev->netdev_ops == &cvsw_netdev_ops;
}

/* lanes.c */
int cvsw_lanes_alloc(struct cvsw *vnic);
void cvsw_lanes_free(struct cvsw *vnic);
struct cvsw_shared *cvsw_shared_alloc(struct cvsw_keys *keys);
void cvsw_shared_free(struct cvsw_shared *shared);
void cvsw_lock_lanes(struct cvsw *vnic);
void cvsw_unlock_lanes(struct cvsw *vnic);

/* packet.c */
void cvsw_describe(struct cvsw_frame *frame, const struct sk_buff *skb);
netdev_tx_t cvsw_start_xmit(struct sk_buff *skb, struct net_device *dev);
rx_handler_result_t cvsw_handle_frame(struct sk_buff **pskb);

/* control.c */
void cvsw_work(struct work_struct *work);
void cvsw_wake(struct cvsw *vnic);
void cvsw_announce(struct cvsw *vnic);
void cvsw_update_link(struct cvsw *vnic);
void cvsw_queue_control(struct cvsw *vnic, struct sk_buff *skb);
void cvsw_purge_control(struct cvsw *vnic);
u32 cvsw_link_mtu(const struct net_device *lower);

/* keys.c */
struct cvsw_keys *cvsw_keys_alloc(u32 lane_count);
void cvsw_keys_free(struct cvsw_keys *keys);
void cvsw_keys_work(struct cvsw *vnic);
int cvsw_keys_selftest(void);

/* netdev.c */
void cvsw_setup(struct net_device *dev);

/* netlink.c */
int cvsw_netlink_init(void);
void cvsw_netlink_exit(void);

#endif
