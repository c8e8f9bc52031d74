-- Appending to a room's log.

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
  local window, last = math.floor(time / length), tonumber(last) or 0
  return last > window and last <= window + WINDOWS_AHEAD and last or window
end

-- keys: log, head, prefix of the keys' windows, bell
-- args: length of a window in ms, how many ears of the bell are the caller's, then for each message: key, '1' if nobody
-- can have used that before, from, type and data
-- Returns an id for each message, with '=' before it where its key was known.
local function append(keys, args)
  local log, head, known, bell = keys[1], keys[2], keys[3], keys[4]
  local length, time = tonumber(args[1]), now()
  local ms, seq, last = newest(log, head)
  local window = window_at(time, length, last)
  local current = known .. whole(window)
  local stamp = whole(math.max(ms, time))
  local ids, remember, here = {}, {}, {}
  local rung = is_heard(bell, tonumber(args[2])) and { 'm' }
  for i = 3, #args, 5 do
    local key, first = args[i], nil
    if args[i + 1] ~= '1' then
      first = here[key] or redis.call('HGET', current, key)
        or redis.call('HGET', known .. whole(window - 1), key)
    end
    if first then
      ids[#ids + 1] = '=' .. first
    else
      seq = seq + 1
      local this = stamp .. '-' .. whole(seq)
      redis.call('XADD', log, this, 'key', key, 'from', args[i + 2], 'type', args[i + 3], 'data', args[i + 4])
      ids[#ids + 1], here[key] = this, this
      remember[#remember + 1] = key
      remember[#remember + 1] = this
      if rung then
        local n = #rung
        rung[n + 1], rung[n + 2], rung[n + 3], rung[n + 4], rung[n + 5] = this, key, args[i + 2], args[i + 3], args[i + 4]
      end
    end
  end
  if #remember > 0 then
    redis.call('HSET', current, unpack(remember))
    if last == whole(window) then
      redis.call('HSET', head, 'ms', stamp, 'seq', whole(seq))
    else
      -- From the first append in a window on, for that one and the next.
      redis.call('PEXPIRE', current, 2 * length)
      redis.call('HSET', head, 'ms', stamp, 'seq', whole(seq), 'window', whole(window))
    end
    if rung then
      redis.call('SPUBLISH', bell, cmsgpack.pack(rung))
    end
  end
  return ids
end

redis.register_function('@LIBRARY@_append', append)
