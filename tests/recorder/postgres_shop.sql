create type tier as enum ('basic', 'silver', 'gold "plus"');
create type order_state as enum ('open', 'paid', 'shipped', 'cancelled');

create table customers (
  id bigint primary key,
  name varchar(80) not null,
  email text,
  tier tier,
  country char(2),
  active boolean not null default true,
  born date,
  level smallint,
  balance numeric,
  credit numeric(14, 4),
  score double precision,
  rating real,
  external uuid,
  last_ip inet,
  tags text[],
  scores integer[],
  settings jsonb,
  profile json,
  avatar bytea,
  notes text,
  created timestamptz not null,
  seen timestamp(3),
  changed timestamp(6),
  wakes time,
  rings timetz,
  visit interval
);

create table orders (
  id bigint primary key,
  customer_id bigint not null,
  number char(10) not null,
  status order_state not null,
  currency char(3),
  total numeric(12, 2) not null,
  discount numeric,
  rate double precision,
  weight real,
  gift boolean,
  placed timestamptz not null,
  local timestamp(3) not null,
  changed timestamp,
  due date,
  cutoff time(3),
  pickup timetz,
  lead interval,
  client inet,
  token uuid,
  tags text[],
  codes bigint[],
  shares numeric(8, 2)[],
  meta jsonb,
  attachment bytea,
  note text
);

create table order_lines (
  order_id bigint references orders on update cascade on delete cascade,
  line_no integer,
  sku varchar(20) not null,
  title text,
  quantity integer not null,
  price numeric(12, 2) not null,
  tax numeric(12, 4),
  share numeric,
  properties json,
  memo text,
  primary key (order_id, line_no)
);

create table refunds (
  id bigint primary key,
  order_id bigint not null references orders on update cascade on delete cascade,
  amount numeric(12, 2) not null,
  reason text,
  approved boolean,
  scratch integer,
  booked timestamp(3) not null,
  detail jsonb
);

-- Large values go out of line as they are: what they hold is dull, and compressed they would stay in their rows.
alter table customers alter notes set storage external, alter settings set storage external,
  alter avatar set storage external, alter tags set storage external, alter scores set storage external;
alter table orders alter note set storage external, alter meta set storage external,
  alter attachment set storage external;
alter table order_lines alter memo set storage external;
alter table refunds alter detail set storage external;
