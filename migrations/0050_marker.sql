-- Number of the last marker row on the target that this store knows of (incremental::marker).
alter table checkpoints add column mark integer not null default 0;
