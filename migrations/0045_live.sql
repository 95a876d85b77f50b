-- What changes while tasks run.

-- task::spec::Throttle as JSON: shared by all tasks that use the connection
alter table connections add column throttle text not null default '{}';
-- spec.objects as JSON, for which the catalog answers; null = as the spec has them
alter table checkpoints add column objects text;
