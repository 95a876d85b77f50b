-- 1 when the source compares text by its bytes, whatever collation a column says (new_collation_enabled = False, or older than
-- TiDB 4.0): the columns of the target compare so too. A property of the cluster for ever, asked when the task takes its start.
alter table checkpoints add column bytewise integer not null default 0;
