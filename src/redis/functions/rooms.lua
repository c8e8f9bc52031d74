-- Taking messages out of rooms, and rooms away.

-- keys: log, head, subs, bell, prefix of the keys' windows
-- args: length of a window in ms
-- Returns the room's newest id, if there was such a room.
local function delete(keys, args)
  local ms, seq, last = newest(keys[1], keys[2])
  local head = id(ms, seq)
  local window = window_at(now(), tonumber(args[1]), last)
  local gone = redis.call('UNLINK', keys[1], keys[2], keys[3])
  redis.call('UNLINK', keys[5] .. whole(window), keys[5] .. whole(window - 1))
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
    redis.call('UNLINK', keys[1], keys[2], keys[3])
    return 1
  end
  return 0
end

redis.register_function('@LIBRARY@_delete', delete)
redis.register_function('@LIBRARY@_delete_message', delete_message)
redis.register_function('@LIBRARY@_trim', trim)
redis.register_function('@LIBRARY@_delete_if_empty', delete_if_empty)
