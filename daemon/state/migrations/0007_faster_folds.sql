-- What a fold does for every row without need.

-- A row is staged by joining its source, so there is none without one; asking again was a fifth of an insert.
alter table source_row drop constraint source_row_source_fkey;

-- Room for the next version of a row beside it: an update that finds it leaves every index alone.
alter table source_row set (fillfactor = 85);

-- Entries that wait to be sorted in are read one by one by every search: while all is read, each batch searches.
alter index source_row_refs set (fastupdate = off);
select gin_clean_pending_list('source_row_refs');
