-- Appending to a room's log and finding positions in it.

-- Returns whether a room's channel has subscribers other than the calling node, which delivers its own messages itself. Except for
-- the XADD, an SPUBLISH costs more than the rest of a small append. If PUBSUB is not allowed, assumes that there are subscribers.
local function is_heard(bell, own)
  local ears = redis.pcall('PUBSUB', 'SHARDNUMSUB', bell)
  return ears.err or ears[2] > own
end

-- The number of windows that a clock may step back without keys being forgotten.
local WINDOWS_AHEAD = 2

-- Returns the deduplication window for a time, or that of the last append if the clock has stepped back since. A window that is further
-- ahead came from a wrong clock.
local function window_at(time, length, last)
  local window = math.floor(time / length)
  last = last or 0
  return last > window and last <= window + WINDOWS_AHEAD and last or window
end

-- Stores the keys of new messages, and returns the window whose hash has them. While a slot is moved, Redis creates no key
-- in it; then the hash of the previous window is used.
local function remember(known, window, last, length, keys)
  local hash = known .. whole(window)
  if window == last then
    redis.call('HSET', hash, unpack(keys))
    return window
  end
  local made = redis.pcall('HSET', hash, unpack(keys))
  if type(made) == 'table' and last == window - 1 then
    window, hash = last, known .. whole(last)
    made = redis.call('HSET', hash, unpack(keys))
  end
  if type(made) == 'table' then
    error(made)
  end
  -- Keep it for this window and the next.
  redis.call('PEXPIRE', hash, 2 * length)
  return window
end

