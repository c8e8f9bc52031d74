-- State shared by nodes: live nodes, the janitor, revoked tokens. These functions must work while Redis is full.

-- keys: lease
-- args: node, duration in ms
-- Returns 1 if the node now has the lease, 0 if another node has it.
local function lease(keys, args)
  local holder = redis.call('GET', keys[1])
  if holder and holder ~= args[1] then
    return 0
  end
  redis.call('SET', keys[1], args[1], 'PX', args[2])
  return 1
end

-- keys: sign of life
-- args: duration in ms
local function live(keys, args)
  redis.call('SET', keys[1], '1', 'PX', args[1])
  return 1
end

-- keys: revocations
-- args: the time that revocations are kept, in ms, then names and values
local function revoke(keys, args)
  local oldest = math.max(0, now() - tonumber(args[1]))
  redis.call('XADD', keys[1], 'MINID', '~', whole(oldest), '*', unpack(args, 2))
  return 1
end

register_for_full('lease', lease)
register_for_full('live', live)
register_for_full('revoke', revoke)
