-- Labels of tasks as lists are narrowed by them. They stand in the spec; the triggers keep what stands here in step with it.

create table task_labels (
    task_id text not null references tasks (id) on delete cascade,
    key     text not null,
    value   text not null,
    primary key (key, value, task_id)
) strict, without rowid;

create index task_labels_task on task_labels (task_id);

create trigger task_labels_insert after insert on tasks begin
    insert into task_labels (task_id, key, value)
    select new.id, label.key, label.value from json_each(new.spec, '$.labels') label;
end;

create trigger task_labels_update after update of spec on tasks begin
    delete from task_labels where task_id = new.id;
    insert into task_labels (task_id, key, value)
    select new.id, label.key, label.value from json_each(new.spec, '$.labels') label;
end;

insert into task_labels (task_id, key, value)
select tasks.id, label.key, label.value from tasks, json_each(tasks.spec, '$.labels') label;
