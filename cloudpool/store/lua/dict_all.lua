-- All of a dict at one moment.
-- KEYS  1 base of the object's keys
-- Returns {order, values}, each field, entry, field, entry ...; an empty order when the dict is gone.
return {redis.call('HGETALL', KEYS[1] .. 'order'), redis.call('HGETALL', KEYS[1] .. 'values')}
