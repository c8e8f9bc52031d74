-- What must be atomic on a room, as one library of Redis Functions. @LIBRARY@ carries a hash of this text, so that
-- nodes of two versions can run side by side. All keys of a room share its hash tag, so a room lives in one slot.

-- The newest id of a room: from its head, or, where that is missing, from the stream itself. And the window of keys that its
-- last append remembered them in.
local function newest(log, head)
  local known = redis.call('HMGET', head, 'ms', 'seq', 'window')
  if known[1] then
    return tonumber(known[1]), tonumber(known[2]), known[3]
  end
  if redis.call('EXISTS', log) == 1 then
    local info = redis.call('XINFO', 'STREAM', log)
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then
        local ms, seq = string.match(info[i + 1], '^(%d+)%-(%d+)$')
        return tonumber(ms), tonumber(seq)
      end
    end
  end
  return 0, 0
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

local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Whether anybody hears a bell but the node that rings it, which brings what it appends to its own readers. A ring that
-- nobody needs costs Redis more than all else of a small append but the XADD. Where asking is not allowed, it rings.
local function is_heard(bell, own)
  local ears = redis.pcall('PUBSUB', 'SHARDNUMSUB', bell)
  return ears.err or ears[2] > own
end

-- keys: log, head, prefix of the keys' windows, bell
-- args: length of a window in ms, how many ears of the bell are the caller's, then for each message: key, '1' if nobody
-- can have used that before, from, type and data
-- Returns an id for each message, with '=' before it where its key was known.
local function append(keys, args)
  local log, head, known, bell = keys[1], keys[2], keys[3], keys[4]
  local length, time = tonumber(args[1]), now()
  local window = math.floor(time / length)
  local current = known .. whole(window)
  local ms, seq, last = newest(log, head)
  local stamp = whole(math.max(ms, time))
  local ids, remember, here = {}, {}, {}
  local rung = is_heard(bell, tonumber(args[2])) and { 'm' }
  for i = 3, #args, 5 do
    local key, first = args[i], nil
    if args[i + 1] ~= '1' then
      first = here[key] or redis.call('HGET', current, key)
        or redis.call('HGET', known .. whole(window - 1), key)
    end
    if first then
      ids[#ids + 1] = '=' .. first
    else
      seq = seq + 1
      local this = stamp .. '-' .. whole(seq)
      redis.call('XADD', log, this, 'key', key, 'from', args[i + 2], 'type', args[i + 3], 'data', args[i + 4])
      ids[#ids + 1], here[key] = this, this
      remember[#remember + 1] = key
      remember[#remember + 1] = this
      if rung then
        local n = #rung
        rung[n + 1], rung[n + 2], rung[n + 3], rung[n + 4], rung[n + 5] = this, key, args[i + 2], args[i + 3], args[i + 4]
      end
    end
  end
  if #remember > 0 then
    redis.call('HSET', current, unpack(remember))
    if last == whole(window) then
      redis.call('HSET', head, 'ms', stamp, 'seq', whole(seq))
    else
      -- From the first append in a window on, for that one and the next.
      redis.call('PEXPIRE', current, 2 * length)
      redis.call('HSET', head, 'ms', stamp, 'seq', whole(seq), 'window', whole(window))
    end
    if rung then
      redis.call('SPUBLISH', bell, cmsgpack.pack(rung))
    end
  end
  return ids
end

-- A durable subscription is a field of the hash `subs`, `<position> <used> <holder>`, mirrored by a consumer group of
-- the stream, so that Redis's own lag is exact. The hash is what finds a position in O(1): XINFO GROUPS is O(groups).
local function read(value)
  if value then
    return string.match(value, '^(%S+) %S+ (%S+)$')
  end
end

local function stored(subs, group)
  return read(redis.call('HGET', subs, group))
end

-- Puts the consumer group where the subscription is.
local function mirror(log, group, position)
  local _, seq = parts(position)
  local read = whole(seq)
  local moved = redis.pcall('XGROUP', 'SETID', log, group, position, 'ENTRIESREAD', read)
  if moved.err then
    redis.call('XGROUP', 'CREATE', log, group, position, 'MKSTREAM', 'ENTRIESREAD', read)
  end
end

local function subscription(position, holder)
  return position .. ' ' .. whole(now()) .. ' ' .. holder
end

-- Just before the oldest entry, or the newest id where there is none.
local function oldest(log, ms, seq)
  local first = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)
  if first[1] then
    local at, count = parts(first[1][1])
    return id(at, count - 1)
  end
  return id(ms, seq)
end

-- keys: log, head, subs, bell
-- args: group, holder, where to start ('$', '0' or an id), whether that replaces a stored position
-- Returns the position and the head.
local function attach(keys, args)
  local log, head, subs, bell = keys[1], keys[2], keys[3], keys[4]
  local group, holder, start, replace = args[1], args[2], args[3], args[4] == '1'
  local ms, seq = newest(log, head)
  local position, before = stored(subs, group)
  if not position or replace then
    if start == '$' then
      position = id(ms, seq)
    elseif start == '0' then
      position = oldest(log, ms, seq)
    else
      position = start
    end
  end
  redis.call('HSET', subs, group, subscription(position, holder))
  mirror(log, group, position)
  redis.call('HSETNX', head, 'ms', whole(ms))
  redis.call('HSETNX', head, 'seq', whole(seq))
  if before and before ~= '-' and before ~= holder then
    redis.call('SPUBLISH', bell, cmsgpack.pack({ 't', group, before }))
  end
  return { position, id(ms, seq) }
end

-- keys: log, head, subs
-- args: group, holder and id of each acknowledgement
-- Returns for each 1 if the position is now at or behind the id, 0 if another connection holds the subscription.
local function ack(keys, args)
  local log, head, subs = keys[1], keys[2], keys[3]
  local head_ms, head_seq = newest(log, head)
  local groups, held, moved = {}, {}, {}
  for i = 1, #args, 3 do
    groups[#groups + 1] = args[i]
  end
  local values = redis.call('HMGET', subs, unpack(groups))
  for n, group in ipairs(groups) do
    local holder, acked = args[3 * n - 1], args[3 * n]
    local position, current = read(values[n])
    held[n] = current == holder and 1 or 0
    if current == holder then
      local ms, seq = parts(acked)
      local had_ms, had_seq = parts(position)
      local newer = ms > had_ms or (ms == had_ms and seq > had_seq)
      -- A position beyond the head is of writes that Redis lost: it may go back.
      local lost = had_ms > head_ms or (had_ms == head_ms and had_seq > head_seq)
      if newer or lost then
        moved[#moved + 1], moved[#moved + 2] = group, subscription(acked, holder)
        mirror(log, group, acked)
      end
    end
  end
  if #moved > 0 then
    redis.call('HSET', subs, unpack(moved))
  end
  return held
end

-- keys: subs
-- args: group, holder
-- Gives the subscription up, if this holder still has it; with a holder that has it, notes that it is in use.
local function touch(keys, args, left)
  local position, current = stored(keys[1], args[1])
  if current == args[2] then
    local holder = left and '-' or current
    redis.call('HSET', keys[1], args[1], subscription(position, holder))
    return 1
  end
  return 0
end

local function detach(keys, args)
  return touch(keys, args, true)
end

local function renew(keys, args)
  return touch(keys, args, false)
end

-- keys: log, subs, bell
-- args: group, then, where it must be unused to go, the value that it must still have
-- Returns 1 if the subscription is gone, 0 if there was none, or it was used.
local function forget(keys, args)
  local value = redis.call('HGET', keys[2], args[1])
  if not value or (args[2] and args[2] ~= value) then
    return 0
  end
  local _, holder = stored(keys[2], args[1])
  redis.call('HDEL', keys[2], args[1])
  redis.pcall('XGROUP', 'DESTROY', keys[1], args[1])
  redis.call('SPUBLISH', keys[3], cmsgpack.pack({ 'f', args[1], holder }))
  return 1
end

-- keys: log, head, subs, bell, prefix of the keys' windows
-- args: length of a window in ms
-- Returns the room's newest id, if there was such a room.
local function delete(keys, args)
  local head = id(newest(keys[1], keys[2]))
  local window = math.floor(now() / tonumber(args[1]))
  local gone = redis.call('DEL', keys[1], keys[2], keys[3])
  redis.call('DEL', keys[5] .. whole(window), keys[5] .. whole(window - 1))
  redis.call('SPUBLISH', keys[4], cmsgpack.pack({ 'd', head }))
  return gone > 0 and head or nil
end

-- Tells nodes that what they keep in memory before this id is not to be read any more.
local function forget_before(bell, before)
  redis.call('SPUBLISH', bell, cmsgpack.pack({ 'x', before }))
end

-- keys: log, bell
-- args: id
-- Returns 1 if there was such a message.
local function delete_message(keys, args)
  local gone = redis.call('XDEL', keys[1], args[1])
  if gone == 1 then
    local ms, seq = parts(args[1])
    forget_before(keys[2], id(ms, seq + 1))
  end
  return gone
end

-- keys: log, head, bell
-- args: how many entries to keep up to the head that the plan knew (or ''), that head's seq, the id before which all go (or '')
-- Returns how many went, and the oldest that is left.
local function trim(keys, args)
  local ms, seq = newest(keys[1], keys[2])
  local gone = 0
  if args[1] ~= '' then
    -- What was appended since the plan was made comes on top: it must not push out what the plan keeps.
    local length = tonumber(args[1]) + math.max(0, seq - tonumber(args[2]))
    gone = redis.call('XTRIM', keys[1], 'MAXLEN', '=', whole(length))
  end
  if args[3] ~= '' then
    gone = gone + redis.call('XTRIM', keys[1], 'MINID', '=', args[3])
  end
  local first = redis.call('XRANGE', keys[1], '-', '+', 'COUNT', 1)
  first = first[1] and first[1][1] or ''
  if gone > 0 then
    forget_before(keys[3], first ~= '' and first or id(ms, seq + 1))
  end
  return { gone, first }
end

-- keys: log, head, subs
-- args: the newest id that the room must still have
-- Returns 1 if the room is gone.
local function delete_if_empty(keys, args)
  local untouched = id(newest(keys[1], keys[2])) == args[1]
  if untouched and redis.call('XLEN', keys[1]) == 0 and redis.call('HLEN', keys[3]) == 0 then
    redis.call('DEL', keys[1], keys[2], keys[3])
    return 1
  end
  return 0
end

redis.register_function('@LIBRARY@_append', append)
redis.register_function('@LIBRARY@_attach', attach)
redis.register_function('@LIBRARY@_ack', ack)
redis.register_function('@LIBRARY@_detach', detach)
redis.register_function('@LIBRARY@_renew', renew)
redis.register_function('@LIBRARY@_forget', forget)
redis.register_function('@LIBRARY@_delete', delete)
redis.register_function('@LIBRARY@_delete_message', delete_message)
redis.register_function('@LIBRARY@_trim', trim)
redis.register_function('@LIBRARY@_delete_if_empty', delete_if_empty)
