-- The janitor's queue of rooms: a sorted set by due time, in ms.

-- keys: queue
-- args: rooms
-- Makes rooms in which something happened due now.
local function note(keys, args)
  local time = whole(now())
  for _, room in ipairs(args) do
    redis.call('ZADD', keys[1], 'LT', time, room)
  end
  return #args
end

-- keys: queue
-- args: rooms
-- Adds missing rooms to the queue, due now. Returns their number.
local function enlist(keys, args)
  local time, added = whole(now()), 0
  for _, room in ipairs(args) do
    added = added + redis.call('ZADD', keys[1], 'NX', time, room)
  end
  return added
end

-- keys: queue
-- args: a limit, and the time in ms after which the rooms are due again unless they are settled
-- Takes rooms that are due. Returns the current time, the time at which the rooms are due again, and the rooms.
local function take(keys, args)
  local time = now()
  local again = whole(time + tonumber(args[2]))
  local rooms = redis.call('ZRANGEBYSCORE', keys[1], '-inf', whole(time), 'LIMIT', 0, args[1])
  for _, room in ipairs(rooms) do
    redis.call('ZADD', keys[1], again, room)
  end
  return { time, again, rooms }
end

-- keys: queue
-- args: the time at which `take` made the rooms due again, then each room and its next due time, or '' if the room was deleted
-- A room in which something has happened since stays due.
local function settle(keys, args)
  for i = 2, #args, 2 do
    if redis.call('ZSCORE', keys[1], args[i]) == args[1] then
      if args[i + 1] == '' then
        redis.call('ZREM', keys[1], args[i])
      else
        redis.call('ZADD', keys[1], args[i + 1], args[i])
      end
    end
  end
  return 1
end

register_for_full('note', note)
register_for_full('enlist', enlist)
register_for_full('take', take)
register_for_full('settle', settle)
