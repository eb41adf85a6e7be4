-- Rejects of sources whose columns are hashed on the way in keep no bytes, which may hold what is not to rest here in plain.

alter table rejected_message add column digest bytea;
comment on column rejected_message.digest is
    'SHA-256 of the value, kept instead of key, value and headers where the mapping hashes columns of the source.';
