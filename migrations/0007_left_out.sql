-- Rows that full sync read and did not send, because the table's filter does not take them.

alter table copy_tables add column rows_left_out integer not null default 0;
alter table copy_chunks add column left_out integer not null default 0;
