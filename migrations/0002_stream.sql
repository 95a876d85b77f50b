-- Incremental sync: where a task stands in the topic, what it knows of the source's tables, which DDL it has applied.

create table checkpoints (
    task_id       text primary key references tasks (id) on delete cascade,
    -- snapshot TSO (T) of full sync and the end offset read before it (E0); 0 and the start position without full sync
    snapshot_tso  integer not null,
    start_offset  integer not null,
    next_offset   integer not null,
    commit_ts     integer not null,
    -- Kafka cluster id and topic the offsets belong to
    cluster_id    text not null,
    topic         text not null,
    -- source time up to which the target is complete, when the checkpoint was saved
    watermark_tso integer not null default 0,
    -- phases that are through for this snapshot
    schema_done   integer not null default 0,
    full_done     integer not null default 0,
    updated_at    integer not null
) strict;

-- One row per table and version of its layout; `definition` is incremental::catalog::Entry as JSON.
create table catalog (
    task_id    text not null references tasks (id) on delete cascade,
    schema_key text not null,
    table_key  text not null,
    commit_ts  integer not null,
    definition text not null,
    primary key (task_id, schema_key, table_key, commit_ts)
) strict;

create table catalog_schemas (
    task_id    text not null references tasks (id) on delete cascade,
    schema_key text not null,
    name       text not null,
    charset    text,
    collation  text,
    primary key (task_id, schema_key)
) strict;

create table ddl (
    task_id     text not null references tasks (id) on delete cascade,
    n           integer not null,
    commit_ts   integer not null,
    offset      integer not null,
    schema_name text not null,
    table_name  text not null,
    source_text text not null,
    -- JSON array of target statements
    statements  text not null,
    -- statements known to be applied
    steps_done  integer not null default 0,
    -- pending, done, ignored, failed
    state       text not null,
    error       text,
    created_at  integer not null,
    finished_at integer,
    primary key (task_id, n),
    unique (task_id, commit_ts)
) strict;

-- Server connection ids of the target that may still run a statement of ours after a crash.
create table target_sessions (
    task_id       text not null references tasks (id) on delete cascade,
    connection_id integer not null,
    primary key (task_id, connection_id)
) strict;
