-- Hash of the message before the start offset: a topic that was made again has another one there, or none.
alter table checkpoints add column anchor text;
