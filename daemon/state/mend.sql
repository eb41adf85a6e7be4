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
