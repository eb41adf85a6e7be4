create table customers (
  id bigint unsigned primary key,
  name varchar(80) not null,
  email varchar(120),
  latin varchar(20) character set latin1,
  tier enum('basic', 'silver', 'gold "plus"'),
  channels set('web', 'shop', 'télé'),
  active tinyint(1) not null default 1,
  flag bit(1),
  mask bit(8),
  wide bit(20),
  born date,
  since year,
  level smallint,
  visits mediumint unsigned,
  most bigint unsigned,
  balance decimal(30, 10),
  credit decimal(14, 4),
  score double,
  rating float,
  settings json,
  notes longtext,
  avatar blob,
  code binary(4),
  mark varbinary(8),
  wakes time,
  shift time(6),
  seen datetime,
  seen_ms datetime(3),
  seen_us datetime(6),
  created timestamp(6) not null default current_timestamp(6),
  changed timestamp null
) character set utf8mb4;

create table orders (
  id bigint primary key,
  customer_id bigint unsigned not null,
  number char(10) not null,
  status enum('open', 'paid', 'shipped', 'cancelled') not null,
  currency char(3),
  total decimal(12, 2) not null,
  discount decimal(6, 0),
  rate double,
  weight double(8, 3),
  gift tinyint(1),
  placed timestamp(3) not null default current_timestamp(3),
  local datetime(3) not null,
  due date,
  cutoff time(3),
  meta json,
  note text
) character set utf8mb4;

create table order_lines (
  order_id bigint,
  line_no int unsigned,
  sku varchar(20) not null,
  title varchar(80),
  quantity int not null,
  price decimal(12, 2) not null,
  tax decimal(12, 4),
  properties json,
  primary key (order_id, line_no)
) character set utf8mb4;

create table refunds (
  id bigint primary key,
  order_id bigint not null,
  amount decimal(12, 2) not null,
  reason varchar(80),
  approved bit(1),
  scratch int,
  booked datetime not null
) character set utf8mb4;
