-- The tables of Spree 5.6 (PostgreSQL) from which an order document is made. Names and types are Spree's; columns that no
-- document needs are left out. Rails keeps no foreign keys in the database.
-- Money is numeric(10,2) in major units, the currency stands on the order; timestamps have no zone and are UTC.
create table spree_users (
  id bigserial primary key,
  email varchar,
  first_name varchar,
  last_name varchar,
  phone varchar,
  created_at timestamp(6) not null,
  updated_at timestamp(6) not null);

create table spree_countries (
  id bigserial primary key,
  iso varchar not null,
  iso3 varchar not null,
  iso_name varchar,
  name varchar);

create table spree_states (
  id bigserial primary key,
  name varchar,
  abbr varchar,
  country_id bigint);

create table spree_addresses (
  id bigserial primary key,
  firstname varchar,
  lastname varchar,
  address1 varchar,
  address2 varchar,
  city varchar,
  zipcode varchar,
  phone varchar,
  state_name varchar,
  state_id bigint,
  country_id bigint,
  company varchar,
  user_id bigint,
  created_at timestamp(6) not null,
  updated_at timestamp(6) not null);

create table spree_products (
  id bigserial primary key,
  name varchar not null,
  slug varchar,
  deleted_at timestamp,
  created_at timestamp(6) not null,
  updated_at timestamp(6) not null);

create table spree_variants (
  id bigserial primary key,
  product_id bigint,
  sku varchar not null,
  is_master boolean,
  position integer,
  deleted_at timestamp,
  created_at timestamp not null,
  updated_at timestamp not null);

create table spree_option_types (
  id bigserial primary key,
  name varchar,
  presentation varchar,
  position integer not null);

create table spree_option_values (
  id bigserial primary key,
  option_type_id bigint,
  name varchar,
  presentation varchar,
  position integer);

create table spree_option_value_variants (
  id bigserial primary key,
  variant_id bigint,
  option_value_id bigint);

create table spree_orders (
  id bigserial primary key,
  number varchar(32) unique,
  state varchar,
  completed_at timestamp,
  canceled_at timestamp,
  user_id bigint,
  email varchar,
  currency varchar,
  channel varchar,
  bill_address_id bigint,
  ship_address_id bigint,
  last_ip_address varchar,
  item_total numeric(10,2) not null,
  shipment_total numeric(10,2) not null,
  adjustment_total numeric(10,2) not null,
  promo_total numeric(10,2),
  included_tax_total numeric(10,2) not null,
  additional_tax_total numeric(10,2),
  total numeric(10,2) not null,
  payment_total numeric(10,2),
  payment_state varchar,
  shipment_state varchar,
  item_count integer,
  gift_card_id bigint,
  created_at timestamp(6) not null,
  updated_at timestamp(6) not null);

create table spree_line_items (
  id bigserial primary key,
  order_id bigint,
  variant_id bigint,
  quantity integer not null,
  price numeric(10,2) not null,
  currency varchar,
  adjustment_total numeric(10,2),
  promo_total numeric(10,2),
  included_tax_total numeric(10,2) not null,
  additional_tax_total numeric(10,2),
  pre_tax_amount numeric(12,4) not null,
  created_at timestamp(6) not null,
  updated_at timestamp(6) not null);

create table spree_adjustments (
  id bigserial primary key,
  order_id bigint not null,
  adjustable_type varchar,
  adjustable_id bigint,
  source_type varchar,
  source_id bigint,
  amount numeric(10,2),
  label varchar,
  eligible boolean default true,
  included boolean default false,
  created_at timestamp(6) not null,
  updated_at timestamp(6) not null);

create table spree_shipments (
  id bigserial primary key,
  order_id bigint,
  address_id bigint,
  number varchar,
  state varchar,
  cost numeric(10,2),
  shipped_at timestamp,
  adjustment_total numeric(10,2),
  promo_total numeric(10,2),
  included_tax_total numeric(10,2) not null,
  additional_tax_total numeric(10,2),
  pre_tax_amount numeric(12,4) not null,
  created_at timestamp(6) not null,
  updated_at timestamp(6) not null);

create table spree_inventory_units (
  id bigserial primary key,
  order_id bigint,
  line_item_id bigint,
  variant_id bigint,
  shipment_id bigint,
  quantity integer default 1,
  state varchar,
  created_at timestamp(6) not null,
  updated_at timestamp(6) not null);

create table spree_payments (
  id bigserial primary key,
  order_id bigint,
  number varchar,
  amount numeric(10,2) not null,
  state varchar,
  source_type varchar,
  source_id bigint,
  created_at timestamp(6) not null,
  updated_at timestamp(6) not null);

create table spree_refunds (
  id bigserial primary key,
  payment_id bigint,
  amount numeric(10,2) not null,
  transaction_id varchar,
  reimbursement_id bigint,
  created_at timestamp(6) not null,
  updated_at timestamp(6) not null);

create table spree_reimbursements (
  id bigserial primary key,
  order_id bigint,
  customer_return_id bigint,
  number varchar,
  reimbursement_status varchar,
  total numeric(10,2),
  created_at timestamp(6) not null,
  updated_at timestamp(6) not null);

create table spree_return_items (
  id bigserial primary key,
  inventory_unit_id bigint,
  customer_return_id bigint,
  reimbursement_id bigint,
  exchange_variant_id bigint,
  pre_tax_amount numeric(12,4) not null,
  included_tax_total numeric(12,4) not null,
  additional_tax_total numeric(12,4) not null,
  reception_status varchar,
  acceptance_status varchar,
  created_at timestamp(6) not null,
  updated_at timestamp(6) not null);

create table spree_reimbursement_credits (
  id bigserial primary key,
  reimbursement_id bigint,
  creditable_type varchar,
  creditable_id bigint,
  amount numeric(10,2) not null);

create table spree_promotions (
  id bigserial primary key,
  name varchar,
  code varchar,
  multi_codes boolean default false,
  created_at timestamp(6) not null,
  updated_at timestamp(6) not null);

create table spree_order_promotions (
  id bigserial primary key,
  order_id bigint,
  promotion_id bigint);

create table spree_coupon_codes (
  id bigserial primary key,
  code varchar unique,
  promotion_id bigint,
  order_id bigint,
  state integer not null default 0);

create table spree_tags (
  id bigserial primary key,
  name varchar unique);

create table spree_taggings (
  id bigserial primary key,
  tag_id bigint,
  taggable_type varchar,
  taggable_id bigint,
  context varchar(128),
  created_at timestamp);
