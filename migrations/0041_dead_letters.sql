-- Row changes that the target refused and that were set aside by policy (errors.row = dead_letter).

create table dead_letters (
    task_id     text not null references tasks (id) on delete cascade,
    n           integer not null,
    -- as the source spells it; renames are followed
    schema_name text not null,
    table_name  text not null,
    schema_key  text not null,
    table_key   text not null,
    -- full, incremental
    phase       text not null,
    -- insert, update, delete
    operation   text not null,
    -- names of the columns that identify the row, JSON
    key_columns text not null,
    -- canonical bytes of its key: a later change of the row has the same
    key_bytes   blob not null,
    -- columns as the stream names them, JSON
    columns     text not null,
    -- images as the stream carries them (a Row of Drainer's protocol)
    new_row     blob,
    old_row     blob,
    -- place in the topic: message, and row changes of it before this one; -1 in full sync
    offset      integer not null,
    nth         integer not null,
    commit_ts   integer not null,
    -- error.rs Error as JSON
    error       text not null,
    -- open, retried, discarded, superseded (a later change of the row is in the target)
    state       text not null,
    -- 1 while a retry is asked for
    asked       integer not null default 0,
    attempts    integer not null default 1,
    -- why a retry could do harm: a DDL since has removed rows of its table
    blocked     text,
    created_at  integer not null,
    updated_at  integer not null,
    primary key (task_id, n)
) strict;

create unique index dead_letters_by_place on dead_letters (task_id, phase, schema_key, table_key, offset, nth, key_bytes);
create index dead_letters_open on dead_letters (task_id, state);
