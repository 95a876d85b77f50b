-- Of each name in the catalog the newest version alone is ever read, and from here on kept.
delete from catalog where commit_ts < (select max(newer.commit_ts) from catalog newer
    where newer.task_id = catalog.task_id and newer.schema_key = catalog.schema_key and newer.table_key = catalog.table_key);
