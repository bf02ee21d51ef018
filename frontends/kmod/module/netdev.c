// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The operations of the network device `cvsw`: a virtual NIC stacked on a lower Ethernet device.
 */
#include <linux/etherdevice.h>
#include <linux/if_vlan.h>
#include "cvsw.h"

static int cvsw_init(struct net_device *dev)
{
	struct cvsw *vnic = netdev_priv(dev);
	int err = -ENOMEM;

	if (cvsw_lanes_alloc(vnic))
		goto free_lanes;
	dev->tstats = netdev_alloc_pcpu_stats(struct pcpu_sw_netstats);
	if (!dev->tstats)
		goto free_lanes;
	err = gro_cells_init(&vnic->gro, dev);
	if (err)
		goto free_stats;
	skb_queue_head_init(&vnic->control);
	INIT_DELAYED_WORK(&vnic->work, cvsw_work);
	netdev_hold(vnic->lower, &vnic->lower_tracker, GFP_KERNEL);
	return 0;

free_stats:
	free_percpu(dev->tstats);
free_lanes:
	cvsw_lanes_free(vnic);
	return err;
}

static void cvsw_uninit(struct net_device *dev)
{
	struct cvsw *vnic = netdev_priv(dev);

	cancel_delayed_work_sync(&vnic->work);
	cvsw_purge_control(vnic);
	gro_cells_destroy(&vnic->gro);
}

/* The last one to see the device: nobody can reach the engine any more. */
static void cvsw_free(struct net_device *dev)
{
	struct cvsw *vnic = netdev_priv(dev);

	cvsw_lanes_free(vnic);
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

/* A lower device that filters by VLAN (a virtual function always does) lets pass what is wanted up here. */
static int cvsw_vlan_add(struct net_device *dev, __be16 protocol, u16 id)
{
	struct cvsw *vnic = netdev_priv(dev);

	return vlan_vid_add(vnic->lower, protocol, id);
}

static int cvsw_vlan_remove(struct net_device *dev, __be16 protocol, u16 id)
{
	struct cvsw *vnic = netdev_priv(dev);

	vlan_vid_del(vnic->lower, protocol, id);
	return 0;
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

const struct net_device_ops cvsw_netdev_ops = {
	.ndo_init = cvsw_init,
	.ndo_uninit = cvsw_uninit,
	.ndo_open = cvsw_open,
	.ndo_stop = cvsw_stop,
	.ndo_start_xmit = cvsw_start_xmit,
	.ndo_set_rx_mode = cvsw_set_rx_mode,
	.ndo_vlan_rx_add_vid = cvsw_vlan_add,
	.ndo_vlan_rx_kill_vid = cvsw_vlan_remove,
	.ndo_set_mac_address = cvsw_set_mac_address,
	.ndo_validate_addr = eth_validate_addr,
	.ndo_change_mtu = cvsw_change_mtu,
	.ndo_get_stats64 = dev_get_tstats64,
	.ndo_get_iflink = cvsw_get_iflink,
};

#define CVSW_FEATURES                                                                                                  \
	(NETIF_F_SG | NETIF_F_HW_CSUM | NETIF_F_RXCSUM | NETIF_F_ALL_TSO | NETIF_F_GSO_UDP_L4 | NETIF_F_HIGHDMA)

void cvsw_setup(struct net_device *dev)
{
	ether_setup(dev);
	dev->netdev_ops = &cvsw_netdev_ops;
	dev->ethtool_ops = &cvsw_ethtool_ops;
	dev->needs_free_netdev = true;
	dev->priv_destructor = cvsw_free;
	dev->priv_flags |= IFF_NO_QUEUE | IFF_DISABLE_NETPOLL | IFF_LIVE_ADDR_CHANGE;
	dev->priv_flags &= ~IFF_TX_SKB_SHARING;
	cvsw_set_lockless(dev);
	dev->features |= CVSW_FEATURES | NETIF_F_HW_VLAN_CTAG_FILTER;
	dev->hw_features |= CVSW_FEATURES;
	dev->vlan_features |= CVSW_FEATURES;
	dev->min_mtu = ETH_MIN_MTU;
	dev->max_mtu = ETH_MAX_MTU;
}
