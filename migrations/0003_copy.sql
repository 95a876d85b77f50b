-- Full sync: which tables are copied, cut into which chunks, and what is already in the target.

create table copy_tables (
    task_id        text not null references tasks (id) on delete cascade,
    schema_name    text not null,
    table_name     text not null,
    -- copying, done, failed
    state          text not null,
    -- the rows are as of this timestamp
    snapshot_tso   integer not null,
    -- 1 when the target held rows before the first copy: they are not ours to remove
    had_rows       integer not null,
    -- 1 when every chunk of the table is in copy_chunks
    planned        integer not null default 0,
    rows_estimated integer,
    -- COUNT(*) at the snapshot
    rows_expected  integer,
    rows_copied    integer not null default 0,
    bytes_copied   integer not null default 0,
    -- error.rs Error as JSON
    error          text,
    updated_at     integer not null,
    primary key (task_id, schema_name, table_name)
) strict;

create table copy_chunks (
    task_id     text not null,
    schema_name text not null,
    table_name  text not null,
    n           integer not null,
    -- full::chunk::Chunk as JSON
    chunk       text not null,
    -- 1 when its rows are in the target
    done        integer not null default 0,
    rows        integer not null default 0,
    bytes       integer not null default 0,
    primary key (task_id, schema_name, table_name, n),
    foreign key (task_id, schema_name, table_name) references copy_tables on delete cascade
) strict;
