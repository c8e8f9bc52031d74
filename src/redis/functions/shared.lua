-- What all functions use: names, ids, the clock, where a room's newest id is, and whether a position is in its history.

-- The name of another key or channel of the room whose log is named. A function declares one key, its first: while a cluster
-- moves a slot, a call with several keys of which one is missing is refused for as long as the slot is on its way. What
-- has moved already makes a command within the function fail, so what may fail comes before the first write.
local function of(log, kind)
  return string.sub(log, 1, -4) .. kind
end

-- Lua's numbers are doubles: exact up to 2^53. %d is the faster way to write them, but cuts them where a long has 32 bits.
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

-- Registers a function that works while Redis is at its memory limit: one that frees memory, or without which nothing does.
-- Not in a loop: while a library is loaded, Lua has no `pairs`.
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

-- The newest id of a room: from its head, or, where that is missing, from the stream itself. And of its last append: the
-- windows of deduplication whose hashes were made last, if there are such, the epoch, and the newest id as text.
local function newest(log, head)
  local known = redis.call('HMGET', head, 'ms', 'seq', 'window', 'older', 'epoch')
  if known[1] then
    local window, older = tonumber(known[3]), tonumber(known[4])
    -- Where no older one was ever noted, as by a version before this one, there may be one.
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

-- The latest ms of an id in a room that was deleted. Ids of new rooms are of a later time, unless a clock was further ahead: then a
-- position in a deleted room is never taken for one in a room made anew. This server's own memory, since nothing of a deleted
-- room stays in Redis; after a failover the clocks of the two machines have to do.
local AHEAD = 3600000
local deleted_ms = 0

-- In place of an epoch that is not known.
local UNKNOWN = '0000000000000000'

-- The name of this server's history. Redis gives its data set a new replication id whenever it may go on differently from
-- how it was known before: at each start, and when a replica becomes the primary. INFO costs as much as half an append, so the
-- answer is kept for a moment: a primary that was replaced does not come back within it.
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

-- A room's history consists of epochs, one for each history of the server in which something was appended. The head's
-- field `epochs` lists them, oldest first: `<name>,<newest id before it>,<ms at which it began>`. Positions up to the newest id before an
-- epoch are common to what was there before and to what is there now; what the former primary appended beyond is lost.
-- This is Kafka's leader epoch (KIP-101).
local EPOCHS = 16

local function epochs(head)
  local list = {}
  for name, after, began in string.gmatch(redis.call('HGET', head, 'epochs') or '', '(%x+),([%d-]+),(%d+)') do
    local ms, seq = parts(after)
    list[#list + 1] = { name = name, ms = ms, seq = seq, began = tonumber(began) }
  end
  return list
end

-- The list with one more epoch, as text.
local function begin_epoch(head, name, after, began)
  local list = redis.call('HGET', head, 'epochs')
  local all = {}
  for epoch in string.gmatch(list or '', '%S+') do
    all[#all + 1] = epoch
  end
  all[#all + 1] = name .. ',' .. after .. ',' .. began
  return table.concat(all, ' ', math.max(1, #all - EPOCHS + 1))
end

-- For how long, in ms, a primary may go on that was replaced and that some nodes still reach.
local SPLIT_BRAIN = 3600000

-- Whether the log's entries around a position that it does not have leave room for it: then it was trimmed or deleted.
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
    -- Just before an entry, as the server makes positions up: what the log has before it does not matter.
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

-- The newest id that a position of a lost history shares with the room's.
local function forked_at(log, list, head_ms, head_seq, ms, seq, epoch, foreign)
  -- Of the epochs that can have replaced that of the position, the earliest: rather something comes twice than never.
  local latest = list[#list]
  for _, later in ipairs(latest and latest.name ~= epoch and list or {}) do
    -- All positions are beyond the beginning: only one of a foreign epoch is surely lost, where the room began but once since.
    local began_anew = foreign and #list == 1
    local replaced = ms < later.began or (later.seq > 0 or began_anew) and ms <= later.began + SPLIT_BRAIN
    if later.seq < seq and later.ms <= ms and replaced then
      return id(later.ms, later.seq)
    end
  end
  if seq > head_seq and ms >= head_ms then
    return id(head_ms, head_seq)
  end
  -- No epoch tells of the loss, as where somebody restored a key.
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

-- Finds a position that somebody has read to, of this epoch. Returns nothing if the room's history has it; otherwise the
-- newest id that the history of that position shares with the room's: the log is to be read on from there.
local function fork(log, position, epoch)
  local head = of(log, 'head')
  local ms, seq = parts(position)
  if seq == 0 then
    return nil
  end
  local list = epoch ~= UNKNOWN and epochs(head) or {}
  -- Of an epoch that the room's history does not have, as far as it is known.
  local foreign = list[1] and list[1].seq == 0
  -- A room that is moved between primaries, and back, has several epochs of one name.
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
