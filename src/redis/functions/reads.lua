-- Read positions, and unread counts computed from them.

-- The hash `reads` has the position of each user who has read in the room. `reads:seq` indexes it by seq. A position before the oldest
-- message says no more than none, so trimming removes it: the hash is bounded by the users who read what the room still has.
local function reads_of(log)
  local reads = of(log, 'reads')
  return reads, reads .. ':seq'
end

-- Messages that count as unread for nobody, a sorted set of seqs: those that were deleted one by one.
local function quiet_of(log)
  return of(log, 'quiet')
end

-- Returns the seq of the oldest message, or that of the next one if there is none.
local function first_seq(log, head_seq)
  local first = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
  if not first then
    return head_seq + 1
  end
  local _, seq = parts(first[1])
  return seq
end

-- keys: log
-- args: user and id of each position
-- Moves positions forward. An id of a history that Redis lost counts up to the fork.
local function read_up_to(keys, args)
  local log = keys[1]
  local reads, by_seq = reads_of(log)
  for i = 1, #args, 2 do
    local user, to = args[i], fork(log, args[i + 1], UNKNOWN) or args[i + 1]
    local _, seq = parts(to)
    local _, had = parts(redis.call('HGET', reads, user) or '0-0')
    if seq > had then
      redis.call('ZADD', by_seq, whole(seq), user)
      redis.call('HSET', reads, user, to)
    end
  end
end

-- keys: log
-- args: user
-- Returns the newest id, the user's position or '', and the number of messages after it that the room still has.
local function unread(keys, args)
  local log = keys[1]
  local ms, seq = newest(log, of(log, 'head'))
  local position = redis.call('HGET', (reads_of(log)), args[1])
  local _, read_seq = parts(position or '0-0')
  local after = math.max(read_seq, first_seq(log, seq) - 1)
  local quiet = redis.call('ZCOUNT', quiet_of(log), '(' .. whole(after), '+inf')
  return { id(ms, seq), position or '', math.max(0, seq - after - quiet) }
end

-- Records that a message was deleted. While a slot is moved, Redis may refuse this; then one unread message too many is counted.
local function make_quiet(log, seq)
  redis.pcall('ZADD', quiet_of(log), whole(seq), whole(seq))
end

-- The most positions that one step of a trim removes.
local FORGOTTEN_AT_ONCE = 1000

-- Removes what says nothing about messages from a seq on.
local function forget_reads_before(log, seq)
  local reads, by_seq = reads_of(log)
  local below = '(' .. whole(seq - 1)
  local users = redis.call('ZRANGEBYSCORE', by_seq, '-inf', below, 'LIMIT', 0, FORGOTTEN_AT_ONCE)
  if #users > 0 then
    redis.call('HDEL', reads, unpack(users))
    redis.call('ZREM', by_seq, unpack(users))
  end
  redis.call('ZREMRANGEBYSCORE', quiet_of(log), '-inf', '(' .. whole(seq))
end

redis.register_function('@LIBRARY@_read_up_to', read_up_to)
register_for_full('unread', unread)
