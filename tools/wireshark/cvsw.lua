-- Wireshark dissector for the CVSW control protocol, versions 2 and 3.
--
-- Use:  tshark -X lua_script:cvsw.lua -r capture.pcap -O cvsw
--       or copy it to the plugin folder (Help > About > Folders > Personal Lua Plugins).
--
-- The bytes are described in docs/src/protocol-v2.md and docs/src/protocol-v3.md. The header of a control frame stands
-- where Ethernet has its source address, so what Wireshark shows as `eth.src` is version, type, flags, length and data.

local cvsw = Proto("cvsw", "CVSW control protocol")

local TYPES_2 = {
  [1] = "HELLO", [2] = "REGISTER", [3] = "SET_ENTRY", [4] = "DELETE_ENTRY", [5] = "SET_MTU", [6] = "SET_OFFLOAD",
  [7] = "LIST_ENTRIES", [8] = "FLOW_REMOVED", [9] = "SET_SA", [10] = "SA_ANSWER",
}
local TYPES_3 = {
  [1] = "HELLO", [2] = "REGISTER", [3] = "SET_ENTRY", [4] = "DELETE_ENTRY", [5] = "SET_MTU", [6] = "SET_OFFLOAD",
  [7] = "LIST_ENTRIES", [8] = "FLOW_REMOVED", [9] = "SET_SA", [10] = "ACK", [11] = "GET", [12] = "ERROR",
  [14] = "REPORT",
}
local CLASSES = { [0] = "none", [1] = "OpenFlow", [2] = "control protocol", [3] = "security association" }
local REASONS = {
  [1] = "stale_epoch", [2] = "out_of_order", [3] = "skipped", [4] = "length", [5] = "data", [6] = "command",
  [7] = "key", [8] = "keys_refused",
}
local SUBJECTS = { [1] = "entries", [2] = "statistics", [3] = "state", [4] = "associations" }
local SESSIONS = { [0] = "disconnected", [1] = "connecting", [2] = "connected" }
local OPERATIONS = { [1] = "ADD", [2] = "REMOVE", [3] = "QUERY", [4] = "REQUIRE", [5] = "FLUSH" }
local SUITES = {
  [0] = "none", [1] = "aes-128-gcm", [2] = "aes-256-gcm", [3] = "aes-128-ctr-hmac-sha-256-128",
  [4] = "aes-256-ctr-hmac-sha-256-128", [5] = "aes-128-ctr-unauthenticated", [6] = "aes-256-ctr-unauthenticated",
}
local RESULTS = {
  [0] = "done", [1] = "keys_refused", [2] = "present", [3] = "not_found", [4] = "full", [5] = "unsupported",
  [6] = "refused",
}
local COMMANDS = { [0] = "ADD", [1] = "MODIFY", [2] = "MODIFY_STRICT", [3] = "DELETE", [4] = "DELETE_STRICT" }
local REMOVALS = { [0] = "idle timeout", [1] = "hard timeout", [2] = "deleted" }
local SA_STATES = { [0] = "none", [1] = "active", [2] = "aging", [3] = "expired", [4] = "exhausted", [5] = "stale" }

