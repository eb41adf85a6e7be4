-- name: versions
select f.version, f.since, exists (select from mapping_version where version = %(version)s) from mapping_in_force f

-- name: lock_mapping_in_force
lock table mapping_in_force in exclusive mode

-- name: note_release
-- One row the first time that a release is at this revision or a later one; none after that.
insert into operator_action (who, command, arguments, affected)
select %(who)s, 'migrate', jsonb_build_object('release', %(release)s::text, 'revision', %(revision)s::bigint), 0
where not exists (
    select from operator_action
    where command = 'migrate' and arguments->>'release' = %(release)s and (arguments->>'revision')::bigint >= %(revision)s
)

-- name: stored_structure
-- Every source that has rows, with what their keys and values were folded under.
select s.name, s.key_version, s.structure, exists (select from source_row r where r.source = s.id), f.root
from source s left join structure_in_force f on true

-- name: put_in_force
update mapping_in_force set version = %(version)s, since = clock_timestamp() where version <> %(version)s

-- name: note_version
insert into mapping_version (version) values (%(version)s) on conflict do nothing

-- name: note_structure
insert into structure_in_force (version, root) values (%(version)s, %(root)s)
on conflict (only_row) do update set version = excluded.version, root = excluded.root, since = clock_timestamp()
where structure_in_force.version <> excluded.version

-- name: note_values
update source s set key_version = n.keys, structure = n.structure
from unnest(%(names)s::text[], %(keys)s::text[], %(values)s::text[]) as n (name, keys, structure)
where s.name = n.name and (s.key_version, s.structure) is distinct from (n.keys, n.structure)

-- name: release_targets
-- Nobody reads topics that the mapping does not name any more: they must not hold delivery.
update kafka_position p set target = null, target_since = null, target_until = null
from origin o where o.id = p.origin and p.target is not null and o.topic <> all(%(topics)s::text[])

-- name: lock_relinking
select pg_advisory_xact_lock(hashtext('order-sync relinking'), hashtext(current_schema()))

-- name: relations
select name, relations from source
