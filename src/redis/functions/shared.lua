-- Shared by all functions: names, ids, the clock, the newest id of a room, and positions in its history.

-- Returns the name of another key or channel of a room, given that of its log. Callers declare one key only: while a cluster moves
-- a slot, Redis refuses calls with several keys if one of them is missing. A command on a key that has already moved fails within
-- the function, so commands that may fail come before the first write.
local function of(log, kind)
  return string.sub(log, 1, -4) .. kind
end

-- Formats an integer. Lua's numbers are doubles: exact up to 2^53. %d is faster, but truncates if a long has 32 bits.
local format
local function whole(number)
  format = format or string.format('%d', 2 ^ 40) == '1099511627776' and '%d' or '%.0f'
  return string.format(format, number)
end

local function id(ms, seq)
  return whole(ms) .. '-' .. whole(seq)
end

local function parts(text)
  local ms, seq = string.match(text, '^(%d+)%-(%d+)$')
  return tonumber(ms), tonumber(seq)
end

-- Registers a function that must work while Redis is at its memory limit, because it frees memory or is needed to do so.
-- Registrations are not in a loop: Lua has no `pairs` while Redis loads a library.
local function register_for_full(name, callback)
  redis.register_function({ function_name = '@LIBRARY@_' .. name, callback = callback, flags = { 'allow-oom' } })
end

local function now_us()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function now()
  return math.floor(now_us() / 1000)
end

-- Returns the newest id of a room, from its head or, if that is missing, from the stream. Also returns the windows of the last two
-- deduplication hashes, if any, the epoch of the last append, and the newest id as text.
local function newest(log, head)
  local known = redis.call('HMGET', head, 'ms', 'seq', 'window', 'older', 'epoch')
  if known[1] then
    local window, older = tonumber(known[3]), tonumber(known[4])
    -- Earlier versions did not record an older window, so assume that there is one.
    older = window and not known[4] and window - 1 or older
    local seq = tonumber(known[2])
    return tonumber(known[1]), seq, window, older, known[5], seq > 0 and known[1] .. '-' .. known[2] or '0-0'
  end
  if redis.call('EXISTS', log) == 1 then
    local info = redis.call('XINFO', 'STREAM', log)
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then
        local ms, seq = parts(info[i + 1])
        return ms, seq, nil, nil, nil, info[i + 1]
      end
    end
  end
  return 0, 0, nil, nil, nil, '0-0'
end

-- The latest ms of an id in any deleted room. New rooms get later ids, unless a clock was further ahead than this, so a position in a
-- deleted room is never mistaken for one in a recreated room. It is kept in this server's memory, since Redis keeps nothing of a
-- deleted room; after a failover, the clocks of the two machines must suffice.
local AHEAD = 3600000
local deleted_ms = 0

-- Stands for an unknown epoch.
local UNKNOWN = '0000000000000000'

-- Returns the name of this server's history. Redis gives its data set a new replication id whenever it may diverge from its
-- former history: at each start, and when a replica becomes the primary. INFO costs as much as half an append, so the answer is
-- cached briefly; a replaced primary does not come back within that time.
local KEPT_FOR = 100
local history, read_at = nil, nil
local function this_history(time)
  if not history or math.abs(time - read_at) >= KEPT_FOR then
    local info = redis.pcall('INFO', 'replication')
    local name = not info.err and string.match(info, 'master_replid:(%x+)')
    history, read_at = name and string.sub(name, 1, 16) or UNKNOWN, time
  end
  return history
end

-- A room's history consists of epochs, one for each history of the server in which a message was appended. The head's field `epochs`
-- lists them, oldest first: `<name>,<newest id before it>,<ms of its start>`. Positions up to the newest id before an epoch are common
-- to the old and the new history; later messages of the former primary are lost. This is Kafka's leader epoch (KIP-101).
local EPOCHS = 16

