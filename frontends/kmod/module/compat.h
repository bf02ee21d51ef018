/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Differences between the kernels that this module builds for (6.1 and newer). */
#ifndef CVSW_COMPAT_H
#define CVSW_COMPAT_H

#include <linux/netdevice.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0)
#error "CVSW needs Linux 6.1 or newer"
#endif

/* Segmentation moved to a header of its own in 6.5. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0)
#include <net/gso.h>
#endif

/* Comparison in constant time got a header of its own in 6.4. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
#include <crypto/utils.h>
#else
#include <crypto/algapi.h>
#endif

/* A device that needs no transmit lock: a feature flag until 6.11, a member of the device since 6.12. */
static inline void cvsw_set_lockless(struct net_device *dev)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	dev->lltx = true;
#else
	dev->features |= NETIF_F_LLTX;
#endif
}

/* Since 6.15 a link type gets its arguments in one structure. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 15, 0)
#define CVSW_NEWLINK(name)                                                                                             \
	static int name(struct net_device *dev, struct rtnl_newlink_params *params, struct netlink_ext_ack *extack)
#define CVSW_NEWLINK_NET rtnl_newlink_link_net(params)
#define CVSW_NEWLINK_TB params->tb
#else
#define CVSW_NEWLINK(name)                                                                                             \
	static int name(struct net *src_net, struct net_device *dev, struct nlattr *tb[], struct nlattr *data[],       \
			struct netlink_ext_ack *extack)
#define CVSW_NEWLINK_NET src_net
#define CVSW_NEWLINK_TB tb
#endif

#endif
