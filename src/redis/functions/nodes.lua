-- What nodes agree on: who is alive, who is the janitor, which tokens are revoked. All of it must work while Redis is full.

-- keys: lease
-- args: node, for how many ms
-- Returns 1 if the node has the lease now, 0 if another has it.
local function lease(keys, args)
  local holder = redis.call('GET', keys[1])
  if holder and holder ~= args[1] then
    return 0
  end
  redis.call('SET', keys[1], args[1], 'PX', args[2])
  return 1
end

-- keys: sign of life
-- args: for how many ms it holds
local function live(keys, args)
  redis.call('SET', keys[1], '1', 'PX', args[1])
  return 1
end

-- keys: revocations
-- args: for how many ms revocations are kept, then names and values
local function revoke(keys, args)
  local oldest = math.max(0, now() - tonumber(args[1]))
  redis.call('XADD', keys[1], 'MINID', '~', whole(oldest), '*', unpack(args, 2))
  return 1
end

register_for_full('lease', lease)
register_for_full('live', live)
register_for_full('revoke', revoke)