local function epochs(head)
  local list = {}
  for name, after, began in string.gmatch(redis.call('HGET', head, 'epochs') or '', '(%x+),([%d-]+),(%d+)') do
    local ms, seq = parts(after)
    list[#list + 1] = { name = name, ms = ms, seq = seq, began = tonumber(began) }
  end
  return list
end

-- Returns the list with one more epoch, as text.
local function begin_epoch(head, name, after, began)
  local list = redis.call('HGET', head, 'epochs')
  local all = {}
  for epoch in string.gmatch(list or '', '%S+') do
    all[#all + 1] = epoch
  end
  all[#all + 1] = name .. ',' .. after .. ',' .. began
  return table.concat(all, ' ', math.max(1, #all - EPOCHS + 1))
end

-- The longest time, in ms, that a replaced primary may continue while some nodes still reach it.
local SPLIT_BRAIN = 3600000

-- Returns whether the entries around a position that the log lacks leave room for it. If so, its message was trimmed or deleted.
local function has_place(log, list, head_ms, head_seq, ms, seq)
  if seq > head_seq then
    return false
  end
  local from, to = 0, head_ms
  for _, epoch in ipairs(list) do
    if epoch.seq < seq then
      from = epoch.began
    else
      to = epoch.ms
      break
    end
  end
  local position = id(ms, seq)
  local next = redis.call('XRANGE', log, position, '+', 'COUNT', 1)[1]
  local next_ms, next_seq
  if next then
    next_ms, next_seq = parts(next[1])
    -- The server constructs positions right before an entry; for these, earlier entries do not matter.
    if next_ms == ms and next_seq == seq + 1 then
      return true
    end
  end
  if ms < from or ms > to then
    return false
  end
  local before = redis.call('XREVRANGE', log, position, '-', 'COUNT', 1)[1]
  local _, before_seq = parts(before and before[1] or '0-0')
  return before_seq < seq and (not next_seq or next_seq > seq)
end

-- Returns the newest id that a lost history, given by a position in it, has in common with the room's history.
local function forked_at(log, list, head_ms, head_seq, ms, seq, epoch, foreign)
  -- Take the earliest epoch that can have replaced that of the position: a repeated message is better than a missing one.
  local latest = list[#list]
  for _, later in ipairs(latest and latest.name ~= epoch and list or {}) do
    -- Every position is after the start of a room. It is certainly lost only if its epoch is foreign and the room was created only once since.
    local began_anew = foreign and #list == 1
    local replaced = ms < later.began or (later.seq > 0 or began_anew) and ms <= later.began + SPLIT_BRAIN
    if later.seq < seq and later.ms <= ms and replaced then
      return id(later.ms, later.seq)
    end
  end
  if seq > head_seq and ms >= head_ms then
    return id(head_ms, head_seq)
  end
  -- No epoch shows the loss, for example if somebody restored a key.
  local before = redis.call('XREVRANGE', log, id(ms, seq), '-', 'COUNT', 1)[1]
  local _, before_seq = parts(before and before[1] or '0-0')
  if before_seq < seq then
    return before and before[1] or '0-0'
  end
  for i = #list, 1, -1 do
    if list[i].seq < seq and list[i].ms <= ms then
      return id(list[i].ms, list[i].seq)
    end
  end
  return '0-0'
end

-- Looks for a reader's position of this epoch. Returns nil if the room's history includes it; otherwise the newest id that
-- the two histories have in common, from which the reader must continue.
local function fork(log, position, epoch)
  local head = of(log, 'head')
  local ms, seq = parts(position)
  if seq == 0 then
    return nil
  end
  local list = epoch ~= UNKNOWN and epochs(head) or {}
  -- Whether the epoch is missing from the room's history, as far as that is known.
  local foreign = list[1] and list[1].seq == 0
  -- A room that moves to another primary and back has several epochs of the same name.
  for i = #list, 1, -1 do
    local ended = list[i + 1]
    foreign = foreign and list[i].name ~= epoch
    if list[i].name == epoch and list[i].seq < seq and list[i].began <= ms then
      if ended and ended.seq < seq then
        return id(ended.ms, ended.seq)
      end
      break
    end
  end
  if redis.call('XRANGE', log, position, position)[1] then
    return nil
  end
  list = epochs(head)
  local head_ms, head_seq = newest(log, head)
  local is_head = ms == head_ms and seq == head_seq
  if is_head or (not foreign and has_place(log, list, head_ms, head_seq, ms, seq)) then
    return nil
  end
  return forked_at(log, list, head_ms, head_seq, ms, seq, epoch, foreign)
end
