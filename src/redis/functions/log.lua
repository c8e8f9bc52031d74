-- Appending to a room's log, and finding positions in it.

-- Whether anybody hears a bell but the node that rings it, which brings what it appends to its own readers. A ring that
-- nobody needs costs Redis more than all else of a small append but the XADD. Where asking is not allowed, it rings.
local function is_heard(bell, own)
  local ears = redis.pcall('PUBSUB', 'SHARDNUMSUB', bell)
  return ears.err or ears[2] > own
end

-- By how many windows a clock may step back without keys being forgotten.
local WINDOWS_AHEAD = 2

-- The window of deduplication at a time: that of the last append, if the clock has stepped back since. One that is further
-- ahead is of a clock that was wrong.
local function window_at(time, length, last)
  local window = math.floor(time / length)
  last = last or 0
  return last > window and last <= window + WINDOWS_AHEAD and last or window
end

-- Remembers the keys of new messages, and returns the window whose hash has them. While a slot is moved, Redis makes no
-- key in it: then the hash of the window before serves on.
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
  -- For this window and the next.
  redis.call('PEXPIRE', hash, 2 * length)
  return window
end

-- The hashes in which keys are looked up: those that are there, since a missing one cannot be told from one that was moved away.
local function used_windows(known, window, last, older)
  local hashes = {}
  for _, at in pairs({ last, older }) do
    if at == window or at == window - 1 then
      hashes[#hashes + 1] = known .. whole(at)
    end
  end
  return hashes
end

-- Most ms by which the first id of an epoch is ahead of a clock that is behind.
local AHEAD_OF_LOST = 4096

-- The ms of new ids: never less than before. Where the clock is behind the log, all ids have the ms of the newest one, those
-- that a former history lost as well: a new epoch takes a later ms, by chance one that no other took, so that no lost id is given
-- again.
local function stamp_of(time, ms, goes_on, history)
  if goes_on or time > ms then
    return math.max(ms, time)
  end
  return ms + 1 + tonumber(string.sub(history, 1, 3), 16) % AHEAD_OF_LOST
end

-- keys: log
-- args: length of a window in ms, how many ears of the bell are the caller's, then for each message: key, '1' if nobody
-- can have used that before, from, type and data
-- Returns the epoch, the id that the first new message follows, and an id for each message, with '=' before it where its
-- key was known.
local function append(keys, args)
  local log = keys[1]
  local head, known, bell = of(log, 'head'), of(log, 'keys:'), of(log, 'bell')
  local length, time = tonumber(args[1]), now()
  local ms, seq, last, older, epoch, after = newest(log, head)
  local is_first = seq == 0
  local window, look = window_at(time, length, last), nil
  local history = this_history(time)
  if is_first and deleted_ms < time + AHEAD then
    -- Perhaps a room that was deleted a moment ago is made anew.
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
    -- A write all the same: the caller may wait until a replica has what was written before, and WAIT counts writes alone.
    redis.call('HSET', head, 'ms', whole(ms), 'seq', whole(seq))
  else
    -- Written first: if it has moved to another server already, nothing is done here.
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
-- Returns the newest epoch of the room's history, and, unless that has the position, the newest id that both share.
local function locate(keys, args)
  return { redis.call('HGET', of(keys[1], 'head'), 'epoch') or UNKNOWN, fork(keys[1], args[1], args[2]) }
end

-- The id with this seq, in a log without holes, of which the entry that is named last has this seq or a later one. All entries up to
-- `low_ms` have earlier ones, the last of them `low_seq`. Looks at one entry a step: where the seq would be if messages came
-- evenly, and in the middle, by turns.
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

-- The position right before an entry: the id before it, where the log has that, so that it is still found when this entry is deleted.
local function right_before(log, ms, seq)
  local before = redis.call('XREVRANGE', log, '(' .. id(ms, seq), '-', 'COUNT', 1)[1]
  local _, before_seq = parts(before and before[1] or '0-0')
  return before and before_seq == seq - 1 and before[1] or id(ms, seq - 1)
end

-- Entries that one call reads to count them.
local COUNTED_AT_ONCE = 100

-- keys: log
-- args: a number of messages, and '+', or the position before which they are counted
-- Returns the position before the newest so many, and how many of them are still to be counted before it.
-- Redis cannot read an id without its payload. Without holes, a seq says how many messages follow it, and a few entries lead to
-- its id. Where messages were deleted from the middle, the newest ones are counted in several calls.
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
