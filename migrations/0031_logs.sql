-- The lines that the server logged about a task, the newest few thousand of each.

create table task_logs (
    id      integer primary key autoincrement,
    task_id text not null references tasks (id) on delete cascade,
    at      integer not null,
    -- 1 error, 2 warn, 3 info
    level   integer not null,
    -- module
    target  text not null,
    message text not null,
    -- JSON object
    fields  text not null
) strict;

create index task_logs_by_task on task_logs (task_id, id);
