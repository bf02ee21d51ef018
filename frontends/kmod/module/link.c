// SPDX-License-Identifier: MIT OR GPL-2.0
/* The link type `cvsw`: making and deleting vNICs, following their lower devices; and the module itself. */
#include <linux/etherdevice.h>
#include <linux/if_arp.h>
#include <linux/module.h>
#include <net/rtnetlink.h>
#include "cvsw.h"

/* Never false: objtool must not see that cvsw_panicked() does not return, since it does not know the engine's functions. */
static bool cvsw_is_broken = true;

/* Called by the engine's panic handler; the build makes sure that no path leads to it. */
void cvsw_panicked(void)
{
	BUG_ON(READ_ONCE(cvsw_is_broken));
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
	int err = cvsw_keys_selftest();

	if (err)
		return err;
	err = register_netdevice_notifier(&cvsw_notifier);
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
/* What makes ciphers fast, and what they are made of; a kernel without them computes them all the same. */
MODULE_SOFTDEP("pre: aesni-intel ghash-clmulni-intel ghash-generic gcm ctr hmac sha256-ssse3 sha256");
