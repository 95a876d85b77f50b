//! A table as the source shows it now: what the next statement is made from.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use support::sql::quote;

#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    /// First word of the type, in lower case.
    pub data_type: String,
    pub column_type: String,
    pub charset: String,
    pub nullable: bool,
    pub generated: bool,
    /// Left out of an INSERT it gets a value.
    pub has_default: bool,
}

impl Column {
    fn arguments(&self) -> Option<&str> {
        self.column_type.split_once('(')?.1.rsplit_once(')').map(|(inside, _)| inside)
    }

    pub fn length(&self) -> Option<u64> {
        self.arguments()?.split(',').next()?.trim().parse().ok()
    }

    pub fn scale_given(&self) -> bool {
        self.arguments().is_some_and(|arguments| arguments.contains(','))
    }

    pub fn scale(&self) -> u64 {
        self.arguments().and_then(|arguments| arguments.split(',').nth(1)?.trim().parse().ok()).unwrap_or(0)
    }

    /// Type and character set, where that is another than the usual one.
    pub fn definition(&self) -> String {
        let usual = self.charset.is_empty() || self.charset == "utf8mb4";
        if usual {
            self.column_type.clone()
        } else {
            format!("{} character set {}", self.column_type, self.charset)
        }
    }

    /// Digits of a second.
    pub fn fraction(&self) -> u32 {
        self.length().and_then(|digits| u32::try_from(digits).ok()).unwrap_or(0)
    }

    /// Labels of an ENUM or SET.
    pub fn labels(&self) -> u64 {
        self.arguments().map_or(1, |arguments| arguments.matches("','").count() as u64 + 1)
    }
}

#[derive(Debug, Clone, Default)]
pub struct Index {
    pub name: String,
    pub unique: bool,
    /// Names and prefixes; None = an expression.
    pub parts: Vec<Option<(String, Option<u64>)>>,
}

#[derive(Debug, Clone, Default)]
pub struct Table {
    pub schema: String,
    pub name: String,
    pub columns: Vec<Column>,
    pub indexes: Vec<Index>,
    /// Of a partitioned table, in order.
    pub partitions: Vec<String>,
    pub create: String,
}

impl Table {
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.name))
    }

    pub fn writable(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| !column.generated)
    }

    pub fn in_key(&self, column: &str) -> bool {
        let named = |part: &Option<(String, Option<u64>)>| {
            part.as_ref().is_some_and(|(name, _)| name.eq_ignore_ascii_case(column))
        };
        self.indexes.iter().any(|index| index.unique && index.parts.iter().any(named))
            || (!self.partitions.is_empty()
                && self
                    .create
                    .rsplit("PARTITION BY")
                    .next()
                    .is_some_and(|tail| tail.contains(&quote(column))))
    }

    /// The columns by which a row is found: of the primary key, else of a unique one, else none.
    pub fn key(&self) -> Vec<&Column> {
        let index = self.indexes.iter().find(|index| index.name == "PRIMARY").or_else(|| {
            self.indexes.iter().find(|index| index.unique && index.parts.iter().all(Option::is_some))
        });
        let parts = index.into_iter().flat_map(|index| index.parts.iter().flatten());
        parts
            .filter_map(|(name, _)| self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name)))
            .filter(|column| !column.generated)
            .collect()
    }

    /// As the source shows it now; None when there is no such base table.
    pub async fn load(connection: &mut Conn, schema: &str, name: &str) -> Option<Self> {
        let quoted = format!("{}.{}", quote(schema), quote(name));
        let create: Row = connection.query_first(format!("SHOW CREATE TABLE {quoted}")).await.ok()??;
        let create: String = create.get(1)?;
        if !create.starts_with("CREATE TABLE") {
            return None;
        }
        let rows: Vec<Row> = connection.query(format!("SHOW FULL COLUMNS FROM {quoted}")).await.ok()?;
        let columns = rows.iter().filter_map(column).collect();
        let rows: Vec<Row> = connection.query(format!("SHOW INDEX FROM {quoted}")).await.ok()?;
        let mut indexes: Vec<Index> = Vec::new();
        for row in rows {
            let index: String = row.get("Key_name")?;
            let part: Option<String> = row.get::<Option<String>, _>("Column_name")?;
            let prefix = row.get::<Option<u64>, _>("Sub_part")?;
            if indexes.last().is_none_or(|last| last.name != index) {
                let unique = row.get::<u64, _>("Non_unique")? == 0;
                indexes.push(Index { name: index, unique, parts: Vec::new() });
            }
            let expression = row.get::<Option<String>, _>("Expression").flatten().is_some();
            let part = part.filter(|_| !expression).map(|name| (name, prefix));
            indexes.last_mut()?.parts.push(part);
        }
        let partitions =
            regex::Regex::new(r"(?m)^[ (]*PARTITION `((?:[^`]|``)+)` VALUES").expect("a pattern");
        let partitions = partitions.captures_iter(&create).map(|found| found[1].replace("``", "`")).collect();
        let (schema, name) = (schema.to_owned(), name.to_owned());
        Some(Self { schema, name, columns, indexes, partitions, create })
    }
}

fn column(row: &Row) -> Option<Column> {
    let column_type: String = row.get("Type")?;
    let data_type = column_type.split([' ', '(']).next()?.to_lowercase();
    let collation: Option<String> = row.get("Collation")?;
    let extra: String = row.get("Extra")?;
    let nullable = row.get::<String, _>("Null")? == "YES";
    let default: Option<String> = row.get::<Option<String>, _>("Default")?;
    Some(Column {
        name: row.get("Field")?,
        data_type,
        charset: collation.and_then(|name| name.split('_').next().map(str::to_owned)).unwrap_or_default(),
        nullable,
        generated: extra.contains("GENERATED") && !extra.contains("DEFAULT_GENERATED"),
        has_default: nullable || default.is_some() || extra.contains("auto_increment"),
        column_type,
    })
}
