-- Tables of a task that do not simply follow the stream, and what was asked of single tables.

-- Kept in step with `catalog` by the same transactions: one row per table whose entry has a standing of its own.
create table table_states (
    task_id     text not null references tasks (id) on delete cascade,
    schema_key  text not null,
    table_key   text not null,
    schema_name text not null,
    table_name  text not null,
    -- task::standing::Standing as JSON
    standing    text not null,
    since       integer not null,
    primary key (task_id, schema_key, table_key)
) strict;

-- Written by the API, taken by the worker. The newest word counts.
create table table_commands (
    task_id     text not null references tasks (id) on delete cascade,
    schema_key  text not null,
    table_key   text not null,
    -- pause, resume, resync, skip
    command     text not null,
    created_at  integer not null,
    primary key (task_id, schema_key, table_key)
) strict;

-- 1 when the session belongs to the resync of a table, which ends its own without touching the others.
alter table target_sessions add column resync integer not null default 0;