local f = {
  version = ProtoField.uint8("cvsw.version", "Version", base.DEC, nil, 0xf0),
  type2 = ProtoField.uint8("cvsw.type", "Type", base.DEC, TYPES_2, 0x0f),
  type3 = ProtoField.uint8("cvsw.type", "Type", base.DEC, TYPES_3, 0x0f),
  pad = ProtoField.uint8("cvsw.pad", "Padding", base.HEX),
  authenticated = ProtoField.bool("cvsw.flags.authenticated", "Authenticated", 8, nil, 0x01),
  chained = ProtoField.bool("cvsw.flags.chained", "Chained", 8, nil, 0x02),
  len = ProtoField.uint16("cvsw.len", "Length"),
  data = ProtoField.uint16("cvsw.data", "Data", base.HEX),
  mtu = ProtoField.uint16("cvsw.mtu", "MTU"),
  offload = ProtoField.uint16("cvsw.offload", "Offloads", base.HEX),
  csum = ProtoField.bool("cvsw.offload.csum", "Checksum", 16, nil, 0x01),
  tso = ProtoField.bool("cvsw.offload.tso", "TSO", 16, nil, 0x02),
  ufo = ProtoField.bool("cvsw.offload.ufo", "UFO", 16, nil, 0x04),
  gso = ProtoField.bool("cvsw.offload.gso", "GSO", 16, nil, 0x08),
  gro = ProtoField.bool("cvsw.offload.gro", "GRO", 16, nil, 0x10),
  instance = ProtoField.uint64("cvsw.instance", "Instance", base.HEX),
  epoch = ProtoField.uint64("cvsw.epoch", "Epoch"),
  sequence = ProtoField.uint64("cvsw.sequence", "Sequence"),
  challenge = ProtoField.uint64("cvsw.challenge", "Challenge", base.HEX),
  tag = ProtoField.bytes("cvsw.tag", "Tag (AES-CMAC)"),
  digest = ProtoField.uint64("cvsw.digest", "Digest of the table", base.HEX),
  now_epoch = ProtoField.uint64("cvsw.vnic.epoch", "Epoch of the vNIC"),
  executed = ProtoField.uint64("cvsw.vnic.executed", "Last command decided on"),
  entries = ProtoField.uint32("cvsw.vnic.entries", "Entries"),
  capacity = ProtoField.uint32("cvsw.vnic.capacity", "Capacity"),
  associations = ProtoField.uint32("cvsw.vnic.associations", "Security associations"),
  session = ProtoField.uint8("cvsw.vnic.session", "Session", base.DEC, SESSIONS),
  has_key = ProtoField.bool("cvsw.vnic.has_key", "Has a control key", 8, nil, 0x01),
  offload_set = ProtoField.bool("cvsw.vnic.offload_set", "Offloads were set", 8, nil, 0x02),
  takes_keys = ProtoField.bool("cvsw.vnic.takes_keys", "Takes keys", 8, nil, 0x04),
  in_force_known = ProtoField.bool("cvsw.vnic.in_force_known", "Offloads in force are known", 8, nil, 0x08),
  in_force = ProtoField.uint16("cvsw.vnic.in_force", "Offloads in force", base.HEX),
  window = ProtoField.uint8("cvsw.vnic.window", "Window"),
  command = ProtoField.uint8("cvsw.answer.command", "Command", base.DEC, TYPES_3),
  class = ProtoField.uint8("cvsw.answer.class", "Class", base.DEC, CLASSES),
  kind = ProtoField.uint16("cvsw.answer.of_type", "OpenFlow error type"),
  code = ProtoField.uint16("cvsw.answer.code", "Code"),
  reason = ProtoField.uint16("cvsw.answer.reason", "Reason", base.DEC, REASONS),
  refused = ProtoField.uint16("cvsw.answer.result", "Result", base.DEC, RESULTS),
  priority = ProtoField.uint16("cvsw.answer.priority", "Priority of the entry"),
  cookie = ProtoField.uint64("cvsw.answer.cookie", "Cookie of the entry", base.HEX),
  subject = ProtoField.uint8("cvsw.subject", "Subject", base.DEC, SUBJECTS),
  from = ProtoField.uint32("cvsw.from", "From"),
  last = ProtoField.bool("cvsw.page.last", "Last page", 8, nil, 0x01),
  count = ProtoField.uint16("cvsw.page.count", "Items"),
  next = ProtoField.uint32("cvsw.page.next", "Next"),
  packets = ProtoField.uint64("cvsw.entry.packets", "Packets"),
  bytes = ProtoField.uint64("cvsw.entry.bytes", "Bytes"),
  seconds = ProtoField.uint32("cvsw.entry.seconds", "Age, seconds"),
  nanoseconds = ProtoField.uint32("cvsw.entry.nanoseconds", "and nanoseconds"),
  flow_cookie = ProtoField.uint64("cvsw.flow.cookie", "Cookie", base.HEX),
  flow_command = ProtoField.uint16("cvsw.flow.command", "Command", base.DEC, COMMANDS),
  flow_priority = ProtoField.uint16("cvsw.flow.priority", "Priority"),
  flow_reason = ProtoField.uint8("cvsw.flow.reason", "Reason", base.DEC, REMOVALS),
  openflow = ProtoField.bytes("cvsw.openflow", "OpenFlow message"),
  name = ProtoField.string("cvsw.counter.name", "Counter"),
  value = ProtoField.uint64("cvsw.counter.value", "Value"),
  operation = ProtoField.uint8("cvsw.sa.operation", "Operation", base.DEC, OPERATIONS),
  suite = ProtoField.uint8("cvsw.sa.suite", "Suite", base.DEC, SUITES),
  on = ProtoField.bool("cvsw.sa.on", "Sends, or is required", 8, nil, 0x01),
  extended = ProtoField.bool("cvsw.sa.extended", "64-bit sequence numbers", 8, nil, 0x02),
  wrapped = ProtoField.bool("cvsw.sa.wrapped", "Key is wrapped", 8, nil, 0x80),
  transaction = ProtoField.uint32("cvsw.sa.transaction", "Transaction"),
  id = ProtoField.uint32("cvsw.sa.id", "Id or VNI"),
  spi = ProtoField.uint32("cvsw.sa.spi", "SPI", base.HEX),
  destination = ProtoField.ipv4("cvsw.sa.destination", "Outer destination"),
  replay_window = ProtoField.uint16("cvsw.sa.window", "Anti-replay window"),
  key_len = ProtoField.uint16("cvsw.sa.key_len", "Bytes of key material"),
  key = ProtoField.bytes("cvsw.sa.key", "Key material"),
  result = ProtoField.uint8("cvsw.sa.result", "Result", base.DEC, RESULTS),
  state = ProtoField.uint8("cvsw.sa.state", "State", base.DEC, SA_STATES),
  generation = ProtoField.uint64("cvsw.sa.generation", "Boot generation", base.HEX),
  sa_packets = ProtoField.uint64("cvsw.sa.packets", "Packets"),
}
local all = {}
for _, field in pairs(f) do all[#all + 1] = field end
cvsw.fields = all

local short = ProtoExpert.new("cvsw.short", "The message is shorter than it says", expert.group.MALFORMED, expert.severity.ERROR)
local clear_key = ProtoExpert.new("cvsw.clear_key", "A key travels in clear", expert.group.SECURITY, expert.severity.WARN)
local unauthenticated = ProtoExpert.new("cvsw.unauthenticated", "Not authenticated", expert.group.SECURITY, expert.severity.NOTE)
local refusal = ProtoExpert.new("cvsw.refused", "A command was refused", expert.group.RESPONSE_CODE, expert.severity.WARN)
cvsw.experts = { short, clear_key, unauthenticated, refusal }

local eth_src = Field.new("eth.src")
local openflow = Dissector.get("openflow")

-- The lengths of the fixed parts.
local HEADER, ENVELOPE, TAG, ANSWER, STATE, PAGE, COUNTERS, SA_COMMAND, SA_ANSWER = 14, 24, 16, 32, 56, 16, 24, 24, 32
local ASSOCIATION = 16

-- Whether `range` has `len` bytes; says so in the tree if it has not.
local function has(range, len, tree)
  if range and range:len() >= len then return true end
  tree:add_proto_expert_info(short)
  return false
end

local function rest(range, from)
  if range:len() > from then return range:range(from) end
  return nil
end

-- Types of OpenFlow 1.0, and where cookie, command and priority are in a message of that type.
local VENDOR, FLOW_REMOVED, FLOW_MOD = 4, 11, 14
local FLOW_MOD_LEN, NX_FLOW_MOD_LEN, FLOW_REMOVED_LEN = 72, 48, 88

-- An OpenFlow message about an entry: FLOW_MOD, FLOW_REMOVED, or Nicira's form of them. Wireshark's own dissector shows
-- the details of a FLOW_MOD; it takes one without actions for malformed, so that is not given to it.
local function flow_mod(range, pinfo, tree)
  if not has(range, 8, tree) then return nil end
  local kind, len = range:range(1, 1):uint(), range:range(2, 2):uint()
  if len < 8 or not has(range, len, tree) then return nil end
  local item = tree:add(f.openflow, range:range(0, len))
  if kind == FLOW_MOD and len >= FLOW_MOD_LEN then
    item:add(f.flow_cookie, range:range(48, 8))
    item:add(f.flow_command, range:range(56, 2))
    item:add(f.flow_priority, range:range(62, 2))
  elseif kind == VENDOR and len >= NX_FLOW_MOD_LEN and range:range(12, 4):uint() == 13 then
    item:add(f.flow_cookie, range:range(16, 8))
    item:add(f.flow_command, range:range(24, 2))
    item:add(f.flow_priority, range:range(30, 2))
  elseif kind == FLOW_REMOVED and len >= FLOW_REMOVED_LEN then
    item:add(f.flow_cookie, range:range(48, 8))
    item:add(f.flow_priority, range:range(56, 2))
    item:add(f.flow_reason, range:range(58, 1))
  end
  if kind == FLOW_MOD and len > FLOW_MOD_LEN then
    local columns = tostring(pinfo.cols.info)
    openflow:call(range:range(0, len):tvb(), pinfo, item)
    pinfo.cols.protocol = "CVSW"
    pinfo.cols.info = columns
  end
  return rest(range, len)
end

local function set_sa(range, tree)
  if not has(range, SA_COMMAND, tree) then return end
  tree:add(f.operation, range:range(0, 1))
  tree:add(f.suite, range:range(1, 1))
  tree:add(f.on, range:range(2, 1))
  tree:add(f.extended, range:range(2, 1))
  tree:add(f.wrapped, range:range(2, 1))
  tree:add(f.transaction, range:range(4, 4))
  tree:add(f.id, range:range(8, 4))
  tree:add(f.spi, range:range(12, 4))
  tree:add(f.destination, range:range(16, 4))
  tree:add(f.replay_window, range:range(20, 2))
  tree:add(f.key_len, range:range(22, 2))
  local key = rest(range, SA_COMMAND)
  if key then
    local item = tree:add(f.key, key)
    if range:range(2, 1):bitfield(0, 1) == 0 then item:add_proto_expert_info(clear_key) end
  end
end

local function sa_answer(range, tree)
  if not has(range, SA_ANSWER, tree) then return end
  tree:add(f.operation, range:range(0, 1))
  tree:add(f.result, range:range(1, 1))
  tree:add(f.state, range:range(2, 1))
  tree:add(f.transaction, range:range(4, 4))
  tree:add(f.id, range:range(8, 4))
  tree:add(f.spi, range:range(12, 4))
  tree:add(f.generation, range:range(16, 8))
  tree:add(f.sa_packets, range:range(24, 8))
end

local function vnic_state(range, tree)
  if not has(range, STATE, tree) then return end
  tree:add(f.challenge, range:range(0, 8))
  tree:add(f.digest, range:range(8, 8))
  tree:add(f.now_epoch, range:range(16, 8))
  tree:add(f.executed, range:range(24, 8))
  tree:add(f.entries, range:range(32, 4))
  tree:add(f.capacity, range:range(36, 4))
  tree:add(f.associations, range:range(40, 4))
  tree:add(f.mtu, range:range(44, 2))
  tree:add(f.offload, range:range(46, 2))
  tree:add(f.session, range:range(48, 1))
  tree:add(f.has_key, range:range(49, 1))
  tree:add(f.offload_set, range:range(49, 1))
  tree:add(f.takes_keys, range:range(49, 1))
  tree:add(f.in_force_known, range:range(49, 1))
  tree:add(f.window, range:range(50, 1))
  tree:add(f.in_force, range:range(52, 2))
end

local function answer(range, tree)
  if not has(range, ANSWER, tree) then return end
  tree:add(f.command, range:range(0, 1))
  local class = range:range(1, 1):uint()
  local item = tree:add(f.class, range:range(1, 1))
  if class ~= 0 then item:add_proto_expert_info(refusal) end
  tree:add(f.kind, range:range(2, 2))
  local code = ({ [2] = f.reason, [3] = f.refused })[class] or f.code
  tree:add(code, range:range(4, 2))
  tree:add(f.priority, range:range(6, 2))
  tree:add(f.cookie, range:range(8, 8))
  tree:add(f.now_epoch, range:range(16, 8))
  tree:add(f.executed, range:range(24, 8))
  local more = rest(range, ANSWER)
  if more then sa_answer(more, tree:add(cvsw, more, "Security association")) end
end

local function entry(range, pinfo, tree)
  if not has(range, COUNTERS, tree) then return nil end
  tree:add(f.packets, range:range(0, 8))
  tree:add(f.bytes, range:range(8, 8))
  tree:add(f.seconds, range:range(16, 4))
  tree:add(f.nanoseconds, range:range(20, 4))
  local message = rest(range, COUNTERS)
  return message and flow_mod(message, pinfo, tree)
end

local function counter(range, tree)
  local len = range:range(0, 1):uint()
  if not has(range, len + 9, tree) then return nil end
  tree:add(f.name, range:range(1, len))
  tree:add(f.value, range:range(1 + len, 8))
  return rest(range, len + 9)
end

local function association(range, tree)
  if not has(range, ASSOCIATION, tree) then return nil end
  tree:add(f.id, range:range(0, 4))
  tree:add(f.spi, range:range(4, 4))
  tree:add(f.destination, range:range(8, 4))
  tree:add(f.suite, range:range(12, 1))
  tree:add(f.on, range:range(13, 1))
  tree:add(f.extended, range:range(13, 1))
  tree:add(f.state, range:range(14, 1))
  return rest(range, ASSOCIATION)
end

local function page(range, pinfo, tree)
  if not has(range, PAGE, tree) then return end
  local subject = range:range(0, 1):uint()
  tree:add(f.subject, range:range(0, 1))
  tree:add(f.last, range:range(1, 1))
  tree:add(f.count, range:range(2, 2))
  tree:add(f.next, range:range(4, 4))
  tree:add(f.digest, range:range(8, 8))
  local items = rest(range, PAGE)
  if subject == 3 then
    if items then vnic_state(items, tree) end
    return
  end
  while items do
    local sub = tree:add(cvsw, items, SUBJECTS[subject] or "item")
    if subject == 1 then
      items = entry(items, pinfo, sub)
    elseif subject == 4 then
      items = association(items, sub)
    else
      items = counter(items, sub)
    end
  end
end

local function request(range, tree)
  if not has(range, 8, tree) then return end
  tree:add(f.subject, range:range(0, 1))
  tree:add(f.from, range:range(4, 4))
end

local function offloads(range, tree)
  local sub = tree:add(f.offload, range)
  for _, field in ipairs({ f.csum, f.tso, f.ufo, f.gso, f.gro }) do sub:add(field, range) end
end

-- What the types have in common in both versions.
local function payload(kind, range, pinfo, tree)
  if kind == "SET_ENTRY" or kind == "DELETE_ENTRY" or kind == "FLOW_REMOVED" then
    flow_mod(range, pinfo, tree)
  elseif kind == "SET_SA" then
    set_sa(range, tree)
  end
end

local function version_2(kind, body, pinfo, tree)
  if not body then return end
  if kind == "SA_ANSWER" then
    sa_answer(body, tree)
  elseif kind == "LIST_ENTRIES" then
    flow_mod(body, pinfo, tree)
  else
    payload(kind, body, pinfo, tree)
  end
end

local function version_3(kind, flags, body, pinfo, tree)
  tree:add(f.authenticated, flags)
  tree:add(f.chained, flags)
  local sealed = flags:bitfield(7, 1) == 1
  local tag_len = sealed and TAG or 0
  if not has(body, ENVELOPE + tag_len, tree) then return end
  tree:add(f.instance, body:range(0, 8))
  tree:add(f.epoch, body:range(8, 8))
  tree:add(f.sequence, body:range(16, 8))
  pinfo.cols.info:append(string.format(" epoch %s number %s", body:range(8, 8):uint64(), body:range(16, 8):uint64()))
  local len = body:len() - ENVELOPE - tag_len
  local range = len > 0 and body:range(ENVELOPE, len) or nil
  if sealed then
    tree:add(f.tag, body:range(body:len() - TAG, TAG))
  elseif kind ~= "HELLO" then
    tree:add_proto_expert_info(unauthenticated)
  end
  if not range then return end
  if kind == "HELLO" then
    if has(range, 8, tree) then tree:add(f.challenge, range:range(0, 8)) end
  elseif kind == "REGISTER" then
    vnic_state(range, tree)
  elseif kind == "ACK" or kind == "ERROR" then
    answer(range, tree)
  elseif kind == "LIST_ENTRIES" or kind == "GET" then
    request(range, tree)
  elseif kind == "REPORT" then
    page(range, pinfo, tree)
  else
    payload(kind, range, pinfo, tree)
  end
end

function cvsw.dissector(tvb, pinfo, tree)
  local source = eth_src()
  if not source then return 0 end
  local header = source.range
  local number = header:range(0, 1):uint()
  local version, kind_number = math.floor(number / 16), number % 16
  local types = version == 3 and TYPES_3 or TYPES_2
  local kind = types[kind_number] or string.format("type %d", kind_number)
  local len = header:range(2, 2):uint()

  pinfo.cols.protocol = "CVSW"
  pinfo.cols.info = string.format("v%d %s", version, kind)
  local item = tree:add(cvsw, tvb(0, math.min(len, tvb:len())), "CVSW control protocol, version " .. version .. ", " .. kind)
  item:add(f.version, header:range(0, 1))
  item:add(version == 3 and f.type3 or f.type2, header:range(0, 1))
  item:add(f.len, header:range(2, 2))
  local data = header:range(4, 2)
  if kind == "SET_MTU" then
    item:add(f.mtu, data)
  elseif kind == "SET_OFFLOAD" then
    offloads(data, item)
  else
    item:add(f.data, data)
  end
  if len > tvb:len() then
    item:add_proto_expert_info(short)
    return tvb:len()
  end
  local body = len > 0 and tvb(0, len) or nil
  if version == 3 then
    version_3(kind, header:range(1, 1), body, pinfo, item)
  else
    item:add(f.pad, header:range(1, 1))
    version_2(kind, body, pinfo, item)
  end
  return tvb:len()
end

DissectorTable.get("ethertype"):add(0xabba, cvsw)
