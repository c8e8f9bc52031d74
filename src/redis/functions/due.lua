-- The queue of rooms that the janitor is to look at: a sorted set by the time at which something becomes due, in ms.

-- keys: queue
-- args: rooms
-- Something happened in these rooms: they are due now.
local function note(keys, args)
  local time = whole(now())
  for _, room in ipairs(args) do
    redis.call('ZADD', keys[1], 'LT', time, room)
  end
  return #args
end

-- keys: queue
-- args: rooms
-- Puts rooms in that are not there, as due now. Returns how many.
local function enlist(keys, args)
  local time, added = whole(now()), 0
  for _, room in ipairs(args) do
    added = added + redis.call('ZADD', keys[1], 'NX', time, room)
  end
  return added
end

-- keys: queue
-- args: how many at most, and in how many ms they are due again if nothing is heard of them
-- Takes rooms that are due. Returns the time, the time at which they would be due again, and the rooms.
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
-- args: the time at which `take` had the rooms due again, then each room, and when it is due, or '' where it is gone
-- A room in which something happened since then stays due.
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
