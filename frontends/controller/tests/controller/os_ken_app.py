"""An os-ken application that drives one vNIC with control protocol version 2, and prints what it sees as JSON lines.

The frames are put together here from the protocol's description; the OpenFlow messages inside are os-ken's.
"""

import json
import struct
import sys

import eventlet

eventlet.monkey_patch()

from os_ken import cfg
from os_ken.base import app_manager
from os_ken.controller import ofp_event
from os_ken.controller.handler import CONFIG_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.ofproto import ofproto_v1_0

ETHERTYPE = 0xABBA
HELLO, REGISTER, SET_ENTRY, DELETE_ENTRY, SET_MTU, SET_OFFLOAD, LIST_ENTRIES = range(1, 8)
BROADCAST = b"\xff" * 6
HEADER = struct.Struct("!6sBBHHH")
PORT = 1


def say(**what):
    print(json.dumps(what), flush=True)


class Judge(app_manager.OSKenApp):
    OFP_VERSIONS = [ofproto_v1_0.OFP_VERSION]

    def control(self, datapath, mac, kind, data=0, body=b""):
        parser, ofproto = datapath.ofproto_parser, datapath.ofproto
        frame = HEADER.pack(mac, 2 << 4 | kind, 0, len(body), data, ETHERTYPE) + bytes(body)
        out = parser.OFPPacketOut(
            datapath, buffer_id=0xFFFFFFFF, in_port=ofproto.OFPP_NONE,
            actions=[parser.OFPActionOutput(PORT)], data=frame.ljust(60, b"\0"))
        datapath.send_msg(out)

    def flow_mod(self, datapath, command, priority, match, actions):
        message = datapath.ofproto_parser.OFPFlowMod(
            datapath, match, cookie=0x1234, command=command, priority=priority, actions=actions)
        message.set_xid(7)
        message.serialize()
        return message.buf

    @set_ev_cls(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)
    def features(self, event):
        datapath = event.msg.datapath
        parser, ofproto = datapath.ofproto_parser, datapath.ofproto
        match = parser.OFPMatch(dl_type=ETHERTYPE)
        actions = [parser.OFPActionOutput(ofproto.OFPP_CONTROLLER, 0xFFFF)]
        datapath.send_msg(parser.OFPFlowMod(datapath, match, 0, ofproto.OFPFC_ADD, priority=0xFFFF, actions=actions))
        say(switch=datapath.id)

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)
    def packet_in(self, event):
        datapath, frame = event.msg.datapath, bytes(event.msg.data)
        mac, kind, _, length, _, ethertype = HEADER.unpack_from(frame)
        if ethertype != ETHERTYPE or kind >> 4 != 2:
            return
        body = frame[HEADER.size:HEADER.size + length]
        if kind & 15 == HELLO:
            self.control(datapath, BROADCAST, HELLO)
        elif kind & 15 == REGISTER:
            say(register=mac.hex())
            self.registered(datapath, mac)
        elif kind & 15 == LIST_ENTRIES:
            self.listed(datapath, mac, body)

    def registered(self, datapath, mac):
        parser, ofproto = datapath.ofproto_parser, datapath.ofproto
        self.entries, self.rounds = [], 0
        self.control(datapath, mac, SET_MTU, 1400)
        self.control(datapath, mac, SET_OFFLOAD, 0b01001)
        rewrite = [
            parser.OFPActionVlanVid(5), parser.OFPActionVlanPcp(3), parser.OFPActionSetDlSrc(b"\x02\0\0\0\0\x07"),
            parser.OFPActionSetDlDst(b"\x02\0\0\0\0\x08"), parser.OFPActionSetNwSrc(0x0A000007),
            parser.OFPActionSetNwDst(0x0A000008), parser.OFPActionSetNwTos(184), parser.OFPActionSetTpSrc(7),
            parser.OFPActionSetTpDst(8)]
        everything = parser.OFPMatch(
            in_port=1, dl_src=b"\x02\0\0\0\0\x01", dl_dst=b"\x02\0\0\0\0\x02", dl_vlan=9, dl_vlan_pcp=2,
            dl_type=0x0800, nw_tos=32, nw_proto=17, nw_src=0x0A000001, nw_dst=0x0A000002, tp_src=1, tp_dst=2)
        subnet = parser.OFPMatch(dl_type=0x0800, nw_src=0x0A010000, nw_src_mask=16)
        for command, priority, match, actions in [
                (ofproto.OFPFC_ADD, 100, everything, rewrite),
                (ofproto.OFPFC_ADD, 90, subnet, [parser.OFPActionStripVlan()]),
                (ofproto.OFPFC_ADD, 80, parser.OFPMatch(in_port=2), []),
                (ofproto.OFPFC_MODIFY_STRICT, 90, subnet, [parser.OFPActionSetTpDst(80)]),
                # A vNIC has no ports to choose from: it must refuse this one.
                (ofproto.OFPFC_ADD, 70, parser.OFPMatch(in_port=1), [parser.OFPActionOutput(5)])]:
            body = self.flow_mod(datapath, command, priority, match, actions)
            self.control(datapath, mac, SET_ENTRY, 0, body)
        self.control(datapath, mac, LIST_ENTRIES)

    def listed(self, datapath, mac, body):
        parser, ofproto = datapath.ofproto_parser, datapath.ofproto
        if body:
            self.entries.append(self.read(parser, ofproto, body))
            return
        say(listing=sorted(self.entries, key=lambda entry: -entry["priority"]))
        self.entries, self.rounds = [], self.rounds + 1
        if self.rounds == 1:
            gone = self.flow_mod(datapath, ofproto.OFPFC_DELETE_STRICT, 80, parser.OFPMatch(in_port=2), [])
            self.control(datapath, mac, DELETE_ENTRY, 0, gone)
            self.control(datapath, mac, LIST_ENTRIES)

    def read(self, parser, ofproto, body):
        """Reads an OFPT_FLOW_MOD with os-ken's own readers."""
        version, kind, length, xid = struct.unpack_from("!BBHI", body)
        assert (version, kind, length) == (1, ofproto.OFPT_FLOW_MOD, len(body)), body.hex()
        match = parser.OFPMatch.parse(body, 8)
        cookie, command, _, _, priority = struct.unpack_from("!QHHHH", body, 48)
        actions, offset = [], 72
        while offset < len(body):
            action = parser.OFPAction.parser(body, offset)
            actions.append(type(action).__name__)
            offset += action.len
        return {"priority": priority, "cookie": cookie, "command": command, "actions": actions,
                "tp_dst": match.tp_dst, "nw_src": match.nw_src, "dl_vlan": match.dl_vlan, "in_port": match.in_port}


if __name__ == "__main__":
    sys.modules["os_ken_app"] = sys.modules["__main__"]
    cfg.CONF(["--ofp-listen-host", "127.0.0.1", "--ofp-tcp-listen-port", sys.argv[1]], project="os_ken", version="1")
    app_manager.AppManager.run_apps(["os_ken_app", "os_ken.controller.ofp_handler"])
