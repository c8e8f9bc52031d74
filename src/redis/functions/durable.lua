-- Durable subscriptions: taking, acknowledging, giving up and deleting them.

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

-- keys: log
-- args: group, holder, where to start ('$', '0' or an id), whether that replaces a stored position, and, if no new subscription
-- may be made, why not
-- Returns the position, the head, and 1 if the subscription is new; or why it is not made.
local function attach(keys, args)
  local log = keys[1]
  local head, subs, bell = of(log, 'head'), of(log, 'subs'), of(log, 'bell')
  local group, holder, start, replace = args[1], args[2], args[3], args[4] == '1'
  local ms, seq = newest(log, head)
  local position, before = stored(subs, group)
  local new = not position
  if new and args[5] ~= '' then
    return args[5]
  end
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
  return { position, id(ms, seq), new and 1 or 0 }
end

-- Where an acknowledgement moves a position to, if anywhere. An id of a history that Redis lost counts up to where that
-- forked. A position of such a history may go back.
local function moved_to(log, position, acked)
  local to = fork(log, acked, UNKNOWN) or acked
  local ms, seq = parts(to)
  local had_ms, had_seq = parts(position)
  local newer = ms > had_ms or (ms == had_ms and seq > had_seq)
  if newer or (to ~= position and fork(log, position, UNKNOWN)) then
    return to
  end
end

-- keys: log
-- args: group, holder and id of each acknowledgement
-- Returns for each 1 if the position is now at or behind the id, 0 if another connection holds the subscription.
local function ack(keys, args)
  local log = keys[1]
  local subs = of(log, 'subs')
  local groups, held, moved = {}, {}, {}
  for i = 1, #args, 3 do
    groups[#groups + 1] = args[i]
  end
  local values = redis.call('HMGET', subs, unpack(groups))
  for n, group in ipairs(groups) do
    local holder, acked = args[3 * n - 1], args[3 * n]
    local position, current = read(values[n])
    held[n] = current == holder and 1 or 0
    local to = current == holder and moved_to(log, position, acked)
    if to then
      moved[#moved + 1], moved[#moved + 2] = group, subscription(to, holder)
      mirror(log, group, to)
    end
  end
  if #moved > 0 then
    redis.call('HSET', subs, unpack(moved))
  end
  return held
end

-- keys: log
-- args: group, holder, and the last id that it acknowledged, or ''
-- Gives the subscription up, if this holder still has it. Returns 1 if it had, or has given it up at this id before.
local function detach(keys, args)
  local log = keys[1]
  local subs = of(log, 'subs')
  local group, holder, acked = args[1], args[2], args[3]
  local position, current = stored(subs, group)
  if current == '-' and acked ~= '' then
    return not moved_to(log, position, acked) and 1 or 0
  end
  if current ~= holder then
    return 0
  end
  local to = acked ~= '' and moved_to(log, position, acked)
  if to then
    position = to
    mirror(log, group, to)
  end
  redis.call('HSET', subs, group, subscription(position, '-'))
  return 1
end

-- keys: subs
-- args: group, holder
-- Notes that the subscription is in use, if this holder still has it. Returns 1 if it has.
local function renew(keys, args)
  local position, current = stored(keys[1], args[1])
  if current ~= args[2] then
    return 0
  end
  redis.call('HSET', keys[1], args[1], subscription(position, current))
  return 1
end

-- keys: log
-- args: group, then, where it must be unused to go, the value that it must still have
-- Returns 1 if the subscription is gone, 0 if there was none, or it was used.
local function forget(keys, args)
  local log = keys[1]
  local subs = of(log, 'subs')
  local value = redis.call('HGET', subs, args[1])
  if not value or (args[2] and args[2] ~= value) then
    return 0
  end
  local _, holder = stored(subs, args[1])
  redis.call('HDEL', subs, args[1])
  redis.pcall('XGROUP', 'DESTROY', log, args[1])
  redis.call('SPUBLISH', of(log, 'bell'), cmsgpack.pack({ 'f', args[1], holder }))
  return 1
end

register_for_full('attach', attach)
register_for_full('ack', ack)
register_for_full('detach', detach)
register_for_full('renew', renew)
register_for_full('forget', forget)
