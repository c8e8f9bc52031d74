-- Taking messages out of rooms, and rooms away.

-- keys: log
-- args: length of a window in ms
-- Returns the room's newest id, if there was such a room.
local function delete(keys, args)
  local log = keys[1]
  local ms, seq, last = newest(log, of(log, 'head'))
  local window = window_at(now(), tonumber(args[1]), last)
  local names = { log, of(log, 'head'), of(log, 'subs') }
  for at = window - 1, window do
    names[#names + 1] = of(log, 'keys:') .. whole(at)
  end
  deleted_ms = math.max(deleted_ms, ms)
  -- In one command: while a slot is moved, either all of a room is here or nothing is deleted.
  local gone = redis.call('UNLINK', unpack(names))
  redis.call('SPUBLISH', of(log, 'bell'), cmsgpack.pack({ 'd', id(ms, seq) }))
  return gone > 0 and id(ms, seq) or nil
end

-- Names that messages were taken out, and tells nodes to drop those before an id from memory. The name in the head is the truth: a
-- node that was not told finds another one there. It is a time, so that a Redis that lost a cut does not give its name to another.
-- Returns the id, the cut's name, and that of the cut before it.
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
-- Returns the cut, if there was such a message.
local function delete_message(keys, args)
  if redis.call('XDEL', keys[1], args[1]) == 1 then
    local ms, seq = parts(args[1])
    return cut_before(keys[1], id(ms, seq + 1))
  end
end

-- keys: log
-- args: how many entries to keep up to the head that the plan knew (or ''), that head's seq, the id before which all go (or '')
-- Returns how many went, and the oldest that is left.
local function trim(keys, args)
  local ms, seq = newest(keys[1], of(keys[1], 'head'))
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
    cut_before(keys[1], first ~= '' and first or id(ms, seq + 1))
  end
  return { gone, first }
end

-- keys: log
-- args: the newest id that the room must still have
-- Returns 1 if the room is gone.
local function delete_if_empty(keys, args)
  local log, head, subs = keys[1], of(keys[1], 'head'), of(keys[1], 'subs')
  local untouched = id(newest(log, head)) == args[1]
  if untouched and redis.call('XLEN', log) == 0 and redis.call('HLEN', subs) == 0 then
    redis.call('UNLINK', log, head, subs)
    return 1
  end
  return 0
end

register_for_full('delete', delete)
register_for_full('delete_message', delete_message)
register_for_full('trim', trim)
register_for_full('delete_if_empty', delete_if_empty)
