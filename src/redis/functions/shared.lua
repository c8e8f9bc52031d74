-- What all functions use: names, ids, the clock, and where a room's newest id is.

-- The name of another key or channel of the room whose log is named. A function declares one key, its first: while a cluster
-- moves a slot, a call with several keys of which one is missing is refused for as long as the slot is on its way. What
-- has moved already makes a command within the function fail, so what may fail comes before the first write.
local function of(log, kind)
  return string.sub(log, 1, -4) .. kind
end

-- The newest id of a room: from its head, or, where that is missing, from the stream itself. And the windows of
-- deduplication whose hashes were made last, if there are such.
local function newest(log, head)
  local known = redis.call('HMGET', head, 'ms', 'seq', 'window', 'older')
  if known[1] then
    local window, older = tonumber(known[3]), tonumber(known[4])
    -- Where no older one was ever noted, as by a version before this one, there may be one.
    return tonumber(known[1]), tonumber(known[2]), window, window and not known[4] and window - 1 or older
  end
  if redis.call('EXISTS', log) == 1 then
    local info = redis.call('XINFO', 'STREAM', log)
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then
        local ms, seq = string.match(info[i + 1], '^(%d+)%-(%d+)$')
        return tonumber(ms), tonumber(seq)
      end
    end
  end
  return 0, 0
end

-- Lua's numbers are doubles: exact up to 2^53. %d is the faster way to write them, but cuts them where a long has 32 bits.
local format
local function whole(number)
  format = format or string.format('%d', 2 ^ 40) == '1099511627776' and '%d' or '%.0f'
  return string.format(format, number)
end

local function id(ms, seq)
  return whole(ms) .. '-' .. whole(seq)
end

local function parts(text)
  local ms, seq = string.match(text, '^(%d+)%-(%d+)$')
  return tonumber(ms), tonumber(seq)
end

-- Registers a function that works while Redis is at its memory limit: one that frees memory, or without which nothing does.
-- Not in a loop: while a library is loaded, Lua has no `pairs`.
local function register_for_full(name, callback)
  redis.register_function({ function_name = '@LIBRARY@_' .. name, callback = callback, flags = { 'allow-oom' } })
end

local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
