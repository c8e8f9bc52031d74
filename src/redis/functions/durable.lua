-- Durable subscriptions: taking, acknowledging, releasing and deleting them.

-- A durable subscription is a field of the hash `subs`, `<position> <used> <holder>`. A consumer group of the stream mirrors it, so
-- that Redis's own lag is exact. The hash finds a position in O(1), while XINFO GROUPS is O(groups). Three keys index it, so
-- that no function has to read all subscriptions of a room: `subs:seq` by position, `subs:used` by a lower bound of the time of
-- last use, and `subs:users` with the number for each user.
local function indexes(subs)
  return subs .. ':seq', subs .. ':used', subs .. ':users'
end

local function user_of(group)
  return string.match(group, '^(.*)/') or ''
end

local function read(value)
  if value then
    return string.match(value, '^(%S+) %S+ (%S+)$')
  end
end

local function stored(subs, group)
  return read(redis.call('HGET', subs, group))
end

-- Moves the consumer group to the subscription's position. A room without messages has no stream, and so no groups.
local function mirror(log, group, position)
  local _, seq = parts(position)
  local read = whole(seq)
  local moved = redis.pcall('XGROUP', 'SETID', log, group, position, 'ENTRIESREAD', read)
  if moved.err then
    redis.pcall('XGROUP', 'CREATE', log, group, position, 'ENTRIESREAD', read)
  end
end

-- The most subscriptions that get their groups with the first message of a room. If there are more, each gets its group when it is
-- used.
local MIRRORED_AT_ONCE = 1000

local function mirror_all(log)
  local subs = of(log, 'subs')
  local count = redis.call('HLEN', subs)
  if count == 0 or count > MIRRORED_AT_ONCE then
    return
  end
  local all = redis.call('HGETALL', subs)
  for i = 1, #all, 2 do
    mirror(log, all[i], (read(all[i + 1])))
  end
end

local function subscription(position, holder)
  return position .. ' ' .. whole(now()) .. ' ' .. holder
end

local function seq_of(position)
  local _, seq = parts(position)
  return whole(seq)
end

-- Rebuilds the indexes if they do not match the hash: once, after an upgrade from a version without them.
local function check_indexes(subs, count)
  local by_seq, by_use, users = indexes(subs)
  if redis.call('ZCARD', by_seq) == count then
    return
  end
  redis.call('UNLINK', by_seq, by_use, users)
  local all = redis.call('HGETALL', subs)
  for i = 1, #all, 2 do
    local position, used = string.match(all[i + 1], '^(%S+) (%S+)')
    redis.call('ZADD', by_seq, seq_of(position), all[i])
    redis.call('ZADD', by_use, used, all[i])
    redis.call('HINCRBY', users, user_of(all[i]), 1)
  end
end

-- Returns the position right before the oldest entry, or the newest id if the log is empty.
local function oldest(log, ms, seq)
  local first = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)
  if first[1] then
    local at, count = parts(first[1][1])
    return count == 1 and '0-0' or id(at, count - 1)
  end
  return id(ms, seq)
end

-- keys: log
-- args: group, holder, start ('$', '0' or an id), '1' if the start replaces a stored position, the reason why no subscription may be
-- created or '', the most subscriptions of the user
-- Returns the position, the head, and 1 if the subscription is new. On failure, returns the reason, 'many' or, for an impossible id,
-- 'bad'.
local function attach(keys, args)
  local log = keys[1]
  local head, subs, bell = of(log, 'head'), of(log, 'subs'), of(log, 'bell')
  local group, holder, start, replace = args[1], args[2], args[3], args[4] == '1'
  -- Lua is not rolled back, so the arguments are checked before the first write.
  local _, start_seq = parts(start)
  if start ~= '$' and start ~= '0' and (not start_seq or start_seq >= 2 ^ 53) then
    return 'bad'
  end
  local ms, seq = newest(log, head)
  local position, before = stored(subs, group)
  local by_seq, by_use, users = indexes(subs)
  local user, is_new = user_of(group), not position
  if is_new and args[5] ~= '' then
    return args[5]
  end
  if is_new and tonumber(redis.call('HGET', users, user) or 0) >= tonumber(args[6]) then
    return 'many'
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
  local at = seq_of(position)
  if is_new then
    redis.call('HINCRBY', users, user, 1)
    redis.call('ZADD', by_use, whole(now()), group)
  end
  redis.call('ZADD', by_seq, at, group)
  redis.call('HSET', subs, group, subscription(position, holder))
  mirror(log, group, position)
  if before and before ~= '-' and before ~= holder then
    redis.call('SPUBLISH', bell, cmsgpack.pack({ 't', group, before }))
  end
  return { position, id(ms, seq), is_new and 1 or 0 }
end

