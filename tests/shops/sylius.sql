-- The tables of Sylius 2.0 and its RefundPlugin (PostgreSQL) from which an order document is made. Names and types are
-- Sylius's; columns that no document needs are left out.
-- Money is integer, hundredths of every currency; timestamps have no zone.
create table sylius_customer (
  id integer primary key,
  email varchar(255) not null,
  first_name varchar(255),
  last_name varchar(255),
  phone_number varchar(255));

create table sylius_address (
  id integer primary key,
  first_name varchar(255) not null,
  last_name varchar(255) not null,
  phone_number varchar(255),
  street varchar(255) not null,
  city varchar(255) not null,
  postcode varchar(255) not null,
  country_code varchar(255) not null,
  province_code varchar(255),
  province_name varchar(255));

create table sylius_product_variant (
  id integer primary key,
  product_id integer not null,
  code varchar(255) not null unique);

create table sylius_promotion_coupon (
  id integer primary key,
  promotion_id integer,
  code varchar(255) not null unique);

create table sylius_order (
  id integer primary key,
  number varchar(255) unique,
  state varchar(255) not null,
  payment_state varchar(255) not null,
  checkout_completed_at timestamp(0),
  customer_id integer references sylius_customer,
  created_by_guest boolean not null default true,
  shipping_address_id integer unique references sylius_address,
  billing_address_id integer unique references sylius_address,
  promotion_coupon_id integer references sylius_promotion_coupon,
  currency_code varchar(3) not null,
  items_total integer not null,
  adjustments_total integer not null,
  total integer not null,
  notes text,
  token_value varchar(255),
  customer_ip varchar(255),
  created_at timestamp(0) not null,
  updated_at timestamp(0));

create table sylius_order_item (
  id integer primary key,
  order_id integer not null references sylius_order,
  variant_id integer not null references sylius_product_variant,
  quantity integer not null,
  unit_price integer not null,
  units_total integer not null,
  adjustments_total integer not null,
  total integer not null,
  product_name varchar(255),
  variant_name varchar(255));

create table sylius_order_item_unit (
  id integer primary key,
  order_item_id integer not null references sylius_order_item,
  adjustments_total integer not null);

create table sylius_shipment (
  id integer primary key,
  order_id integer not null references sylius_order,
  state varchar(255) not null,
  adjustments_total integer not null);

-- What belongs to a shipment has its order's id too.
create table sylius_adjustment (
  id integer primary key,
  order_id integer references sylius_order,
  order_item_id integer references sylius_order_item,
  order_item_unit_id integer references sylius_order_item_unit,
  shipment_id integer references sylius_shipment,
  type varchar(255) not null,
  amount integer not null,
  is_neutral boolean not null,
  origin_code varchar(255));

create table sylius_refund_refund (
  id integer primary key,
  order_id integer references sylius_order,
  amount integer not null,
  refunded_unit_id integer,
  type varchar(256) not null);

create table sylius_refund_credit_memo (
  id varchar(255) primary key,
  order_id integer references sylius_order,
  number varchar(255) not null unique,
  total integer not null,
  comment text not null,
  issued_at timestamp(0) not null);
