-- Tables of the target that the task made itself, as far as the catalog does not tell: while the schema phase makes them, and
-- after a reset. By their names on the target.

create table own_tables (
    task_id     text not null references tasks (id) on delete cascade,
    schema_name text not null,
    table_name  text not null,
    -- making: it was not there, and CREATE TABLE may have run; made; truncate, drop: what a reset has still to do
    state       text not null check (state in ('making', 'made', 'truncate', 'drop')),
    primary key (task_id, schema_name, table_name)
) strict;