-- Returns the new position after acknowledgements, or nil if it does not move. `acked` has ids, newest first, separated by commas. An
-- id of a history that Redis lost counts up to the fork; then an older id may reach further. A position in such a history may move
-- back.
local function moved_to(log, position, acked)
  local to, ms, seq
  for id in string.gmatch(acked, '[^,]+') do
    local forked = fork(log, id, UNKNOWN)
    local id_ms, id_seq = parts(forked or id)
    if not to or id_ms > ms or (id_ms == ms and id_seq > seq) then
      to, ms, seq = forked or id, id_ms, id_seq
    end
    if not forked then
      break
    end
  end
  local had_ms, had_seq = parts(position)
  local newer = ms > had_ms or (ms == had_ms and seq > had_seq)
  if newer or (to ~= position and fork(log, position, UNKNOWN)) then
    return to
  end
end

-- keys: log
-- args: for each subscription: group, holder and acknowledged ids
-- Returns for each 1 if the holder has the subscription and the acknowledgement was applied, 0 if another connection holds it.
local function ack(keys, args)
  local log = keys[1]
  local subs = of(log, 'subs')
  local groups, held, moved, at = {}, {}, {}, {}
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
      at[#at + 1], at[#at + 2] = seq_of(to), group
      mirror(log, group, to)
    end
  end
  if #moved > 0 then
    redis.call('HSET', subs, unpack(moved))
    redis.call('ZADD', (indexes(subs)), unpack(at))
  end
  return held
end

-- keys: log
-- args: group, holder, and the ids that it acknowledged last, or ''
-- Releases the subscription if this holder still has it. Returns 1 if so, or if it was already released at this id.
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
    redis.call('ZADD', (indexes(subs)), seq_of(to), group)
    mirror(log, group, to)
  end
  redis.call('HSET', subs, group, subscription(position, '-'))
  return 1
end

-- keys: subs
-- args: group and holder of each subscription
-- Marks the subscriptions as in use that these holders still have. Returns for each 1 if its holder still has it.
local function renew(keys, args)
  local groups, held, renewed = {}, {}, {}
  for i = 1, #args, 2 do
    groups[#groups + 1] = args[i]
  end
  local values = redis.call('HMGET', keys[1], unpack(groups))
  for n, group in ipairs(groups) do
    local position, current = read(values[n])
    held[n] = current == args[2 * n] and 1 or 0
    if held[n] == 1 then
      renewed[#renewed + 1], renewed[#renewed + 2] = group, subscription(position, current)
    end
  end
  if #renewed > 0 then
    redis.call('HSET', keys[1], unpack(renewed))
  end
  return held
end

local function remove(log, group, holder)
  local subs, user = of(log, 'subs'), user_of(group)
  local by_seq, by_use, users = indexes(subs)
  redis.call('HDEL', subs, group)
  redis.call('ZREM', by_seq, group)
  redis.call('ZREM', by_use, group)
  if redis.call('HINCRBY', users, user, -1) <= 0 then
    redis.call('HDEL', users, user)
  end
  redis.pcall('XGROUP', 'DESTROY', log, group)
  redis.call('SPUBLISH', of(log, 'bell'), cmsgpack.pack({ 'f', group, holder }))
end

-- keys: log
-- args: group
-- Returns 1 if the subscription was deleted, 0 if there was none.
local function forget(keys, args)
  local _, holder = stored(of(keys[1], 'subs'), args[1])
  if not holder then
    return 0
  end
  remove(keys[1], args[1], holder)
  return 1
end

-- keys: log
-- args: the time before which an unused subscription expires, and the most subscriptions to check
-- Returns the number of checked subscriptions, and those that were deleted.
local function expire(keys, args)
  local log, subs = keys[1], of(keys[1], 'subs')
  local _, by_use = indexes(subs)
  local groups = redis.call('ZRANGEBYSCORE', by_use, '-inf', '(' .. args[1], 'LIMIT', 0, args[2])
  local gone = {}
  for _, group in ipairs(groups) do
    local used, holder = string.match(redis.call('HGET', subs, group) or '', ' (%S+) (%S+)$')
    if not used then
      redis.call('ZREM', by_use, group)
    elseif tonumber(used) < tonumber(args[1]) then
      remove(log, group, holder)
      gone[#gone + 1] = group
    else
      redis.call('ZADD', by_use, used, group)
    end
  end
  return { #groups, gone }
end

-- keys: log
-- args: a seq, and a limit
-- Returns the subscriptions whose positions are before that seq, furthest behind first: each group, then its position.
local function behind(keys, args)
  local subs = of(keys[1], 'subs')
  local groups = redis.call('ZRANGEBYSCORE', (indexes(subs)), '-inf', '(' .. args[1], 'LIMIT', 0, args[2])
  local found = {}
  for _, group in ipairs(groups) do
    local position = stored(subs, group)
    if position then
      found[#found + 1], found[#found + 2] = group, position
    end
  end
  return found
end

register_for_full('attach', attach)
register_for_full('ack', ack)
register_for_full('detach', detach)
register_for_full('renew', renew)
register_for_full('forget', forget)
register_for_full('expire', expire)
register_for_full('behind', behind)
