-- A change of an order that is owed already leaves every index alone, so that its new version can stand beside the old
-- one: what an index asks of the revision, which every change moves, is a column of its own. The table is rewritten.

drop index order_sync_due;
drop index order_sync_owed;
drop index order_sync_parked;
drop index order_sync_held;
drop index order_sync_lost;

alter table order_sync
    add column owed     boolean not null generated always as (revision > settled_revision) stored,
    add column parked   boolean not null generated always as (parked_revision is not distinct from revision) stored,
    add column sendable boolean not null generated always as (
        revision > settled_revision and request_id is null and quarantine_revision is distinct from revision
        and parked_revision is distinct from revision) stored;
comment on column order_sync.owed is 'Changes are not settled yet.';
comment on column order_sync.parked is 'It was judged and could be sent, but must not yet: see parked_revision.';
comment on column order_sync.sendable is 'Owed, and neither in flight nor quarantined nor parked.';

create index order_sync_due on order_sync (destination, lane, (greatest(due_at, not_before))) where sendable;
create index order_sync_owed on order_sync (destination, lane, first_change) where owed and not parked;
create index order_sync_parked on order_sync (destination, hold, placed_at) include (lane, body_bytes, hold_since) where parked;
create index order_sync_held on order_sync (destination) where hold = 'held' and not owed;
create index order_sync_lost on order_sync (destination, order_key) where hold = 'lost' and not owed;

-- Without statistics half of all orders would be taken for parked.
analyze order_sync;
