-- Tables on the target that hold a copy in the making. Written down before they are made: only what stands here is ever removed there.
create table shadows (
    task_id     text not null references tasks (id) on delete cascade,
    schema_name text not null,
    table_name  text not null,
    primary key (task_id, schema_name, table_name)
) strict;
