-- Values on the target that differ from the source's, by rule (model/lossy.rs), since the table was last copied.

create table lossy_counts (
    task_id     text not null references tasks (id) on delete cascade,
    schema_name text not null,
    table_name  text not null,
    column_name text not null,
    rule        text not null,
    count       integer not null,
    primary key (task_id, schema_name, table_name, column_name, rule)
) strict;
