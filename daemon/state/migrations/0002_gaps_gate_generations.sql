-- Ingest's states that outlive a process: what halts a partition, how far a backlog reaches, which generation a row is of.

alter table source
    add column generation smallint not null default 0,
    add column carries    boolean not null default true,
    add column key_version text,
    add column structure  text,
    add column relations  text;
comment on column source.carries is 'Whether values that an event leaves out may come from a row of an older generation: not after a gap.';
comment on column source.generation is 'Raised by a rebuild: rows of an older one were not met again since.';
comment on column source.structure is 'What of the mapping makes the stored values of its rows; a change needs a rebuild.';
comment on column source.relations is 'What of the mapping leads from its rows to orders; a change is followed in place.';

alter table source_row
    add column generation smallint not null default 0,
    add column heir       text,
    add column awaits     text[];
create index source_row_awaits on source_row (source, awaits) where awaits is not null;
comment on column source_row.heir is 'The new key of a row that a primary-key change deleted; its values are kept for that.';
comment on column source_row.awaits is
    'The key change, {old key, new key}, whose delete has yet to bring what this row does not know.';

alter table kafka_position
    add column read_at      timestamptz not null default clock_timestamp(),
    add column halted       text,
    add column halted_at    timestamptz,
    add column crossed      boolean not null default false,
    add column target       bigint,
    add column target_since timestamptz,
    add column target_until timestamptz;
comment on column kafka_position.read_at is 'When it was last known to be read to its end; when it was met, before that.';
comment on column kafka_position.halted is 'Why ingest of it stands still until a person resets the position.';
comment on column kafka_position.crossed is 'A gap was passed by since it was last read from its beginning.';
comment on column kafka_position.target is
    'Delivery is held until the position is here, at most until target_until (infinity: a rebuild).';

-- One mapping is in force at a time. Folds and sends hold this row; who finds another version than its own ends.
create table mapping_in_force (
    only_row boolean primary key default true check (only_row),
    version  text not null,
    since    timestamptz not null default clock_timestamp()
);
insert into mapping_in_force (version) values ('');

create table mapping_version (
    version     text primary key,
    first_seen  timestamptz not null default clock_timestamp()
);
comment on table mapping_version is 'Every mapping that was ever in force: an old one does not come back by a mere start.';

alter table structure_in_force add column root text;
