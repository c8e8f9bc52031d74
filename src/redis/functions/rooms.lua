-- Deleting messages and rooms, and measuring rooms.

-- keys: log
-- args: length of a window in ms
-- Returns the room's newest id, or nil if there was no such room.
local function delete(keys, args)
  local log = keys[1]
  local ms, seq, last = newest(log, of(log, 'head'))
  local window = window_at(now(), tonumber(args[1]), last)
  local subs = of(log, 'subs')
  local names = { log, of(log, 'head'), quiet_of(log), subs, indexes(subs) }
  names[#names + 1], names[#names + 2] = reads_of(log)
  for at = window - 1, window do
    names[#names + 1] = of(log, 'keys:') .. whole(at)
  end
  deleted_ms = math.max(deleted_ms, ms)
  -- In one command: while a slot is moved, this deletes either all keys of the room or none.
  local gone = redis.call('UNLINK', unpack(names))
  redis.call('SPUBLISH', of(log, 'bell'), cmsgpack.pack({ 'd', id(ms, seq) }))
  return gone > 0 and id(ms, seq) or nil
end

-- Records a cut, and notifies nodes to evict cached messages before an id. The name of the cut in the head is authoritative: a node
-- that missed the notification finds a different name there. The name is a time, so that a Redis that lost a cut does not use its name
-- again. Returns the id, the name of the cut, and the name of the previous cut.
local function cut_before(log, before)
  local head, bell = of(log, 'head'), of(log, 'bell')
  local last = tonumber(redis.call('HGET', head, 'cut') or 0)
  local cut = { before, whole(math.max(last + 1, now_us())), whole(last) }
  redis.call('HSET', head, 'cut', cut[2])
  redis.call('SPUBLISH', bell, cmsgpack.pack({ 'x', cut[1], cut[2], cut[3] }))
  return cut
end

-- keys: log
-- args: id
-- Returns the cut, or nil if there was no such message.
local function delete_message(keys, args)
  if redis.call('XDEL', keys[1], args[1]) == 1 then
    local ms, seq = parts(args[1])
    make_quiet(keys[1], seq)
    return cut_before(keys[1], id(ms, seq + 1))
  end
end

-- The most entries that one step of a trim deletes.
local STEP = 10000

-- keys: log
-- args: the number of entries to keep up to the head of the plan (or ''), that head's seq, the id before which to delete all (or '')
-- Trims some thousand entries per call, so that no other command waits for long. Returns the number of deleted entries, the oldest
-- entry left, and 1 if trimming is complete.
local function trim(keys, args)
  local ms, seq = newest(keys[1], of(keys[1], 'head'))
  local gone, done = 0, 1
  if args[1] ~= '' then
    -- Entries appended since the plan was made are kept in addition: they must not displace entries that the plan keeps.
    local length = tonumber(args[1]) + math.max(0, seq - tonumber(args[2]))
    local most = redis.call('XLEN', keys[1]) - STEP
    if most > length then
      length, done = most, 0
    end
    gone = redis.call('XTRIM', keys[1], 'MAXLEN', '=', whole(length))
  end
  if args[3] ~= '' and done == 1 then
    -- Delete whole nodes of the stream first, then the rest of the last one.
    local nodes = redis.call('XTRIM', keys[1], 'MINID', '~', args[3], 'LIMIT', STEP)
    if nodes == 0 then
      nodes = redis.call('XTRIM', keys[1], 'MINID', '=', args[3])
    else
      done = 0
    end
    gone = gone + nodes
  end
  local first = redis.call('XRANGE', keys[1], '-', '+', 'COUNT', 1)
  first = first[1] and first[1][1] or ''
  if gone > 0 then
    cut_before(keys[1], first ~= '' and first or id(ms, seq + 1))
    forget_reads_before(keys[1], first_seq(keys[1], seq))
  end
  return { gone, first, done }
end

-- keys: log
-- args: the newest id that the room must still have
-- Returns 1 if the room was deleted.
local function delete_if_empty(keys, args)
  local log, head, subs = keys[1], of(keys[1], 'head'), of(keys[1], 'subs')
  local untouched = id(newest(log, head)) == args[1]
  if untouched and redis.call('XLEN', log) == 0 and redis.call('HLEN', subs) == 0 then
    redis.call('UNLINK', log, head, quiet_of(log), subs, reads_of(log))
    return 1
  end
  return 0
end

-- Bytes of a consumer group, and the most groups with which MEMORY USAGE, which walks all of them, is used.
local GROUP, MANY_GROUPS = 300, 256

-- Bytes of a stream without its entries, and of an entry without its values.
local STREAM, ENTRY = 16384, 30

-- Entries at each end of a log that are measured.
local WEIGHED = 8

local function bytes_of(log, length, groups)
  if groups <= MANY_GROUPS then
    return math.max(0, (redis.call('MEMORY', 'USAGE', log, 'SAMPLES', 16) or 0) - GROUP * groups)
  end
  if length == 0 then
    return 0
  end
  local count, bytes = 0, 0
  local oldest = redis.call('XRANGE', log, '-', '+', 'COUNT', WEIGHED)
  local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', WEIGHED)
  for _, entries in ipairs({ oldest, newest }) do
    for _, entry in ipairs(entries) do
      count, bytes = count + 1, bytes + ENTRY
      for i = 2, #entry[2], 2 do
        bytes = bytes + #entry[2][i]
      end
    end
  end
  return STREAM + math.floor(length * bytes / count)
end

-- The most positions beyond the head, of a lost history, that the search for the lowest position skips.
local LOST = 100

-- Returns the lowest position of a durable subscription, after which all messages are still needed, or '' if none are needed.
local function lowest_of(subs, by_seq, head_ms, head_seq)
  local groups = redis.call('ZRANGE', by_seq, 0, LOST - 1)
  local seq = 0
  for _, group in ipairs(groups) do
    local position = stored(subs, group)
    local at
    at, seq = parts(position or '0-0')
    if at < head_ms or (at == head_ms and seq <= head_seq) then
      return position
    end
  end
  return #groups == LOST and id(0, seq) or ''
end

-- keys: log
-- Measures a room. Returns the time in ms; the newest id, the oldest id in the log or '', the number of entries and their bytes; the
-- number of durable subscriptions, the lowest position or '', and a lower bound of their times of last use, or ''.
local function look(keys)
  local log, subs = keys[1], of(keys[1], 'subs')
  local by_seq, by_use = indexes(subs)
  local count = redis.call('HLEN', subs)
  check_indexes(subs, count)
  local ms, seq = newest(log, of(log, 'head'))
  local length = redis.call('XLEN', log)
  local first = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
  local lowest, used = '', ''
  if count > 0 then
    lowest = lowest_of(subs, by_seq, ms, seq)
    used = redis.call('ZRANGE', by_use, 0, 0, 'WITHSCORES')[2] or ''
  end
  return { now(), id(ms, seq), first and first[1] or '', length, bytes_of(log, length, count), count, lowest, used }
end

register_for_full('delete', delete)
register_for_full('delete_message', delete_message)
register_for_full('trim', trim)
register_for_full('delete_if_empty', delete_if_empty)
register_for_full('look', look)
