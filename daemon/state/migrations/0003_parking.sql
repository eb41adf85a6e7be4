-- Orders that were judged and could be sent, but must not yet; what was asked for of the backfill; the void guard's count.

alter table destination
    add column paused_at        timestamptz,
    add column backfill_since   timestamptz,
    add column backfill_until   timestamptz,
    add column backfill_reached timestamptz not null default '-infinity';
comment on column destination.backfill_since is
    'Orders of the backfill placed from here until backfill_until were asked for; null: none. Before live_since no other is sent.';
comment on column destination.backfill_reached is 'How far, by the time they were placed, these were released: oldest first.';
update destination set paused_at = clock_timestamp() where paused;
-- Whoever delivers already goes on as before.
update destination d set backfill_since = '-infinity', backfill_until = 'infinity', backfill_reached = 'infinity'
where exists (select from order_sync o where o.destination = d.id and o.accepted_at is not null);

alter table order_sync
    add column parked_revision bigint,
    add column placed_at       timestamptz,
    add column body_bytes      integer,
    add column zeroed          boolean not null default false;
comment on column order_sync.parked_revision is
    'Not sent while this is the revision; hold says why: shadow, backfill or guarded.';
comment on column order_sync.placed_at is 'time_of_purchase of the document that was last judged or sent.';
comment on column order_sync.body_bytes is 'The size of that document.';
comment on column order_sync.zeroed is
    'Sending it with a total of 0 takes nothing away: the last attempted document had none, or a person allowed it.';
update order_sync set zeroed = true where voided;

-- Parked orders leave the index of what can be sent: millions of them cost a poll nothing.
drop index order_sync_due;
create index order_sync_due on order_sync (destination, lane, (greatest(due_at, not_before)))
    where revision > settled_revision and request_id is null and quarantine_revision is distinct from revision
      and parked_revision is distinct from revision;
drop index order_sync_owed;
create index order_sync_owed on order_sync (destination, lane, first_change)
    where revision > settled_revision and parked_revision is distinct from revision;
create index order_sync_parked on order_sync (destination, hold, placed_at) include (lane, body_bytes, hold_since)
    where parked_revision = revision;

alter table delivery_request add column zeroed integer not null default 0;
comment on column delivery_request.zeroed is
    'Orders that it may have taken from a total to 0: the void guard counts them until an hour after its bytes do.';
