-- name: lock_quarantined
-- The quarantined orders that were named (all where none is), locked in one order so that nobody waits in a circle.
select s.destination, s.order_key
from order_sync s
where s.quarantine_revision is not null
  and (%(orders)s::text[] is null or s.order_key = any(%(orders)s) or s.vendor_order_id = any(%(orders)s))
order by s.destination, s.order_key
for update

-- name: retry_quarantined
-- A forced send: due at once, whatever was accepted before, and alone, so that a second failure blames nobody else.
update order_sync s
set revision = s.revision + 1,
    digest = null,
    first_change = coalesce(s.first_change, clock_timestamp()),
    due_at = clock_timestamp(),
    send_alone = true,
    quarantine_revision = null,
    quarantine_mapping = null,
    quarantine_reason = null,
    quarantined_at = null
from unnest(%(destinations)s::smallint[], %(order_keys)s::text[]) as named (destination, order_key)
where s.destination = named.destination and s.order_key = named.order_key

-- name: record_action
insert into operator_action (who, command, arguments, affected)
values (%(who)s, %(command)s, %(arguments)s::jsonb, %(affected)s)

-- name: destinations
select id, name from destination where name = any(%(names)s::text[]) order by name

-- name: mapping_in_force
select version from mapping_in_force

-- name: accepted_orders
-- How many records a destination has, how many of them were ever accepted, and the size of some documents (compressed).
select count(*), count(accepted_at),
       array(select last_accepted from order_sync where destination = %(destination)s and last_accepted is not null limit 200)
from order_sync where destination = %(destination)s

-- name: lock_named
select s.destination, s.order_key, s.vendor_order_id from order_sync s
where s.destination = any(%(destinations)s::smallint[])
  and (s.order_key = any(%(orders)s::text[]) or s.vendor_order_id = any(%(orders)s::text[]))
order by s.destination, s.order_key
for update

-- name: force_orders
-- A forced send, whatever was accepted before: due at once, but for masses (lane 1) that are owed anyway. An owed live
-- order is never put into the backfill.
update order_sync s
set revision = s.revision + 1,
    digest = null,
    owed_era = case when s.owed then s.owed_era else (select max(number) from era) end,
    lane = case when s.owed then least(s.lane, %(lane)s) else %(lane)s end,
    first_change = coalesce(s.first_change, clock_timestamp()),
    due_at = case when %(lane)s = 1 and s.owed then s.due_at else clock_timestamp() end
from unnest(%(destinations)s::smallint[], %(order_keys)s::text[]) as named (destination, order_key)
where s.destination = named.destination and s.order_key = named.order_key

-- name: begin_action
insert into operator_action (who, command, arguments, affected)
values (%(who)s, %(command)s, %(arguments)s::jsonb, 0) returning id

-- name: count_action
update operator_action set affected = affected + %(affected)s where id = %(action)s