-- Returns the hashes in which keys are looked up. Only hashes known to exist are included, since a missing one looks like one that
-- was moved away.
local function used_windows(known, window, last, older)
  local hashes = {}
  for _, at in pairs({ last, older }) do
    if at == window or at == window - 1 then
      hashes[#hashes + 1] = known .. whole(at)
    end
  end
  return hashes
end

-- The most ms by which the first id of an epoch is ahead of a clock that is behind the log.
local AHEAD_OF_LOST = 4096

-- Returns the ms of new ids, which never decreases. If the clock is behind the log, all new ids have the ms of the newest one, and so
-- did ids that a former history lost. A new epoch therefore takes a later ms, derived from its random name, so that lost ids are
-- not used again.
local function stamp_of(time, ms, goes_on, history)
  if goes_on or time > ms then
    return math.max(ms, time)
  end
  return ms + 1 + tonumber(string.sub(history, 1, 3), 16) % AHEAD_OF_LOST
end

-- keys: log
-- args: length of a window in ms, the number of subscribers of the channel that belong to the caller, then for each message: key,
-- '1' if the key cannot have been used before, from, type and data
-- Returns the epoch, the id before the first new message, and the id of each message, with '=' before it if its key was
-- already known.
local function append(keys, args)
  local log = keys[1]
  local head, known, bell = of(log, 'head'), of(log, 'keys:'), of(log, 'bell')
  local length, time = tonumber(args[1]), now()
  local ms, seq, last, older, epoch, after = newest(log, head)
  local is_first = seq == 0
  local window, look = window_at(time, length, last), nil
  local history = this_history(time)
  if is_first and deleted_ms < time + AHEAD then
    -- This may be a room that was deleted a moment ago and is now recreated.
    ms = math.max(ms, deleted_ms + 1)
  end
  local stamp = whole(stamp_of(time, ms, is_first or epoch == history, history))
  local ids, fresh, here = {}, {}, {}
  local rung = is_heard(bell, tonumber(args[2])) and { 'm', history, after }
  for i = 3, #args, 5 do
    local key, first = args[i], nil
    if args[i + 1] ~= '1' then
      first = here[key]
      look = look or used_windows(known, window, last, older)
      for _, hash in ipairs(look) do
        first = first or redis.call('HGET', hash, key)
      end
    end
    if first then
      ids[#ids + 1] = '=' .. first
    else
      seq = seq + 1
      local this = stamp .. '-' .. whole(seq)
      ids[#ids + 1], here[key] = this, this
      fresh[#fresh + 1] = key
      fresh[#fresh + 1] = this
      if rung then
        local n = #rung
        rung[n + 1], rung[n + 2], rung[n + 3], rung[n + 4], rung[n + 5] = this, key, args[i + 2], args[i + 3], args[i + 4]
      end
    end
  end
  if #fresh == 0 then
    -- Write anyway: the caller may use WAIT to make sure that a replica has the earlier messages, and WAIT counts only writes.
    redis.call('HSET', head, 'ms', whole(ms), 'seq', whole(seq))
  else
    -- This write comes first: if the key has already moved to another server, it fails before anything is stored.
    local used = remember(known, window, last, length, fresh)
    for n = 1, #ids do
      local this, i = ids[n], 5 * n - 2
      if string.byte(this) ~= 61 then
        redis.call('XADD', log, this, 'key', args[i], 'from', args[i + 2], 'type', args[i + 3], 'data', args[i + 4])
      end
    end
    redis.call('HSET', head, 'ms', stamp, 'seq', whole(seq))
    if used ~= last then
      redis.call('HSET', head, 'window', whole(used), 'older', last == used - 1 and whole(last) or '')
    end
    if epoch ~= history then
      redis.call('HSET', head, 'epoch', history, 'epochs', begin_epoch(head, history, after, stamp))
    end
    if is_first then
      mirror_all(log)
    end
    if rung then
      redis.call('SPUBLISH', bell, cmsgpack.pack(rung))
    end
  end
  return { history, after, unpack(ids) }
end

-- keys: log
-- args: a position, and the epoch in which it was read
-- Returns the newest epoch of the room's history, and, unless that history includes the position, the newest id in common.
local function locate(keys, args)
  return { redis.call('HGET', of(keys[1], 'head'), 'epoch') or UNKNOWN, fork(keys[1], args[1], args[2]) }
end

-- Returns the id with this seq in a log without holes. The entry `high_ms`-`high_seq` has this seq or a later one. All entries up to
-- `low_ms` have earlier ones; the last of them is `low_seq`. Reads one entry per step, alternating between interpolation and
-- bisection.
local function id_at(log, seq, low_ms, low_seq, high_ms, high_seq)
  local halve = false
  while high_ms - low_ms > 1 do
    local part = halve and 0.5 or (seq - low_seq) / (high_seq - low_seq)
    local middle = low_ms + math.floor((high_ms - low_ms) * part)
    middle = math.max(low_ms + 1, math.min(high_ms - 1, middle))
    halve = not halve
    local entry = redis.call('XREVRANGE', log, whole(middle), '-', 'COUNT', 1)[1]
    local ms, at = parts(entry[1])
    if at >= seq then
      high_ms, high_seq = ms, at
    else
      low_ms, low_seq = middle, at
    end
  end
  return high_ms, seq
end

-- Returns the position right before an entry: the previous id if the log has it, so that the position remains valid if this entry
-- is deleted.
local function right_before(log, ms, seq)
  local before = redis.call('XREVRANGE', log, '(' .. id(ms, seq), '-', 'COUNT', 1)[1]
  local _, before_seq = parts(before and before[1] or '0-0')
  return before and before_seq == seq - 1 and before[1] or id(ms, seq - 1)
end

-- The most entries that one call counts.
local COUNTED_AT_ONCE = 100

-- keys: log
-- args: a number of messages, and '+' or the position before which they are counted
-- Returns the position before that many of the newest messages, and the number of messages that are still to be counted before it.
-- Redis cannot read an id without its payload. In a log without holes, a seq gives the number of messages after it, and a search
-- over a few entries finds its id. If messages were deleted from the middle, the newest ones are counted in several calls.
local function before_last(keys, args)
  local log, count, from = keys[1], tonumber(args[1]), args[2]
  local first = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
  local last = redis.call('XREVRANGE', log, from, '-', 'COUNT', 1)[1]
  if not last then
    local ms, seq = newest(log, of(log, 'head'))
    return { from == '+' and id(ms, seq) or from, 0 }
  end
  local first_ms, first_seq = parts(first[1])
  local last_ms, last_seq = parts(last[1])
  local length = from == '+' and redis.call('XLEN', log)
  if length and count >= length then
    return { id(first_ms, first_seq - 1), 0 }
  end
  if length == last_seq - first_seq + 1 then
    local ms, seq = id_at(log, last_seq - count + 1, first_ms - 1, first_seq - 1, last_ms, last_seq)
    return { right_before(log, ms, seq), 0 }
  end
  local wanted = math.min(count, COUNTED_AT_ONCE)
  local entries = redis.call('XREVRANGE', log, from, '-', 'COUNT', wanted)
  local ms, seq = parts(entries[#entries][1])
  return { right_before(log, ms, seq), #entries == wanted and count - wanted or 0 }
end

redis.register_function('@LIBRARY@_append', append)
redis.register_function{ function_name = '@LIBRARY@_locate', callback = locate, flags = { 'no-writes' } }
redis.register_function{ function_name = '@LIBRARY@_before_last', callback = before_last, flags = { 'no-writes' } }
