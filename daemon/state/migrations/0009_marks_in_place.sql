-- A change of an order that is owed already leaves every index alone, so that its new version can stand beside the old
-- one: what an index asks of the revision, which every change moves, is a column of its own.

alter table order_sync
    add column owed     boolean not null generated always as (revision > settled_revision) stored,
    add column parked   boolean not null generated always as (parked_revision is not distinct from revision) stored,
    add column sendable boolean not null generated always as (
        revision > settled_revision and request_id is null and quarantine_revision is distinct from revision
        and parked_revision is distinct from revision) stored;
comment on column order_sync.owed is 'Changes are not settled yet.';
comment on column order_sync.parked is 'It was judged and could be sent, but must not yet: see parked_revision.';
comment on column order_sync.sendable is 'Owed, and neither in flight nor quarantined nor parked.';

drop index order_sync_due;
create index order_sync_due on order_sync (destination, lane, (greatest(due_at, not_before))) where sendable;
drop index order_sync_owed;
create index order_sync_owed on order_sync (destination, lane, first_change) where owed and not parked;
drop index order_sync_parked;
create index order_sync_parked on order_sync (destination, hold, placed_at) include (lane, body_bytes, hold_since) where parked;
drop index order_sync_held;
create index order_sync_held on order_sync (destination) where hold = 'held' and not owed;
drop index order_sync_lost;
create index order_sync_lost on order_sync (destination, order_key) where hold = 'lost' and not owed;

-- Documents, of which a change of the order says nothing, stand beside the table, so that a mark copies a short record
-- and its page has room for it. All else stays in it, however long a record gets.
alter table order_sync set (fillfactor = 70, toast_tuple_target = 128);
alter table order_sync
    alter column last_attempted set storage external,
    alter column last_accepted set storage external,
    alter column order_key set storage main,
    alter column vendor_order_id set storage main,
    alter column digest set storage main,
    alter column mapping_version set storage main,
    alter column quarantine_mapping set storage main,
    alter column hold set storage main,
    alter column clear set storage main;
