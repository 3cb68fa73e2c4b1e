-- Sends each request to another of N hosts. Usage: wrk -s hosts.lua URL -- N
local requests, turn = {}, 0

function init(arguments)
  local count = tonumber(arguments[1])
  requests[1] = wrk.format("GET", "/", { Host = "app.test" })
  for number = 1, count - 1 do
    requests[number + 1] = wrk.format("GET", "/", { Host = "h" .. number .. ".test" })
  end
end

function request()
  -- A stride that shares no factor with the counts used visits every host, but not in the order of the file.
  turn = (turn + 7919) % #requests
  return requests[turn + 1]
end
