-- The state may go back to what it was (eras); requests lie in partitions, so that old ones go by dropping a table.

create table era (
    number            integer primary key,
    installation      uuid not null,
    began_at          timestamptz not null,
    cause             text not null,
    system_identifier text,
    timeline          text,
    targets_at        timestamptz,
    replayed_at       timestamptz
);
comment on table era is 'Each time after the state went back, since it was made (0). The newest one is the present.';
comment on column era.installation is 'Names this state in what it leaves in Kafka. The same in every era.';
comment on column era.system_identifier is 'Of the server, as last seen; with its timeline. Null where the server does not tell.';
comment on column era.targets_at is 'When it was noted how far Kafka has to be read again. Delivery is held before.';
comment on column era.replayed_at is 'When it was read again that far.';
insert into era (number, installation, began_at, cause, targets_at, replayed_at)
values (0, gen_random_uuid(), clock_timestamp(), 'the state was made', clock_timestamp(), clock_timestamp());

alter table kafka_position add column furthest bigint not null default -1;
comment on column kafka_position.furthest is
    'The highest next offset that this state ever stood at. It goes back with the state, and by nothing else.';
update kafka_position set furthest = next_offset;

alter table lease add column renewals bigint not null default 0;
comment on column lease.renewals is 'A holder that knows of more than are here holds a lease of a state that is no more.';

alter table order_sync
    add column owed_era   integer not null default 0,
    add column digest_era integer not null default 0;
comment on column order_sync.owed_era is
    'ingest: the era in which it became owed, that before the present while Kafka is read again. Owed since an earlier era, it may have been sent in the future that was lost.';
comment on column order_sync.digest_era is 'delivery: the digest counts in this era alone.';
create index order_sync_lost on order_sync (destination, order_key) where hold = 'lost' and revision <= settled_revision;

-- The table becomes the first partition. Ids go on where they were.
alter table delivery_request rename to delivery_request_first;
alter index delivery_request_pkey rename to delivery_request_first_pkey;
alter index delivery_request_open rename to delivery_request_first_open;
alter index delivery_request_ledger rename to delivery_request_first_ledger;
alter index delivery_request_orders rename to delivery_request_first_orders;
create table delivery_request (
    like delivery_request_first including defaults including comments,
    constraint delivery_request_pkey primary key (id),
    foreign key (destination) references destination
) partition by range (id);
create index delivery_request_open on delivery_request (destination) where settled_at is null;
create index delivery_request_ledger on delivery_request (destination, counts_until);
create index delivery_request_orders on delivery_request using gin (order_keys);

create function request_partitions() returns table (partition regclass, upto bigint) language sql stable as $$
    select c.oid::regclass, (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \(''?(\d+)''?\)'))[1]::bigint
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'delivery_request'::regclass
$$;
comment on function request_partitions is 'The partitions of delivery_request, and the id before which each ends.';

create function room_for_requests(request bigint) returns void language plpgsql security definer as $$
declare
    width constant bigint := 100000;
    top bigint;
begin
    select max(upto) into top from request_partitions();
    if top > request + width then
        return;
    end if;
    perform pg_advisory_xact_lock(hashtext('order-sync request partitions'), hashtext(current_schema()));
    select max(upto) into top from request_partitions();
    while top <= request + 2 * width loop
        execute format('create table %I (like delivery_request including defaults including comments)',
                       'delivery_request_' || top / width);
        execute format('alter table delivery_request attach partition %I for values from (%s) to (%s)',
                       'delivery_request_' || top / width, top, top + width);
        top := top + width;
    end loop;
end $$;
comment on function room_for_requests is 'Makes the partitions of this id and of the next ones, where they are not there.';

create function drop_old_requests(keep interval) returns integer language plpgsql security definer
set lock_timeout = '2s' as $$
declare
    one record;
    needed boolean;
    behind bigint;
begin
    if keep < interval '1 day' then
        raise exception 'requests are kept for one day at least, not for %', keep;
    end if;
    execute format('select last_value from %s', pg_get_serial_sequence('delivery_request', 'id')) into behind;
    for one in select partition, upto from request_partitions() where upto <= behind order by upto limit 1 loop
        execute format('select exists (select from %s where settled_at is null or counts_until is null'
                       ' or greatest(settled_at, counts_until) > clock_timestamp() - $1)', one.partition)
            into needed using keep;
        if not needed then
            execute format('drop table %s', one.partition);
            return 1;
        end if;
    end loop;
    return 0;
end $$;
comment on function drop_old_requests is
    'Drops the oldest partition if all of its requests were settled, and counted for nothing, for that long; how many it dropped.';

do $$
declare
    width constant bigint := 100000;
    next_id bigint;
    bound bigint;
    name text;
begin
    execute format('select last_value + 1 from %s', pg_get_serial_sequence('delivery_request_first', 'id')) into next_id;
    bound := (next_id / width + 1) * width;
    alter table delivery_request_first alter column id drop identity;
    execute format('alter table delivery_request alter column id add generated always as identity (start with %s)', next_id);
    execute format('alter table delivery_request attach partition delivery_request_first for values from (minvalue) to (%s)', bound);
    -- What runs as its owner looks for names in our schema alone, whoever calls it.
    foreach name in array array['request_partitions()', 'room_for_requests(bigint)', 'drop_old_requests(interval)'] loop
        execute format('alter function %s set search_path = %I, pg_temp', name, current_schema());
    end loop;
    -- The version before this one makes none.
    perform room_for_requests(bound + 5 * width);
end $$;
