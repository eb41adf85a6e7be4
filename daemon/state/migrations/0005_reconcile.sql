-- What was found when the API's copy was held against what it had accepted.

create table reconciliation (
    id          bigint generated always as identity primary key,
    destination smallint not null references destination,
    at          timestamptz not null default clock_timestamp(),
    first_day   date not null,
    last_day    date not null,
    compared    bigint not null,
    missing     bigint not null,
    extra       bigint not null,
    different   bigint not null,
    unfinished  bigint not null,
    silent_days integer not null,
    marked      bigint not null
);
create index reconciliation_newest on reconciliation (destination, id);
comment on column reconciliation.silent_days is 'Days of which the API showed no order although some were accepted.';
